//! All units of servers in one read, over the system bus: one connection, whatever their number.
//!
//! systemd offers no call that gives many properties of many units. So their list, which has the states, comes first;
//! then each unit's few properties, asked for together and not one after the other; then the list again. A unit whose
//! state moved meanwhile is asked once more: what is given belongs together. `GetAll` would be one call a unit, but it
//! makes PID 1 collect some three hundred properties, and was measured to cost both sides several times as much.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use zbus::{Connection, Message, OwnedObjectPath, OwnedVariant, Variant, fdo};
use zruntime::SharedRuntime;

use crate::base::clock::Moment;
use crate::base::{Error, Result};
use crate::domain::server::ActualState;
use crate::domain::unit::{MainExit, Unit, accounted};
use crate::host::units::Observed;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const PATH: &str = "/org/freedesktop/systemd1";

/// The unit of a server, and around the instance's name.
const PATTERN: &str = "left4me-server@*.service";
const TEMPLATE: &str = "left4me-server@.service";
const PREFIX: &str = "left4me-server@";
const SUFFIX: &str = ".service";

/// A bus that takes longer is as good as gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// dbus-daemon allows a connection 128 calls that wait for their replies.
const AT_ONCE: usize = 96;

/// How often units that move are asked again.
const TRIES: usize = 3;

/// What systemd says of all servers' units at one moment.
#[derive(Clone, Debug, Default)]
pub struct Units {
    /// Each loaded unit by the part of its name behind the `@`. `enabled` is none: the symlinks tell.
    pub loaded: BTreeMap<String, Observed>,
    /// Just before systemd was asked.
    pub at: Moment,
    /// Units of which no consistent picture could be had, because they moved: they are seen by the next look, which
    /// their moving has asked for.
    pub moving: BTreeSet<String>,
    /// Whether the host is going down: then nothing that stops is news.
    pub going_down: bool,
    /// Whether left4me-server@.service is installed.
    pub has_template: bool,
}

/// A line of ListUnitsByPatterns: name, description, load, active, sub, following, path, job's id, type and path.
type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// Reads all units of servers that systemd has loaded.
///
/// # Errors
/// 69 when the bus or systemd does not answer.
pub fn read() -> Result<Units> {
    let unreadable = |why: String| Error::unavailable(format!("systemd cannot be asked over the system bus: {why}"));
    let units = zruntime::block_on(async {
        let runtime = SharedRuntime::current().map_err(|error| error.to_string())?;
        match runtime.timeout(PATIENCE, all()).await {
            Ok(units) => units.map_err(|error| words(&error)),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    });
    units.map_err(unreadable)
}

/// What failed, without zbus' own name for it.
fn words(error: &zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(name, Some(detail), _) => format!("{detail} ({name})"),
        other => other.to_string(),
    }
}

async fn all() -> zbus::Result<Units> {
    let queued = NonZeroUsize::new(4 * AT_ONCE).unwrap_or(NonZeroUsize::MIN);
    let bus = zbus::connection::Builder::system().max_queued(queued).build().await?;
    let state = get(&bus, PATH.try_into()?, MANAGER, "SystemState").await?;
    let booted = get(&bus, PATH.try_into()?, MANAGER, "UserspaceTimestampMonotonic").await?;
    let booted_us = u64::try_from(&booted).unwrap_or(0);
    let mut units = Units {
        at: moment(booted_us),
        going_down: String::try_from(state).is_ok_and(|state| state == "stopping"),
        has_template: has_template(&bus).await?,
        ..Units::default()
    };
    let mut listed = list(&bus).await?;
    let mut moved: Vec<Listed> = listed.clone();
    for _ in 0..TRIES {
        let at = moment(booted_us);
        for (name, unit) in details(&bus, &moved).await? {
            units.loaded.insert(name, Observed { unit, at });
        }
        let now = list(&bus).await?;
        moved = now.iter().filter(|unit| !listed.iter().any(|before| is_same(before, unit))).cloned().collect();
        listed = now;
        if moved.is_empty() {
            break;
        }
    }
    // What is gone from the list is no longer loaded.
    units.loaded.retain(|name, _| listed.iter().any(|unit| instance(&unit.0) == Some(name)));
    units.moving = moved.iter().filter_map(|unit| instance(&unit.0)).map(str::to_owned).collect();
    Ok(units)
}

/// Now. In a container the kernel's clocks know nothing of the guest's boot: PID 1 knows when it began. Not its wall
/// clock of then, which may have been wrong.
fn moment(booted_us: u64) -> Moment {
    let now = Moment::now();
    if booted_us == 0 { now } else { Moment { booted_at: now.wall(booted_us), ..now } }
}

/// Whether two lines of the list say the same of the same unit.
fn is_same(one: &Listed, other: &Listed) -> bool {
    (&one.0, &one.2, &one.3, &one.4, &one.8) == (&other.0, &other.2, &other.3, &other.4, &other.8)
}

fn instance(unit: &str) -> Option<&str> {
    unit.strip_prefix(PREFIX)?.strip_suffix(SUFFIX).filter(|instance| !instance.is_empty())
}

