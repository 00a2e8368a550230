//! `left4me schedule`: adds, lists, shows, pauses, resumes and removes schedules.

mod apply;
mod run;

use std::collections::HashMap;
use std::num::NonZeroU16;

use clap::{Args, Subcommand};

use super::{Context, ListArgs, facts, hint, print_list, when};
use crate::base::names::{ScheduleId, ServerId, ServerRef};
use crate::base::{Result, clock, output};
use crate::db::schedules::Schedule;
use crate::db::servers;
use crate::domain::calendar::ZoneName;
use crate::domain::condition::warning::Warnings;
use crate::domain::condition::{AtDeadline, ConditionRequest, Until};
use crate::domain::scheduled::{self, ScheduleRequest, ScheduleTargets, ScheduledOperation};
use crate::queue::schedules::{self, Maker};
use crate::queue::wake;

const EXAMPLES: &str = "\
Examples:
  left4me schedule add restart --server Friday --on '*-*-* 05:00' --when-empty
  left4me schedule add restart --all --rolling 5 --on 'Mon..Fri 05:00' --zone Europe/Berlin
  left4me schedule add start --server Friday --on 'Fri 18:00'
  left4me schedule add update --on 'Tue 04:30' --when-empty --until 06:00 --then go
  left4me schedule add update --on '*-*-* 04:30' --rolling 4
  left4me schedule add backup --on '*-*-* 03:30' --persistent

--on takes what systemd takes: see \"Calendar Events\" in systemd.time(7), and try an expression with
`systemd-analyze calendar`. Two runs are at least five minutes apart. A schedule is the timer
left4me-schedule@ID.timer: `systemctl list-timers 'left4me-*'` shows it.";

#[derive(Subcommand)]
pub(super) enum ScheduleVerb {
    /// Add a schedule
    #[command(after_help = EXAMPLES)]
    Add(Box<AddArgs>),
    /// List schedules
    List(ListArgs),
    /// Show a schedule with its last and its next run
    Show(ShowArgs),
    /// Keep a schedule, but do not run it until it is resumed
    Pause(IdArgs),
    /// End a pause. What was missed meanwhile is not made up for
    Resume(IdArgs),
    /// Remove a schedule
    Remove(IdArgs),
    /// Make systemd's timers equal to the schedules. left4me-schedules.service runs it
    #[command(hide = true)]
    Apply,
    /// Do what a schedule is for. left4me-schedule@ID.service runs it
    #[command(hide = true)]
    Run(IdArgs),
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// What it does: restart, stop, start, initialize and reset take servers; update and backup are
    /// for the whole host. A restart leaves out servers that somebody has stopped. A backup is kept
    /// until there are seven newer ones
    operation: ScheduledOperation,
    /// A server's id or name; repeatable
    #[arg(
        long = "server",
        short = 's',
        value_name = "ID|NAME",
        conflicts_with = "all"
    )]
    servers: Vec<ServerRef>,
    /// All servers that there are when it runs
    #[arg(long)]
    all: bool,
    /// When it runs, as in a timer of systemd: '*-*-* 05:00', 'Mon..Fri 18:00'
    #[arg(long, value_name = "CALENDAR")]
    on: String,
    /// The time zone of that, such as Europe/Berlin [default: that of the host]
    #[arg(long, value_name = "NAME")]
    zone: Option<ZoneName>,
    /// Make up for a run that was missed while the host was off, once
    #[arg(long)]
    persistent: bool,
    /// Work on at most N servers at a time; for update, restart so many
    #[arg(long, value_name = "N")]
    rolling: Option<NonZeroU16>,
    /// For update: restart no server; each takes the build at its next start
    #[arg(long)]
    no_restart: bool,
    #[command(flatten)]
    condition: ConditionArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What each job waits for, as for `left4me-job enqueue`.
#[derive(Args)]
struct ConditionArgs {
    /// Each job waits until nobody plays on any of the servers
    #[arg(long, help_heading = "Conditions")]
    when_empty: bool,
    /// It waits at most until this time of day, or for this duration
    #[arg(long, help_heading = "Conditions", value_name = "HH:MM|DURATION")]
    until: Option<Until>,
    /// What to do at that time when somebody still plays: go or give-up
    #[arg(long, help_heading = "Conditions", value_name = "go|give-up")]
    then: Option<AtDeadline>,
    /// Tell players so long before that time, as in 10m,5m,1m,10s
    #[arg(long, help_heading = "Conditions", value_name = "TIMES[=TEXT]")]
    warn: Option<Warnings>,
}

#[derive(Args)]
pub(super) struct IdArgs {
    /// The schedule's number
    id: ScheduleId,
}

#[derive(Args)]
pub(super) struct ShowArgs {
    /// The schedule's number
    id: ScheduleId,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, verb: ScheduleVerb) -> Result<()> {
    match verb {
        ScheduleVerb::Add(args) => add(context, &args),
        ScheduleVerb::List(args) => list(context, &args),
        ScheduleVerb::Show(args) => show(context, &args),
        ScheduleVerb::Pause(args) => set_paused(context, args.id, true),
        ScheduleVerb::Resume(args) => set_paused(context, args.id, false),
        ScheduleVerb::Remove(args) => remove(context, args.id),
        ScheduleVerb::Apply => apply::run(context),
        ScheduleVerb::Run(args) => run::run(context, args.id),
    }
}

/// The command line may do everything.
fn maker(context: &Context) -> Maker<'_> {
    Maker {
        name: &context.actor,
        user: None,
    }
}

