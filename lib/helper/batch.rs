//! A batch: `enable`, `disable` and `show` for many servers over one connection. Each server has
//! answers and an end of its own, and can be cancelled alone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::causes;
use super::manager::{Ask, Begin, Manager, ServerReport, SystemdFailure, What};
use crate::base::names::InstanceName;
use crate::base::{Error, Result, clock};
use crate::process::cgroup::{own_group, own_unit};
use crate::process::{Outcome, Supervisor};
use crate::wire::batch::{BatchLine, BatchRequest, BatchVerb, MOST};
use crate::wire::{Answer, Cancel, Started, Stream};

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
    /// What serves each of them: this process.
    own: Started,
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
        own: Started {
            unit: own_unit(),
            pid: std::process::id(),
            cgroup: own_group(),
        },
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

            if let Some(how) = self.supervisor.wait_in_batch() {
                return self.cancel_all(how);
            }
        }
    }

    fn add(&mut self, request: BatchRequest) {
        self.more = request.more;
        for server in request.servers {
            if let Err(error) = self.may_begin(&server) {
                let end = Answer::exit(error.exit.code().into(), None, None);
                self.supervisor
                    .of_server(&server, Answer::error(error.to_string()));
                self.supervisor.of_server(&server, end);
                continue;
            }

            let started = Answer::started(self.own.clone());
            self.supervisor.of_server(&server, started);

            let (verb, began) = (request.verb, clock::now_ms());
            self.manager.ask(Ask::Begin(Begin {
                verb,
                server: server.clone(),
                again: request.again,
            }));
            self.under_way.insert(server, UnderWay { verb, began });
        }
    }

    /// Refuses an operation. Nothing is read from the disk of the data: if it hangs under one server,
    /// the others go on.
    fn may_begin(&self, server: &InstanceName) -> Result<()> {
        if self.under_way.contains_key(server) {
            let why = format!("another operation on server {server} is under way");
            return Err(Error::conflict(why));
        }
        if self.under_way.len() >= MOST {
            let why = format!("{MOST} servers are under way already");
            return Err(Error::conflict(why));
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
                    Ok(()) => self.end(&server, Outcome::exit(0)),
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

    fn end(&mut self, server: &InstanceName, end: Outcome) {
        let end = Answer::exit(end.code, Some(end.ended_by), Some(end.tree));
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
        self.end(server, Outcome::exit(failure.code));
    }

    /// PID 1 finishes what it has begun, as it does when systemctl is ended.
    fn cancel(&mut self, server: &InstanceName, how: Cancel) {
        let failed = self.failed.iter().position(|(failed, ..)| failed == server);
        if let Some(at) = failed {
            self.failed.remove(at);
        } else if self.under_way.remove(server).is_some() {
            self.manager.ask(Ask::Abandon(server.clone()));
        } else {
            return;
        }
        self.end(server, Outcome::cancelled(how));
    }

    fn cancel_all(&mut self, how: Cancel) -> Outcome {
        let under_way = self.under_way.keys().cloned();
        let failed = self.failed.iter().map(|(server, ..)| server.clone());
        let servers: Vec<InstanceName> = under_way.chain(failed).collect();
        for server in servers {
            self.cancel(&server, how);
        }
        Outcome::cancelled(how)
    }
}
