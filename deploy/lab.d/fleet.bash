# shellcheck shell=bash
lab_fleet() { :; }
