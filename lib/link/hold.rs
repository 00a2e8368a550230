//! Holds this host's lease at the engine.

use tokio::time::Instant;

use super::engine::{Engine, Publication};
use crate::base::clock;
use crate::base::names::FleetHost;
use crate::base::{Exit, Result};
use crate::domain::fleet::lease::{self, Lease, Step, Watched};
use crate::domain::fleet::subjects::{self, Bucket};

/// How often it is written at once when others write, too: anything but a lease is noise, and may
/// come at any time.
const ATTEMPTS: u32 = 5;

pub struct Hold {
    host: FleetHost,
    own: Lease,
    begin: Instant,
    /// When it was renewed last, in ms of one's own clock.
    renewed: Option<i64>,
    watched: Option<Watched>,
    /// Who holds it instead.
    other: Option<Lease>,
}

impl Hold {
    pub fn new(host: FleetHost, own: Lease) -> Self {
        Self {
            host,
            own,
            begin: Instant::now(),
            renewed: None,
            watched: None,
            other: None,
        }
    }

    fn now(&self) -> i64 {
        i64::try_from(self.begin.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Whether this process is its host, for the engine.
    pub fn is_held(&self) -> bool {
        let age = |renewed: i64| self.now().saturating_sub(renewed);
        self.renewed
            .is_some_and(|renewed| age(renewed) < self.own.good_for)
    }

    /// Who has this host's identity instead.
    pub fn other(&self) -> Option<&Lease> {
        self.other.as_ref()
    }

    /// Takes or renews it.
    pub async fn renew<E: Engine>(&mut self, engine: &E) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if self.try_renew(engine).await? {
                break;
            }
        }
        Ok(())
    }

    /// False if another value was written in between.
    async fn try_renew<E: Engine>(&mut self, engine: &E) -> Result<bool> {
        let kept = engine.kept(Bucket::Lease, self.host.as_str()).await?;
        let found = kept.as_ref().and_then(|kept| {
            let lease: Lease = serde_json::from_slice(&kept.body).ok()?;
            Some((lease, kept.revision))
        });
        let revision = kept.map_or(0, |kept| kept.revision);

        let now = self.now();
        let found = found.as_ref().map(|(lease, revision)| (lease, *revision));
        let over = match lease::step(found, &self.own.instance, self.watched, now) {
            // What is no lease is written over.
            Step::Write { over: 0 } => revision,
            Step::Write { over } => over,
            Step::Wait(watched) => {
                let is_new = self.watched.is_none();
                self.watched = Some(watched);
                self.renewed = None;
                self.other = found.map(|(lease, _)| lease.clone());
                if is_new {
                    self.tell(engine).await?;
                }
                return Ok(true);
            }
        };
        self.write(engine, over, false).await
    }

    /// Gives it back, so that the next process need not wait.
    pub async fn give_back<E: Engine>(&mut self, engine: &E) -> Result<()> {
        if !self.is_held() {
            return Ok(());
        }
        let kept = engine.kept(Bucket::Lease, self.host.as_str()).await?;
        let over = kept.map_or(0, |kept| kept.revision);
        self.write(engine, over, true).await.map(drop)
    }

    /// False if `over` is not the newest revision.
    async fn write<E: Engine>(&mut self, engine: &E, over: u64, is_free: bool) -> Result<bool> {
        let lease = Lease {
            at: clock::now_ms(),
            is_free,
            ..self.own.clone()
        };
        let publication = Publication {
            subject: Bucket::Lease.subject(self.host.as_str()),
            over: Some(over),
            body: serde_json::to_vec(&lease).unwrap_or_default(),
            ..Publication::default()
        };
        // From before it was asked for.
        let asked = self.now();
        match engine.publish(vec![publication]).await.pop() {
            Some(Ok(_)) => {
                self.renewed = (!is_free).then_some(asked);
                (self.watched, self.other) = (None, None);
                Ok(true)
            }
            // Another one was faster, or a node told an older revision: look again.
            Some(Err(error)) if error.exit == Exit::Conflict => Ok(false),
            Some(Err(error)) => Err(error),
            None => Ok(true),
        }
    }

    /// Tells the one that holds it.
    async fn tell<E: Engine>(&self, engine: &E) -> Result<()> {
        let body = serde_json::to_vec(&self.own).unwrap_or_default();
        engine.tell(subjects::refused(&self.host), body).await
    }
}
