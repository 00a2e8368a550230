//! Draws the dialogs over the rest of the screen.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Padding, Paragraph};

use super::{Theme, clean, edited};
use crate::base::table::Tone;
use crate::cli::monitor::state::Dialog;
use crate::domain::job::JobState;

/// Maximum width in columns.
const WIDTH: u16 = 70;

const HELP: [(&str, &str); 13] = [
    ("Tab, Shift-Tab", "the next list: servers, jobs, queue"),
    ("arrows, j, k", "move; also PgUp, PgDn, Home, End"),
    ("P", "pause or resume the queue"),
    ("C", "cancel the selected job (asks first; F kills at once)"),
    ("S", "start or stop the selected server (asks first)"),
    ("R", "restart it (asks first)"),
    ("E", "its game's console: send commands, see the replies"),
    ("L", "full log of the selected job"),
    ("  / n N", "in the log: search, next and previous match"),
    ("  F, g, G", "in the log: follow, first line, last line"),
    ("Ctrl-L, Ctrl-Z", "redraw, suspend"),
    ("Esc", "close a dialog, the log or the console"),
    ("Q, Ctrl-C", "quit; jobs continue"),
];

/// Draws a dialog in the middle of the screen.
pub fn draw(frame: &mut Frame<'_>, area: Rect, dialog: &Dialog, theme: &Theme) {
    match dialog {
        Dialog::Help => {
            let lines = HELP.iter().map(|(key, does)| {
                Line::from(vec![
                    Span::styled(format!("{key:<16}"), theme.strong(Tone::Plain)),
                    Span::raw(*does),
                ])
            });

            boxed(frame, area, "Keys", lines.collect(), theme);
        }
        Dialog::Server {
            id,
            name,
            operation,
            is_down,
            occupied,
        } => {
            let mut lines = vec![Line::raw(format!(
                "{} server {id} ({})?",
                capitalized(operation.as_str()),
                clean(name)
            ))];

            if *is_down {
                lines.push(Line::raw("It should run, but does not."));
            }

            if let Some(occupied) = occupied {
                let text = format!("{}.", clean(occupied));
                lines.push(Line::styled(text, theme.strong(Tone::Warning)));
            }

            lines.push(Line::raw(""));
            let mut keys = vec![("y", operation.as_str())];
            if occupied.is_some() {
                keys = vec![("y", "at once"), ("w", "wait until nobody plays")];
            }
            keys.push(("n", "close"));
            lines.push(answers(theme, &keys));
            if *is_down {
                lines.push(answers(theme, &[("s", "start it again")]));
            }

            boxed(frame, area, "Server", lines, theme);
        }
        Dialog::Cancel {
            job,
            operation,
            state,
        } => {
            let mut lines = vec![Line::raw(format!(
                "Cancel job {job} ({}, {state})?",
                clean(operation)
            ))];

            if *state == JobState::Cancelling {
                lines.push(Line::raw(
                    "It is being cancelled; F kills its commands at once.",
                ));
            }

            lines.push(Line::raw(""));
            lines.push(answers(
                theme,
                &[("y", "cancel"), ("F", "kill at once"), ("n", "close")],
            ));

            boxed(frame, area, "Cancel", lines, theme);
        }

        Dialog::Reason {
            job,
            operation,
            force,
            input,
        } => {
            let how = if *force { "Kill" } else { "Cancel" };
            let lines = vec![
                Line::raw(format!("{how} job {job} ({}). Reason?", clean(operation))),
                Line::raw(""),
                Line::raw(""),
                answers(theme, &[("Enter", "confirm"), ("Esc", "close")]),
            ];

            let inner = boxed(frame, area, "Reason", lines, theme);
            let line = Rect {
                y: inner.y + 1,
                height: 1,
                ..inner
            };
            edited(frame, line, "> ", input, theme);
        }
    }
}

/// Draws lines in a box over the screen; returns the area inside it.
fn boxed(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    lines: Vec<Line<'_>>,
    theme: &Theme,
) -> Rect {
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let area = area.centered(
        ratatui::layout::Constraint::Length(WIDTH.min(area.width.saturating_sub(4))),
        ratatui::layout::Constraint::Length(height),
    );

    let block = Block::bordered()
        .border_set(theme.border())
        .padding(Padding::horizontal(1))
        .title(Span::styled(
            format!(" {title} "),
            theme.strong(Tone::Plain),
        ));

    let inner = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
    inner
}

fn answers(theme: &Theme, keys: &[(&str, &str)]) -> Line<'static> {
    let mut spans = Vec::new();
    for (key, does) in keys {
        spans.push(Span::styled((*key).to_owned(), theme.strong(Tone::Plain)));
        spans.push(Span::raw(format!(" {does}   ")));
    }
    Line::from(spans)
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
