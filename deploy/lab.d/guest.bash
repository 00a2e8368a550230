# shellcheck shell=bash
# shellcheck disable=SC2154  # $state, $cache, $self and die are deploy/lab's
# One lab. Its directory is $state/NAME:
#   suite, network   how it was asked for
#   net, cable       the network between labs that it is in: network.bash
#   image            the image that it is made from
#   rootfs/, disk/   its root file system and what that is on, mounted in the boot loop's mount namespace
#   inode            the root file system's device and inode, by which nspawn locks it
#   cgroup           its base cgroup: loop/ holds the boot loop, guest/ nspawn and the guest
#   keep             where its files go once it is powered off, if they are to be kept
#   log              what nspawn, apt and the guest's console said

names() {
    local dir
    for dir in "$state"/*/suite; do
        [[ -e $dir ]] && basename "$(dirname "$dir")"
    done
    return 0
}

known() {
    [[ $1 =~ ^[a-z0-9-]+$ && -e $state/$1/suite ]] || die 3 "no lab '$1' (deploy/lab list shows them)"
}

# ---- birth ------------------------------------------------------------------------------------

# claim_name VARIABLE SUITE NAME: sets it to NAME, or without one to the first free lab-SUITE-N.
claim_name() {
    local suite=$2 name=$3 n=0
    mkdir -p "$state"
    exec {claim_lock}>"$state/.lock"
    flock "$claim_lock"
    while [[ ! $name ]] || taken "$name"; do
        [[ ! $3 ]] || die 4 "there is a lab '$name' already"
        n=$((n + 1))
        name=lab-$suite-$n
    done
    mkdir "$state/$name"
    printf '%s\n' "$suite" >"$state/$name/suite"
    exec {claim_lock}>&-
    printf -v "$1" '%s' "$name"
}

taken() { [[ -e $state/$1 ]]; }

# host_name NAME: what the host calls it. Several state directories may be in use at once, each with a lab of the same
# name; cgroups and machine names are the host's.
host_name() { printf '%s-%s' "$1" "$(printf '%s' "$state" | cksum | cut -d' ' -f1)"; }

make_guest() {
    local name=$1 dir=$state/$1
    printf '%s\n' "$4" >"$dir/network"
    printf '%s\n' "$3" >"$dir/image"
    : >"$dir/log"
    mkdir "$dir/rootfs" "$dir/disk"
}

# mount_rootfs NAME: its root file system, in the mount namespace of this process alone: it ends with the lab's last
# process. Nearly all of the image is /usr, which an overlay shares. The rest is a plain copy: overlayfs refuses
# another overlay as its upper layer, and left4me puts overlays below the guest's /var/lib.
mount_rootfs() {
    local name=$1 dir=$state/$1 disk=$state/$1/disk image
    image=$(<"$dir/image")
    mount_disk "$disk"
    mkdir "$disk/rootfs" "$disk/usr" "$disk/work"
    tar --create --directory="$image" --acls --xattrs --exclude=./usr/* . |
        tar --extract --directory="$disk/rootfs" --acls --xattrs --preserve-permissions --numeric-owner
    # A system that has booted before has an identity, and no two labs have the same one.
    [[ ! -s $disk/rootfs/etc/machine-id ]] || tr -d - </proc/sys/kernel/random/uuid >"$disk/rootfs/etc/machine-id"
    printf '%s\n' "$name" >"$disk/rootfs/etc/hostname"
    printf '127.0.0.1 localhost %s\n::1 localhost\n' "$name" >"$disk/rootfs/etc/hosts"
    mount --bind "$disk/rootfs" "$dir/rootfs"
    # No overlay can be written where the disk is a directory on another overlay, as in some containers.
    mount -t overlay left4me-lab -o "lowerdir=$image/usr,upperdir=$disk/usr,workdir=$disk/work" "$dir/rootfs/usr" ||
        cp -a --reflink=auto "$image/usr/." "$dir/rootfs/usr/"
    stat -c %d:%i "$dir/rootfs" >"$dir/inode"
}

# mount_disk DIRECTORY: an ext4 of its own, as servers have it, in memory. A lab then waits for no other program's
# writes, and its end is the end of its files. With little memory, or without loop devices, it is a directory.
mount_disk() {
    local free
    free=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
    ((free > 4 << 20)) || return 0
    mount -t tmpfs -o mode=755 left4me-lab "$1" || return 0
    # Nothing of it outlives a crash of this machine, so no journal is needed.
    {
        truncate --size=16G "$1/disk" &&
            mke2fs -q -t ext4 -O ^has_journal -E nodiscard,lazy_itable_init=1 -m 0 "$1/disk" &&
            mount -o loop,nodiscard "$1/disk" "$1"
    } || rm -f "$1/disk"
}

# start_guest NAME: the boot loop outlives this command, and holds none of its descriptors. On
# return it runs, and its cgroup is on record, so that remove_guest can always end it.
start_guest() {
    local name=$1 dir=$state/$1 base unit
    unit=left4me-lab-$(host_name "$1")
    if on_systemd; then
        systemd-run --quiet --collect --unit="$unit" --property=Delegate=yes \
            --property="StandardOutput=append:$dir/log" --property="StandardError=append:$dir/log" \
            --setenv=LEFT4ME_LAB_STATE="$state" -- \
            unshare --mount --propagation slave "$self" _supervise "$name"
        base=/sys/fs/cgroup$(systemctl show --property=ControlGroup --value "$unit")
        printf '%s\n' "$base" >"$dir/cgroup"
        return
    fi
    base=$(cgroup_root)/$unit
    printf '%s\n' "$base" >"$dir/cgroup"
    mkdir "$base"
    share_controllers "$(cgroup_root)"
    (
        echo "$BASHPID" >"$base/cgroup.procs"
        setsid unshare --mount --propagation slave "$self" _supervise "$name" </dev/null >>"$dir/log" 2>&1 &
    )
}

install_deb() {
    local name=$1 deb=$2 inside
    inside=/root/$(basename "$deb")
    say "$name: installing $(basename "$deb")"
    push_file "$name" "$deb" "$inside"
    in_guest "$name" env DEBIAN_FRONTEND=noninteractive apt-get install -y "$inside" \
        >>"$state/$name/log" 2>&1 || {
        tail -n 40 "$state/$name/log" >&2
        die 1 "$name: apt-get install $(basename "$deb") failed"
    }
}

# install_standin NAME DIR: where steamcmd is expected, and where it takes the game from.
install_standin() {
    local name=$1 dir=$2 steam=/var/lib/left4me/steam
    push_file "$name" "$dir/standin-steamcmd" "$steam/steamcmd.sh"
    push_file "$name" /dev/null "$steam/linux32/steamclient.so" 644
    push_file "$name" "$dir/standin-srcds" /usr/local/lib/left4me-standin/srcds
    if in_guest "$name" id left4me-steam >/dev/null 2>&1; then
        in_guest "$name" chown -R left4me-steam: "$steam/steamcmd.sh" "$steam/linux32"
    fi
}

# push_file NAME FILE PATH [MODE]: through the guest's own mounts, so that /run and /tmp work too.
push_file() {
    local mode=${4:-$(stat -c %a "$2")}
    in_guest "$1" install -D -m "$mode" /dev/stdin "$3" <"$2"
}

# ---- cgroups and the boot loop ----------------------------------------------------------------

on_systemd() { [[ -d /run/systemd/system ]]; }

# cgroup_root: the top of the unified tree; a hybrid host has it beside the old ones.
cgroup_root() {
    if [[ -e /sys/fs/cgroup/unified/cgroup.procs ]]; then
        echo /sys/fs/cgroup/unified
    else
        echo /sys/fs/cgroup
    fi
}

# supervise NAME: boots the guest, again whenever it reboots, until it is powered off or killed.
supervise() {
    local name=$1 base status=133
    close_inherited
    mount_rootfs "$name"
    base=$(cgroup_of_self)
    # A group with controllers may hold no process of its own: the loop and the guest get one each.
    mkdir "$base/loop" "$base/guest"
    echo $$ >"$base/loop/cgroup.procs"
    share_controllers "$base"
    # With --keep-unit nspawn ends with 133 when the guest asks for a reboot.
    while ((status == 133)); do
        status=0
        boot "$name" "$base/guest" || status=$?
    done
    [[ ! -e $state/$name/keep ]] || keep_rootfs "$name" "$(<"$state/$name/keep")"
    printf 'the guest ended, nspawn said %s\n' "$status"
}

# keep_rootfs NAME DIRECTORY: what the guest has left, without its history.
keep_rootfs() {
    mkdir "$2" && cp -a --reflink=auto "$state/$1/rootfs/." "$2/" &&
        rm -rf "$2"/var/log/journal/* "$2"/var/lib/systemd/random-seed "$2"/{run,tmp}/*
}

cgroup_of_self() { echo "$(cgroup_root)$(sed -n 's/^0:://p' /proc/self/cgroup)"; }

# Leaves only 0, 1, 2 and bash's own 255 open: a caller that reads our pipe must see its end.
close_inherited() {
    local fd
    for fd in "/proc/$$/fd"/*; do
        fd=${fd##*/}
        ((fd <= 2 || fd == 255)) || exec {fd}>&-
    done
}

