//! Draws the screen from a snapshot and the state. It changes only the scroll positions of lists.

mod console;
mod dialogs;
mod jobs;
mod log;
mod panes;
mod theme;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

pub use self::log::rows as log_rows;
pub use self::theme::Theme;
use super::Worker;
use super::input::Input;
use super::snapshot::Snapshot;
use super::state::MonitorState;
use crate::base::output::printable;
use crate::base::table::Tone;
use crate::base::{clock, host_name};

/// The smallest terminal, in columns and rows, that has room for all lists.
const MIN_SIZE: (u16, u16) = (60, 15);
/// With fewer rows, the lists have no headings.
const ROWS_FOR_HEADINGS: u16 = 20;
/// Maximum length of the host name, in characters.
const HOST: usize = 20;
/// Maximum number of lines of an alert.
const ALERT_LINES: usize = 2;

/// Draws the whole screen. `now` is in unix ms.
pub fn draw(
    frame: &mut Frame<'_>,
    snapshot: &Snapshot,
    state: &mut MonitorState,
    worker: Worker,
    theme: &Theme,
    now: i64,
) {
    let area = frame.area();
    if (area.width < MIN_SIZE.0) || (area.height < MIN_SIZE.1) {
        let words = format!(
            "terminal too small\nit has {}x{}, {}x{} is needed",
            area.width, area.height, MIN_SIZE.0, MIN_SIZE.1
        );

        frame.render_widget(Paragraph::new(words), area);
        return;
    }

    let console = state.console.and_then(|id| state.consoles.get_mut(&id));
    if let Some(console) = console {
        console::draw(frame, area, snapshot, console, theme);
    } else if state.log.is_some() {
        log::draw(frame, area, state, theme);
    } else {
        screen(frame, area, snapshot, state, worker, theme, now);
    }

    if let Some(dialog) = &state.dialog {
        dialogs::draw(frame, area, dialog, theme);
    }
}

fn screen(
    frame: &mut Frame<'_>,
    area: Rect,
    snapshot: &Snapshot,
    state: &mut MonitorState,
    worker: Worker,
    theme: &Theme,
    now: i64,
) {
    let alerts = alerts(snapshot, worker, theme, area.width);
    let top = u16::try_from(alerts.len()).unwrap_or(0) + 1;
    let [head, middle, foot] = Layout::vertical([
        Constraint::Length(top),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);

    let mut lines = vec![summary(snapshot, worker, theme)];

    lines.extend(alerts);
    frame.render_widget(Paragraph::new(lines), head);

    let headings = area.height >= ROWS_FOR_HEADINGS;
    let heights = Heights::of(middle.height, snapshot.servers.len(), headings);
    let [servers, jobs, queue, tail] = Layout::vertical([
        Constraint::Length(heights.servers),
        Constraint::Length(heights.jobs),
        Constraint::Length(heights.queue),
        Constraint::Fill(1),
    ])
    .areas(middle);

    let (today, zone) = (clock::day(now), clock::zone_name(now));
    let style = panes::ListStyle {
        theme,
        headings,
        now,
        today: &today,
        zone: &zone,
    };

    panes::servers(frame, servers, snapshot, state, &style);
    jobs::draw(frame, jobs, snapshot, state, &style);
    jobs::draw_queue(frame, queue, snapshot, state, &style);
    panes::tail(frame, tail, snapshot, theme);

    footer(frame, foot, snapshot, state, theme);
}

/// The rows of each list with its title; the log gets the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heights {
    servers: u16,
    jobs: u16,
    queue: u16,
}

impl Heights {
    /// The heights do not depend on the number of jobs, so that nothing jumps when a job ends.
    fn of(rows: u16, servers: usize, headings: bool) -> Self {
        let frame = 1 + u16::from(headings);
        let content = rows.saturating_sub(3 * frame + 1);
        let most = (content * 3 / 10).max(1);
        Self {
            servers: frame + u16::try_from(servers).unwrap_or(u16::MAX).clamp(1, most),
            jobs: frame + (content / 4).max(1),
            queue: frame + (content / 5).max(1),
        }
    }
}

fn summary(snapshot: &Snapshot, worker: Worker, theme: &Theme) -> Line<'static> {
    let host = host_name().unwrap_or_default();
    // Only the first label: the full name would leave no room for the rest.
    let host: String = host
        .split('.')
        .next()
        .unwrap_or("")
        .chars()
        .take(HOST)
        .collect();
    let (word, tone) = match worker {
        Worker::Idle => ("worker idle", Tone::Plain),
        Worker::Working => ("worker working", Tone::Good),
        Worker::Lost => ("worker LOST", Tone::Bad),
        Worker::Absent => ("no worker", Tone::Warning),
    };

    let drifted = match snapshot.drifted() {
        0 => Span::raw(""),
        count => Span::styled(format!(", {count} drifted"), theme.strong(Tone::Warning)),
    };

    Line::from(vec![
        Span::styled(
            format!(" left4me {}", clean(&host)),
            theme.strong(Tone::Plain),
        ),
        Span::raw("  "),
        Span::styled(word, theme.strong(tone)),
        Span::raw(format!(
            "  {} running  {} queued  {}",
            snapshot.live,
            snapshot.waiting(),
            count(snapshot.servers.len(), "server")
        )),
        drifted,
    ])
}

