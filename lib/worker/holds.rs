//! The jobs that wait for a condition, as the worker's loop handles them: a look at each tick, and
//! a thread for each conversation with games.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::report::{Report, Reporter, spawn};
use crate::base::names::JobId;
use crate::base::{Result, clock};
use crate::db::{Db, conditions};
use crate::queue::conditions::{self as holds, Answer, HoldChange, Question, SOON, Warning};
use crate::queue::tick::Engine;

/// The least time between two looks. A busy worker ticks more often.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Holds {
    /// Socket of left4me-console.
    console: PathBuf,
    reporter: Reporter,
    /// The jobs about which a question is under way.
    asking: HashSet<JobId>,
    /// How many warnings are being said.
    warning: usize,
    /// What is reported and not recorded yet.
    answers: Vec<Answer>,
    warned: Vec<(JobId, Vec<String>)>,
    /// When a warning or a deadline is next, unix ms.
    next_at: Option<i64>,
    looked: Option<Instant>,
    /// A look was left out because the last one was just before.
    is_owed: bool,
}

impl Holds {
    pub(super) fn new(console: PathBuf, reporter: Reporter) -> Self {
        Self {
            console,
            reporter,
            asking: HashSet::new(),
            warning: 0,
            answers: Vec::new(),
            warned: Vec::new(),
            next_at: None,
            looked: None,
            is_owed: false,
        }
    }

    /// Takes the report of a conversation, for the next look.
    pub(super) fn answered(&mut self, answer: Answer) {
        self.asking.remove(&answer.job);
        self.answers.push(answer);
    }

    /// The same for a warning.
    pub(super) fn warned(&mut self, job: JobId, failures: Vec<String>) {
        self.warning = self.warning.saturating_sub(1);
        self.warned.push((job, failures));
    }

    /// Records what was reported, judges the waiting jobs, and begins the conversations that this
    /// asks for.
    pub(super) fn look(&mut self, db: &mut Db, engine: &Engine) -> Result<()> {
        let now = clock::now_ms();
        self.record(db, now)?;

        self.is_owed = self.looked.is_some_and(|at| at.elapsed() < PAUSE);
        if self.is_owed {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        if !conditions::any(db.connection())? {
            self.next_at = None;
            return Ok(());
        }

        let schedule = engine.could_claim(db.connection())?;
        let is_asked = |job| self.asking.contains(&job);
        let look = holds::look(db, schedule.as_ref(), is_asked, now)?;
        look.changes.iter().for_each(HoldChange::log);
        self.next_at = look.next_at;
        for question in look.to_confirm {
            self.ask(question);
        }
        for warning in look.to_warn {
            self.say(warning);
        }
        Ok(())
    }

    fn record(&mut self, db: &mut Db, now: i64) -> Result<()> {
        if self.answers.is_empty() && self.warned.is_empty() {
            return Ok(());
        }

        db.write(|tx| {
            for answer in &self.answers {
                holds::answered(tx, answer)?;
            }
            for (job, failures) in &self.warned {
                holds::not_warned(tx, *job, failures, now)?;
            }
            Ok(())
        })?;

        for (job, failures) in self.warned.drain(..) {
            for failure in failures {
                tracing::warn!(job_id = job.0, "job {job}: {failure}");
            }
        }
        self.answers.clear();
        Ok(())
    }

    fn ask(&mut self, question: Question) {
        let (console, reporter) = (self.console.clone(), self.reporter.clone());
        let job = question.job;
        let ask = move || reporter.send(Report::Answered(holds::ask(&console, &question)));
        if spawn("ask".to_owned(), ask).is_ok() {
            self.asking.insert(job);
        }
    }

    fn say(&mut self, warning: Warning) {
        let (console, reporter) = (self.console.clone(), self.reporter.clone());
        let job = warning.job;
        let say = move || reporter.send(Report::Warned(job, holds::say(&console, &warning)));
        match spawn("say".to_owned(), say) {
            Ok(()) => self.warning += 1,
            Err(error) => {
                let failure = format!("no thread could be started: {error}");
                self.warned.push((job, vec![failure]));
            }
        }
    }

    /// Whether the worker must not exit: a conversation is under way, or a moment is near.
    pub(super) fn is_busy(&self) -> bool {
        let is_soon = |at: i64| at - clock::now_ms() <= SOON;
        !self.asking.is_empty()
            || self.warning > 0
            || !self.warned.is_empty()
            || self.next_at.is_some_and(is_soon)
    }

    /// When a look is due although nothing happens.
    pub(super) fn due(&self) -> Option<Duration> {
        let next = self.next_at.map(|at| {
            let left = u64::try_from(at - clock::now_ms()).unwrap_or(0);
            Duration::from_millis(left)
        });
        let since = self.looked.map_or(PAUSE, |at| at.elapsed());
        let pause = PAUSE.saturating_sub(since);
        let owed = self.is_owed.then_some(pause);
        // Never within the pause: that look would be left out.
        next.map(|next| next.max(pause))
            .into_iter()
            .chain(owed)
            .min()
    }
}
