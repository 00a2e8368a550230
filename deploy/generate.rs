//! Writes the manual pages and shell completions that the package ships, from the programs' own
//! command lines:
//!
//! ```text
//! cargo run --features tools --bin generate -- DIRECTORY
//! ```
//!
//! It creates man1/, bash/, zsh/ and fish/ in DIRECTORY.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| Error::other("usage: generate DIRECTORY"))?;
    for program in [
        left4me::admin::command(),
        left4me::cli::command(),
        left4me::ctl::command(),
    ] {
        write_manual(&program, &directory)?;
        write_completions(program, &directory)?;
    }

    // systemd starts them, but they can be run by hand.
    write_manual(&left4me::worker::command(), &directory)?;
    write_manual(&left4me::poller::command(), &directory)?;
    write_manual(&left4me::console::command(), &directory)?;
    write_manual(&left4me::gate::command(), &directory)?;
    write_manual(&left4me::link::command(), &directory)?;
    write_manual(&left4me::notify::command(), &directory)?;
    write_manual(&left4me::web::command(), &directory)
}

/// One page for the program and one for each of its verbs, at any depth: `left4me-job-enqueue.1`.
fn write_manual(program: &Command, directory: &Path) -> Result<()> {
    let man1 = directory.join("man1");
    fs_err::create_dir_all(&man1)?;
    clap_mangen::generate_to(program.clone(), man1)
}

fn write_completions(mut program: Command, directory: &Path) -> Result<()> {
    let name = program.get_name().to_owned();
    let files = [
        (Shell::Bash, format!("bash/{name}")),
        (Shell::Zsh, format!("zsh/_{name}")),
        (Shell::Fish, format!("fish/{name}.fish")),
    ];

    for (shell, file) in files {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut program, &name, &mut script);
        let file = directory.join(file);
        fs_err::create_dir_all(file.parent().unwrap_or(directory))?;
        fs_err::write(file, script)?;
    }

    Ok(())
}
