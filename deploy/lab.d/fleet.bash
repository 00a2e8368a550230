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