fn from_list(listed: &Listed) -> Unit {
    Unit {
        load: listed.2.clone(),
        active: listed.3.clone(),
        sub: listed.4.clone(),
        job: (listed.7 != 0).then(|| listed.8.clone()),
        ..Unit::default()
    }
}

async fn list(bus: &Connection) -> zbus::Result<Vec<Listed>> {
    let body = (Vec::<&str>::new(), vec![PATTERN]);
    bus.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "ListUnitsByPatterns", &body).await?.body().deserialize()
}

/// Whether the template of servers' units is on the disk.
async fn has_template(bus: &Connection) -> zbus::Result<bool> {
    let reply = bus.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "GetUnitFileState", &(TEMPLATE)).await;
    match reply {
        Ok(_) => Ok(true),
        Err(zbus::Error::FDO(error)) if matches!(*error, fdo::Error::FileNotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The properties of units, as many calls at once as the bus allows. What a single unit does not tell is unknown of
/// that unit alone.
async fn details(bus: &Connection, listed: &[Listed]) -> zbus::Result<Vec<(String, Unit)>> {
    let mut units: Vec<(String, Unit)> = Vec::with_capacity(listed.len());
    let mut calls: Vec<(usize, OwnedObjectPath, &'static str, &'static str)> = Vec::new();
    for line in listed {
        let Some(name) = instance(&line.0) else { continue };
        let unit = from_list(line);
        let index = units.len();
        calls.extend(wanted(&unit).map(|(interface, property)| (index, line.6.clone(), interface, property)));
        units.push((name.to_owned(), unit));
    }
    let mut exits: Vec<(i32, i32)> = vec![(0, 0); units.len()];
    let runtime = SharedRuntime::current()?;
    for chunk in calls.chunks(AT_ONCE) {
        let mut waiting = Vec::with_capacity(chunk.len());
        for (index, path, interface, property) in chunk.iter().cloned() {
            let bus = bus.clone();
            let reply = runtime.spawn(property, async move { get(&bus, path, interface, property).await });
            waiting.push((index, property, reply));
        }
        for (index, property, reply) in waiting {
            match reply.await? {
                Ok(value) => set(&mut units[index].1, &mut exits[index], property, value),
                // The unit was unloaded just now, which is no news of it: the list comes again.
                Err(error) if is_of_one_unit(&error) => {
                    tracing::debug!("unit of server {} does not tell its {property}: {error}", units[index].0);
                }
                Err(error) => return Err(error),
            }
        }
    }
    for ((_, unit), (code, status)) in units.iter_mut().zip(exits) {
        unit.exit = MainExit::from_wait(code, status);
    }
    Ok(units)
}

/// Whether systemd has answered, and it is that unit that cannot be asked. Everything else is the bus.
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

/// What is worth asking of a unit in that state: of one that runs how it fares, of one that does not how it ended.
fn wanted(unit: &Unit) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
    let always = [(SERVICE, "NRestarts"), (UNIT, "ActiveEnterTimestampMonotonic")];
    let fares = [(SERVICE, "MainPID"), (SERVICE, "MemoryCurrent"), (SERVICE, "CPUUsageNSec")];
    let ended = [
        (SERVICE, "Result"),
        (SERVICE, "ExecMainCode"),
        (SERVICE, "ExecMainStatus"),
        (SERVICE, "ExecMainExitTimestampMonotonic"),
        (UNIT, "ActiveExitTimestampMonotonic"),
    ];
    let runs = unit.actual() == ActualState::Running;
    always.into_iter().chain(fares.into_iter().filter(move |_| runs)).chain(ended.into_iter().filter(move |_| !runs))
}

async fn get(bus: &Connection, path: OwnedObjectPath, interface: &str, property: &str) -> zbus::Result<OwnedVariant> {
    let reply: Message = bus.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &(interface, property)).await?;
    let body = reply.body();
    body.deserialize::<Variant<'_>>()?.try_into()
}

/// A value of another type than systemd documents counts as not told.
fn set(unit: &mut Unit, exit: &mut (i32, i32), property: &str, value: OwnedVariant) {
    let number = |value: OwnedVariant| u64::try_from(value).unwrap_or(0);
    match property {
        "NRestarts" => unit.restarts = u32::try_from(value).unwrap_or(0),
        "ActiveEnterTimestampMonotonic" => unit.active_enter_us = number(value),
        "ActiveExitTimestampMonotonic" => unit.active_exit_us = number(value),
        "ExecMainExitTimestampMonotonic" => unit.exit_us = number(value),
        "MainPID" => unit.main_pid = u32::try_from(value).ok().filter(|&pid| pid != 0),
        "MemoryCurrent" => unit.memory_bytes = u64::try_from(value).ok().and_then(accounted),
        "CPUUsageNSec" => unit.cpu_ns = u64::try_from(value).ok().and_then(accounted),
        "Result" => unit.result = String::try_from(value).unwrap_or_default(),
        "ExecMainCode" => exit.0 = i32::try_from(value).unwrap_or(0),
        "ExecMainStatus" => exit.1 = i32::try_from(value).unwrap_or(0),
        _ => {}
    }
}
