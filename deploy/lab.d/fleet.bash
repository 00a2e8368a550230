# shellcheck shell=bash
# shellcheck disable=SC2154  # $here, $self, $state, say, die and usage are deploy/lab's
# Several hosts, and the engine that carries orders between them, in a network that leads nowhere else.
# The engine's nodes are engine-1, engine-2, ... at 10.77.0.11 and on; the hosts are at 10.77.0.101 and on.

readonly fleet_names=(fra-1 ams-1 chi-1 fra-2 ams-2 chi-2)

lab_fleet() {
    local verb=${1:-help}
    shift || true
    case $verb in
        up) fleet_up "$@" ;;
        down) fleet_down "$@" ;;
        demo) fleet_demo "$@" ;;
        *) usage "fleet: no verb '$verb'" ;;
    esac
}

fleet_up() {
    local engine=1 hosts=bookworm,trixie deb='' standin='' suites=() suite nodes=() names=() name options=()
    while (($#)); do
        case $1 in
            --engine) value "$1" $#; engine=$2; shift 2 ;;
            --hosts) value "$1" $#; hosts=$2; shift 2 ;;
            --deb) value "$1" $#; deb=$2; shift 2 ;;
            --standin) value "$1" $#; standin=$2; shift 2 ;;
            *) usage "fleet up: unknown argument '$1'" ;;
        esac
    done
    [[ $engine == [13] ]] || usage "fleet up: an engine has 1 or 3 nodes"
    [[ $deb ]] || usage "fleet up needs --deb: deploy/package makes one"
    IFS=, read -r -a suites <<<"$hosts"
    ((${#suites[@]} <= ${#fleet_names[@]})) || usage "fleet up: at most ${#fleet_names[@]} hosts"
    [[ ! $standin ]] || options+=(--standin "$standin")

    # What is up already goes down again if the rest does not come up.
    trap 'fleet_down' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    for ((n = 1; n <= engine; n++)); do
        boot_node "engine-$n" "10.77.0.$((10 + n))" >/dev/null
        nodes+=("engine-$n")
    done
    for suite in "${suites[@]}"; do
        name=${fleet_names[${#names[@]}]}
        say "$name: booting"
        "$self" up --name "$name" --suite "$suite" --network fleet --address "10.77.0.$((101 + ${#names[@]}))" \
            --deb "$deb" "${options[@]}" >/dev/null
        names+=("$name")
    done
    know_each_other "${nodes[@]}" "${names[@]}"
    start_engine "${names[0]}" "${nodes[@]}"
    for name in "${names[@]}"; do enrol "${names[0]}" "$name"; done
    trap - EXIT INT TERM HUP
    printf '%s\n' "${names[@]}"
}

# boot_node NAME ADDRESS: Debian 13 with its nats-server, which Debian signs; it waits for its configuration.
boot_node() {
    say "$1: booting, with nats-server"
    LEFT4ME_LAB_PACKAGES="nats-server ${LEFT4ME_LAB_PACKAGES:-}" \
        "$self" up --name "$1" --suite trixie --network fleet --address "$2"
    "$self" exec "$1" -- systemctl stop nats-server.service
}

# know_each_other LAB...: each finds the others by their names.
know_each_other() {
    local name lines=''
    for name; do lines+="$("$self" exec "$name" -- ip -4 -brief address show fleet0 | awk '{ sub("/.*", "", $3); print $3 }') $name"$'\n'; done
    for name; do "$self" exec "$name" -- tee -a /etc/hosts <<<"$lines" >/dev/null; done
}

fleet_down() {
    local names=() cable
    for cable in "$state"/*/cable; do
        [[ ! -e $cable || $(<"$cable") != "fleet "* ]] || names+=("$(basename "${cable%/*}")")
    done
    ((${#names[@]} == 0)) || "$self" down "${names[@]}"
}

# start_engine CONTROLLER NODE...: the controller makes the fleet; each node gets its directory and installs it.
start_engine() {
    local controller=$1 node ends=()
    shift
    for node; do ends+=(--engine "$(address_of "$node")"); done
    show "$controller" left4me fleet init lab --host "$controller" "${ends[@]}" >&2
    for node; do
        "$self" exec "$controller" -- tar --create --directory="/etc/left4me/fleet/engine/$node" . |
            "$self" exec "$node" -- sh -c 'mkdir -p /root/engine && tar --extract --directory=/root/engine && /root/engine/install.sh' >&2
    done
    # The nodes agree on a leader within some seconds.
    retry 30 "$self" exec "$controller" -- left4me fleet init >&2
}

address_of() {
    "$self" exec "$1" -- ip -4 -brief address show fleet0 | awk '{ sub("/.*", "", $3); print $3 }'
}

# retry TIMES COMMAND...: once a second.
retry() {
    local left=$1 said
    shift
    until said=$("$@" 2>&1); do
        ((--left > 0)) || die 1 "$*: $said"
        sleep 1
    done
    printf '%s\n' "$said"
}

# enrol CONTROLLER HOST: the host prints a command, the controller runs it, the host takes what that prints.
enrol() {
    local controller=$1 host=$2 admit words ticket
    [[ $controller != "$host" ]] || return 0
    admit=$(show "$host" left4me fleet join "$host")
    read -r -a words <<<"$admit"
    ticket=$(show "$controller" "${words[@]}" --role view)
    "$self" exec "$host" -- left4me fleet join "$host" --ticket - <<<"$ticket" >&2
}

# ---- the demo ---------------------------------------------------------------------------------

fleet_demo() {
    local keep=yes profile=quick package=(--quick) deb names lab password page
    while (($#)); do
        case $1 in
            --release) profile=release package=(); shift ;;
            --exit) keep=''; shift ;;
            *) usage "fleet demo: unknown argument '$1'" ;;
        esac
    done
    cd "$here/.." || die 1 "no checkout around $here"
    say "building the package, and the stand-ins for steamcmd and the game"
    deb=$(deploy/package "${package[@]}" --standins | tail -n 1)
    mapfile -t names < <("$self" fleet up --engine 3 --hosts bookworm,trixie,trixie --deb "$deb" \
        --standin "${CARGO_TARGET_DIR:-target}/$profile")
    ((${#names[@]} == 3)) || die 1 "the fleet did not come up"
    [[ $keep ]] || trap '"$self" fleet down' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    password=$(od -An -N9 -tx1 /dev/urandom | tr -d ' \n')
    for lab in "${names[@]}"; do prepare_host "$lab" "$password"; done
    fill_fleet "${names[@]}"
    # One node of three may go at any time.
    show engine-1 systemctl kill --signal=SIGKILL nats-server.service
    show "${names[0]}" left4me fleet drain "${names[2]}" --wait
    show "${names[0]}" left4me fleet update --waves 1,rest --soak 5s --wait
    show "${names[0]}" left4me fleet hosts
    show "${names[0]}" left4me fleet servers
    page=$("$self" forward "${names[0]}")
    answers "$page" || die 1 "$page: the web front does not answer"
    fleet_farewell "${names[0]}" "$password" "$page"
}

# answers HOST:PORT: whether its page for signing in comes.
answers() {
    local status
    exec {web}<>"/dev/tcp/${1/:/\/}" || return 1
    printf 'GET /login HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$1" >&"$web"
    read -r -t 20 status <&"$web" || return 1
    exec {web}>&-
    [[ $status == "HTTP/1.1 200 "* ]]
}

# prepare_host LAB PASSWORD: the owner and the overlay have to be on each host that takes a server in.
prepare_host() {
    printf '%s\n' "$2" | show "$1" left4me user add admin --admin --password-stdin
    show "$1" left4me overlay add demo
}

fill_fleet() {
    local controller=$1 lab n
    "$self" exec "$controller" -- install -m 644 /dev/stdin /root/server.cfg <<<'hostname "left4me fleet"'
    show "$controller" left4me blueprint create demo --user admin --overlay demo \
        --arg=+map --arg=c1m1_hotel --config-file /root/server.cfg
    for lab; do
        if [[ $lab == "$controller" ]]; then
            show "$lab" left4me-job enqueue install --wait
        else
            show "$controller" left4me-job --host "$lab" enqueue install --wait
        fi
    done
    for lab; do
        show "$controller" left4me fleet place "first-$lab" --host "$lab" --blueprint demo --user admin --wait
    done
    for ((n = $# + 1; n <= 6; n++)); do
        show "$controller" left4me fleet place "s$n" --blueprint demo --user admin --wait
    done
    show "$controller" left4me fleet servers
}

# fleet_farewell LAB PASSWORD ADDRESS: with --exit the labs are about to end.
fleet_farewell() {
    cat <<END

The fleet's pages: http://$3/fleet
  user admin, password $2
END
    [[ $keep ]] || return 0
    cat <<END

The labs run until you end them.
  shell   deploy/lab exec $1 -- bash
  cables  deploy/lab unplug ams-1, deploy/lab plug ams-1
  end     deploy/lab fleet down
END
}
