//! `show N`: the properties of the server's unit that a person or the worker needs, as `Name=value` lines.

use super::commands::{server_unit, systemctl};
use crate::base::Result;
use crate::base::names::InstanceName;
use crate::process::{Outcome, Stage};

const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,ExecMainCode,\
    ActiveEnterTimestamp,ActiveEnterTimestampMonotonic,ActiveExitTimestampMonotonic,ExecMainExitTimestampMonotonic,\
    MainPID,ControlGroup,MemoryCurrent,CPUUsageNSec,UnitFileState";

/// Prints the properties. An unknown server has them too: LoadState says so.
///
/// # Errors
/// When systemctl cannot be started.
pub(super) fn run(stage: &mut Stage, server: &InstanceName) -> Result<Outcome> {
    systemctl(stage, &["show", PROPERTIES, &server_unit(server)])
}
