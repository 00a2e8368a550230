//! The report of a failed story: all of it in a file, a few lines on the terminal, where they must stay legible
//! beside those of others. The message of the panic comes last.

use std::path::PathBuf;
use std::sync::{Mutex, Once};

use crate::lab::Lab;

/// The message of the newest panic.
static PANIC: Mutex<String> = Mutex::new(String::new());

const SCRIPTS: [&str; 5] = [
    "systemctl --failed --no-pager --plain",
    "systemctl list-units --all --no-pager --plain 'left4me*' 'l4d2*'",
    "left4me server list; left4me-job list --limit 30",
    "ls -la /var/lib/left4me /var/lib/left4me/* /run/left4me | head -n 60",
    "journalctl --no-pager --lines 1000 --output short-precise",
];

/// So many lines of the journal are told at once.
const LINES: usize = 15;

/// So many characters of a line of it, and of the panic's message.
const LINE: usize = 160;
const MESSAGE: usize = 1500;

/// Keeps the messages of panics for [`tell`].
pub fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            if let Ok(mut message) = PANIC.lock() {
                *message = panic.to_string();
            }
        }));
    });
}

/// Tells what helps to understand a failure.
pub fn tell(lab: &Lab) {
    let told = SCRIPTS.map(|script| lab.tries(script));
    let all: String = SCRIPTS
        .iter()
        .zip(&told)
        .map(|(script, output)| format!("---- {}# {script}\n{output}\n", lab.name()))
        .collect();
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.log", lab.name()));
    match std::fs::write(&file, all) {
        Ok(()) => eprintln!("---- more of it is in {}", file.display()),
        Err(error) => eprintln!("---- {}: {error}", file.display()),
    }
    let journal: Vec<&str> = told[SCRIPTS.len() - 1].lines().collect();
    for line in &journal[journal.len().saturating_sub(LINES)..] {
        eprintln!("{}", cut(line, LINE));
    }
    if let Ok(message) = PANIC.lock() {
        eprintln!("---- {}: {}", lab.name(), cut(&message, MESSAGE));
    }
}

/// The beginning and the end of a long text.
fn cut(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let begin: String = text.chars().take(most / 2).collect();
    let end: String = text.chars().skip(length - most / 2).collect();
    format!("{begin} […] {end}")
}
