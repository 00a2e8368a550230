//! The lists, and the tail of the selected job's log.

use std::borrow::Cow;

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, HighlightSpacing, Paragraph, Row, Table, TableState};

use super::{Theme, clean};
use crate::base::clock;
use crate::base::table::Tone;
use crate::cli::monitor::snapshot::{Progress, Snapshot};
use crate::cli::monitor::state::{Pane, State};
use crate::db::monitor::{JobRow, ServerRow};
use crate::domain::job::JobState;
use crate::domain::server::{ActualState, DesiredState};
use crate::wire::Stream;

/// How all lists look.
pub struct Look<'a> {
    pub theme: &'a Theme,
    /// Whether there is room for headings.
    pub headings: bool,
    /// Unix ms.
    pub now: i64,
    /// The day of that.
    pub today: &'a str,
    /// What the time zone is called then.
    pub zone: &'a str,
}

impl Look<'_> {
    /// The zone for a list's title, where there is no room for headings.
    fn zone_in_title(&self) -> String {
        if self.headings { String::new() } else { format!(", times in {}", self.zone) }
    }

    /// How wide a column of times is, whose heading names the zone.
    fn time_width(&self, heading: &str) -> u16 {
        u16::try_from(heading.len() + 1 + self.zone.len()).unwrap_or(0).max(10)
    }
}

/// The one of `headings` that is called `times` also names the zone.
fn headings(headings: &[&'static str], times: &str, look: &Look<'_>) -> Vec<Cow<'static, str>> {
    let heading = |&heading: &&'static str| match heading == times {
        true => Cow::Owned(format!("{heading} {}", look.zone)),
        false => Cow::Borrowed(heading),
    };
    headings.iter().map(heading).collect()
}

/// A list: what stands above it, its rows, and whether it has the cursor keys.
struct List<'a> {
    title: String,
    headings: Vec<Cow<'static, str>>,
    widths: Vec<Constraint>,
    rows: Vec<Row<'a>>,
    /// Said when there is no row.
    empty: &'static str,
    has_focus: bool,
}

impl List<'_> {
    /// Draws it with the selected row in sight; gives the first row that is shown.
    fn draw(self, frame: &mut Frame<'_>, area: Rect, look: &Look<'_>, selected: Option<usize>, offset: usize) -> usize {
        let block = titled(look.theme, &self.title, self.has_focus);
        if self.rows.is_empty() {
            frame.render_widget(Paragraph::new(format!("  {}", self.empty)).block(block), area);
            return 0;
        }
        let style = if self.has_focus { Modifier::REVERSED } else { Modifier::BOLD };
        let mut table = Table::new(self.rows, self.widths)
            .block(block)
            .row_highlight_style(Style::new().add_modifier(style))
            .highlight_symbol("> ")
            .highlight_spacing(HighlightSpacing::Always);
        if look.headings {
            table = table.header(Row::new(self.headings).style(Style::new().add_modifier(Modifier::BOLD)));
        }
        let mut at = TableState::new().with_offset(offset).with_selected(selected);
        frame.render_stateful_widget(table, area, &mut at);
        at.offset()
    }
}

fn titled<'a>(theme: &Theme, title: &str, has_focus: bool) -> Block<'a> {
    let style =
        if has_focus { theme.strong(Tone::Plain).add_modifier(Modifier::REVERSED) } else { theme.strong(Tone::Plain) };
    Block::new().borders(Borders::TOP).border_set(theme.border()).title(Span::styled(format!(" {title} "), style))
}

/// Servers with what they shall be, what they are, and how that differs.
pub fn servers(frame: &mut Frame<'_>, area: Rect, seen: &Snapshot, state: &mut State, look: &Look<'_>) {
    let drifted = seen.drifted();
    let list = List {
        title: match drifted {
            0 => format!("Servers: {}{}", seen.servers.len(), look.zone_in_title()),
            drifted => format!("Servers: {}, {drifted} drifted{}", seen.servers.len(), look.zone_in_title()),
        },
        headings: headings(&["ID", "NAME", "SHALL", "IS", "SINCE", "DRIFT", "NOTE"], "SINCE", look),
        widths: vec![
            Constraint::Length(4),
            Constraint::Length((area.width / 6).clamp(12, 30)),
            Constraint::Length(7),
            Constraint::Length(8),
            Constraint::Length(look.time_width("SINCE")),
            Constraint::Length(8),
            Constraint::Fill(1),
        ],
        rows: seen.servers.iter().map(|server| server_row(server, seen, look)).collect(),
        empty: "none; `left4me server create` makes one",
        has_focus: state.pane == Pane::Servers,
    };
    let selected = state.servers.index(&seen.server_ids());
    state.servers.offset = list.draw(frame, area, look, selected, state.servers.offset);
}

