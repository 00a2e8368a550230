//! `deploy/install --host`, over a real sshd: from a machine of an admin onto a fresh Debian. Both
//! are the same lab; the admin's side is the user `admin` with a checkout, keys and an ssh
//! configuration.

use crate::lab::{Lab, Output, Suite, deb, repository, s, standin, wait_for, wait_until};
use crate::site::STEAM;

const PACKAGE: &str = "/opt/left4me/left4me.deb";
const PASSWORD: &str = "correct horse 7";
const PASSPHRASE: &str = "battery staple 8";

/// Holds dpkg's lock, as another apt does, until it is killed.
const LOCK: &str = r#"
use Fcntl; open(my $file, ">>", "/var/lib/dpkg/lock-frontend") or die;
my $lock = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
fcntl($file, F_SETLK, $lock) or die "$!"; sleep 600;"#;

/// `on-terminal COMMAND [PROMPT ANSWER]...`: runs it on a terminal of its own, gives each answer
/// when the prompt has come, and prints what was on the screen.
const ON_TERMINAL: &str = r#"#!/bin/bash
set -eu
command=$1 dir=$(mktemp -d) status=0
shift
mkfifo "$dir/keys"
timeout 120 script -qefc "$command" "$dir/screen" <"$dir/keys" >/dev/null & running=$!
exec 9>"$dir/keys"
while (($#)); do
    until grep -qs "$1" "$dir/screen"; do kill -0 "$running" && sleep 0.1; done
    printf '%s\n' "$2" >&9
    shift 2
done
wait "$running" || status=$?
tr -d '\r' <"$dir/screen"
rm -r "$dir"
exit "$status"
"#;

pub fn the_package_comes_onto_another_host_over_ssh(suite: Suite) {
    let lab = &Lab::with_packages(suite, "openssh-server");
    set_up(lab);
    a_failed_connection_names_host_and_cause(lab);
    an_unsuitable_host_is_refused_before_any_change(lab);
    a_refusal_by_sudo_changes_nothing(lab);
    a_fresh_host_gets_the_package_by_sudo(lab);
    an_upgrade_by_root_keeps_servers_and_settings(lab);
    a_connection_that_is_lost_loses_nothing(lab);
    without_a_host_it_is_this_machine(lab);
}

fn set_up(lab: &Lab) {
    for file in [
        "install",
        "install.d/facts.sh",
        "install.d/apply.sh",
        "install.d/judge.bash",
        "install.d/there.bash",
    ] {
        lab.push(
            &repository().join("deploy").join(file),
            &format!("/opt/left4me/deploy/{file}"),
        );
    }

    lab.push(&deb(), PACKAGE);
    // The build itself is not this story's.
    lab.write(
        "/opt/left4me/deploy/package",
        &format!("#!/bin/sh\necho building >&2\necho '{PACKAGE}'\n"),
    );

    lab.write("/usr/local/bin/on-terminal", ON_TERMINAL);
    lab.write("/root/lock.pl", LOCK);
    lab.sh("chmod 755 /opt/left4me/deploy/package /usr/local/bin/on-terminal");

    // A host without lists of packages and without a network: apt has all that left4me depends on.
    lab.sh(": >/etc/apt/sources.list");
    lab.write(
        "/etc/ssh/sshd_config.d/lab.conf",
        "Port 22\nPort 2222\nMatch User alone\nMaxSessions 1\n",
    );

    lab.sh("systemctl restart ssh.service");
    for user in ["admin", "anna", "guest", "alone", "mute"] {
        lab.sh(&format!(
            "useradd --create-home --shell /bin/bash {user}; echo '{user}:{PASSWORD}' | chpasswd"
        ));
    }

    lab.sh("usermod -aG sudo anna; usermod --shell /usr/sbin/nologin mute");
    lab.sh("echo 'alone ALL = (ALL) NOPASSWD: ALL' >/etc/sudoers.d/alone");
    // Login files print text, and shells are not all alike.
    lab.sh("echo 'echo welcome to this host' >>/home/anna/.bashrc; \
         sed -i '/case \\$- in/,/esac/d' /home/anna/.bashrc");

    let config = "Host gamehost\n HostKeyAlias gamehost\n Port 2222\n\
                  Host changed\n HostKeyAlias changed\n\
                  Host strange\n HostKeyAlias strange\n StrictHostKeyChecking no\n\
                  Host closed\n Port 1\n\
                  Host gamehost changed strange closed\n HostName 127.0.0.1\n\
                  Match user anna\n IdentityFile ~/.ssh/guarded\n IdentitiesOnly yes\n";
    lab.write("/home/admin/.ssh/config", config);
    lab.sh(&format!(
        "cd /home/admin/.ssh
         ssh-keygen -q -t ed25519 -N '' -f id_ed25519; ssh-keygen -q -t ed25519 -N '{PASSPHRASE}' \
         -f guarded
         echo \"gamehost $(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)\" >known_hosts
         echo \"[127.0.0.1]:2222 $(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)\" \
         >>known_hosts
         echo \"changed $(cut -d' ' -f1,2 id_ed25519.pub)\" >>known_hosts
         chown -R admin: .; chmod 700 .
         install -D -m 600 id_ed25519.pub /root/.ssh/authorized_keys
         for user in guest alone mute; do
             install -D -o $user -m 600 id_ed25519.pub /home/$user/.ssh/authorized_keys; chown \
             $user: /home/$user/.ssh
         done
         install -D -o anna -m 600 guarded.pub /home/anna/.ssh/authorized_keys; chown anna: \
         /home/anna/.ssh"
    ));
}

/// Without a terminal, also when the tests are run on one.
fn install(lab: &Lab, options: &str) -> Output {
    let command = format!("exec timeout 150 setsid --wait /opt/left4me/deploy/install {options}");
    lab.run_as("admin", &["bash", "-c", &command])
}

/// As the admin does it; `answers` are prompts and what is typed then.
fn install_on_a_terminal(lab: &Lab, options: &str, answers: &[&str]) -> Output {
    let command = format!("/opt/left4me/deploy/install {options}");
    lab.run_as("admin", &[&["on-terminal", &command], answers].concat())
}

/// The last line of standard error has all of `expected`, and nothing is left behind.
#[track_caller]
fn refused(lab: &Lab, output: Output, code: i32, expected: &[&str]) {
    let output = output.ends_with(code);
    let message = output.stderr.lines().last().unwrap_or_default();
    for part in expected {
        assert!(
            message.contains(part),
            "'{part}' in the last line\n{output}"
        );
    }

    assert!(!lab.is("dpkg -s left4me"), "nothing is installed\n{output}");
    nothing_is_left(lab);
}

/// The shell that removes the directory there ends a moment after the connection.
#[track_caller]
fn nothing_is_left(lab: &Lab) {
    let left = "ls -d /tmp/left4me-install.* /var/tmp/left4me-install.* /tmp/tmp.* 2>/dev/null";
    wait_for("no file is left", s(10), || {
        let left = lab.run(&["bash", "-c", left]).stdout;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

fn a_failed_connection_names_host_and_cause(lab: &Lab) {
    for (host, code, expected) in [
        ("root@closed", 69, ["cannot connect", "Connection refused"]),
        ("root@nowhere.invalid", 69, ["cannot connect", "resolve"]),
        (
            "nobody@gamehost",
            77,
            ["refuses the login", "Permission denied"],
        ),
        (
            "mute@gamehost",
            4,
            ["does not start a shell", "not available"],
        ),
        (
            "root@strange",
            77,
            ["host key is not confirmed", "ssh root@strange"],
        ),
        (
            "root@changed",
            77,
            ["host key is not the one", "ssh-keygen -R"],
        ),
    ] {
        let output = install(lab, &format!("--host {host} --deb {PACKAGE}"));
        let output = output.complains_of(&[host]);
        refused(lab, output, code, &expected);
    }

    let known = lab.sh("cat /home/admin/.ssh/known_hosts");
    assert!(
        !known.contains("strange"),
        "a key that was taken silently: {known}"
    );
}

fn an_unsuitable_host_is_refused_before_any_change(lab: &Lab) {
    let root = |options: &str| install(lab, &format!("--host root@gamehost --deb {options}"));
    lab.sh(&format!(
        "dpkg-deb -R {PACKAGE} /root/arm; sed -i 's/^Architecture: .*/Architecture: arm64/' \
        /root/arm/DEBIAN/control
         dpkg-deb -Znone --root-owner-group -b /root/arm /opt/left4me/arm.deb; rm -r /root/arm"
    ));

    refused(
        lab,
        root("/opt/left4me/arm.deb").complains_of(&["gamehost"]),
        4,
        &["is for arm64", "machine is amd64"],
    );

    lab.write(
        "/root/os",
        "ID=debian\nVERSION_ID=11\nPRETTY_NAME='Debian GNU/Linux 11 (bullseye)'\n",
    );

    lab.sh("mount --bind /root/os /usr/lib/os-release");
    refused(
        lab,
        root(PACKAGE).complains_of(&["gamehost"]),
        4,
        &["Debian 12 or 13", "Debian GNU/Linux 11"],
    );

    lab.sh("umount /usr/lib/os-release");

    lab.sh("mount -t tmpfs -o size=1m none /tmp; chmod 1777 /tmp");
    refused(
        lab,
        root(PACKAGE).complains_of(&["gamehost"]),
        4,
        &["not enough space in /tmp"],
    );

    lab.sh("umount /tmp");

    let guest = install(lab, &format!("--host guest@gamehost --deb {PACKAGE}"));
    refused(
        lab,
        guest.complains_of(&["guest@gamehost"]),
        77,
        &["asks guest for a password", "no terminal"],
    );

    let alone = install(lab, &format!("--host alone@gamehost --deb {PACKAGE}"));
    refused(lab, alone, 4, &["alone@gamehost", "MaxSessions"]);

    lab.sh("systemd-run --quiet --unit=lock perl /root/lock.pl");
    wait_until("the lock is held", s(10), || {
        lab.is("grep -q POSIX /proc/locks")
    });
    refused(
        lab,
        root(&format!("{PACKAGE} --lock-timeout 1")),
        4,
        &["root@gamehost", "apt is in use by"],
    );

    lab.sh("systemctl stop lock.service");
}

fn a_refusal_by_sudo_changes_nothing(lab: &Lab) {
    let options = format!("--host guest@gamehost --deb {PACKAGE}");
    let refusal =
        install_on_a_terminal(lab, &options, &["password of guest", PASSWORD]).ends_with(77);
    let named = refusal
        .stdout
        .contains("install: guest@gamehost: sudo refuses guest");
    assert!(named && !lab.is("dpkg -s left4me"), "{refusal}");
    nothing_is_left(lab);
}

fn a_fresh_host_gets_the_package_by_sudo(lab: &Lab) {
    let prompts = ["Enter passphrase", "password of anna"];
    let answers = [prompts[0], PASSPHRASE, prompts[1], PASSWORD];
    let done = install_on_a_terminal(lab, "--host anna@gamehost", &answers).ends_with(0);
    for prompt in prompts {
        assert_eq!(
            done.stdout.matches(prompt).count(),
            1,
            "{prompt}: asked for once\n{done}"
        );
    }

    for part in [
        "building",
        "fail  steamcmd",
        "is installed on anna@gamehost",
        "left4me user add NAME --admin",
        "Open http://127.0.0.1:8000 while this runs: ssh -L 8000:127.0.0.1:8000 anna@gamehost",
    ] {
        assert!(done.stdout.contains(part), "{part}\n{done}");
    }

    assert_eq!(lab.unit("left4me.target", "ActiveState"), "active");
    assert_eq!(lab.unit("left4me-web.socket", "UnitFileState"), "enabled");
    nothing_is_left(lab);
}

fn an_upgrade_by_root_keeps_servers_and_settings(lab: &Lab) {
    lab.push(
        &standin("standin-steamcmd"),
        &format!("{STEAM}/steamcmd.sh"),
    );

    lab.push(
        &standin("standin-srcds"),
        "/usr/local/lib/left4me-standin/srcds",
    );

    lab.sh(&format!(
        "mkdir {STEAM}/linux32; : >{STEAM}/linux32/steamclient.so; chown -R left4me-steam: {STEAM}"
    ));
    lab.describe(&["runs"]);
    lab.job(&["install"]);
    lab.job(&["start", "--server", "runs"]);
    let settings = "/etc/left4me/left4me.env";
    lab.sh(&format!(
        "sed -i 's/^#LEFT4ME_WORKER_SLOTS=.*/LEFT4ME_WORKER_SLOTS=3/' {settings}"
    ));
    // Its settings are other ones, too: dpkg would ask.
    lab.sh(&format!(
        "dpkg-deb -R {PACKAGE} /root/next; sed -i 's/^Version: .*/&+next/' /root/next/DEBIAN/control
         echo '# new' >>/root/next{settings}
         dpkg-deb -Znone --root-owner-group -b /root/next /opt/left4me/next.deb; rm -r /root/next"
    ));

    let before = (lab.main_pid(1), lab.sh(&format!("cat {settings}")));
    for host in ["root@gamehost", "ssh://root@127.0.0.1:2222"] {
        let done = install(lab, &format!("--host={host} --deb=/opt/left4me/next.deb")).ends_with(0);
        assert!(
            done.stdout
                .contains(&format!("+next is installed on {host}")),
            "{done}"
        );

        assert_eq!(
            (lab.main_pid(1), lab.sh(&format!("cat {settings}"))),
            before
        );
    }

    nothing_is_left(lab);
    a_package_that_refuses_is_named(lab);
    let older = install(lab, &format!("--host root@gamehost --deb {PACKAGE}")).ends_with(4);
    older.complains_of(&["root@gamehost", "+next is installed, newer"]);
}

/// apt itself says only that dpkg failed, or that something is broken.
fn a_package_that_refuses_is_named(lab: &Lab) {
    for (edit, cause) in [
        (
            "printf '#!/bin/sh\necho left4me: no room for it >&2; \
             exit 1\n' >preinst; chmod 755 preinst",
            "no room for it",
        ),
        (
            "printf '#!/bin/sh\nexit 3\n' >preinst; chmod 755 preinst",
            "error exit status 3",
        ),
        (
            "sed -i 's/^Depends: /&not-there (>= 7), /' control",
            "it depends on not-there (>= 7)",
        ),
    ] {
        lab.sh(&format!(
            "dpkg-deb -R /opt/left4me/next.deb /root/bad; cd /root/bad/DEBIAN; {edit}; cd /root
             dpkg-deb -Znone --root-owner-group -b /root/bad /opt/left4me/bad.deb; rm -r /root/bad"
        ));

        let failed = install(lab, "--host root@gamehost --deb /opt/left4me/bad.deb").ends_with(1);
        let message = failed.stderr.lines().last().unwrap_or_default();
        assert!(
            message.starts_with("install: root@gamehost: apt-get failed: "),
            "{failed}"
        );

        assert!(message.contains(cause), "{cause}\n{failed}");
        nothing_is_left(lab);
    }

    assert_eq!(
        lab.ok(&[
            "dpkg-query",
            "--show",
            "--showformat",
            "${db:Status-Status}",
            "left4me"
        ]),
        "installed"
    );
}

fn a_connection_that_is_lost_loses_nothing(lab: &Lab) {
    lab.sh("systemd-run --quiet --unit=lock perl /root/lock.pl");
    let options = "--host root@gamehost --deb /opt/left4me/next.deb --lock-timeout 90";
    lab.sh(&format!(
        "systemd-run --quiet --unit=install --uid=admin \
        --property=StandardError=file:/root/install \
             --property=RemainAfterExit=yes /opt/left4me/deploy/install {options}"
    ));

    wait_until("apt waits for the lock", s(30), || {
        lab.unit("left4me-install.service", "ActiveState") == "active"
    });
    // The processes of the connection, and nothing that runs in it. Debian 13 has two of them.
    lab.sh("kill -KILL $(pgrep '^sshd' | grep -vx $(systemctl show -P MainPID ssh.service))");
    wait_until("the command has ended", s(30), || {
        lab.unit("install.service", "ActiveState") == "failed"
    });
    assert_eq!(lab.unit("install.service", "ExecMainStatus"), "69");
    let message = lab.sh("tail -n 1 /root/install");
    assert!(
        message.contains("root@gamehost: the connection was lost"),
        "{message}"
    );

    assert!(message.contains("run the same command again"), "{message}");

    // What had begun there goes on, and the next run waits for it.
    assert_eq!(lab.unit("left4me-install.service", "ActiveState"), "active");
    lab.sh("systemd-run --quiet --on-active=3 systemctl stop lock.service");
    let again = install(lab, options).ends_with(0);
    assert!(
        again.stderr.contains("waiting for a running installation"),
        "{again}"
    );

    nothing_is_left(lab);
}

fn without_a_host_it_is_this_machine(lab: &Lab) {
    let done = lab.ok(&[
        "/opt/left4me/deploy/install",
        "--deb",
        "/opt/left4me/next.deb",
    ]);

    assert!(done.ends_with("Open http://127.0.0.1:8000"), "{done}");
    assert!(!done.contains("ssh -L"), "{done}");
    nothing_is_left(lab);
    let missing = lab
        .run(&["/opt/left4me/deploy/install", "--deb", "/root/nothing.deb"])
        .ends_with(3);
    missing.complains_of(&["/root/nothing.deb"]);
    lab.run(&["/opt/left4me/deploy/install", "--deb", "/root/lock.pl"])
        .ends_with(4)
        .complains_of(&["not a package"]);
}
