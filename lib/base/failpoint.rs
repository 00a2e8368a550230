//! Points where a test can kill a program with SIGKILL: LEFT4ME_FAILPOINT names one. Only debug
//! builds have them; the package does not.

/// Kills the process if LEFT4ME_FAILPOINT is `name`.
#[cfg(debug_assertions)]
pub fn hit(name: &str) {
    use nix::sys::signal::{Signal, raise};
    if std::env::var_os("LEFT4ME_FAILPOINT").is_some_and(|wanted| wanted == name) {
        raise(Signal::SIGKILL).ok();
    }
}

/// Panics if LEFT4ME_FAILPOINT is `name`.
#[cfg(debug_assertions)]
pub fn panic_at(name: &str) {
    if std::env::var_os("LEFT4ME_FAILPOINT").is_some_and(|wanted| wanted == name) {
        std::panic::panic_any("LEFT4ME_FAILPOINT");
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn panic_at(_: &str) {}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn hit(_: &str) {}
