//! A process that others of the same user cannot look into.

/// Takes this process's memory, its descriptors and most of its /proc entries from other processes of the same user: a
/// command that the runner starts, or a web front that was taken over. A program that is executed later is open again.
/// There are no core dumps then either.
pub fn be() {
    if let Err(errno) = nix::sys::prctl::set_dumpable(false) {
        // The kernel has no reason to refuse it; the work goes on without.
        eprintln!("left4me: the process stays open to others of its user: {}", errno.desc());
    }
}
