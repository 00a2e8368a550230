//! Starts one command: with its own session, control group, and terminal or pipes, inheriting
//! nothing.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::pty::{PtyMaster, Winsize, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, pipe2};

use super::{Spec, Terminal};
use crate::wire::Stream;

/// A command that has been started.
#[derive(Debug)]
pub struct Child {
    /// Its process id, which is also the id of its group and session.
    pub pid: Pid,
    /// Its outputs, for reading without blocking.
    pub outputs: Vec<(Stream, OwnedFd)>,
}

/// Starts `spec`. The new process enters the control group behind `procs` before its program
/// starts.
pub fn spawn(spec: &Spec, procs: Option<BorrowedFd<'_>>) -> io::Result<Child> {
    let (program, arguments) = spec.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(spec.env.iter().cloned())
        .current_dir(&spec.cwd);

    let outputs = match spec.terminal {
        Terminal::Pty => {
            let (ours, theirs) = terminal()?;
            command
                .stdin(Stdio::null())
                .stdout(theirs.try_clone()?)
                .stderr(theirs);
            vec![(Stream::Stdout, ours)]
        }
        Terminal::Pipes => {
            let (out, err) = (pipe2(OFlag::O_CLOEXEC)?, pipe2(OFlag::O_CLOEXEC)?);
            for ours in [&out.0, &err.0] {
                fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            }
            command.stdin(Stdio::null()).stdout(out.1).stderr(err.1);
            vec![(Stream::Stdout, out.0), (Stream::Stderr, err.0)]
        }
    };

    let procs = procs.map(|fd| fd.as_raw_fd());
    // SAFETY: `prepare` runs between fork and exec; it makes system calls only, allocates nothing
    // and takes no lock. The descriptor in `procs` is open until spawn() below has returned.
    #[expect(
        unsafe_code,
        reason = "only between fork and exec can a session be entered"
    )]
    unsafe {
        command.pre_exec(move || prepare(procs));
    }

    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // The Child is dropped without a wait: tree.rs reaps every child.
    Ok(Child {
        pid: Pid::from_raw(pid),
        outputs,
    })
}

/// Runs in the new process: enters control group and session, resets the signal mask, and closes
/// all other descriptors at exec.
#[expect(
    unsafe_code,
    reason = "system calls without a safe wrapper that is async-signal-safe by contract"
)]
fn prepare(procs: Option<RawFd>) -> io::Result<()> {
    let check = |result: libc::c_int| match result {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };

    if let Some(procs) = procs {
        // SAFETY: writes one byte of a constant to a descriptor that the parent keeps open during
        // the fork.
        let written = unsafe { libc::write(procs, c"0".as_ptr().cast(), 1) };
        check(libc::c_int::from(written == 1) - 1)?;
    }

    // SAFETY: setsid, sigemptyset, sigprocmask, prctl and close_range are plain system calls;
    // `mask` is a local that sigemptyset initialises. Descriptors above 2 are only marked to be
    // closed by exec, none is closed here.
    unsafe {
        check(libc::setsid())?;
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const mask,
            std::ptr::null_mut(),
        ))?;

        // When this process is killed outside systemd, the command must not stay behind. Older
        // kernels lack these two calls, so their results are ignored.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }

    Ok(())
}

/// Opens a terminal: our end, which does not block, and the command's. It is not the controlling
/// terminal: the kernel hangs that up when the session leader ends, and output of its children
/// would be lost.
fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let ours = posix_openpt(flags | OFlag::O_NONBLOCK)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;

    let theirs = open(ptsname_r(&ours)?.as_str(), flags, Mode::empty())?;
    let mut modes = tcgetattr(&theirs)?;
    cfmakeraw(&mut modes);
    tcsetattr(&theirs, SetArg::TCSANOW, &modes)?;
    set_size(&ours)?;
    Ok((ours.into(), theirs))
}

fn set_size(terminal: &PtyMaster) -> io::Result<()> {
    let size = Winsize {
        ws_row: 80,
        ws_col: 512,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };

    // SAFETY: TIOCSWINSZ reads one winsize, which is a local of that type.
    #[expect(unsafe_code, reason = "no crate here wraps this ioctl")]
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
