//! Carries out the verbs of l4d2ctl.

use serde::Serialize;

use super::context::CtlContext;
use crate::base::names::{InstanceName, server_unit};
use crate::base::output::{json, line};
use crate::base::{Error, Exit, Result};
use crate::domain::blueprint::Spec;
use crate::domain::server::ActualState;
use crate::host::builds;
use crate::host::instance::{self, Initialized};
use crate::host::operation::{self, OperationContext as _, Start};
use crate::process::overlay_mounts;
use crate::wire::HelperRequest;

/// The output of `status`.
#[derive(Serialize)]
struct Status<'a> {
    name: &'a InstanceName,
    unit: String,
    actual_state: ActualState,
    active_state: String,
    sub_state: String,
    result: String,
    enabled: Option<bool>,
    initialized: bool,
    mounted: bool,
}

impl CtlContext {
    pub(super) fn install(&self) -> Result<()> {
        let _found = builds::install(self, self.in_place, |name| format!("instance {name}"))?;
        if self.in_place {
            return line("the game is installed");
        }
        let (build, _) = builds::publish(self, None, false, &[])?;
        line(&format!("the game is installed: build {build}"))
    }

    pub(super) fn initialize(&self, name: &InstanceName, spec: &Spec) -> Result<()> {
        match instance::initialize(&self.paths.root, name, spec, None, || Ok(()))? {
            Initialized::Written => line(&format!(
                "instance {name}: settings and configuration written"
            )),
            Initialized::Unchanged => line(&format!("instance {name} is up to date")),
            Initialized::InUse => Err(Error::conflict(format!(
                "the overlay of instance {name} is mounted, so nothing was changed: \
                 run `l4d2ctl stop {name}`, initialize again, then `l4d2ctl start {name}`"
            ))),
        }
    }

    pub(super) fn start(&self, name: &InstanceName) -> Result<()> {
        if !instance::is_initialized(&self.paths.root, name) {
            return Err(missing(name));
        }

        let observed = operation::start(self, name, &mut Start::default()).map_err(|error| {
            let see_logs = |error| format!("{error}; see `l4d2ctl logs {name}`");
            match error.exit {
                // The unit has failed, and its journal says more.
                Exit::Failed => Error::new(Exit::Failed, see_logs(error)),
                exit @ Exit::Foreign(_) => {
                    Error::new(exit, see_logs(error.within(format!("start {name}"))))
                }
                _ => error,
            }
        })?;

        line(&format!(
            "instance {name} is {} ({})",
            observed.unit.actual(),
            observed.unit.message()
        ))
    }

    pub(super) fn stop(&self, name: &InstanceName) -> Result<()> {
        self.disable(name, "stop")?;
        line(&format!("instance {name} is stopped"))
    }

    pub(super) fn delete(&self, name: &InstanceName) -> Result<()> {
        self.disable(name, "delete")?;
        operation::remove(self, name).map_err(|error| error.within(format!("delete {name}")))?;
        line(&format!("instance {name} is deleted"))
    }

    fn disable(&self, name: &InstanceName, verb: &str) -> Result<()> {
        let request = HelperRequest::Disable {
            server: name.clone(),
            observe: false,
            again: false,
        };
        self.ask_helper(request)
            .map_err(|error| error.within(format!("{verb} {name}")))
    }

    pub(super) fn status(&self, name: &InstanceName, as_json: bool) -> Result<()> {
        let shown = self.show(name);
        let unit = shown
            .map_err(|error| error.within(format!("status {name}")))?
            .unit;
        let initialized = instance::is_initialized(&self.paths.root, name);
        let is_down = matches!(unit.actual(), ActualState::Stopped | ActualState::Unknown);
        if !initialized && is_down && unit.enabled != Some(true) {
            return Err(missing(name));
        }

        let status = Status {
            name,
            unit: server_unit(name),
            actual_state: unit.actual(),
            active_state: unit.active,
            sub_state: unit.sub,
            result: unit.result,
            enabled: unit.enabled,
            initialized,
            mounted: overlay_mounts::mounted(&self.paths.root)?.contains(name),
        };

        if as_json {
            json(&status)
        } else {
            status.print()
        }
    }

    pub(super) fn logs(&self, name: &InstanceName, lines: u32, follow: bool) -> Result<()> {
        self.ask_helper(HelperRequest::journal(name.clone(), lines, follow))
            .map_err(|error| error.within(format!("logs {name}")))
    }
}

fn missing(name: &InstanceName) -> Error {
    Error::not_found(format!(
        "there is no instance {name}: create it with `l4d2ctl initialize {name} -f SPEC.yaml`"
    ))
}

impl Status<'_> {
    fn print(&self) -> Result<()> {
        let yes_no = |yes: bool| if yes { "yes" } else { "no" };
        let result = if self.result.is_empty() || self.result == "success" {
            ""
        } else {
            self.result.as_str()
        };

        for (name, value) in [
            ("instance", self.name.as_str()),
            ("unit", &self.unit),
            ("state", self.actual_state.as_str()),
            (
                "systemd state",
                &format!("{} ({})", self.active_state, self.sub_state),
            ),
            ("result", result),
            ("starts at boot", self.enabled.map_or("unknown", yes_no)),
            ("initialized", yes_no(self.initialized)),
            ("overlay mounted", yes_no(self.mounted)),
        ] {
            if !value.is_empty() {
                line(&format!(
                    "{name:<15}  {}",
                    crate::base::output::printable(value)
                ))?;
            }
        }

        Ok(())
    }
}
