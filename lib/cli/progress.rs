//! An install's percentage on a terminal: one bar instead of hundreds of lines. Elsewhere the lines stay lines.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::Result;
use crate::domain::steam;

/// A bar that appears with the first progress line.
pub struct Progress {
    wanted: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// With `wanted` false it takes no line at all.
    #[must_use]
    pub fn new(wanted: bool) -> Self {
        Self { wanted, bar: None }
    }

    /// Whether `line` was progress and is shown by the bar.
    pub fn takes(&mut self, line: &str) -> bool {
        if !self.wanted {
            return false;
        }
        let Some(progress) = steam::progress(line) else { return false };
        let bar = self.bar.get_or_insert_with(|| {
            let template = "{msg:24} [{bar:40}] {percent:>3} %  {elapsed}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(10_000).with_style(style.progress_chars("=> "));
            bar.enable_steady_tick(Duration::from_secs(1));
            bar
        });
        bar.set_message(progress.phase.to_string());
        bar.set_position((progress.percent.clamp(0.0, 100.0) * 100.0) as u64);
        true
    }

    /// Prints something beside the bar.
    pub fn aside(&self, print: impl FnOnce() -> Result<()>) -> Result<()> {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
