//! Protects a process from other processes of the same user.

/// Denies other processes of the same user (a command of the runner, or a compromised web front)
/// access to this process's memory, descriptors and most of its /proc entries. Also disables core
/// dumps. execve() resets it.
pub fn set() {
    if let Err(errno) = nix::sys::prctl::set_dumpable(false) {
        // The kernel has no reason to refuse this; continue without it.
        eprintln!(
            "left4me: cannot protect the process from others of its user: {}",
            errno.desc()
        );
    }
}
