//! What reads the engine's streams and buckets. Batches of a reader that was replaced are dropped, so
//! that one that gate could not take is never followed by a later one.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::engine::{Batch, Engine, Start};
use crate::base::Error;
use crate::wire::gate::{Generations, Source, Taken};

/// What a reader has, or why it has ended.
pub enum Read {
    Batch(Batch),
    Ended(Source, Error),
}

struct Reader {
    number: u64,
    from: Source,
    task: JoinHandle<()>,
}

pub struct Readers {
    all: Vec<Reader>,
    last: u64,
    to: mpsc::Sender<(u64, Read)>,
}

impl Readers {
    /// Nothing is read yet; what will be read comes from the receiver.
    pub fn new() -> (Self, mpsc::Receiver<(u64, Read)>) {
        let (to, receiver) = mpsc::channel(1);
        let readers = Self {
            all: Vec::new(),
            last: 0,
            to,
        };
        (readers, receiver)
    }

    pub fn is_current(&self, number: u64) -> bool {
        self.all.iter().any(|reader| reader.number == number)
    }

    /// Starts those that are missing, after the positions that gate has in the streams that it was
    /// told of. True if one was missing.
    pub fn start<E: Engine>(&mut self, engine: &E, taken: &Taken, streams: &Generations) -> bool {
        let at = |generation: &String, after| Start {
            generation: generation.clone(),
            after,
        };
        let mut wanted = vec![
            (Source::Orders, at(&streams.orders, taken.orders_after)),
            // First who belongs to the fleet: questions and the rest are believed by that.
            (Source::Roster, Start::default()),
        ];
        if taken.views {
            wanted.extend([
                (Source::Hosts, Start::default()),
                (Source::Places, Start::default()),
                (Source::Rollouts, Start::default()),
                (Source::Events, at(&streams.events, taken.events_after)),
            ]);
        }
        let before = self.last;
        for (from, start) in wanted {
            if !self.all.iter().any(|reader| reader.from == from) {
                self.start_one(engine, from, start);
            }
        }
        self.last > before
    }

    fn start_one<E: Engine>(&mut self, engine: &E, from: Source, start: Start) {
        self.last += 1;
        let (number, to, engine) = (self.last, self.to.clone(), engine.clone());
        let task = tokio::spawn(async move {
            let (sender, mut receiver) = mpsc::channel(1);
            let pass_on = async {
                while let Some(batch) = receiver.recv().await {
                    if to.send((number, Read::Batch(batch))).await.is_err() {
                        break;
                    }
                }
            };
            let (error, ()) = tokio::join!(engine.read(from, start, sender), pass_on);
            // Nothing waits for it when link ends.
            to.send((number, Read::Ended(from, error))).await.ok();
        });
        self.all.push(Reader { number, from, task });
    }

    /// Ends one; what it has read and gate has not taken is read again. False if it did not run.
    pub fn stop(&mut self, from: Source) -> bool {
        let before = self.all.len();
        self.all.retain(|reader| {
            let stays = reader.from != from;
            if !stays {
                reader.task.abort();
            }
            stays
        });
        self.all.len() < before
    }

    pub fn stop_all(&mut self) {
        self.all.drain(..).for_each(|reader| reader.task.abort());
    }
}
