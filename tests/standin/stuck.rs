//! A stand-in for a disk that does not answer, for tests: never packaged.
//!
//! `standin-stuck DIRECTORY` mounts a file system there on which a process that opens a file is
//! stuck in the kernel, and serves it until it gets SIGTERM or SIGINT, or its parent ends; then all
//! go free. It needs root and /dev/fuse. What its files are is told in `support/stuck.rs`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use stuck::Stuck;

#[path = "../support/stuck.rs"]
#[allow(dead_code, reason = "each program uses its share")]
mod stuck;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("standin-stuck DIRECTORY");
        return ExitCode::from(2);
    };

    // Before there is a thread that would take them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    let prepared = signals
        .thread_block()
        .and_then(|()| set_pdeathsig(Signal::SIGTERM));
    match prepared
        .map_err(Into::into)
        .and_then(|()| Stuck::mount(Path::new(&directory)))
    {
        Ok(_mounted) => {
            println!("mounted");
            let _ = signals.wait();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("standin-stuck: {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}
