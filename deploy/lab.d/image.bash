# shellcheck shell=bash
# shellcheck disable=SC2154  # $cache is deploy/lab's
# The root file system of a suite: made once by mmdebstrap, then copied by each lab. For labs of the same package, one
# with the package in it, made once by apt in a lab.

# What left4me's own package may take for granted on a Debian server, and nothing more.
readonly image_packages="systemd systemd-sysv dbus sudo procps iproute2 passwd util-linux
    ca-certificates libgcc-s1 sqlite3"
readonly archive_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Changing how an image is finished (finish_image) must change its name too.
readonly image_version=1

# need_tools: installs what making and booting a lab takes, if something is missing.
need_tools() {
    local missing=()
    command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
    command -v nsenter >/dev/null || missing+=(util-linux)
    [[ -r $archive_keyring ]] || missing+=(debian-archive-keyring)
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    install_tools "${missing[@]}" || die 1 "could not install ${missing[*]}: do it by hand"
}

install_tools() {
    local get=(apt-get -qq -o DPkg::Lock::Timeout=120)
    export DEBIAN_FRONTEND=noninteractive
    "${get[@]}" install -y --no-install-recommends "$@" >/dev/null 2>&1 || {
        "${get[@]}" update >&2 && "${get[@]}" install -y --no-install-recommends "$@" >/dev/null
    }
}

# image_for SUITE: prints the directory of its root file system, made now if there is none.
image_for() {
    local suite=$1 packages sum image
    read -r -d '' -a packages <<<"$image_packages ${LEFT4ME_LAB_PACKAGES:-}" || true
    sum=$(printf '%s\n' "$image_version" "${packages[@]}" | sha256sum)
    image=$cache/$suite-${sum:0:12}
    mkdir -p "$cache"
    (
        # Two labs of one suite may start at once: the second one waits for the first one's image.
        flock 9
        [[ -d $image ]] || make_image "$suite" "$image" "${packages[@]}"
    ) 9>"$cache/.lock-${image##*/}"
    printf '%s\n' "$image"
}

# make_image SUITE IMAGE PACKAGE...: appears under its name only when it is whole.
make_image() {
    local suite=$1 image=$2 work log
    shift 2
    say "making the root file system of $suite (once, some 20 s)"
    work=$image.new log=$image.log
    rm -rf --one-file-system "$work" "$work.conf"
    host_apt_conf >"$work.conf"
    if ! mmdebstrap --quiet --mode=root --format=directory --variant=minbase \
        --keyring="$archive_keyring" --aptopt="$work.conf" --include="$(IFS=, && echo "$*")" \
        "$suite" "$work" "$(mirror)" >"$log" 2>&1 9>&-; then
        tail -n 20 "$log" >&2
        rm -rf --one-file-system "$work" "$work.conf"
        die 1 "mmdebstrap could not make $suite (all of it: $log)"
    fi
    finish_image "$suite" "$work"
    rm -f "$work.conf" "$log"
    mv "$work" "$image"
}

# host_apt_conf: how apt reaches the archive from here (a proxy, an archive frozen in time).
host_apt_conf() {
    apt-config dump --format '%F "%v";%n' |
        grep -E '^Acquire::(https?::[^ ]*Proxy[^ ]*|Check-Valid-Until|Check-Date) ' || true
}

# mirror: the Debian mirror apt uses here.
mirror() {
    local used=${LEFT4ME_LAB_MIRROR:-}
    # shellcheck disable=SC2016  # apt's variable, not the shell's
    [[ $used ]] || used=$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' 2>/dev/null | sed -n 1p)
    printf '%s\n' "${used:-http://deb.debian.org/debian}"
}

# finish_image SUITE DIR: takes the host's traces out, and makes systemd quiet, talkative in the
# journal, and new at its first boot.
finish_image() {
    local suite=$1 dir=$2
    rm -f "$dir/etc/apt/apt.conf.d/99mmdebstrap" "$dir/etc/resolv.conf" "$dir/etc/hostname"
    printf 'deb http://deb.debian.org/debian %s main\n' "$suite" >"$dir/etc/apt/sources.list"
    rm -rf "$dir"/usr/share/{doc,man,locale,info}/*
    : >"$dir/etc/machine-id"
    rm -f "$dir/var/lib/dbus/machine-id"

    mkdir -p "$dir/var/log/journal" "$dir/etc/systemd/journald.conf.d"
    printf '[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nRateLimitBurst=0\n' \
        >"$dir/etc/systemd/journald.conf.d/lab.conf"
    # What would ask the network, or for a terminal that is not there.
    local unit
    for unit in apt-daily.timer apt-daily-upgrade.timer console-getty.service getty.target; do
        ln -sfn /dev/null "$dir/etc/systemd/system/$unit"
    done
}

# prepared_image SUITE IMAGE DEB: prints the directory of IMAGE with the package in it, made now if there is none. It
# belongs to this state directory.
prepared_image() {
    local suite=$1 image=$2 deb=$3 sum prepared
    sum=$(sha256sum <"$deb")
    prepared=$state/.prepared/${image##*/}-${sum:0:12}
    mkdir -p "$state/.prepared"
    (
        # Two labs may start at once: the second one waits for the first one's image.
        flock 9
        [[ -d $prepared ]] || prepare_image "$suite" "$image" "$deb" "$prepared" >&2
    ) 9>"$prepared.lock"
    printf '%s\n' "$prepared"
}

# prepare_image SUITE IMAGE DEB PREPARED: boots a lab, in which apt installs the package, and keeps its files once it is
# powered off.
prepare_image() {
    local suite=$1 image=$2 deb=$3 prepared=$4 tenths
    # Global: the trap runs when this function is over.
    claimed=''
    claim_name claimed "$suite" ''
    trap 'abandon "$claimed"' EXIT
    make_guest "$claimed" "$suite" "$image" private
    printf '%s\n' "$prepared.new" >"$state/$claimed/keep"
    start_guest "$claimed"
    wait_running "$claimed" ''
    install_deb "$claimed" "$deb"
    glimpse "$claimed" systemctl poweroff >>"$state/$claimed/log" 2>&1 || true
    for ((tenths = 0; tenths < 600; tenths++)); do
        loop_alive "$claimed" || break
        sleep 0.1
    done
    [[ -e $prepared.new/etc/machine-id ]] || die 1 "$claimed: its files could not be kept ($state/$claimed/log)"
    trap - EXIT
    remove_guest "$claimed"
    mv "$prepared.new" "$prepared"
}