/// Problems that need attention, in sentences below the first line.
fn alerts(snapshot: &Snapshot, worker: Worker, theme: &Theme, width: u16) -> Vec<Line<'static>> {
    let mut alerts = Vec::new();
    if worker == Worker::Lost {
        let jobs = if snapshot.live == 1 {
            "a job is".to_owned()
        } else {
            format!("{} jobs are", snapshot.live)
        };

        let words = format!(
            "worker lost: {jobs} marked as running, but no worker runs: \
             `systemctl start left4me-worker.socket left4me-worker.service`"
        );

        alerts.extend(wrapped(&words, width, theme.strong(Tone::Bad)));
    }

    if worker == Worker::Absent {
        let words =
            "queued jobs wait because no worker runs: `systemctl start left4me-worker.service`";
        alerts.extend(wrapped(words, width, theme.tone(Tone::Warning)));
    }

    if let Some(pause) = &snapshot.pause {
        let why = pause
            .reason
            .as_ref()
            .map_or_else(String::new, |why| format!(": {why}"));
        let words = format!(
            "queue paused by {} since {}{why}",
            pause.paused_by,
            clock::local(pause.paused_at)
        );

        alerts.extend(wrapped(&clean(&words), width, theme.strong(Tone::Warning)));
    }

    alerts
}

/// Breaks text between words; the last line is cut.
fn wrapped(words: &str, width: u16, style: Style) -> Vec<Line<'static>> {
    let width = usize::from(width).saturating_sub(2);
    let mut lines: Vec<String> = vec![String::new()];
    for word in words.split(' ') {
        let full = lines.len() == ALERT_LINES;
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty()
            && !full
            && Span::raw(line.as_str()).width() + 1 + Span::raw(word).width() > width
        {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }

    lines
        .into_iter()
        .map(|line| Line::styled(format!(" {line}"), style))
        .collect()
}

fn footer(
    frame: &mut Frame<'_>,
    area: Rect,
    snapshot: &Snapshot,
    state: &MonitorState,
    theme: &Theme,
) {
    if let Some((tone, words)) = &state.message {
        frame.render_widget(
            Paragraph::new(format!(" {}", clean(words))).style(theme.strong(*tone)),
            area,
        );

        return;
    }

    let pause = if snapshot.pause.is_some() {
        "resume"
    } else {
        "pause"
    };

    keys(
        frame,
        area,
        &[
            ("?", "help"),
            ("Q", "quit"),
            ("Tab", "list"),
            ("P", pause),
            ("C", "cancel"),
            ("S", "start/stop"),
            ("R", "restart"),
            ("E", "console"),
            ("L", "log"),
        ],
        theme,
    );
}

/// Draws a line of keys and what they do.
fn keys(frame: &mut Frame<'_>, area: Rect, keys: &[(&str, &str)], theme: &Theme) {
    let width: usize = keys
        .iter()
        .map(|(key, does)| key.len() + does.len() + 3)
        .sum();
    let gap = match width > usize::from(area.width) {
        true => "",
        false => " ",
    };

    let mut spans = Vec::new();
    for (key, does) in keys {
        spans.push(Span::styled(format!(" {key}"), theme.strong(Tone::Plain)));
        spans.push(Span::raw(format!(" {does}{gap}")));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

/// Draws a line that is being edited, with the cursor visible.
fn edited(frame: &mut Frame<'_>, area: Rect, prompt: &str, input: &Input, theme: &Theme) {
    let (before, after) = input.parts();
    let before = format!("{prompt}{}", clean(before));
    let column = Span::raw(before.as_str()).width();
    let over = column.saturating_sub(usize::from(area.width).saturating_sub(1));

    let line = Paragraph::new(format!("{before}{}", clean(after)));
    let scrolled = line.scroll((0, u16::try_from(over).unwrap_or(u16::MAX)));
    frame.render_widget(scrolled.style(theme.strong(Tone::Plain)), area);
    frame.set_cursor_position((area.x + u16::try_from(column - over).unwrap_or(0), area.y));
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Text from the database, made safe for the terminal: no control characters, tabs as spaces.
fn clean(text: &str) -> String {
    printable(text).replace('\t', "    ")
}

#[cfg(test)]
mod tests;
