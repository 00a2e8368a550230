#!/bin/sh
# Prints what deploy/install has to know about the machine that runs this, "left4me:NAME=value" a
# line: login files may print lines of their own. Changes nothing. deploy/install sends it to a
# shell there, so it reads nothing from standard input.

fact() { printf 'left4me:%s=%s\n' "$1" "$2"; }

# free DIRECTORY: MiB that its file system has left.
free() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1024) }'; }

# what sudo does for this user: root needs none.
sudo_state() {
    if [ "$(id -u)" = 0 ]; then
        echo root
    elif ! command -v sudo >/dev/null; then
        echo none
    elif sudo -n true 2>/dev/null; then
        echo free
    else
        echo password
    fi
}

facts() {
    LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
    export LC_ALL PATH
    # shellcheck disable=SC1091,SC2154  # the machine's own
    [ ! -r /etc/os-release ] || (
        . /etc/os-release
        fact os "${ID:-}"
        fact os_version "${VERSION_ID:-}"
        fact os_name "${PRETTY_NAME:-}"
    )
    if command -v dpkg >/dev/null && command -v apt-get >/dev/null; then
        fact apt yes
        fact arch "$(dpkg --print-architecture)"
        fact sudo_version "$(apt-cache policy sudo | sed -n 's/^  Candidate: \([0-9].*\)/\1/p')"
        fact installed "$(dpkg-query -W -f '${db:Status-Status} ${Version}' left4me 2>/dev/null |
            sed -n 's/^installed //p')"
    fi
    fact init "$(cat /proc/1/comm)"
    [ ! -d /run/systemd/system ] || fact runs_systemd yes
    fact systemd_version "$(systemctl --version 2>/dev/null |
        sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
    fact user "$(id -un)"
    fact sudo "$(sudo_state)"
    fact tmp "${TMPDIR:-/tmp}"
    fact free_tmp "$(free "${TMPDIR:-/tmp}")"
    fact free_var "$(free /var/tmp)"
    fact free_usr "$(free /usr)"
    fact complete yes
}

facts </dev/null
