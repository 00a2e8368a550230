//! A program that a service has been made to run: it tries the ways out of its unit, for tests, and
//! is never packaged.
//!
//! | mode | what it does |
//! |---|---|
//! | `walls` | makes every attack of [`attacks::ALL`], one line each: `NAME: denied ERRNO` or `NAME: GOT THROUGH` |
//! | `walk` | lists what it can write, which sockets it can connect to, and what of left4me's data is there: `can write PATH`, `can connect PATH`, `can see NAME` |
//! | `takeover` | the same as `walls`, against the runner that it was started by |
//! | `stop-runner` | SIGSTOP to that |
//! | `handed ADDRESS` | tries to reach another host through a socket of left4me-console-network ([`handed`]) |
//! | `ok` | nothing |
//! | `program32 PATH` | writes a program of 32 bits there and runs it: `program32: exit CODE` |
//!
//! It works only where no_new_privs is set, as it is in every unit of left4me: elsewhere the walls
//! to try are missing. Each attack is made in a child of its own: one that the kernel kills for it
//! counts as `denied SIGSYS`.
#![expect(
    unsafe_code,
    reason = "an attack is a system call without a safe wrapper"
)]

#[path = "intruder/attacks.rs"]
mod attacks;
#[path = "intruder/handed.rs"]
mod handed;
#[path = "intruder/program32.rs"]
mod program32;
#[path = "intruder/walk.rs"]
mod walk;

use std::process::ExitCode;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid};

/// What an attack gives: negative when the kernel refuses, as the call itself.
pub type Attack = fn() -> i64;

fn main() -> ExitCode {
    // What was executed against the rules says so.
    if std::env::args().nth(1).as_deref() == Some("ok") {
        return ExitCode::SUCCESS;
    }
    if !nix::sys::prctl::get_no_new_privs().unwrap_or(false) {
        eprintln!("intruder: no_new_privs is not set: this is no unit of left4me");
        return ExitCode::from(2);
    }

    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["walls"] => attacks::ALL
            .iter()
            .for_each(|(name, attack)| report(name, *attack)),
        ["takeover"] => takeover(),
        ["walk"] => walk::all(),
        ["handed", address] => handed::all(address),
        ["stop-runner"] => drop(nix::sys::signal::kill(
            runner(),
            nix::sys::signal::Signal::SIGSTOP,
        )),
        ["program32", path] => program32::run(path),
        _ => {
            eprintln!("intruder walls|walk|handed ADDRESS|takeover|stop-runner|program32 PATH");
            return ExitCode::from(2);
        }
    }

    ExitCode::SUCCESS
}

/// Makes one attack, and says what came of it.
fn report(name: &str, attack: Attack) {
    // SAFETY: the process has one thread, and the child only makes system calls and leaves.
    let words = match unsafe { fork() } {
        Err(errno) => format!("not made: {errno}"),
        Ok(ForkResult::Child) => {
            let given = attack();
            let code = if given >= 0 {
                0
            } else {
                i32::try_from(-given).unwrap_or(255).clamp(1, 255)
            };

            // SAFETY: leaves without running anything of the parent's.
            unsafe { libc::_exit(code) }
        }
        Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => "GOT THROUGH".to_owned(),
            Ok(WaitStatus::Exited(_, code)) => format!("denied {:?}", Errno::from_raw(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("denied {signal:?}"),
            other => format!("not made: {other:?}"),
        },
    };

    println!("{name}: {words}");
}

/// The runner: the nearest process above us that is none of steamcmd's. A process that we may not
/// look at has no name here.
fn runner() -> Pid {
    let mut pid = getppid();
    loop {
        let read =
            |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let (name, stat) = (read("comm"), read("stat"));
        let above = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        match above {
            Some(above) if !name.starts_with("left4me-runner") => pid = Pid::from_raw(above),
            _ => return pid,
        }
    }
}

/// What a process can do to the runner of the same user.
fn takeover() {
    let runner = runner();
    attacks::TARGET.store(runner.as_raw(), std::sync::atomic::Ordering::Relaxed);
    let open = |name: &str| {
        std::fs::OpenOptions::new()
            .read(true)
            .open(format!("/proc/{runner}/{name}"))
            .map(drop)
    };

    let link = |name: &str| std::fs::read_link(format!("/proc/{runner}/{name}")).map(drop);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{runner}/mem"))
        .map(drop);
    let found = [
        ("mem, written", written),
        ("mem", open("mem")),
        ("environ", open("environ")),
        ("fd/3", link("fd/3")),
        ("exe", link("exe")),
        ("cwd", link("cwd")),
        ("fd/3, opened", open("fd/3")),
    ];

    for (name, found) in found {
        let words = found.map_or_else(
            |error| format!("denied {:?}", error.kind()),
            |()| "GOT THROUGH".to_owned(),
        );

        println!("the runner's {name}: {words}");
    }

    attacks::ON_ANOTHER
        .iter()
        .for_each(|(name, attack)| report(&format!("the runner, {name}"), *attack));
}