# share_controllers CGROUP: best effort; a hybrid host has none to share.
share_controllers() {
    local controller
    for controller in $(<"$1/cgroup.controllers"); do
        echo "+$controller" 2>/dev/null >"$1/cgroup.subtree_control" || true
    done
}

# boot NAME CGROUP: one boot, in a mount namespace where /sys/fs/cgroup is the unified tree alone.
boot() (
    name=$1 dir=$state/$1
    echo "$BASHPID" >"$2/cgroup.procs"
    nspawn=(systemd-nspawn --quiet --settings=no --directory="$dir/rootfs" --machine="$(host_name "$name")"
        --hostname="$name"
        --register=no --keep-unit --boot --console=pipe --link-journal=no --timezone=off
        # For IPAddressDeny= and RestrictNetworkInterfaces= of units, which systemd ignores where it lacks them.
        --capability=CAP_BPF --system-call-filter=bpf)
    case $(<"$dir/network") in
        private) nspawn+=(--private-network --resolv-conf=off) ;;
        host) nspawn+=(--resolv-conf=replace-host) ;;
        # As with a private network, its root administers it.
        cable) nspawn+=(--network-namespace-path="$dir/net" --capability=CAP_NET_ADMIN --resolv-conf=off) ;;
    esac
    [[ ! -c /dev/fuse ]] || nspawn+=(--bind=/dev/fuse)
    if [[ $(stat -f -c %T /sys/fs/cgroup) == cgroup2fs ]]; then
        exec "${nspawn[@]}" </dev/null
    fi
    # shellcheck disable=SC2016  # "$@" is the inner shell's
    exec unshare --mount --propagation private sh -ec '
        umount -R /sys/fs/cgroup
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        exec "$@"' sh "${nspawn[@]}" </dev/null
)

