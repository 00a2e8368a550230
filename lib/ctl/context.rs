//! What the commands of l4d2ctl act with: output goes to the terminal as it arrives.

use std::io::Write as _;

use crate::base::output::{line, printable};
use crate::base::{Error, Result};
use crate::host::operation::{HostPaths, OperationContext, Reply, foreign, verdict};
use crate::wire::client::{Connection, Output};
use crate::wire::{Request, Stream};

pub(super) struct CtlContext {
    pub(super) paths: HostPaths,
    /// Whether installs change the files that instances use.
    pub(super) in_place: bool,
}

impl OperationContext for CtlContext {
    const INSTANCE: &'static str = "instance";
    const OBSERVE: bool = false;

    fn paths(&self) -> &HostPaths {
        &self.paths
    }

    fn may_continue(&self) -> Result<()> {
        Ok(())
    }

    /// Prints the output of the command, except for lines of standard output that `reply` takes. A
    /// refused request fails with the exit code of the refusal.
    fn send(&self, request: &Request, reply: &mut Reply) -> Result<()> {
        let mut connection = Connection::open(self.paths.socket(request), request)?;
        let end = connection.run(|output| {
            let Output::Lines(lines) = output else {
                return Ok(());
            };
            for (stream, text) in lines {
                match (stream, &mut reply.kept) {
                    (Stream::Stdout, None) => line(&printable(&text))?,
                    (Stream::Stdout, Some(kept)) => kept.add(vec![(stream, text)]),
                    (Stream::Stderr, _) => print_stderr(&text),
                }
            }
            Ok(())
        })?;

        let verb = request.verb();
        match (&end.refused, foreign(end.exit)) {
            (Some(why), exit) => Err(Error::new(exit, why)),
            (None, exit) => verdict(verb, &end, Some("see its output above".to_owned()), None)
                .map_err(|mut error| {
                    // The command's own code, also when one of its processes is left.
                    if end.exit != 0 {
                        error.exit = exit;
                    }
                    error
                }),
        }
    }
}

/// Prints a line on standard error. A failure cannot be reported anywhere.
pub(super) fn print_stderr(text: &str) {
    writeln!(std::io::stderr(), "{}", printable(text)).ok();
}
