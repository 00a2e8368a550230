//! Draws the log view.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::panes::log_line;
use super::{Theme, clean, edited, keys};
use crate::base::table::Tone;
use crate::cli::monitor::log::{Log, Search};
use crate::cli::monitor::state::MonitorState;
use crate::db::logs::Way;

/// Rows of the title, the status line and the keys.
const FRAME: u16 = 3;

/// How many lines of the log fit a screen of `rows` rows.
pub fn rows(rows: u16) -> u16 {
    rows.saturating_sub(FRAME)
}

/// Draws the log view, with the status of the search and the keys.
pub fn draw(frame: &mut Frame<'_>, area: Rect, state: &MonitorState, theme: &Theme) {
    let Some(log) = &state.log else { return };
    let [title, page, status, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area);

    let words = format!(
        " Log of job {} ({}, {})",
        log.job,
        clean(&log.operation),
        log.state
    );

    frame.render_widget(
        Paragraph::new(words).style(theme.strong(Tone::Plain).add_modifier(Modifier::REVERSED)),
        title,
    );

    let lines: Vec<Line<'_>> = log
        .lines
        .iter()
        .map(|line| highlighted(log, line, theme))
        .collect();
    frame.render_widget(Paragraph::new(lines).scroll((0, log.left)), page);

    if let Some(typed) = &log.typing {
        edited(frame, status, "/", typed, theme);
    } else {
        frame.render_widget(
            Paragraph::new(status_text(log)).style(theme.strong(Tone::Plain)),
            status,
        );
    }

    let help = [
        ("Esc", "back"),
        ("j/k", "move"),
        ("g/G", "ends"),
        ("/", "search"),
        ("n/N", "next"),
        ("F", "follow"),
        ("Q", "quit"),
    ];

    keys(frame, foot, &help, theme);
}

/// The status line: the position in the log and the state of the search.
fn status_text(log: &Log) -> String {
    let (first, last) = (
        log.lines.first().map_or(0, |line| line.seq),
        log.lines.last().map_or(0, |line| line.seq),
    );

    let mut status_text = match log.lines.is_empty() {
        true => " no output yet".to_owned(),
        false => format!(" lines {first}-{last} of {}", log.last),
    };

    if log.follow {
        status_text.push_str(", following");
    }

    if log.left > 0 {
        status_text.push_str(&format!(", from column {}", log.left + 1));
    }

    let term = clean(&log.words);
    match log.search {
        Search::None => {}
        Search::Running(_, at) => {
            status_text.push_str(&format!("; searching '{term}', at line {at}; Esc stops"))
        }
        Search::At(seq) => status_text.push_str(&format!("; '{term}' in line {seq}")),
        Search::NotFound(Way::Down) => {
            status_text.push_str(&format!("; no '{term}' below; N searches above"))
        }
        Search::NotFound(Way::Up) => {
            status_text.push_str(&format!("; no '{term}' above; n searches below"))
        }
    }

    status_text
}

/// A line with the matches of the search highlighted.
fn highlighted(log: &Log, line: &crate::db::logs::Line, theme: &Theme) -> Line<'static> {
    let whole = log_line(line, theme);
    let text: String = whole
        .spans
        .iter()
        .map(|span| span.content.as_ref())
        .collect();
    let words = log.words.to_ascii_lowercase();
    if words.is_empty() || log.search == Search::None {
        return whole;
    }

    let mut mark = Style::new().add_modifier(Modifier::REVERSED);
    if log.search == Search::At(line.seq) {
        mark = mark.add_modifier(Modifier::BOLD);
    }

    // ASCII folding keeps all byte positions.
    let folded = text.to_ascii_lowercase();
    let (mut spans, mut from) = (Vec::new(), 0);

    for (at, found) in folded.match_indices(&words) {
        spans.push(Span::raw(text[from..at].to_owned()));
        from = at + found.len();
        spans.push(Span::styled(text[at..from].to_owned(), mark));
    }

    spans.push(Span::raw(text[from..].to_owned()));
    Line::from(spans).style(whole.style)
}
