//! Reads all servers' units over one connection to the system bus, regardless of their number.
//!
//! systemd has no call that returns many properties of many units. So this first gets the list of
//! units, which has their states, then each unit's few properties, with the calls sent together
//! instead of one after the other, then the list again. A unit whose state changed meanwhile is
//! read again, so that its values are consistent. `GetAll` would be one call per unit, but PID 1
//! then collects about three hundred properties; measured, that costs both sides several times as
//! much.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use zbus::{Connection, Variant, fdo};
use zruntime::SharedRuntime;

use crate::base::clock::Moment;
use crate::base::names::{overlay_instance, server_instance};
use crate::base::systemd::{ListedUnit, MANAGER, PATH, SERVICE, SYSTEMD, UNIT, get, text};
use crate::base::{Error, Result};
use crate::domain::server::ActualState;
use crate::domain::unit::Unit;
use crate::host::units::Observed;

/// The servers' units and their template.
const PATTERN: &str = "left4me-server@*.service";
/// The units that mount the servers' layers.
const OVERLAYS: &str = "left4me-overlay@*.service";
const TEMPLATE: &str = "left4me-server@.service";

/// The poller's own unit, as an object of systemd.
const POLLER: &str = "/org/freedesktop/systemd1/unit/left4me_2dpoller_2eservice";

/// How long to wait for the answer whether it has a job.
const JOB_PATIENCE: Duration = Duration::from_millis(500);

/// A bus that does not reply within this time counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most calls in flight. dbus-daemon allows a connection 128 calls that wait for their replies.
const AT_ONCE: usize = 96;

/// How often changing units are read again.
const TRIES: usize = 3;

/// What systemd reports about all servers' units at one moment.
#[derive(Clone, Debug, Default)]
pub struct Units {
    /// Each loaded unit by the part of its name after the `@`. `enabled` is none: the symlinks have
    /// that.
    pub loaded: BTreeMap<String, Observed>,
    /// The failed overlay units, with the time of their failure, unix ms. Includes those of servers
    /// that are not loaded.
    pub failed_overlays: BTreeMap<String, i64>,
    /// Just before systemd was asked.
    pub at: Moment,
    /// Units that could not be read consistently because they kept changing. Their changes trigger
    /// the next poll, which reads them again.
    pub moving: BTreeSet<String>,
    /// Whether the host is shutting down: then a stop is expected.
    pub going_down: bool,
    /// Whether left4me-server@.service is installed.
    pub has_template: bool,
}

/// Reads all units of servers that systemd has loaded.
///
/// Fails with 69 when the bus or systemd does not reply.
pub fn read() -> Result<Units> {
    let unreadable = |why: String| {
        Error::unavailable(format!(
            "systemd cannot be asked over the system bus: {why}"
        ))
    };

    let units = zruntime::block_on(async {
        let runtime = SharedRuntime::current().map_err(|error| error.to_string())?;
        match runtime.timeout(PATIENCE, all()).await {
            Ok(units) => units.map_err(|error| message(&error)),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    });

    units.map_err(unreadable)
}

/// Whether systemd has another poll to start once this one ends. False if it does not say so at
/// once. Costs two milliseconds of CPU.
pub fn is_poll_requested() -> bool {
    let asked = zruntime::block_on(async {
        let job = async {
            let bus = zbus::connection::Builder::system().build().await?;
            get(&bus, POLLER, UNIT, "Job").await
        };
        let runtime = SharedRuntime::current().ok()?;
        runtime.timeout(JOB_PATIENCE, job).await.ok()
    });

    match asked {
        // The job's id, 0 for none, and its path.
        Some(Ok(job)) => match &*job {
            Variant::Structure(fields) => fields.fields().first() != Some(&Variant::U32(0)),
            _ => false,
        },
        Some(Err(error)) => {
            tracing::debug!("whether another poll is requested is not known: {error}");
            false
        }
        None => false,
    }
}

/// The error's message, without zbus' own prefix.
fn message(error: &zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(name, Some(detail), _) => format!("{detail} ({name})"),
        other => other.to_string(),
    }
}