/// Lets systemd's timers follow. The change is on disk: if they do not, that is only a hint.
pub(super) fn wake(context: &Context) {
    if let Err(error) = wake::schedules(&context.schedules_socket) {
        hint(&error.to_string());
    }
}

fn add(context: &Context, args: &AddArgs) -> Result<()> {
    let (on, zone) = scheduled::when(&args.on, args.zone.as_ref())?;
    let request = ScheduleRequest {
        operation: args.operation,
        targets: match (args.all, args.servers.is_empty()) {
            (true, _) => ScheduleTargets::All,
            (false, true) => ScheduleTargets::None,
            (false, false) => ScheduleTargets::Named(args.servers.clone()),
        },
        on,
        zone,
        persistent: args.persistent,
        rolling: args.rolling,
        no_restart: args.no_restart,
        condition: ConditionRequest {
            when_empty: args.condition.when_empty,
            until: args.condition.until.clone(),
            then: args.condition.then,
            warn: args.condition.warn.clone(),
        },
    };

    let schedule = schedules::add(
        &mut context.db()?,
        &request,
        &maker(context),
        context.build_mode,
        context.now,
    )?;
    wake(context);
    if args.json {
        return output::json(&schedule);
    }
    output::line(&format!(
        "schedule {} added; {}",
        schedule.id,
        next(&schedule)
    ))
}

/// `it runs next at 2026-11-30 05:00:00 CET`
fn next(schedule: &Schedule) -> String {
    match schedule.next_at {
        Some(at) => format!("it runs next at {}", clock::local(at)),
        None => "it does not run again".to_owned(),
    }
}

fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let db = context.db()?;
    let names = Names::read(&db)?;
    print_list(
        &schedules::visible(db.connection(), &maker(context))?,
        args.json,
        "no schedules yet: `left4me schedule add OPERATION --on CALENDAR` adds one",
        [
            "ID",
            "OPERATION",
            "SERVERS",
            "ON",
            "NEXT RUN",
            "LAST RUN",
            "RESULT",
        ],
        &["NEXT RUN", "LAST RUN"],
        |schedule| {
            [
                schedule.id.to_string(),
                schedule.operation.to_string(),
                names.of(schedule),
                schedule.when(),
                match schedule.paused {
                    true => "paused".to_owned(),
                    false => when(schedule.next_at),
                },
                when(schedule.last_run_at),
                result(schedule),
            ]
        },
    )
}

/// How the last run ended, or why there is no timer: `job 7 succeeded`.
fn result(schedule: &Schedule) -> String {
    let problem = schedule
        .timer_error
        .as_ref()
        .or(schedule.last_error.as_ref());
    match (problem, schedule.last_job_id, schedule.last_job_state) {
        (Some(why), ..) => why.clone(),
        (None, Some(job), Some(state)) => format!("job {job} {state}"),
        (None, Some(job), None) => format!("job {job}"),
        (None, None, _) if schedule.last_run_at.is_some() => "done".to_owned(),
        _ => String::new(),
    }
}

/// The names of servers, by id.
struct Names(HashMap<ServerId, String>);

impl Names {
    fn read(db: &crate::db::Db) -> Result<Self> {
        let servers = servers::all(db.connection())?.into_iter();
        Ok(Self(
            servers
                .map(|server| (server.id, server.name.to_string()))
                .collect(),
        ))
    }

    fn of(&self, schedule: &Schedule) -> String {
        let name = |id: &ServerId| self.0.get(id).cloned().unwrap_or_else(|| id.to_string());
        match schedule.all {
            true => "all".to_owned(),
            false => schedule
                .servers
                .iter()
                .map(name)
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

fn show(context: &Context, args: &ShowArgs) -> Result<()> {
    let db = context.db()?;
    let schedule = schedules::find(db.connection(), args.id, &maker(context))?;
    if args.json {
        return output::json(&schedule);
    }

    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let condition = schedule.condition.as_ref();
    facts(&[
        ("id", schedule.id.to_string()),
        ("operation", schedule.operation.to_string()),
        ("servers", Names::read(&db)?.of(&schedule)),
        ("on", schedule.on.clone()),
        (
            "time zone",
            schedule
                .zone
                .clone()
                .unwrap_or_else(|| "of the host".to_owned()),
        ),
        ("waits", condition.map_or_else(String::new, |c| c.message())),
        (
            "rolling",
            schedule.rolling.map_or_else(String::new, |n| n.to_string()),
        ),
        (
            "restarts",
            if schedule.no_restart { "none" } else { "" }.to_owned(),
        ),
        ("persistent", yes(schedule.persistent)),
        ("paused", yes(schedule.paused)),
        ("next run", when(schedule.next_at)),
        ("last run", when(schedule.last_run_at)),
        ("result", result(&schedule)),
        (
            "added",
            format!(
                "{} by {}",
                when(Some(schedule.created_at)),
                schedule.created_by
            ),
        ),
        ("timer", format!("left4me-schedule@{}.timer", schedule.id)),
    ])
}

fn set_paused(context: &Context, id: ScheduleId, paused: bool) -> Result<()> {
    let mut db = context.db()?;
    let schedule = schedules::set_paused(&mut db, id, paused, &maker(context), context.now)?;
    wake(context);
    output::line(&match paused {
        true => format!("schedule {id} is paused"),
        false => format!("schedule {id} is resumed; {}", next(&schedule)),
    })
}

fn remove(context: &Context, id: ScheduleId) -> Result<()> {
    schedules::remove(&mut context.db()?, id, &maker(context), context.now)?;
    wake(context);
    output::line(&format!("schedule {id} removed"))
}
