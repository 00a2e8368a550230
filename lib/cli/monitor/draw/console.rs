//! Draws the console of a server's game.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line as Drawn, Span};
use ratatui::widgets::Paragraph;

use super::panes::players;
use super::{Theme, clean, edited, keys};
use crate::base::table::Tone;
use crate::cli::monitor::console::{Console, Line};
use crate::cli::monitor::snapshot::Snapshot;

/// Draws the replies, the input line and the keys.
pub fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    snapshot: &Snapshot,
    console: &mut Console,
    theme: &Theme,
) {
    let [title, page, input, hint, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area);

    let words = heading(snapshot, console);
    frame.render_widget(
        Paragraph::new(words).style(theme.strong(Tone::Plain).add_modifier(Modifier::REVERSED)),
        title,
    );

    let width = usize::from(page.width);
    let lines = console.lines.iter().flat_map(|line| {
        let (text, tone) = match line {
            Line::Command(text) => (format!("> {text}"), theme.strong(Tone::Plain)),
            Line::Reply(text) => (text.clone(), theme.tone(Tone::Plain)),
            Line::Failure(text) => (text.clone(), theme.tone(Tone::Bad)),
            Line::Remark(text) => (format!("({text})"), theme.tone(Tone::Warning)),
        };
        let folded = folded(&clean(&text), width).into_iter();
        folded.map(move |part| Drawn::styled(part, tone))
    });
    let lines: Vec<Drawn<'_>> = lines.collect();

    let rows = usize::from(page.height);
    console.up = console.up.min(lines.len().saturating_sub(rows));
    let end = lines.len() - console.up;
    let shown = lines[end.saturating_sub(rows)..end].to_vec();
    // The newest line is just above the input line.
    let blank = rows.saturating_sub(shown.len());
    let mut all = vec![Drawn::default(); blank];
    all.extend(shown);
    frame.render_widget(Paragraph::new(all), page);

    edited(frame, input, "> ", &console.input, theme);
    let words = match (console.hint.as_str(), console.is_waiting, console.up) {
        ("", true, _) => "waiting for the reply".to_owned(),
        ("", false, 0) => String::new(),
        ("", false, up) => format!("{up} lines below: PgDn"),
        (hint, _, _) => clean(hint),
    };
    frame.render_widget(
        Paragraph::new(format!(" {words}")).style(theme.tone(Tone::Warning)),
        hint,
    );

    let help = [
        ("Esc", "back"),
        ("Enter", "send"),
        ("Up/Down", "history"),
        ("Tab", "complete"),
        ("PgUp/PgDn", "scroll"),
        ("Ctrl-C", "quit"),
    ];
    keys(frame, foot, &help, theme);
}

/// ` Console of server 1 (Friday): 3/8 players on c1m1_hotel`
fn heading(snapshot: &Snapshot, console: &Console) -> String {
    let of = format!(
        " Console of server {} ({})",
        console.server,
        clean(&console.name)
    );
    let Some(server) = snapshot.server(console.server) else {
        return format!("{of}: deleted");
    };

    match (server.players, &server.map) {
        (Some(_), Some(map)) => format!("{of}: {} players on {}", players(server), clean(map)),
        _ => format!("{of}: {}", server.actual),
    }
}

/// Breaks a line into parts of at most so many columns.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut columns = 0;
    for c in text.chars() {
        let wide = Span::raw(c.to_string()).width();
        if columns + wide > width {
            parts.push(String::new());
            columns = 0;
        }
        columns += wide;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shown_in_full() {
        assert_eq!(folded("abcde", 2), ["ab", "cd", "e"]);
        assert_eq!(folded("日本語", 5), ["日本", "語"]);
        assert_eq!(folded("", 5), [""]);
    }
}
