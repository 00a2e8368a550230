#!/bin/sh
# Installs a package of left4me on the machine that runs this. As root.
#
#   apply.sh FILE LOCK-TIMEOUT [HOST]     HOST: the name of this machine, if installed remotely
#
# apt runs in its own unit, with the package in a directory of root: it completes even if the
# terminal or the connection is lost.
# Exit codes: 0 installed, 40 apt is busy, 41 no space, 42 apt failed, 43 it could not start. 1 is
# sudo's, which did not run this script.

unit=left4me-install.service reason=
lock_timeout=$2 host=$3

LC_ALL=C DEBIAN_FRONTEND=noninteractive HOME=/root
export LC_ALL DEBIAN_FRONTEND HOME

# fail CODE TEXT: one line, as deploy/install prints it. The unit has no standard error: the script
# that started it prints the file.
fail() {
    if [ "$reason" ]; then
        echo "install: ${host:+$host: }$2" >"$reason"
    else
        echo "install: ${host:+$host: }$2" >&2
    fi
    exit "$1"
}

# ---- outside the unit -------------------------------------------------------------------------

start() {
    [ "$(id -u)" = 0 ] || fail 43 "apply.sh needs root"
    wait_for_another
    work=$(mktemp -d /var/tmp/left4me-install.XXXXXX) || fail 43 "no directory in /var/tmp"
    trap 'rm -rf "$work"' EXIT
    { cp "$1" "$work/left4me.deb" && cp "$0" "$work/apply.sh" && : >"$work/log" &&
        : >"$work/reason"; } || fail 41 "cannot copy the package to /var/tmp"
    # The unit removes the directory at its end.
    exec 3<"$work/log" 4<"$work/reason"

    systemd-run --quiet --collect --wait --unit="$unit" \
        --description="left4me: installs its package" \
        --property="StandardOutput=append:$work/log" --property="StandardError=append:$work/log" \
        -- /bin/sh "$work/apply.sh" --in-the-unit "$lock_timeout" "$host" &
    running=$!
    tail --pid="$running" --sleep-interval=0.2 -n +1 -f <&3
    wait "$running"
    status=$?
    cat <&4 >&2
    # The unit did not finish.
    case $status in 0 | 40 | 41 | 42) ;; *) fail 43 "the unit $unit ended with $status" ;; esac
    return "$status"
}

# Started over a lost connection, or by another admin.
wait_for_another() {
    left=600
    while systemctl --quiet is-active "$unit"; do
        [ "$left" != 600 ] ||
            echo "install: ${host:+$host: }waiting for a running installation" >&2
        left=$((left - 1))
        [ "$left" -gt 0 ] || fail 40 "another installation is under way: systemctl status $unit"
        sleep 1
    done
}

# ---- in the unit ------------------------------------------------------------------------------

# get ARGUMENT...: keeps changed settings without a question.
get() {
    apt-get --yes --quiet -o DPkg::Lock::Timeout="$lock_timeout" \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

has_lists() {
    for list in /var/lib/apt/lists/*Packages*; do [ ! -e "$list" ] || return 0; done
    return 1
}

# since: what apt has printed since the last attempt.
since() { tail -n +"$from" "$work/log"; }

# printed PATTERN: whether that output matches.
printed() { since | grep -Eq "$1"; }

# cause: one line. apt's own last line only says that dpkg failed, or that something is broken.
cause() {
    last=$(since | sed -En 's/^(E|Error): //p' | tail -n 1) own=
    if printed 'dpkg returned an error'; then
        own=$(since | sed -n 's/^left4me: //p' | tail -n 1)
        [ "$own" ] || own=$(since | sed -n '/^dpkg: error processing/{n;s/^ *//;p;q;}')
    elif printed '(unmet|Unsatisfied) dependencies'; then
        own=$(since | sed -n 's/^.* : Depends: /it depends on /p' | head -n 1)
    fi
    echo "${own:-${last:-see above}}"
}

try() {
    from=$(($(wc -l <"$work/log") + 1))
    get install --reinstall "$work/left4me.deb"
}

install_package() {
    # A fresh host may have no package lists; recommended packages would then be left out.
    has_lists || get update || true
    try && return
    if printed 'to fetch|(unmet|Unsatisfied) dependencies|not installable|Unable to locate'; then
        echo "The package lists may be out of date."
        get update && try && return
    fi
    if printed 'Could not get lock|Unable to acquire the dpkg frontend lock'; then
        holder=$(sed -n 's/.*held by process \([0-9]* ([^)]*)\).*/\1/p' "$work/log" | tail -n 1)
        fail 40 "apt is in use by ${holder:-another program}: run this again when that has ended"
    elif printed 'No space left on device|enough free space'; then
        fail 41 "apt ran out of disk space: make some room and run this again"
    fi
    fail 42 "apt-get failed: $(cause)"
}

# address: the web front's address on this machine; nothing if its socket is off.
address() {
    systemctl --quiet is-active left4me-web.socket || return 0
    systemctl show --value --property Listen left4me-web.socket | sed -n 's/ (Stream)$//p' |
        grep -v '^/' | sed 's/^\[::\]:/127.0.0.1:/; s/^0\.0\.0\.0:/127.0.0.1:/' | head -n 1
}

what_next() {
    echo
    # Its findings do not fail the installation.
    timeout 120 left4me doctor
    echo
    echo "left4me $(dpkg-query -W -f '${Version}' left4me) is installed${host:+ on $host}."
    [ "$(timeout 20 left4me user list --json 2>/dev/null | tr -d ' \n')" != '[]' ] ||
        echo "Create an account${host:+ there}: sudo left4me user add NAME --admin"
    at=$(address) origin=$(sed -n 's/^LEFT4ME_WEB_ORIGIN=//p' /etc/left4me/left4me.env | tail -n 1)
    if [ "$origin" ]; then
        echo "Open $origin"
    elif [ "$at" ] && [ "$host" ]; then
        echo "Open http://127.0.0.1:${at##*:} while this runs: ssh -L ${at##*:}:$at $host"
    elif [ "$at" ]; then
        echo "Open http://$at"
    fi
}

in_the_unit() {
    work=$(dirname "$0") reason=$work/reason
    trap 'rm -rf "$work"' EXIT
    install_package
    what_next
}

if [ "$1" = --in-the-unit ]; then
    in_the_unit
else
    start "$1"
fi
