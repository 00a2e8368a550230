# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables that the parts of deploy/install share
# Decides whether a machine and a package are suitable. The array `facts` describes the machine.

declare -A facts
heard=''

# learn: takes facts from standard input. Of other lines, the last one is kept in `heard`.
learn() {
    local line
    while read -r line; do
        line=${line%$'\r'}
        if [[ ! $line =~ ^left4me:([a-z_]+)=(.*)$ ]]; then
            heard=${line//[^[:print:]]/}
            continue
        fi
        facts[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
        [[ $line != left4me:complete=yes ]] || return 0
    done
    return 1
}

facts_here() {
    { sh "$here/install.d/facts.sh" >"$work/facts" && learn <"$work/facts"; } ||
        die 1 "cannot inspect this machine: see above"
}

# older VERSION THAN: by Debian's order of versions.
older() { dpkg --compare-versions "$1" lt "$2"; }

# at_least VERSION MINIMUM: by numbers, for a machine without dpkg.
at_least() { [[ $1 ]] && [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# judge_machine: dies with one line for each reason; the first one's code.
judge_machine() {
    local code='' line first=''
    while read -r code line; do
        say "${host:+$host: }$line"
        first=${first:-$code}
    done < <(lacks)
    [[ ! $first ]] || exit "$first"
}

# lacks: one line "CODE reason" for each reason; nothing for a suitable machine.
lacks() {
    local debian='' version=${facts[sudo_version]:-}
    [[ ${facts[os]:-} != debian || ! ${facts[os_version]:-} =~ ^1[23]$ ]] || debian=yes
    if [[ ${facts[apt]:-} != yes ]]; then
        echo "4 this is not Debian (${facts[os_name]:-unknown}): dpkg and apt-get are needed"
        return
    fi
    [[ $debian || ! $host ]] ||
        echo "4 Debian 12 or 13 is needed there, and it is ${facts[os_name]:-unknown}"
    [[ ${facts[runs_systemd]:-} ]] ||
        echo "4 PID 1 is ${facts[init]:-unknown}, not systemd: left4me's services are systemd units"
    at_least "${facts[systemd_version]:-}" 252 ||
        echo "4 systemd 252 or newer is needed, which Debian 12 has;" \
            "it is ${facts[systemd_version]:-missing}"
    # A fresh Debian may have no lists of packages yet.
    [[ $debian && ! $version ]] || at_least "$version" 1.9.10 ||
        echo "4 sudo 1.9.10 or newer is needed, which Debian 12 has; apt knows ${version:-none}"
    lacks_architecture
    lacks_root
}

lacks_architecture() {
    local arch=${facts[arch]:-unknown} built
    if [[ $deb ]]; then
        built=$(field Architecture)
        [[ $built == "$arch" || $built == all ]] ||
            echo "4 the package is for $built, and the machine is $arch"
    elif [[ $host ]]; then
        built=$(dpkg --print-architecture 2>/dev/null) || built=unknown
        [[ $built == "$arch" ]] ||
            echo "4 left4me is built for $built here, and the machine is $arch"
    fi
    [[ $arch == amd64 ]] || echo "4 the game runs on amd64, not on $arch"
}

lacks_root() {
    local user=${facts[user]:-this user}
    case ${facts[sudo]:-none} in
        none)
            echo "77 $user is not root, and there is no sudo: install it, or run this as root"
            ;;
        password)
            has_terminal ||
                echo "77 sudo asks $user for a password, and there is no terminal to type it on:" \
                    "run this on a terminal, or be root"
            ;;
    esac
}

has_terminal() { (: </dev/tty) 2>/dev/null; }

# field NAME: of the package. C: a caller compares it.
field() { dpkg-deb --field "$deb" "$1" 2>/dev/null; }

# check_file: dies unless $deb is a package of left4me.
check_file() {
    [[ -f $deb ]] || die 3 "no such file: $deb"
    deb=$(realpath -- "$deb")
    command -v dpkg-deb >/dev/null || die 4 "dpkg-deb is missing here: install dpkg"
    [[ $(field Package) == left4me ]] || die 4 "$deb is not a package of left4me"
}

# judge_package: whether this package can be installed on that machine.
judge_package() {
    local lack version installed=${facts[installed]:-} at=${host:+$host: }
    # Only a package that was just built has not been compared with the machine.
    lack=$(lacks_architecture | sed -n 's/^4 //p;q')
    [[ ! $lack ]] || die 4 "$at$lack"
    version=$(field Version)
    [[ ! $installed ]] || ! older "$version" "$installed" ||
        die 4 "${at}left4me $installed is installed, newer than this $version: its data cannot be downgraded"
    local size unpacked
    size=$((($(stat -c %s -- "$deb") >> 20) + 1))
    unpacked=$(field Installed-Size)
    [[ $unpacked =~ ^[0-9]+$ ]] || unpacked=0
    unpacked=$((unpacked >> 10))
    # apt also needs space for its lists and for dependencies.
    [[ ! $host ]] || enough "${facts[tmp]}" "${facts[free_tmp]:-}" $((size + 1))
    enough /var/tmp "${facts[free_var]:-}" $((size + 32))
    enough /usr "${facts[free_usr]:-}" $((unpacked + 32))
}

# enough DIRECTORY FREE NEEDED: in MiB.
enough() {
    [[ $2 =~ ^[0-9]+$ ]] || return 0
    (($2 >= $3)) || die 4 "${host:+$host: }not enough space in $1: $2 MiB are free, $3 are needed"
}
