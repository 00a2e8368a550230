//! This host's status document. gate gives it when it has changed; link tells the last one again from
//! time to time, so that others see that this host is there.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

/// The time between two tellings.
const EVERY: Duration = Duration::from_secs(60);

pub struct Status {
    /// Where the last one is kept, for a link that does not stay.
    file: Option<PathBuf>,
    text: Option<String>,
    told: Option<Instant>,
}

impl Status {
    pub fn new(file: Option<PathBuf>) -> Self {
        let text = file
            .as_ref()
            .and_then(|path| std::fs::read_to_string(path).ok());
        Self {
            file,
            text,
            told: None,
        }
    }

    /// What is to be told now, if anything.
    pub fn due(&mut self, new: Option<String>) -> Option<String> {
        if let Some(text) = new {
            if let Some(path) = &self.file
                && let Err(error) = std::fs::write(path, &text)
            {
                tracing::warn!("{}: {error}", path.display());
            }
            (self.text, self.told) = (Some(text), None);
        }
        let is_due = self.told.is_none_or(|told| told.elapsed() >= EVERY);
        self.text.clone().filter(|_| is_due)
    }

    pub fn told(&mut self) {
        self.told = Some(Instant::now());
    }
}
