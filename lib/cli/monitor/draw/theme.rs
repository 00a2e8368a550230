//! Colours and line drawing. No information is in a colour alone.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

use crate::base::table::{Tone, colours};

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// If false, only bold and reverse are used.
    pub colours: bool,
    /// If false, lines are drawn with ASCII characters.
    pub utf8: bool,
}

impl Theme {
    /// From NO_COLOR and the locale's character set.
    pub fn of_environment() -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(std::env::var_os)
            .find(|value| !value.is_empty());
        let set = locale
            .map(|value| value.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        Self {
            colours: colours(),
            utf8: set.contains("utf-8") || set.contains("utf8"),
        }
    }

    /// The style of a tone.
    pub fn tone(&self, tone: Tone) -> Style {
        let colour = match tone {
            Tone::Plain => return Style::new(),
            Tone::Good => Color::Green,
            Tone::Warning => Color::Yellow,
            Tone::Bad => Color::Red,
        };

        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// The style of a tone, in bold.
    pub fn strong(&self, tone: Tone) -> Style {
        self.tone(tone).add_modifier(Modifier::BOLD)
    }

    pub fn border(&self) -> border::Set<'static> {
        if self.utf8 {
            return border::PLAIN;
        }

        border::Set {
            top_left: "+",
            top_right: "+",
            bottom_left: "+",
            bottom_right: "+",
            vertical_left: "|",
            vertical_right: "|",
            horizontal_top: "-",
            horizontal_bottom: "-",
        }
    }
}