fn server_row(server: &ServerRow, seen: &Snapshot, look: &Look<'_>) -> Row<'static> {
    let tone = match (server.desired, server.actual) {
        (DesiredState::Running, ActualState::Running) => Tone::Good,
        (_, ActualState::Failed) => Tone::Bad,
        (_, ActualState::Starting | ActualState::Stopping | ActualState::Unknown) => Tone::Warning,
        _ if server.drift.is_some() => Tone::Warning,
        _ => Tone::Plain,
    };
    let drift = server.drift.as_ref().map_or_else(|| "-".to_owned(), |drift| drift.kind.to_string());
    let drift_style = if server.drift.is_some() { look.theme.strong(Tone::Bad) } else { Style::new() };
    Row::new([
        Cell::new(server.id.to_string()),
        Cell::new(clean(&server.name)),
        Cell::new(server.desired.as_str()),
        Cell::new(Span::styled(server.actual.as_str(), look.theme.tone(tone))),
        Cell::new(server.since.map_or_else(|| "-".to_owned(), |since| moment(since, look))),
        Cell::new(Span::styled(drift, drift_style)),
        Cell::new(clean(&note(server, seen, look))),
    ])
}

/// The job that the server has, and why it is not what it shall be.
fn note(server: &ServerRow, seen: &Snapshot, look: &Look<'_>) -> String {
    let mut notes = Vec::new();
    if let Some(busy) = seen.busy.get(&server.id) {
        notes.push(format!("job {} {} {}", busy.job, busy.operation, busy.state));
    }
    match (&server.drift, &server.last_error) {
        (Some(drift), _) => notes.push(format!("since {}: {}", moment(drift.since, look), drift.why)),
        (None, Some(error)) => notes.push(error.clone()),
        (None, None) => {}
    }
    notes.join("; ")
}

/// Jobs that run, with how far they are, and below them those that have ended.
pub fn jobs(frame: &mut Frame<'_>, area: Rect, seen: &Snapshot, state: &mut State, look: &Look<'_>) {
    let bar = usize::from(area.width / 10).clamp(8, 30);
    let list = List {
        title: format!("Jobs: {} running", seen.live),
        headings: headings(&["ID", "OPERATION", "STATE", "SERVERS", "TOOK", "PROGRESS"], "", look),
        widths: vec![
            Constraint::Length(6),
            Constraint::Length(10),
            Constraint::Length(10),
            Constraint::Length((area.width / 6).clamp(10, 30)),
            Constraint::Length(12),
            Constraint::Fill(1),
        ],
        rows: seen.jobs.iter().map(|job| job_row(job, seen.progress.get(&job.id), bar, look)).collect(),
        empty: "none yet; `left4me-job enqueue install` queues the first",
        has_focus: state.pane == Pane::Jobs,
    };
    let selected = state.jobs.index(&seen.job_ids());
    state.jobs.offset = list.draw(frame, area, look, selected, state.jobs.offset);
}

fn job_row(job: &JobRow, progress: Option<&Progress>, bar: usize, look: &Look<'_>) -> Row<'static> {
    let told = progress.map_or_else(|| job.error.clone().unwrap_or_default(), |progress| how_far(progress, bar));
    Row::new([
        Cell::new(job.id.to_string()),
        Cell::new(clean(&job.operation)),
        Cell::new(Span::styled(job.state.as_str(), look.theme.tone(tone_of(job.state)))),
        Cell::new(servers_of(job)),
        Cell::new(took(job, look.now)),
        Cell::new(clean(&told)),
    ])
}

fn tone_of(state: JobState) -> Tone {
    match state {
        JobState::Running | JobState::Succeeded => Tone::Good,
        JobState::Cancelling | JobState::Cancelled => Tone::Warning,
        JobState::Failed => Tone::Bad,
        JobState::Queued => Tone::Plain,
    }
}

/// `[====>     ]  45 % downloading`, or `[=====>    ] 1/2 start`; before it who is cancelling it.
fn how_far(progress: &Progress, bar: usize) -> String {
    let tasks = &progress.tasks;
    let doing = tasks.doing.join(", ");
    let installs = tasks.doing.iter().any(|kind| kind == "install-runtime");
    let mut told = match &progress.steam {
        Some((percent, phase)) if installs => {
            format!("{} {percent:3.0} % {phase}", drawn_bar(percent / 100.0, bar))
        }
        _ => {
            let share = if tasks.all > 0 { tasks.done as f64 / tasks.all as f64 } else { 0.0 };
            format!("{} {}/{} {doing}", drawn_bar(share, bar), tasks.done, tasks.all)
        }
    };
    if let Some(who) = &progress.cancelled {
        told = format!("by {who} {told}");
    }
    told
}

fn drawn_bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64) as usize;
    let tip = usize::from(full < width);
    format!("[{}{}{}]", "=".repeat(full), ">".repeat(tip), " ".repeat(width - full - tip))
}

