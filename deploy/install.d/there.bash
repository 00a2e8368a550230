# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables that the parts of deploy/install share
# The remote machine. One ssh opens the connection and runs a shell there, to which this program
# writes commands; copies and the installation share the connection (ControlMaster). When this
# program ends for any reason, the shell reads the end of its input and removes its directory.

# host_name TEXT: prints it if ssh can only understand it as a host.
host_name() {
    local name='[A-Za-z0-9_][A-Za-z0-9._-]*' user='[A-Za-z0-9_][A-Za-z0-9._+@-]*@'
    local v6='[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?' LC_ALL=C
    if [[ $1 =~ ^($user)?($name)$ || $1 =~ ^($user)?($v6)$ && ! $1 =~ ^($user)?$name:[0-9]+$ ]] ||
        [[ $1 =~ ^ssh://($user)?($name|\[$v6\])(:[0-9]{1,5})?/?$ ]]; then
        printf '%s\n' "$1"
    elif [[ $1 =~ ^($user)?($name|\[$v6\]):[0-9]+$ ]]; then
        usage "--host: a port is given as ssh://$1, or in ~/.ssh/config"
    else
        usage "--host: $(printf '%q' "$1") is not [USER@]HOST"
    fi
}

# ---- the connection ---------------------------------------------------------------------------

# ssh_options: sets `ssh` for the connection and `shared` for what goes through it.
ssh_options() {
    local config strict
    command -v ssh >/dev/null || die 4 "ssh is missing: apt install openssh-client"
    config=$(ssh -G -- "$host" 2>"$work/ssh") || die 1 "$host: ssh: $(last_line "$work/ssh")"
    # A socket's path has at most 107 bytes, of which ssh needs 17 for itself, and no blanks.
    sockets=$work
    [[ $work =~ ^[A-Za-z0-9/._-]{1,60}$ ]] || sockets=$(mktemp -d /tmp/left4me-install.XXXXXX)
    # The user's configuration applies, except for settings that would disturb a program.
    ssh=(ssh -a -x -o "ControlPath=$sockets/ssh.sock" -o ControlPersist=no -o RemoteCommand=none
        -o ClearAllForwardings=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=4)
    grep -qi '^connecttimeout [0-9]' <<<"$config" || ssh+=(-o ConnectTimeout=20)
    strict=$(sed -n 's/^stricthostkeychecking //ip' <<<"$config")
    case ${strict,,} in
        # These would accept a key that the user has not seen.
        no | off | false | accept-new) ssh+=(-o StrictHostKeyChecking=ask) ;;
    esac
    # If the connection is gone they fail and do not open another.
    shared=("${ssh[@]}" -o LogLevel=ERROR -o ControlMaster=no -o ProxyCommand=false)
    ssh+=(-o LogLevel=INFO -o ControlMaster=yes)
}

# connect: the shell there, on the descriptors to_there and from_there.
connect() {
    ssh_options
    mkfifo "$work/in" "$work/out"
    "${ssh[@]}" -T -- "$host" 'exec sh' <"$work/in" >"$work/out" 2>"$work/ssh" &
    there=$!
    exec {to_there}>"$work/in" {from_there}<"$work/out"
}

# tell: writes standard input to the remote shell. Its answers show whether it is still there.
tell() { { cat >&"$to_there"; } 2>/dev/null || true; }

facts_there() {
    local status=0
    tell <"$here/install.d/facts.sh"
    learn <&"$from_there" && return
    wait "$there" || status=$?
    ((status == 255)) && no_connection
    die 4 "$host: the login does not start a shell: ${heard:-$(last_line "$work/ssh")}"
}

# last_line FILE: the last line with text, without control sequences.
last_line() {
    tr -d '\r' <"$1" | sed '/^ *$/d' | tail -n 1 | tr -d '\000-\037\177' | sed 's/^ssh: //'
}

# no_connection: dies with the reason that ssh has printed.
no_connection() {
    local last
    last=$(last_line "$work/ssh")
    if grep -q 'HOST IDENTIFICATION HAS CHANGED' "$work/ssh"; then
        die 77 "$host: its host key is not the one that ssh knows: another machine answers," \
            "or this one was set up again; compare the key, then remove the old one with ssh-keygen -R"
    elif grep -q 'Host key verification failed' "$work/ssh"; then
        die 77 "$host: its host key is not confirmed: run 'ssh $host' once, and compare the key"
    elif grep -Eq 'Permission denied|Too many authentication failures' "$work/ssh"; then
        die 77 "$host: it refuses the login: ${last:-permission denied}"
    fi
    die 69 "$host: cannot connect: ${last:-ssh ended without a reason}"
}

disconnect() {
    [[ ! ${to_there:-} ]] || exec {to_there}>&-
    if [[ ${there:-} ]]; then
        # The remote shell removes its directory. A hanging connection is not waited for.
        for _ in {1..50}; do
            [[ ${dir:-} ]] || break
            kill -0 "$there" 2>/dev/null || break
            sleep 0.1
        done
        kill "$there" 2>/dev/null || true
        wait "$there" 2>/dev/null || true
    fi
    [[ ! ${sockets:-} ]] || rm -rf "$sockets"
}

# lost DOING: dies; commands that have started on the host continue.
lost() {
    die 69 "$host: the connection was lost while $1: run the same command again"
}

# ---- the copy and the installation ------------------------------------------------------------

copy_there() {
    say "$host: copying $(basename "$deb")"
    tell <<'THERE'
umask 077
trap 'exit 1' HUP INT TERM PIPE
dir=$(mktemp -d "${TMPDIR:-/tmp}/left4me-install.XXXXXX") && trap 'rm -rf "$dir"' EXIT
printf 'left4me:dir=%s\nleft4me:complete=yes\n' "$dir"
THERE
    learn <&"$from_there" || lost "the copy began"
    dir=${facts[dir]:-}
    [[ $dir =~ ^/[A-Za-z0-9/._-]+$ ]] || die 4 "$host: no directory can be created in ${facts[tmp]}"
    send "$here/install.d/apply.sh"
    send "$deb" left4me.deb
}

# send FILE [NAME]
send() {
    local status=0 name=${2:-$(basename "$1")}
    "${shared[@]}" -T -- "$host" "exec sh -c 'cat >\"\$1\"' sh $dir/$name" <"$1" 2>"$work/send" ||
        status=$?
    ((status)) || return 0
    ! grep -q 'refused by peer' "$work/send" ||
        die 4 "$host: its sshd allows one session in a connection: two are needed (MaxSessions)"
    ((status != 255)) || lost "$name was copied"
    die 4 "$host: $name cannot be copied: $(last_line "$work/send")"
}

apply_there() {
    local status=0 command="sh $dir/apply.sh $dir/left4me.deb $lock_timeout '$host'"
    local login=("${shared[@]}" -T -- "$host")
    say "$host: installing"
    begun=yes
    case ${facts[sudo]} in
        root) "${login[@]}" "exec $command" </dev/null || status=$? ;;
        free) "${login[@]}" "exec sudo -n $command" </dev/null || status=$? ;;
        *)
            "${shared[@]}" -t -- "$host" "exec sudo -p '[sudo] password of %p on %h: ' $command" \
                </dev/tty || status=$?
            ;;
    esac
    if ((status == 255)); then
        # Ctrl-C on a terminal ends the command there, not the connection.
        ! "${shared[@]}" -O check -- "$host" 2>/dev/null || exit 130
        lost "left4me was installed, which goes on there"
    fi
    ended "$status" "$host: sudo refuses ${facts[user]}"
}
