//! The log writer: one thread per worker with its own connection. It gives every line the next
//! sequence number of its job, and commits in batches, at most 50 ms or 256 lines late. Each batch
//! begins after the last line that is there: the scheduler adds lines to running jobs, too.
//!
//! The end of a task goes through the same queue, after its lines: when the worker receives the
//! end, every line is committed. If the disk is full, the writer keeps its batch and tries again.
//! Its bounded queue then blocks the commands, so no line is lost and memory stays bounded.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::names::{JobId, TaskId};
use crate::base::{Error, Result, clock};
use crate::db::{Db, logs, runners};
use crate::wire::{LINE_LIMIT, Served, Stream};

/// How long the first line of a batch may wait for the commit.
const LATENESS: Duration = Duration::from_millis(50);
/// A batch with this many lines is committed at once.
const BATCH: usize = 256;
/// How many messages wait in the queue before senders block.
const QUEUE: usize = 64;
/// The pause after a failed write.
const RETRY: Duration = Duration::from_secs(1);
/// The longest log, in lines. A longer one loses its middle.
const LIMIT: i64 = logs::KEEP_HEAD + logs::KEEP_TAIL;
/// How many lines a log may grow past its limit before it is trimmed. It is also trimmed when its
/// job ends.
const SLACK: i64 = 10_000;

/// What is sent to the writer.
enum Message<E> {
    Lines {
        job: JobId,
        task: TaskId,
        at: i64,
        lines: Vec<(Stream, String)>,
    },
    RunnerBegan {
        token: u64,
        task: TaskId,
        verb: &'static str,
        at: i64,
    },
    RunnerStarted {
        token: u64,
        served: Served,
    },
    RunnerEnded {
        token: u64,
        end: runners::End,
        at: i64,
    },
    /// Passed on when everything before it is committed.
    Ended(E),
    /// The job has ended; a log that is too long loses its middle.
    Forget(JobId),
}

/// The sending half. It is cheap to clone; each task has one. `E` is what is passed on after the
/// lines.
pub struct Log<E> {
    sender: SyncSender<Message<E>>,
    tokens: Arc<AtomicU64>,
}

impl<E> Clone for Log<E> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            tokens: Arc::clone(&self.tokens),
        }
    }
}

/// Identifies the row of a runner before the writer has created it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunnerToken(u64);

impl<E> Log<E> {
    /// Writes lines of a task. Blocks while the writer is behind.
    pub fn lines(&self, job: JobId, task: TaskId, lines: Vec<(Stream, String)>) {
        self.send(Message::Lines {
            job,
            task,
            at: clock::now_ms(),
            lines,
        });
    }

    /// Writes one line about a task.
    pub fn note(&self, job: JobId, task: TaskId, stream: Stream, line: impl Into<String>) {
        self.lines(job, task, vec![(stream, line.into())]);
    }

    /// Records that a connection to runner or helper was opened.
    pub fn runner_began(&self, task: TaskId, verb: &'static str) -> RunnerToken {
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        self.send(Message::RunnerBegan {
            token,
            task,
            verb,
            at: clock::now_ms(),
        });

        RunnerToken(token)
    }

    /// Records which unit serves it. Committed at once, so that a worker that dies leaves a record
    /// of what may still run.
    pub fn runner_started(&self, token: RunnerToken, served: Served) {
        self.send(Message::RunnerStarted {
            token: token.0,
            served,
        });
    }

    pub fn runner_ended(&self, token: RunnerToken, end: runners::End) {
        self.send(Message::RunnerEnded {
            token: token.0,
            end,
            at: clock::now_ms(),
        });
    }

    /// Passes `end` on after everything that was sent before.
    pub fn ended(&self, end: E) {
        self.send(Message::Ended(end));
    }

    /// Ends the log of `job`: no more lines will come.
    pub fn forget(&self, job: JobId) {
        self.send(Message::Forget(job));
    }

    fn send(&self, message: Message<E>) {
        // The writer lives as long as any sender. It is gone only while the process exits.
        drop(self.sender.send(message));
    }
}

/// The thread of the writer.
pub struct Writer {
    thread: JoinHandle<()>,
    give_up: Arc<AtomicBool>,
}

impl Writer {
    /// Waits until everything is committed. All [`Log`]s must be dropped before. With `give_up`,
    /// lines that cannot be written (a full disk) are discarded.
    pub fn finish(self, give_up: bool) {
        self.give_up.store(give_up, Ordering::Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("the log writer panicked");
        }
    }
}

/// Starts the writer for the database at `path`. It calls `ended` for everything that
/// [`Log::ended`] sent.
pub fn start<E: Send + 'static>(
    path: &Path,
    ended: impl Fn(E) + Send + 'static,
) -> Result<(Log<E>, Writer)> {
    let db = Db::open_for_logs(path)?;
    db.stay()?;

    let (sender, receiver) = sync_channel(QUEUE);
    let give_up = Arc::new(AtomicBool::new(false));
    let state = LogState {
        db,
        rows: HashMap::new(),
        batch: Vec::new(),
        lines: 0,
        give_up: Arc::clone(&give_up),
    };

    let thread = std::thread::Builder::new()
        .name("log-writer".to_owned())
        .spawn(move || write_all(state, &receiver, ended))
        .map_err(|error| Error::from(error).within("the log writer cannot be started"))?;

    Ok((
        Log {
            sender,
            tokens: Arc::new(AtomicU64::new(1)),
        },
        Writer { thread, give_up },
    ))
}

