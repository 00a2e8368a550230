//! Places where a test lets a program die as by kill -9: LEFT4ME_FAILPOINT names one. Only in debug builds; what is
//! packaged has none.

/// Dies here, when this is the place that LEFT4ME_FAILPOINT names.
#[cfg(debug_assertions)]
pub fn hit(name: &str) {
    use nix::sys::signal::{Signal, raise};
    if std::env::var_os("LEFT4ME_FAILPOINT").is_some_and(|wanted| wanted == name) {
        raise(Signal::SIGKILL).ok();
    }
}

/// Panics here, when this is the place that LEFT4ME_FAILPOINT names.
#[cfg(debug_assertions)]
pub fn panic_at(name: &str) {
    if std::env::var_os("LEFT4ME_FAILPOINT").is_some_and(|wanted| wanted == name) {
        std::panic::panic_any("LEFT4ME_FAILPOINT");
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub fn panic_at(_: &str) {}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub fn hit(_: &str) {}