# ---- a look and a step inside -----------------------------------------------------------------

# guest_pid NAME: the host's pid of its PID 1; fails while there is none. Tests enter labs thousands of times, so
# this and enter start no process that they can do without.
guest_pid() {
    local base pid line pids lines
    { read -r base <"$state/$1/cgroup"; } 2>/dev/null || return 1
    # Each file in one read(2). The kernel writes these files anew for each, so that line by line PID 1 is missed when
    # another process of the cgroup ends meanwhile, or when its own state changes from "sleeping" to "running".
    mapfile -t pids 2>/dev/null <"$base/guest/payload/init.scope/cgroup.procs" || return 1
    for pid in "${pids[@]}"; do
        mapfile -t lines 2>/dev/null <"/proc/$pid/status" || continue
        for line in "${lines[@]}"; do
            [[ $line != NSpid:*[[:space:]]1 ]] || { echo "$pid" && return; }
        done
    done
    return 1
}

# enter NAME USER COMMAND...: becomes COMMAND inside, in a cgroup of the guest, with a clean
# environment. Ends with COMMAND's status; 125 when the lab is at fault.
enter() {
    local name=$1 user=$2 pid entry='' uid gid home payload
    shift 2
    pid=$(guest_pid "$name") || die 125 "$name is not running"
    while IFS=: read -r entry _ uid gid _ home _; do
        [[ $entry != "$user" ]] || break
    done <"/proc/$pid/root/etc/passwd"
    [[ $entry == "$user" ]] || die 125 "$name has no user '$user'"
    payload=$(<"$state/$name/cgroup")/guest/payload
    [[ -d $payload/lab-exec ]] || mkdir -p "$payload/lab-exec"
    echo "$BASHPID" >"$payload/lab-exec/cgroup.procs"
    # pdeathsig: who kills this command from outside shall not leave its other half inside.
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME="$home" USER="$user" LOGNAME="$user" TERM="${TERM:-dumb}" LANG=C.UTF-8 \
        nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup --root --wd -- \
        setpriv --reuid="$uid" --regid="$gid" --init-groups --pdeathsig=KILL -- "$@"
}