/// The head of the queue.
pub fn queue(frame: &mut Frame<'_>, area: Rect, seen: &Snapshot, state: &mut State, look: &Look<'_>) {
    let shown =
        if seen.queued > seen.queue.len() as i64 { format!(", the first {}", seen.queue.len()) } else { String::new() };
    let paused = if seen.pause.is_some() { ", paused" } else { "" };
    let rows = (1..).zip(&seen.queue).map(|(position, job): (usize, _)| {
        Row::new([
            Cell::new(format!("#{position}")),
            Cell::new(job.id.to_string()),
            Cell::new(clean(&job.operation)),
            Cell::new(servers_of(job)),
            Cell::new(clean(&job.requested_by)),
            Cell::new(moment(job.created_at, look)),
        ])
    });
    let list = List {
        title: format!("Queue: {}{shown}{paused}{}", seen.waiting(), look.zone_in_title()),
        headings: headings(&["POS", "ID", "OPERATION", "SERVERS", "BY", "QUEUED"], "QUEUED", look),
        widths: vec![
            Constraint::Length(5),
            Constraint::Length(6),
            Constraint::Length(10),
            Constraint::Fill(1),
            Constraint::Length((area.width / 6).clamp(10, 20)),
            Constraint::Length(look.time_width("QUEUED")),
        ],
        rows: rows.collect(),
        empty: "empty",
        has_focus: state.pane == Pane::Queue,
    };
    let selected = state.queue.index(&seen.queue_ids());
    state.queue.offset = list.draw(frame, area, look, selected, state.queue.offset);
}

/// The end of the selected job's log.
pub fn tail(frame: &mut Frame<'_>, area: Rect, seen: &Snapshot, theme: &Theme) {
    let Some(job) = &seen.selected else {
        frame.render_widget(titled(theme, "Log", false), area);
        return;
    };
    let block = titled(theme, &format!("Log of job {} ({}, {})", job.id, clean(&job.operation), job.state), false);
    let rows = usize::from(block.inner(area).height);
    let first = seen.tail.len().saturating_sub(rows);
    let mut lines: Vec<Line<'_>> = seen.tail[first..].iter().map(|line| log_line(line, theme)).collect();
    if lines.is_empty() {
        let words = if job.state == JobState::Queued { "it waits for its turn" } else { "no line yet" };
        lines.push(Line::raw(format!("  {words}")));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// A line of a log; what came over standard error stands out.
pub fn log_line(line: &crate::db::logs::Line, theme: &Theme) -> Line<'static> {
    let tone = if line.stream == Stream::Stderr { Tone::Warning } else { Tone::Plain };
    Line::styled(clean(&line.line), theme.tone(tone))
}

/// The servers' names, as far as a column goes.
fn servers_of(job: &JobRow) -> String {
    let names = clean(&job.first_servers.join(", "));
    match usize::try_from(job.servers).unwrap_or(0).saturating_sub(job.first_servers.len()) {
        0 if names.is_empty() => "-".to_owned(),
        0 => names,
        more => format!("{} servers: {names} and {more} more", job.servers),
    }
}

/// How long it ran, or has been running.
fn took(job: &JobRow, now: i64) -> String {
    match (job.started_at, job.finished_at) {
        (Some(started), Some(finished)) => clock::span(finished - started),
        // In whole seconds: it is drawn when it has changed, and not else.
        (Some(started), None) => clock::span((now - started).max(0) / 1000 * 1000),
        _ => "-".to_owned(),
    }
}

/// A time of today as that; an older one as its day. It does not go stale as "5 minutes ago" would. A time from before
/// the clocks changed today names its own zone.
fn moment(at: i64, look: &Look<'_>) -> String {
    let day = clock::day(at);
    if day != look.today {
        return day;
    }
    let (time, zone) = (clock::time_of_day(at), clock::zone_name(at));
    if zone == look.zone { time } else { format!("{} {zone}", &time[..5.min(time.len())]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::monitor::Tasks;

    #[test]
    fn an_installation_shows_steamcmds_percent_and_other_jobs_their_tasks() {
        let doing = |kind: &str| Tasks { done: 1, all: 4, doing: vec![kind.to_owned()] };
        let steam = Some((45.32, "downloading".to_owned()));
        let progress = |kind, cancelled| Progress { tasks: doing(kind), steam: steam.clone(), cancelled };
        assert_eq!(how_far(&progress("install-runtime", None), 10), "[====>     ]  45 % downloading");
        assert_eq!(how_far(&progress("start-if-ran", None), 10), "[==>       ] 1/4 start-if-ran");
        let by = Some("anna: match".to_owned());
        assert_eq!(how_far(&progress("stop", by), 10), "by anna: match [==>       ] 1/4 stop");
        assert_eq!([drawn_bar(0.0, 3), drawn_bar(0.99, 3), drawn_bar(1.0, 3)], ["[>  ]", "[==>]", "[===]"]);
    }
}
