//! Takes over the terminal and restores it however the program ends: normally, by an error, by a
//! panic, or by a signal that can be caught.

use std::io::{BufWriter, IsTerminal as _, Stdout, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal, raise};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::queue;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};

use crate::base::{Error, Result};

/// Whether the terminal is in our mode at the moment.
static ACQUIRED: AtomicBool = AtomicBool::new(false);

/// Checks that there is a terminal to draw on.
///
/// Fails if there is none.
pub fn require_terminal() -> Result<()> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(Error::usage(
            "monitor needs a terminal for input and output (with ssh: \
             `ssh -t`); `left4me-job list` does not",
        ));
    }

    if std::env::var_os("TERM").is_none_or(|kind| kind.is_empty() || kind == "dumb") {
        return Err(Error::usage(
            "monitor cannot draw on a terminal with this TERM; \
             `left4me-job list` does not need one",
        ));
    }

    Ok(())
}

/// The terminal in our mode; dropping it restores the terminal.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    pub fn enter() -> Result<Self> {
        restore_on_panic();
        acquire()?;
        match Terminal::new(CrosstermBackend::new(BufWriter::new(std::io::stdout()))) {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                restore();
                Err(lost(error))
            }
        }
    }

    /// Draws a frame; writes only the difference to the last one. Picks up a changed size.
    pub fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.terminal.draw(render).map(|_| ()).map_err(lost)
    }

    /// Makes the next frame a full redraw, because others may have written to the screen.
    pub fn repaint(&mut self) -> Result<()> {
        self.terminal.clear().map_err(lost)
    }

    pub fn rows(&self) -> u16 {
        self.terminal.size().map_or(24, |size| size.height)
    }

    /// Restores the terminal and stops the process, as Ctrl-Z does. Returns after SIGCONT.
    /// `blocked` are the signals that are blocked otherwise.
    pub fn suspend(&mut self, blocked: &SigSet) -> Result<()> {
        restore();
        // SIGTSTP, not SIGSTOP: the kernel ignores it if there is no shell that could resume us.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTSTP);

        let stopped = stop.thread_unblock().and_then(|()| raise(Signal::SIGTSTP));
        let blocked_again = blocked.thread_block();
        stopped
            .and(blocked_again)
            .map_err(|errno| Error::from(std::io::Error::from(errno)))?;
        self.resume()
    }

    /// Takes over the terminal again after a stop.
    pub fn resume(&mut self) -> Result<()> {
        // The shell may have changed the mode meanwhile; start from that one.
        restore();
        acquire()?;
        self.repaint()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn acquire() -> Result<()> {
    ACQUIRED.store(true, Ordering::SeqCst);
    let mut out = std::io::stdout();
    let result = enable_raw_mode()
        .and_then(|()| queue!(out, EnterAlternateScreen, EnableBracketedPaste))
        .and_then(|()| out.flush());

    result.map_err(|error| {
        restore();
        lost(error)
    })
}

/// Restores the terminal if it is in our mode. A terminal that is gone needs no restoring.
fn restore() {
    if ACQUIRED.swap(false, Ordering::SeqCst) {
        let mut out = std::io::stdout();
        queue!(out, DisableBracketedPaste, LeaveAlternateScreen, Show)
            .and_then(|()| out.flush())
            .ok();
        disable_raw_mode().ok();
    }
}

/// Restores the terminal before the message of a panic, which is otherwise lost with the screen.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
}

fn lost(error: std::io::Error) -> Error {
    Error::from(error).within("the terminal")
}
