# shellcheck shell=bash
# shellcheck disable=SC2154  # $state, say and die are deploy/lab's
# Networks between labs: a bridge that leads nowhere else, and a cable to it from each lab. All of it is in network
# namespaces of their own, so that this machine has no interface and no address more.
#   $state/.net-NETWORK/bridge  the namespace that the bridge is in
#   $state/LAB/net              the lab's namespace, which outlives its reboots
#   $state/LAB/cable            its network and its address
# A browser of this machine reaches a lab in one only through a port that is forwarded.

# join_network LAB NETWORK ADDRESS: before the lab boots. The first lab makes the network.
join_network() {
    local dir=$state/$1 net=$state/.net-$2 address=$3
    mkdir -p "$net"
    (
        flock 9
        [[ -e $net/bridge ]] || make_bridge "$net/bridge"
        printf '%s %s\n' "$2" "$address" >"$dir/cable"
    ) 9>"$net/lock"
    : >"$dir/net"
    unshare --net="$dir/net" -- ip link set lo up
    in_net "$net/bridge" ip link add "$(port_of "$address")" type veth peer name fleet0
    in_net "$net/bridge" ip link set fleet0 netns "$dir/net"
    in_net "$net/bridge" ip link set "$(port_of "$address")" master bridge up
    in_net "$dir/net" ip address add "$address/24" dev fleet0
    in_net "$dir/net" ip link set fleet0 up
}

make_bridge() {
    : >"$1"
    unshare --net="$1" -- sh -ec 'ip link set lo up; ip link add bridge type bridge; ip link set bridge up'
}

# in_net FILE COMMAND...: in the namespace that FILE holds.
in_net() { nsenter --net="$1" -- "${@:2}"; }

# port_of ADDRESS: the bridge's end of its cable.
port_of() { printf 'port%s' "${1##*.}"; }

# leave_network LAB: after its end. The last lab takes the network with it.
leave_network() {
    local dir=$state/$1 network address net other
    [[ -e $dir/cable ]] || return 0
    read -r network address <"$dir/cable"
    net=$state/.net-$network
    umount "$dir/net" 2>/dev/null || true
    (
        flock 9
        in_net "$net/bridge" ip link delete "$(port_of "$address")" 2>/dev/null || true
        rm -f "$dir/cable" "$dir/net"
        for other in "$state"/*/cable; do
            [[ ! -e $other || $(<"$other") != "$network "* ]] || exit 0
        done
        umount "$net/bridge" 2>/dev/null || true
        rm -rf --one-file-system "$net"
    ) 9>"$net/lock"
}

# lab_forward LAB [PORT]: systemd listens here, and its proxy, which gets that socket, connects in the lab's network. In
# a cgroup of the lab, so that it ends with the lab; not of the guest, so that it outlives its reboots.
lab_forward() {
    local name=${1:-} port=${2:-8000} at base
    [[ $# == [12] && $port == +([0-9]) ]] || usage "forward NAME [PORT]"
    known "$name"
    [[ -e $state/$name/net ]] || die 1 "$name is in no network (deploy/lab up --network)"
    base=$(<"$state/$name/cgroup")
    mkdir -p "$base/forward"
    for ((at = 8000; at < 8100; at++)); do
        ! is_taken "$at" || continue
        (
            echo "$BASHPID" >"$base/forward/cgroup.procs"
            close_inherited
            exec setsid systemd-socket-activate --listen="127.0.0.1:$at" nsenter --net="$state/$name/net" -- \
                /lib/systemd/systemd-socket-proxyd "127.0.0.1:$port"
        ) </dev/null >>"$state/$name/log" 2>&1 &
        until_listens "$at" || continue
        printf '127.0.0.1:%s\n' "$at"
        return
    done
    die 1 "no port of this machine from 8000 to 8099 is free"
}

# is_taken PORT: whether something accepts connections on this port of 127.0.0.1.
is_taken() { [[ $(ss --no-header --tcp --listening --numeric "sport = :$1") ]]; }

# until_listens PORT: while the process that was started last runs.
until_listens() {
    local tenths
    for ((tenths = 0; tenths < 50; tenths++)); do
        ! is_taken "$1" || return 0
        kill -0 $! 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

# lab_unplug LAB, lab_plug LAB: pulls its cable out, and puts it in again.
lab_unplug() { set_cable unplug down "$@"; }

lab_plug() { set_cable plug up "$@"; }

set_cable() {
    local verb=$1 to=$2 network address
    (($# == 3)) || usage "$verb NAME"
    known "$3"
    [[ -e $state/$3/cable ]] || die 1 "$3 is in no network (deploy/lab up --network)"
    read -r network address <"$state/$3/cable"
    in_net "$state/.net-$network/bridge" ip link set "$(port_of "$address")" "$to"
}
