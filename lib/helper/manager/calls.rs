//! Calls of PID 1's manager, and what systemd reports of a unit.

use zbus::{Connection, Message, OwnedVariant};
use zruntime::{SharedRuntime, Task};

use super::super::commands::server_unit;
use super::private_bus;
use crate::base::clock::Moment;
use crate::base::names::InstanceName;
use crate::base::systemd::{MANAGER, PATH, SERVICE, SYSTEMD, UNIT, get, text};
use crate::wire::Observation;

/// What the worker needs to know of a unit.
const PROPERTIES: [(&str, &str); 15] = [
    (UNIT, "LoadState"),
    (UNIT, "ActiveState"),
    (UNIT, "SubState"),
    (UNIT, "ActiveEnterTimestampMonotonic"),
    (UNIT, "ActiveExitTimestampMonotonic"),
    (SERVICE, "Result"),
    (SERVICE, "NRestarts"),
    (SERVICE, "ExecMainStatus"),
    (SERVICE, "ExecMainCode"),
    (SERVICE, "ExecMainStartTimestampMonotonic"),
    (SERVICE, "ExecMainExitTimestampMonotonic"),
    (SERVICE, "MainPID"),
    (SERVICE, "ControlGroup"),
    (SERVICE, "MemoryCurrent"),
    (SERVICE, "CPUUsageNSec"),
];

/// What systemd would say of a unit that it has not loaded, and would load for the question, once for
/// each property.
const UNLOADED: [&str; 4] = [
    "LoadState=loaded",
    "ActiveState=inactive",
    "SubState=dead",
    "Result=success",
];

/// What systemd refused, or what failed.
#[derive(Debug)]
pub(in crate::helper) struct SystemdFailure {
    /// As systemctl would exit.
    pub code: i32,
    pub message: String,
}

/// What an operation gives.
pub(super) type Done<T = ()> = Result<T, SystemdFailure>;

/// The connection to PID 1.
pub(super) struct Bus {
    pub connection: Connection,
    pub runtime: SharedRuntime,
}

impl Bus {
    pub(super) async fn connect(runtime: &SharedRuntime) -> Done<Self> {
        let connection = private_bus::connect(runtime).await.map_err(|error| {
            let why = format!("systemd cannot be reached: {}", message(&error));
            SystemdFailure::of(69, why)
        })?;
        Ok(Self {
            connection,
            runtime: runtime.clone(),
        })
    }

    pub(super) async fn call<B>(&self, method: &str, body: &B) -> Done<Message>
    where
        B: serde::Serialize + zbus::Type,
    {
        let reply = self
            .connection
            .call_method(Some(SYSTEMD), PATH, Some(MANAGER), method, body);
        reply.await.map_err(|error| SystemdFailure::from(&error))
    }

    /// The properties of the unit that the worker needs, as `show` prints them.
    /// `enabled`: whether it starts at boot, if that is known.
    pub(super) async fn observe(
        &self,
        server: &InstanceName,
        enabled: Option<&str>,
    ) -> Done<Observation> {
        let (at, unit) = (Moment::now(), server_unit(server));
        if let Some(enabled) = enabled
            && !self.is_loaded(&unit).await
        {
            let unloaded = UNLOADED.map(str::to_owned).into_iter();
            let properties = unloaded.chain([format!("UnitFileState={enabled}")]);
            return Ok(Observation {
                at,
                properties: properties.collect(),
            });
        }

        let mut asked = Vec::new();
        for (interface, property) in PROPERTIES {
            asked.push((property, self.ask(&unit, interface, property)));
        }

        let enabled = match enabled {
            Some(enabled) => enabled.to_owned(),
            None => self.unit_file_state(&unit).await,
        };
        let mut properties = vec![format!("UnitFileState={enabled}")];

        for (property, value) in asked {
            let value = value.await.map_err(|error| SystemdFailure::of(1, error))?;
            let value = value.map_err(|error| SystemdFailure::from(&error))?;
            properties.extend(text(&value).map(|text| format!("{property}={text}")));
        }
        Ok(Observation { at, properties })
    }

    /// Whether PID 1 has loaded the unit. It does not load it for this question.
    pub(super) async fn is_loaded(&self, unit: &str) -> bool {
        let answer = self.call("GetUnit", &(unit)).await;
        !answer.is_err_and(|failure| failure.is_not_loaded())
    }

    /// The property UnitFileState would be as old as the last reload.
    async fn unit_file_state(&self, unit: &str) -> String {
        let reply = self.call("GetUnitFileState", &(unit)).await;
        let state = reply.ok().and_then(|reply| reply.body().deserialize().ok());
        state.unwrap_or_default()
    }

    /// Asks for a property; the answer can be awaited later.
    pub(super) fn ask(
        &self,
        unit: &str,
        interface: &'static str,
        property: &'static str,
    ) -> Task<zbus::Result<OwnedVariant>, zruntime::Shared> {
        let (bus, path) = (self.connection.clone(), path_of(unit));
        let get = async move { get(&bus, &path, interface, property).await };
        self.runtime.spawn(property, get)
    }
}

/// The object path of a unit (sd_bus_path_encode(3)).
fn path_of(unit: &str) -> String {
    let mut path = format!("{PATH}/unit/");
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(byte.into());
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

pub(super) fn message(error: &zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(_, Some(detail), _) => detail.clone(),
        other => other.to_string(),
    }
}

impl SystemdFailure {
    pub(super) fn of(code: i32, message: impl ToString) -> Self {
        let message = message.to_string();
        Self { code, message }
    }

    /// The code that systemctl has for a unit that is not loaded.
    const NOT_LOADED: i32 = 5;

    pub(super) fn is_not_loaded(&self) -> bool {
        self.code == Self::NOT_LOADED
    }

    /// The code for a unit that is there already.
    const EXISTS: i32 = 4;

    pub(super) fn exists(&self) -> bool {
        self.code == Self::EXISTS
    }
}

impl From<&zbus::Error> for SystemdFailure {
    fn from(error: &zbus::Error) -> Self {
        let name = match error {
            zbus::Error::MethodError(name, ..) => name.as_str(),
            _ => "",
        };
        let code = match name {
            "org.freedesktop.systemd1.NoSuchUnit" => Self::NOT_LOADED,
            "org.freedesktop.systemd1.UnitExists" => Self::EXISTS,
            _ => 1,
        };
        Self::of(code, message(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_path_is_encoded_as_systemd_does() {
        assert_eq!(
            path_of("left4me-server@12.service"),
            "/org/freedesktop/systemd1/unit/left4me_2dserver_4012_2eservice"
        );
        assert_eq!(path_of("7up"), "/org/freedesktop/systemd1/unit/_37up");
    }
}
