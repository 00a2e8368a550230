//! A model of take-overs: two or three controllers, a bucket that compares and sets, and an engine that
//! repeats documents and loses acknowledgements. What decides is the code's own.
//!
//! | in the model | in the code |
//! |---|---|
//! | `may_replace`, `judge` | domain/fleet/driving.rs itself |
//! | `Step` | rollout/drive.rs: progress and orders in one transaction |
//! | `Take`, `Set`, `Acknowledge` | queue/fleet/outbox.rs, link/compare.rs, db/fleet/driving.rs |
//! | `Send` | db/fleet/orders_to_send.rs: orders of a rollout wait for its document |
//! | `Deliver`, `Repeat` | queue/fleet/driving.rs |
//!
//! Left out: a bucket that is lost while two drive. Then both may begin something until one reads the
//! other's document; hosts carry out each order once all the same.

use left4me::base::names::FleetHost;
use left4me::domain::fleet::driving::{Known, Mark, Replace, Verdict, judge, may_replace};
use stateright::{Model, Property};

use crate::explore::{holds, rules_that_matter};

const ONE_THAT_KNOWS: &str = "only one that knows all that was begun begins something";
const ONE_DRIVES: &str = "once all have read the bucket, one drives";

/// A document, or what a controller's row holds: the steps that are known, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Document {
    driver: usize,
    epoch: u64,
    version: u64,
    steps: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    last: Document,
    is_own: bool,
    taken_from: Option<u64>,
    published: u64,
}

impl Row {
    fn drives(&self) -> bool {
        self.is_own && self.taken_from.is_none()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    bucket: Option<Document>,
    rows: Vec<Option<Row>>,
    /// What left4me-link of each has taken, with the version from which a take-over goes on; whether
    /// the bucket has it.
    flights: Vec<Option<(Document, Option<u64>, bool)>>,
    /// All that the bucket ever had.
    old: Vec<Document>,
    /// The steps whose orders the engine has.
    sent: u8,
    begun: u8,
    take_overs: u8,
    repeats: u8,
    /// Whether one began something without knowing all that was begun.
    went_blind: bool,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Orders wait for the document that tells of them.
    documents_first: bool,
    /// A take-over replaces only the document from which it goes on.
    take_overs_compare: bool,
}

impl Rules {
    const TRUE: Self = Self {
        documents_first: true,
        take_overs_compare: true,
    };
}

struct World {
    rules: Rules,
    controllers: usize,
    steps: u8,
    take_overs: u8,
    repeats: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Step(usize),
    TakeOver(usize),
    Take(usize),
    Set(usize),
    Acknowledge(usize),
    /// left4me-link dies between the two.
    Forget(usize),
    Send(usize),
    Deliver(usize),
    Repeat(usize, usize),
}

fn name(number: usize) -> FleetHost {
    format!("fra-{number}").parse().unwrap()
}

fn mark(document: &Document) -> Mark {
    Mark {
        driver: name(document.driver),
        epoch: document.epoch,
        version: document.version,
    }
}

/// What a controller makes of a document.
fn verdict(row: Option<&Row>, document: &Document, here: usize) -> Verdict {
    let driver = row.map(|row| name(row.last.driver));
    let known = row.map(|row| Known {
        epoch: row.last.epoch,
        version: row.last.version,
        driver: driver
            .as_ref()
            .filter(|_| !row.is_own)
            .map(FleetHost::as_str),
        taken_from: row.taken_from,
    });
    judge(known.as_ref(), &mark(document), &name(here))
}

fn read(row: &mut Option<Row>, document: Document, here: usize) {
    let verdict = verdict(row.as_ref(), &document, here);
    *row = match verdict {
        Verdict::Nothing => return,
        Verdict::Show | Verdict::TakenOver => Some(Row {
            last: document,
            is_own: false,
            taken_from: None,
            published: document.version,
        }),
        Verdict::GoOn => Some(Row {
            last: Document {
                driver: here,
                epoch: document.epoch + 1,
                version: document.version + 1,
                steps: document.steps,
            },
            is_own: true,
            taken_from: Some(document.version),
            published: 0,
        }),
    };
}

impl World {
    /// Whether a controller's orders may go to the engine.
    fn may_send(&self, row: &Row) -> bool {
        row.drives() && (!self.rules.documents_first || row.published >= row.last.version)
    }

