//! A progress bar for an installation on a terminal, in place of hundreds of progress lines.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::Result;
use crate::domain::steam;

/// A bar that appears with the first progress line.
pub struct ProgressLine {
    enabled: bool,
    bar: Option<ProgressBar>,
}

impl ProgressLine {
    /// If not `enabled`, no line is consumed.
    pub fn new(enabled: bool) -> Self {
        Self { enabled, bar: None }
    }

    /// Shows `line` in the bar if it is a progress line; returns whether it was.
    pub fn consume(&mut self, line: &str) -> bool {
        if !self.enabled {
            return false;
        }

        let Some(progress) = steam::progress(line) else {
            return false;
        };
        let bar = self.bar.get_or_insert_with(|| {
            let template = "{msg:24} [{bar:40}] {percent:>3} %  {elapsed}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(10_000).with_style(style.progress_chars("=> "));
            bar.enable_steady_tick(Duration::from_secs(1));
            bar
        });

        bar.set_message(progress.phase.to_string());
        bar.set_position((progress.percent.clamp(0.0, 100.0) * 100.0) as u64);
        true
    }

    /// Runs `print` with the bar hidden.
    pub fn suspend(&self, print: impl FnOnce() -> Result<()>) -> Result<()> {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