struct LogState<E> {
    db: Db,
    rows: HashMap<u64, i64>,
    batch: Vec<Message<E>>,
    lines: usize,
    give_up: Arc<AtomicBool>,
}

fn write_all<E>(mut state: LogState<E>, receiver: &Receiver<Message<E>>, ended: impl Fn(E)) {
    let mut last_commit = Instant::now();
    let mut ends = Vec::new();
    loop {
        let message = if !ends.is_empty() {
            // What is in the queue shares the commit, so that the scheduler settles it together.
            receiver.try_recv().map_err(|_| RecvTimeoutError::Timeout)
        } else if state.batch.is_empty() {
            receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            // After a quiet time the first line is committed at once. Under load a batch gathers.
            receiver
                .recv_timeout((last_commit + LATENESS).saturating_duration_since(Instant::now()))
        };

        let urgent = match message {
            Ok(Message::Ended(end)) => {
                ends.push(end);
                false
            }
            Ok(message) => {
                let urgent = matches!(message, Message::RunnerStarted { .. });
                state.gather(message);
                urgent
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => {
                state.commit();
                return;
            }
        };

        if urgent || state.lines >= BATCH || ends.len() >= QUEUE {
            state.commit();
            last_commit = Instant::now();
            ends.drain(..).for_each(&ended);
        }
    }
}

impl<E> LogState<E> {
    fn gather(&mut self, message: Message<E>) {
        if let Message::Lines { lines, .. } = &message {
            self.lines += lines.len();
        }
        self.batch.push(message);
    }

    /// Commits the batch. Tries again until it succeeds or the worker gives up.
    fn commit(&mut self) {
        let mut is_reported = false;
        while !self.batch.is_empty() {
            let Err(error) = self.try_commit() else { break };
            if self.give_up.load(Ordering::Relaxed) {
                tracing::error!(%error, lines = self.lines, "log lines are lost");
                break;
            }

            if !std::mem::replace(&mut is_reported, true) {
                tracing::error!(%error, "log lines cannot be written; \
                                         the commands wait, the next try is in a second");
            }

            std::thread::park_timeout(RETRY);
        }

        if is_reported {
            tracing::info!("log lines are written again");
        }

        self.batch.clear();
        self.lines = 0;
    }

    fn try_commit(&mut self) -> Result<()> {
        let Self {
            db, rows, batch, ..
        } = self;

        let mut new_rows = Vec::new();

        db.write(|tx| {
            new_rows.clear();
            let mut next_seq = HashMap::new();

            for message in batch.iter() {
                match message {
                    Message::Lines {
                        job,
                        task,
                        at,
                        lines,
                    } => {
                        let seq = match next_seq.get(job) {
                            Some(&seq) => seq,
                            None => logs::last_seq(tx, *job)? + 1,
                        };

                        let next = insert_lines(tx, (*job, *task), *at, seq, lines)?;
                        next_seq.insert(*job, next);
                    }

                    Message::RunnerBegan {
                        token,
                        task,
                        verb,
                        at,
                    } => {
                        new_rows.push((*token, runners::begin(tx, *task, verb, *at)?));
                    }
                    Message::RunnerStarted { token, served } => {
                        if let Some(row) = row_of(*token, &new_rows, rows) {
                            runners::started(tx, row, served)?;
                        }
                    }
                    Message::RunnerEnded { token, end, at } => {
                        if let Some(row) = row_of(*token, &new_rows, rows) {
                            runners::end(tx, row, *end, *at)?;
                        }
                    }
                    Message::Forget(job) => {
                        let last = logs::last_seq(tx, *job)?;
                        if last > LIMIT {
                            let tail = last + 1 - logs::KEEP_TAIL;
                            logs::leave_out_middle(tx, *job, tail, clock::now_ms())?;
                        }
                    }
                    Message::Ended(_) => {}
                }
            }

            Ok(())
        })?;

        // The rows count only after the commit: a failed batch is written again.
        rows.extend(new_rows);

        for message in batch.iter() {
            if let Message::RunnerEnded { token, .. } = message {
                rows.remove(token);
            }
        }

        Ok(())
    }
}

fn row_of(token: u64, new: &[(u64, i64)], old: &HashMap<u64, i64>) -> Option<i64> {
    new.iter()
        .find(|(other, _)| *other == token)
        .map(|(_, row)| *row)
        .or_else(|| old.get(&token).copied())
}

/// Inserts lines from `seq` on and gives the next number. Trims the middle of a log that has grown
/// too long.
fn insert_lines(
    tx: &rusqlite::Connection,
    (job, task): (JobId, TaskId),
    at: i64,
    mut seq: i64,
    lines: &[(Stream, String)],
) -> Result<i64> {
    for (stream, line) in lines {
        logs::insert(tx, job, seq, at, *stream, Some(task), cut(line))?;
        if seq > LIMIT && (seq - LIMIT) % SLACK == 0 {
            logs::leave_out_middle(tx, job, seq - logs::KEEP_TAIL + 1, at)?;
        }
        seq += 1;
    }

    Ok(seq)
}

/// Limits the length of a line. Runner and helper do so themselves; this also covers other senders.
fn cut(line: &str) -> &str {
    if line.len() <= LINE_LIMIT {
        return line;
    }
    line.char_indices()
        .nth(LINE_LIMIT + crate::wire::CUT_MARK.len())
        .map_or(line, |(end, _)| &line[..end])
}
