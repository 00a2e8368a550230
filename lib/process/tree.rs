//! All processes of a command, and how they are killed. Two ways find them, used together: the
//! command's control group where there is one, and the descendants of this process. This process
//! reaps everything below it (PR_SET_CHILD_SUBREAPER), so that no double fork, no setsid and no
//! move to another control group hides a process.

use std::collections::HashMap;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::cgroup::Cgroup;

/// The processes of a command.
#[derive(Debug)]
pub struct ProcessTree {
    cgroup: Option<Rc<Cgroup>>,
    main: Pid,
    /// The main process's exit code, once it has ended; 128+n for signal n.
    pub code: Option<i32>,
    childless: bool,
    group_gone: bool,
}

impl ProcessTree {
    /// The tree of the command whose main process, leader of its own session and group, is `main`.
    pub fn new(main: Pid, cgroup: Option<Rc<Cgroup>>) -> Self {
        Self {
            cgroup,
            main,
            code: None,
            childless: false,
            group_gone: false,
        }
    }

    /// Reaps every child that has ended.
    pub fn reap(&mut self) {
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.main => self.code = Some(code),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.main => {
                    self.code = Some(128 + signal as i32);
                }
                Ok(WaitStatus::StillAlive) => {
                    self.childless = false;
                    return;
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => {
                    self.childless = true;
                    // Nothing else reaps our children; but a missing code must not mean that the
                    // command never ends.
                    self.code = self.code.or(Some(255));
                    return;
                }
            }
        }
    }

    /// Whether no process of the command's own group is left. The answer yes is kept, because the
    /// kernel may reuse the number.
    pub fn group_empty(&mut self) -> bool {
        let is_gone = || self.code.is_some() && killpg(self.main, None) == Err(Errno::ESRCH);
        self.group_gone = self.group_gone || is_gone();
        self.group_gone
    }

    /// Whether no process of the tree is left.
    pub fn empty(&self) -> bool {
        self.childless
            && self
                .cgroup
                .as_ref()
                .is_none_or(|cgroup| !cgroup.populated())
    }

    /// Sends `signal` to the command's group.
    pub fn signal(&mut self, signal: Signal) {
        if !self.group_empty() {
            let _ = killpg(self.main, signal);
        }
    }

    /// Kills the group, the control group, and every descendant.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        for pid in descendants() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Every process below this one, found by the parents that /proc shows.
fn descendants() -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        if let Some(pid) = pid
            && let Some(parent) = parent_of(pid)
        {
            children.entry(parent).or_default().push(pid);
        }
    }

    let mut found = Vec::new();
    let mut next = vec![Pid::this().as_raw()];
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(below.iter().copied().map(Pid::from_raw));
        next.extend(below);
    }

    found
}

/// The fourth field of /proc/PID/stat. The second one is the program's name in parentheses, which
/// may contain any character.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.iter().rposition(|&byte| byte == b')')?;
    let text = std::str::from_utf8(&stat[after + 1..]).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}