# share_network NAME COMMAND...: becomes COMMAND, with the guest's network and all else as it is here. In a cgroup of the
# guest, so that neither it nor what it starts outlives the lab.
share_network() {
    local name=$1 pid payload
    shift
    pid=$(guest_pid "$name") || die 125 "$name is not running"
    payload=$(<"$state/$name/cgroup")/guest/payload
    mkdir -p "$payload/lab-net"
    echo "$BASHPID" >"$payload/lab-net/cgroup.procs"
    exec nsenter --target "$pid" --net -- "$@"
}

in_guest() (enter "$1" root "${@:2}")

# glimpse NAME CMD...: the same for a guest that may be going down. Its systemd-shutdown stops all processes before it ends
# them; nsenter stops itself along with its child, and nobody would ever wake it. timeout wakes what it ends.
glimpse() { timeout --kill-after=1 5 "$self" exec "$1" -- "${@:2}"; }

boot_id() { glimpse "$1" cat /proc/sys/kernel/random/boot_id; }

# wait_running NAME BOOT-ID: until its systemd has started all it wants, in another boot than that.
wait_running() {
    local name=$1 before=$2 is='' now='' deadline=$((SECONDS + ${LEFT4ME_LAB_TIMEOUT:-90}))
    while ((SECONDS < deadline)); do
        is=$(glimpse "$name" systemctl is-system-running 2>/dev/null) || true
        case $is in
            running | degraded)
                now=$(boot_id "$name" 2>/dev/null) || now=$before
                [[ $now == "$before" ]] || break
                ;;
        esac
        loop_alive "$name" || break
        is=''
        sleep 0.1
    done
    case $is in
        running) ;;
        degraded)
            say "$name: degraded, these units failed:"
            in_guest "$name" systemctl --failed --plain --no-legend >&2
            ;;
        *)
            tail -n 30 "$state/$name/log" >&2
            die 1 "$name did not come up"
            ;;
    esac
}

# Whether its boot loop still runs.
loop_alive() { grep -qs 'populated 1' "$(<"$state/$1/cgroup")/cgroup.events"; }

# ---- end --------------------------------------------------------------------------------------

# abandon NAME: what an `up` that failed or was interrupted does last.
abandon() {
    local status=$?
    trap '' INT TERM HUP
    remove_guest "$1"
    exit "$status"
}

# remove_guest NAME: no process, no mount, no cgroup, no file of it is left.
remove_guest() {
    local name=$1 dir=$state/$1 machine base part lock
    machine=$(host_name "$name")
    base=$(cat "$dir/cgroup" 2>/dev/null) || base=
    if [[ $base ]]; then
        # From the inside out: nspawn tidies up after its guest, the boot loop reaps nspawn.
        for part in guest/payload guest .; do
            kill_group "$base/$part"
            ! until_empty "$base" 30 || break
        done
        until_empty "$base" 0 || die 1 "$name: processes in $base do not end"
        find "$base" -depth -type d -exec rmdir {} + 2>/dev/null || true
    fi
    leave_network "$name"
    # The lock is what an nspawn that was killed itself would leave.
    lock=/run/systemd/nspawn/locks/inode-$(cat "$dir/inode" 2>/dev/null || echo none)
    rm -rf --one-file-system "${state:?}/$name" "$lock" "/run/systemd/nspawn/propagate/$machine" \
        "/run/systemd/nspawn/unix-export/$machine"
}

# until_empty CGROUP TENTHS: waits for its last process to be gone.
until_empty() {
    local n
    for ((n = 0; ; n++)); do
        grep -qs 'populated 1' "$1/cgroup.events" || return 0
        ((n < $2)) || return 1
        sleep 0.1
    done
}

# kill_group CGROUP: all its processes; one by one on kernels before cgroup.kill (5.14).
kill_group() {
    local pid
    [[ -d $1 ]] || return 0
    if [[ -e $1/cgroup.kill ]]; then
        echo 1 >"$1/cgroup.kill"
        return
    fi
    find "$1" -name cgroup.procs -exec cat {} + | while read -r pid; do
        kill -KILL "$pid" 2>/dev/null || true
    done
}
