//! systemd's names on D-Bus, and the properties of its objects, over any connection to it.

use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant};

pub const SYSTEMD: &str = "org.freedesktop.systemd1";
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub const SERVICE: &str = "org.freedesktop.systemd1.Service";
pub const TIMER: &str = "org.freedesktop.systemd1.Timer";
pub const PATH: &str = "/org/freedesktop/systemd1";

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// An entry of ListUnitsByPatterns: name, description, load, active, sub, following, path, job's
/// id, type and path.
pub type ListedUnit = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// One property of the object at `path`.
pub async fn get(
    bus: &Connection,
    path: &str,
    interface: &str,
    property: &str,
) -> zbus::Result<OwnedVariant> {
    let body = (interface, property);
    let reply = bus
        .call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &body)
        .await?;
    let body = reply.body();
    body.deserialize::<Variant<'_>>()?.try_into()
}

/// A property's value as `systemctl show` would print it. None for a type that no property has that
/// left4me reads.
pub fn text(value: &Variant<'_>) -> Option<String> {
    Some(match value {
        Variant::Str(text) => text.to_string(),
        Variant::I32(number) => number.to_string(),
        Variant::U32(number) => number.to_string(),
        Variant::U64(number) => number.to_string(),
        _ => return None,
    })
}
