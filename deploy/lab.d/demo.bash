# shellcheck shell=bash
# shellcheck disable=SC2154  # $here, $self, say, die and usage are deploy/lab's
# The whole product in one command: package, lab, stand-ins, install, two running servers.

lab_demo() {
    local suite=bookworm keep=yes network=(--host-network) profile=quick package=(--quick)
    while (($#)); do
        case $1 in
            --suite) value "$1" $#; suite=$2; shift 2 ;;
            --release) profile=release package=(); shift ;;
            --exit) keep='' network=(); shift ;;
            *) usage "demo: unknown argument '$1'" ;;
        esac
    done

    local deb standin lab password
    cd "$here/.." || die 1 "no checkout around $here"
    say "building the package, and the stand-ins for steamcmd and the game"
    deb=$(deploy/package "${package[@]}" --standins | tail -n 1)
    standin=${CARGO_TARGET_DIR:-target}/$profile

    lab=$("$self" up --suite "$suite" --deb "$deb" --standin "$standin" "${network[@]}")
    say "$lab is up"
    # shellcheck disable=SC2064  # the name as it is now
    [[ $keep ]] || trap "'$self' down $lab" EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    password=$(od -An -N9 -tx1 /dev/urandom | tr -d ' \n')
    describe_servers "$lab" "$password"
    run_servers "$lab"
    check_server "$lab" one
    check_server "$lab" two
    show "$lab" left4me server list
    [[ ! $keep ]] || farewell "$lab" "$password"
}

# show LAB COMMAND...: prints the command as the admin in the lab would type it, and runs it.
show() {
    local lab=$1
    shift
    printf '\n# %s\n' "$*" >&2
    "$self" exec "$lab" -- "$@"
}

# describe_servers LAB PASSWORD: what an admin would click together: user, overlay, blueprint, servers.
describe_servers() {
    local lab=$1
    printf '%s\n' "$2" | show "$lab" left4me user add admin --admin --password-stdin
    show "$lab" left4me overlay add demo
    printf 'hostname "left4me demo"\nsv_steamgroup_exclusive 0\n' |
        "$self" exec "$lab" -- install -m 644 /dev/stdin /root/server.cfg
    show "$lab" left4me blueprint create demo --user admin --overlay demo \
        --arg=+map --arg=c1m1_hotel --config-file /root/server.cfg
    show "$lab" left4me server create one --blueprint demo --user admin
    show "$lab" left4me server create two --blueprint demo --user admin
}

run_servers() {
    show "$1" left4me-job enqueue install --follow
    show "$1" left4me-job enqueue start --server one --server two --wait --follow
}

# check_server LAB NAME: dies unless its unit is active and the game on its port says its name.
check_server() {
    local lab=$1 name=$2 json unit port answer tries
    json=$("$self" exec "$lab" -- left4me server show "$name" --json)
    unit=$(json_value "$lab" "$json" unit)
    port=$(json_value "$lab" "$json" port)
    "$self" exec "$lab" -- systemctl is-active --quiet "$unit" || die 1 "$name: $unit is not active"
    for ((tries = 0; ; tries++)); do
        answer=$("$self" exec "$lab" -- /usr/local/lib/left4me-standin/srcds --query "127.0.0.1:$port") && break
        ((tries < 5)) || die 1 "$name: no answer on UDP port $port"
        sleep 1
    done
    say "$name: $unit is active; on UDP port $port it calls itself \"$answer\""
}

# json_value LAB JSON KEY: the lab's sqlite3 reads JSON, so nothing else is needed for it.
json_value() {
    local json=${2//\'/\'\'}
    "$self" exec "$1" -- sqlite3 :memory: "SELECT json_extract('$json', '\$.$3')"
}

farewell() {
    cat <<END

The web front: http://127.0.0.1:8000
  user admin, password $2
  Click "one" for its console, graph and jobs; "New server" makes a third.

The lab runs until you end it.
  shell       deploy/lab exec $1 -- bash
  console     deploy/lab exec $1 -- journalctl -fu 'left4me-server@*'
  end         deploy/lab down $1
END
}