    fn replaces(&self, state: &State, document: &Document, taken_from: Option<u64>) -> Replace {
        let found = state.bucket.as_ref().map(mark);
        let taken_from = taken_from.filter(|_| self.rules.take_overs_compare);
        may_replace(found.as_ref(), &mark(document), taken_from)
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let first = Row {
            last: Document {
                driver: 0,
                epoch: 1,
                version: 1,
                steps: 0,
            },
            is_own: true,
            taken_from: None,
            published: 0,
        };
        let mut rows = vec![None; self.controllers];
        rows[0] = Some(first);
        vec![State {
            bucket: None,
            rows,
            flights: vec![None; self.controllers],
            old: Vec::new(),
            sent: 0,
            begun: 0,
            take_overs: 0,
            repeats: 0,
            went_blind: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (here, row) in state.rows.iter().enumerate() {
            if state.bucket.is_some() {
                actions.push(Action::Deliver(here));
            }
            if state.repeats < self.repeats {
                actions.extend((0..state.old.len()).map(|old| Action::Repeat(here, old)));
            }
            match state.flights[here] {
                Some((_, _, false)) => actions.extend([Action::Set(here), Action::Forget(here)]),
                Some(_) => actions.extend([Action::Acknowledge(here), Action::Forget(here)]),
                None => {}
            }
            let Some(row) = row else { continue };
            if row.drives() && state.begun < self.steps {
                actions.push(Action::Step(here));
            }
            if !row.is_own && state.take_overs < self.take_overs {
                actions.push(Action::TakeOver(here));
            }
            if row.is_own && row.published < row.last.version && state.flights[here].is_none() {
                actions.push(Action::Take(here));
            }
            if self.may_send(row) && row.last.steps & !state.sent != 0 {
                actions.push(Action::Send(here));
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Step(here) => {
                let row = state.rows[here].as_mut()?;
                row.last.steps |= 1 << state.begun;
                row.last.version += 1;
                state.begun += 1;
            }
            Action::TakeOver(here) => {
                let row = state.rows[here].as_mut()?;
                (row.is_own, row.taken_from) = (true, Some(row.last.version));
                row.last.driver = here;
                row.last.epoch += 1;
                row.last.version += 1;
                row.published = 0;
                state.take_overs += 1;
            }
            Action::Take(here) => {
                let row = state.rows[here]?;
                state.flights[here] = Some((row.last, row.taken_from, false));
            }
            Action::Set(here) => {
                let (document, taken_from, _) = state.flights[here]?;
                match self.replaces(&state, &document, taken_from) {
                    Replace::No => state.flights[here] = None,
                    Replace::Same => state.flights[here] = Some((document, taken_from, true)),
                    Replace::Yes => {
                        state.bucket = Some(document);
                        state.old.push(document);
                        state.flights[here] = Some((document, taken_from, true));
                    }
                }
            }
            Action::Acknowledge(here) => {
                let (document, ..) = state.flights[here].take()?;
                let row = state.rows[here].as_mut()?;
                let fits = (row.published..=row.last.version).contains(&document.version);
                if row.is_own && row.last.epoch == document.epoch && fits {
                    row.published = document.version;
                    row.taken_from = None;
                }
            }
            Action::Forget(here) => state.flights[here] = None,
            Action::Send(here) => {
                let steps = state.rows[here]?.last.steps;
                state.went_blind |= state.sent & !steps != 0;
                state.sent |= steps;
            }
            Action::Deliver(here) => read(&mut state.rows[here], state.bucket?, here),
            Action::Repeat(here, old) => {
                read(&mut state.rows[here], state.old[old], here);
                state.repeats += 1;
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_THAT_KNOWS, |_, state: &State| !state.went_blind),
            Property::always(ONE_DRIVES, |_, state: &State| {
                let is_read = |(here, row): (usize, &Option<Row>)| {
                    let bucket = state.bucket.as_ref();
                    bucket.is_none_or(|document| {
                        verdict(row.as_ref(), document, here) == Verdict::Nothing
                    })
                };
                let all_read = state.rows.iter().enumerate().all(is_read);
                let drive = state.rows.iter().flatten().filter(|row| row.drives());
                !all_read || drive.count() <= 1
            }),
            Property::sometimes("a second one ends it", |world: &World, state: &State| {
                let all = (1 << world.steps) - 1;
                let second = state.rows[1].as_ref();
                state.sent == all && second.is_some_and(|row| row.drives())
            }),
        ]
    }
}

fn two() -> World {
    World {
        rules: Rules::TRUE,
        controllers: 2,
        steps: 3,
        take_overs: 2,
        repeats: 1,
    }
}

#[test]
fn two_controllers() {
    holds("two controllers", two());
}

#[test]
fn three_controllers() {
    let world = World {
        controllers: 3,
        steps: 2,
        repeats: 0,
        ..two()
    };
    holds("three controllers", world);
}

rules_that_matter! {
    documents_first in two keeps ONE_THAT_KNOWS;
    take_overs_compare in two keeps ONE_THAT_KNOWS;
}
