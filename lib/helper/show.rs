//! `show N`: prints the properties of the server's unit that a person or the worker needs, as
//! `Name=value` lines.

use super::commands::{server_unit, systemctl, systemctl_with};
use crate::base::Result;
use crate::base::clock::Moment;
use crate::base::names::InstanceName;
use crate::process::{Outcome, Relay, Supervisor};
use crate::wire::{Observation, Stream};

const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,ExecMainCode,\
    ActiveEnterTimestamp,ActiveEnterTimestampMonotonic,ActiveExitTimestampMonotonic,ExecMainStartTimestampMonotonic,\
    ExecMainExitTimestampMonotonic,MainPID,ControlGroup,MemoryCurrent,CPUUsageNSec,UnitFileState";

/// Prints the properties. systemd has them for an unknown server too; LoadState shows that.
pub(super) fn run(supervisor: &mut Supervisor, server: &InstanceName) -> Result<Outcome> {
    systemctl(supervisor, &["show", PROPERTIES, &server_unit(server)])
}

/// Sends the peer the properties as one answer, after a verb that may have changed them. Does
/// nothing unless the request `wants` it. A client that gets no answer asks with `show`, which
/// reports the error.
pub(super) fn observe(supervisor: &mut Supervisor, server: &InstanceName, wants: bool) {
    if !wants {
        return;
    }

    let at = Moment::now();
    let mut properties = Vec::new();

    let shown = systemctl_with(
        supervisor,
        &["show", PROPERTIES, &server_unit(server)],
        &mut |stream, line| {
            if stream == Stream::Stdout {
                properties.push(line.to_owned());
            }
            Relay::Drop
        },
    );

    if shown.is_ok_and(|outcome| outcome.succeeded()) {
        supervisor.observed(Observation { at, properties });
    }
}