async fn all() -> zbus::Result<Units> {
    let queued = NonZeroUsize::new(4 * AT_ONCE).unwrap_or(NonZeroUsize::MIN);
    let bus = zbus::connection::Builder::system()
        .max_queued(queued)
        .build()
        .await?;
    let state = get(&bus, PATH, MANAGER, "SystemState").await?;
    let booted = get(&bus, PATH, MANAGER, "UserspaceTimestampMonotonic").await?;

    let booted_us = u64::try_from(&booted).unwrap_or(0);
    let mut units = Units {
        at: moment(booted_us),
        going_down: String::try_from(state).is_ok_and(|state| state == "stopping"),
        has_template: has_template(&bus).await?,
        ..Units::default()
    };

    let mut listed = list(&bus).await?;
    let mut moved: Vec<ListedUnit> = listed.clone();
    for _ in 0..TRIES {
        let at = moment(booted_us);
        for (name, unit) in details(&bus, &moved).await? {
            units.loaded.insert(name, Observed { unit, at });
        }

        let now = list(&bus).await?;
        let before: HashMap<&str, &ListedUnit> =
            listed.iter().map(|unit| (unit.0.as_str(), unit)).collect();
        let has_moved = |unit: &&ListedUnit| {
            !before
                .get(unit.0.as_str())
                .is_some_and(|before| is_same(before, unit))
        };

        moved = now.iter().filter(has_moved).cloned().collect();
        listed = now;
        if moved.is_empty() {
            break;
        }
    }

    // A unit that has left the list is no longer loaded.
    let still: HashSet<&str> = listed
        .iter()
        .filter_map(|unit| server_instance(&unit.0))
        .collect();
    units.loaded.retain(|name, _| still.contains(name.as_str()));
    units.failed_overlays = failed_overlays(&bus, units.at).await?;
    units.moving = moved
        .iter()
        .filter_map(|unit| server_instance(&unit.0))
        .map(str::to_owned)
        .collect();

    Ok(units)
}

/// The current moment. In a container the kernel's clocks do not know when the guest booted, but
/// PID 1 does. PID 1's wall clock at that time is not used, because it may have been wrong.
fn moment(booted_us: u64) -> Moment {
    let now = Moment::now();
    if booted_us == 0 {
        now
    } else {
        Moment {
            booted_at: now.wall(booted_us),
            ..now
        }
    }
}

/// Whether two entries of the same unit are equal.
fn is_same(one: &ListedUnit, other: &ListedUnit) -> bool {
    (&one.2, &one.3, &one.4, &one.8) == (&other.2, &other.3, &other.4, &other.8)
}

