//! A batch: `enable`, `disable` and `show` for many servers over one connection. Each server has
//! answers and an end of its own, and can be cancelled alone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::causes;
use super::manager::{Ask, Begin, Manager, ServerReport, SystemdFailure, What};
use crate::base::names::InstanceName;
use crate::base::{Result, clock};
use crate::process::cgroup::{own_group, own_unit};
use crate::process::{Outcome, Supervisor};
use crate::wire::batch::{BatchLine, BatchRequest, BatchVerb, MOST};
use crate::wire::{Answer, Cancel, EndedBy, Started, Stream, Tree};

/// How long the journal may take for one cause. The other servers of the batch wait.
const PATIENCE: Duration = Duration::from_secs(3);

struct Operations<'a> {
    supervisor: &'a mut Supervisor,
    manager: Manager,
    under_way: BTreeMap<InstanceName, UnderWay>,
    /// Operations that failed, and whose cause is still to be found.
    failed: VecDeque<(InstanceName, UnderWay, SystemdFailure)>,
    /// The client may add servers.
    more: bool,
}

struct UnderWay {
    verb: BatchVerb,
    /// Unix ms.
    began: i64,
}

/// Serves the batch to its end.
pub(super) fn run(supervisor: &mut Supervisor, first: BatchRequest) -> Result<Outcome> {
    let manager = Manager::start()?;
    supervisor.watch(manager.wake()?);
    let mut batch = Operations {
        supervisor,
        manager,
        under_way: BTreeMap::new(),
        failed: VecDeque::new(),
        more: first.more,
    };

    batch.add(first);
    let outcome = batch.serve();
    batch.manager.finish();
    Ok(outcome)
}

impl Operations<'_> {
    fn serve(&mut self) -> Outcome {
        loop {
            for line in self.supervisor.batch_lines() {
                match line {
                    BatchLine::Add(request) => self.add(request),
                    BatchLine::Cancel(how, Some(server)) => self.cancel(&server, how),
                    BatchLine::Cancel(_, None) => {}
                }
            }

            for report in self.manager.reports() {
                self.take(report);
            }

            if self.manager.is_gone() {
                self.fail_all();
            }

            // One at a time: each reads the journal, and the client may have lines by then.
            if let Some((server, under_way, failure)) = self.failed.pop_front() {
                self.explain(&server, &under_way, &failure);
                continue;
            }
            if self.under_way.is_empty() && !self.more {
                return Outcome::exit(0);
            }

            if let Some(how) = self.supervisor.wait_in_batch(None) {
                return self.cancel_all(how);
            }
        }
    }

    fn add(&mut self, request: BatchRequest) {
        self.more = request.more;
        for server in request.servers {
            if let Err((exit, why)) = self.may_begin(&server) {
                let end = Answer::exit(exit, None, None);
                self.supervisor.of_server(&server, Answer::error(why));
                self.supervisor.of_server(&server, end);
                continue;
            }

            let started = Started {
                unit: own_unit(),
                pid: std::process::id(),
                cgroup: own_group(),
            };
            self.supervisor.of_server(&server, Answer::started(started));

            let (verb, began) = (request.verb, clock::now_ms());
            self.manager.ask(Ask::Begin(Begin {
                verb,
                server: server.clone(),
                again: request.again,
            }));
            self.under_way.insert(server, UnderWay { verb, began });
        }
    }

    /// Refuses an operation, with an exit code and the reason.
    /// Nothing is read from the disk of the data: if it hangs under one server, the others go on.
    fn may_begin(&self, server: &InstanceName) -> std::result::Result<(), (i32, String)> {
        let conflict = 4;
        if self.under_way.contains_key(server) {
            return Err((
                conflict,
                format!("another operation on server {server} is under way"),
            ));
        }
        if self.under_way.len() >= MOST {
            return Err((conflict, format!("{MOST} servers are under way already")));
        }
        Ok(())
    }

    fn take(&mut self, report: ServerReport) {
        let ServerReport { server, what } = report;
        let Some(verb) = self.under_way.get(&server).map(|under_way| under_way.verb) else {
            return;
        };

        match what {
            What::Observed(observation) if verb == BatchVerb::Show => {
                for line in observation.properties {
                    let answer = Answer::line(Stream::Stdout, line.into());
                    self.supervisor.of_server(&server, answer);
                }
            }
            What::Observed(observation) => {
                self.supervisor
                    .of_server(&server, Answer::observed(observation));
            }
            What::End(end) => {
                let Some(under_way) = self.under_way.remove(&server) else {
                    return;
                };
                match end {
                    Ok(()) => self.end(&server, 0, EndedBy::Exit),
                    Err(failure) => self.failed.push_back((server, under_way, failure)),
                }
            }
        }
    }

    /// Nothing more will be reported.
    fn fail_all(&mut self) {
        self.more = false;
        for (server, under_way) in std::mem::take(&mut self.under_way) {
            let failure = SystemdFailure {
                code: 1,
                message: "internal error (a panic): see the helper's journal".to_owned(),
            };
            self.failed.push_back((server, under_way, failure));
        }
    }

    fn end(&mut self, server: &InstanceName, code: i32, ended_by: EndedBy) {
        let end = Answer::exit(code, Some(ended_by), Some(Tree::Empty));
        self.supervisor.of_server(server, end);
    }

    /// Answers a failed operation: what systemd said, and then the cause from the journal.
    fn explain(&mut self, server: &InstanceName, under_way: &UnderWay, failure: &SystemdFailure) {
        let cause = match under_way.verb {
            BatchVerb::Show => None,
            BatchVerb::Enable | BatchVerb::Disable => {
                causes::find(self.supervisor, server, under_way.began, Some(PATIENCE))
                    .unwrap_or_default()
            }
        };

        for line in std::iter::once(failure.message.clone()).chain(cause) {
            let answer = Answer::line(Stream::Stderr, line.into());
            self.supervisor.of_server(server, answer);
        }
        self.end(server, failure.code, EndedBy::Exit);
    }

    /// PID 1 finishes what it has begun, as it does when systemctl is ended.
    fn cancel(&mut self, server: &InstanceName, how: Cancel) {
        let (signal, ended_by) = ended(how);
        let failed = self.failed.iter().position(|(failed, ..)| failed == server);
        if let Some(at) = failed {
            self.failed.remove(at);
        } else if self.under_way.remove(server).is_some() {
            self.manager.ask(Ask::Abandon(server.clone()));
        } else {
            return;
        }
        self.end(server, 128 + signal as i32, ended_by);
    }

    fn cancel_all(&mut self, how: Cancel) -> Outcome {
        let under_way = self.under_way.keys().cloned();
        let failed = self.failed.iter().map(|(server, ..)| server.clone());
        let servers: Vec<InstanceName> = under_way.chain(failed).collect();
        for server in servers {
            self.cancel(&server, how);
        }

        let (signal, ended_by) = ended(how);
        Outcome {
            code: 128 + signal as i32,
            ended_by,
            tree: Tree::Empty,
        }
    }
}

/// The signal that would have ended a command, and which step of the kill escalation it is.
fn ended(how: Cancel) -> (Signal, EndedBy) {
    match how {
        Cancel::Terminate => (Signal::SIGTERM, EndedBy::Terminate),
        Cancel::Kill => (Signal::SIGKILL, EndedBy::Kill),
    }
}
