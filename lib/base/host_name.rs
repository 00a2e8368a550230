//! The name of this host.

/// This host's name, as the kernel has it; none if it is not UTF-8.
pub fn host_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?;
    name.into_string().ok()
}