fn from_list(listed: &ListedUnit) -> [(&'static str, String); 2] {
    [
        ("ActiveState", listed.3.clone()),
        ("SubState", listed.4.clone()),
    ]
}

async fn list(bus: &Connection) -> zbus::Result<Vec<ListedUnit>> {
    let body = (Vec::<&str>::new(), vec![PATTERN]);
    bus.call_method(
        Some(SYSTEMD),
        PATH,
        Some(MANAGER),
        "ListUnitsByPatterns",
        &body,
    )
    .await?
    .body()
    .deserialize()
}

/// In most cases there are none, for one call.
async fn failed_overlays(bus: &Connection, at: Moment) -> zbus::Result<BTreeMap<String, i64>> {
    let body = (vec!["failed"], vec![OVERLAYS]);
    let reply = bus
        .call_method(
            Some(SYSTEMD),
            PATH,
            Some(MANAGER),
            "ListUnitsByPatterns",
            &body,
        )
        .await?;

    let mut failed = BTreeMap::new();
    for unit in reply.body().deserialize::<Vec<ListedUnit>>()? {
        let Some(instance) = overlay_instance(&unit.0) else {
            continue;
        };
        match get(
            bus,
            unit.6.as_str(),
            UNIT,
            "InactiveEnterTimestampMonotonic",
        )
        .await
        {
            Ok(since) => drop(failed.insert(
                instance.to_owned(),
                at.wall(u64::try_from(&since).unwrap_or(0)),
            )),
            // The unit was unloaded or started again meanwhile.
            Err(error) if is_of_one_unit(&error) => {}
            Err(error) => return Err(error),
        }
    }

    Ok(failed)
}

/// Whether the template of servers' units is installed.
async fn has_template(bus: &Connection) -> zbus::Result<bool> {
    let reply = bus
        .call_method(
            Some(SYSTEMD),
            PATH,
            Some(MANAGER),
            "GetUnitFileState",
            &(TEMPLATE),
        )
        .await;
    match reply {
        Ok(_) => Ok(true),
        Err(zbus::Error::FDO(error)) if matches!(*error, fdo::Error::FileNotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The properties of units, with as many calls at once as the bus allows. If one unit cannot be
/// read, only that unit is unknown.
async fn details(bus: &Connection, listed: &[ListedUnit]) -> zbus::Result<Vec<(String, Unit)>> {
    let mut told: Vec<Vec<(&str, String)>> =
        listed.iter().map(|line| from_list(line).to_vec()).collect();
    let mut calls: Vec<(usize, &ListedUnit, &'static str, &'static str)> = Vec::new();
    for (index, line) in listed.iter().enumerate() {
        calls.extend(wanted(line).map(|(interface, property)| (index, line, interface, property)));
    }

    let runtime = SharedRuntime::current()?;
    for chunk in calls.chunks(AT_ONCE) {
        let mut waiting = Vec::with_capacity(chunk.len());
        for &(index, line, interface, property) in chunk {
            let (bus, path) = (bus.clone(), line.6.clone());
            let reply = runtime.spawn(property, async move {
                get(&bus, path.as_str(), interface, property).await
            });
            waiting.push((index, property, reply));
        }

        for (index, property, reply) in waiting {
            match reply.await? {
                Ok(value) => told[index].push((property, text(&value).unwrap_or_default())),
                // The unit was unloaded just now. That is no error: the list is read again.
                Err(error) if is_of_one_unit(&error) => {
                    tracing::debug!("{} does not tell its {property}: {error}", listed[index].0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    let units = listed.iter().zip(told).filter_map(|(line, told)| {
        let pairs = told
            .iter()
            .map(|(property, value)| (*property, value.as_str()));
        let job = (line.7 != 0).then(|| line.8.clone());
        Some((
            server_instance(&line.0)?.to_owned(),
            Unit {
                job,
                ..Unit::from_pairs(pairs)
            },
        ))
    });

    Ok(units.collect())
}

/// Whether systemd replied that this one unit cannot be read. Every other error concerns the bus.
fn is_of_one_unit(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::MethodError(name, ..) => name.starts_with("org.freedesktop.systemd1."),
        zbus::Error::FDO(error) => matches!(
            **error,
            fdo::Error::UnknownObject(_)
                | fdo::Error::UnknownMethod(_)
                | fdo::Error::UnknownInterface(_)
                | fdo::Error::UnknownProperty(_)
        ),
        _ => false,
    }
}

/// The properties worth reading in this state: of a running unit its resource use, of any other how
/// it ended.
fn wanted(listed: &ListedUnit) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
    let always = [
        (SERVICE, "NRestarts"),
        (UNIT, "ActiveEnterTimestampMonotonic"),
    ];

    let fares = [
        (SERVICE, "MainPID"),
        (SERVICE, "MemoryCurrent"),
        (SERVICE, "CPUUsageNSec"),
    ];

    let ended = [
        (SERVICE, "Result"),
        (SERVICE, "ExecMainCode"),
        (SERVICE, "ExecMainStatus"),
        (SERVICE, "ExecMainStartTimestampMonotonic"),
        (SERVICE, "ExecMainExitTimestampMonotonic"),
        (UNIT, "ActiveExitTimestampMonotonic"),
    ];

    let runs = ActualState::from_unit(&listed.3, &listed.4) == ActualState::Running;
    always
        .into_iter()
        .chain(fares.into_iter().filter(move |_| runs))
        .chain(ended.into_iter().filter(move |_| !runs))
}
