//! `/metrics`: the state of the tables at the time of the scrape, and this process's own counters.
//! The format is Prometheus' text format 0.0.4 from `prometheus`; prometheus-client writes
//! OpenMetrics only.

mod tables;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TEXT_FORMAT,
    TextEncoder,
};

use crate::base::{Error, Result};
use crate::db::metrics::Snapshot;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = TEXT_FORMAT;

/// The label for requests without a route. A path that a client made up must not become a label.
pub const NO_ROUTE: &str = "none";

/// Upper bounds of a request's duration, seconds.
const BOUNDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// Methods with a label of their own; a client may send any word.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// This process's counters. Shared by reference: counting is an atomic addition.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    streams: IntGaugeVec,
    refusals: IntCounterVec,
    memory: IntGauge,
}

impl Metrics {
    /// Counters of a process that started at `started` (unix ms).
    ///
    /// Fails if a metric's name is invalid, which does not depend on input.
    pub fn new(started: i64) -> Result<Self> {
        Self::build(started).map_err(|error| fault(&error))
    }

    fn build(started: i64) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let durations = HistogramOpts::new(
            "left4me_web_request_duration_seconds",
            "Time from a request's head to its answer's, by route. Streams go on after that.",
        );

        let start = IntGauge::new(
            "process_start_time_seconds",
            "When left4me-web started, in unix seconds.",
        )?;

        start.set(started / 1000);

        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "left4me_web_requests_total",
                    "Answered requests by method, route and status.",
                ),
                &["method", "route", "status"],
            )?,
            durations: HistogramVec::new(durations.buckets(BOUNDS.to_vec()), &["route"])?,
            streams: IntGaugeVec::new(
                Opts::new(
                    "left4me_web_streams",
                    "Open event streams, and downloads of logs, by kind.",
                ),
                &["kind"],
            )?,
            refusals: IntCounterVec::new(
                Opts::new(
                    "left4me_web_refusals_total",
                    "Refused connections, requests and streams by reason.",
                ),
                &["why"],
            )?,
            memory: IntGauge::new(
                "process_resident_memory_bytes",
                "Resident memory of left4me-web.",
            )?,
            registry,
        };

        let all: [Box<dyn Collector>; 6] = [
            Box::new(start),
            Box::new(metrics.memory.clone()),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.streams.clone()),
            Box::new(metrics.refusals.clone()),
        ];

        all.into_iter()
            .try_for_each(|one| metrics.registry.register(one))?;

        Ok(metrics)
    }

    /// Counts a response. `route` is the matched template, like `/jobs/{id}`, or [`NO_ROUTE`];
    /// never the path.
    pub fn observe(&self, method: &str, route: &str, status: u16, took: Duration) {
        let method = METHODS
            .into_iter()
            .find(|known| *known == method)
            .unwrap_or("other");
        self.requests
            .with_label_values(&[method, route, &status.to_string()])
            .inc();
        self.durations
            .with_label_values(&[route])
            .observe(took.as_secs_f64());
    }

    /// Counts an open stream of a kind (`job`, `console`, `changes`, `download`) until the result
    /// is dropped.
    pub fn stream(&self, kind: &'static str) -> OpenStream {
        let open = self.streams.with_label_values(&[kind]);
        open.inc();
        OpenStream { open }
    }

    /// Counts a refusal: `connections`, `streams`, `throttled`, `csrf`, `host`, …
    pub fn refused(&self, why: &'static str) {
        self.refusals.with_label_values(&[why]).inc();
    }

    /// All metrics as text: this process's, and the tables' as of `now` (unix ms).
    ///
    /// Fails if they cannot be encoded, which does not depend on input.
    pub fn render(&self, tables: &Snapshot, now: i64) -> Result<String> {
        if let Some(bytes) = resident_bytes() {
            self.memory.set(bytes);
        }
        let mut families = tables::families(tables, now);
        families.extend(self.registry.gather());
        TextEncoder::new()
            .encode_to_string(&families)
            .map_err(|error| fault(&error))
    }
}

/// Counts as an open stream until it is dropped.
pub struct OpenStream {
    open: IntGauge,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.open.dec();
    }
}

fn fault(error: &prometheus::Error) -> Error {
    Error::failed(format!("metrics: {error}"))
}

/// This process's VmRSS; none if the kernel does not report it.
fn resident_bytes() -> Option<i64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<i64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        let tables = crate::db::metrics::snapshot(&crate::db::with_servers(0)).unwrap();
        metrics.render(&tables, 1).unwrap()
    }

    #[test]
    fn requests_are_counted_by_template_and_unknown_methods_together() {
        let metrics = Metrics::new(1_800_000_000_000).unwrap();
        metrics.observe("GET", "/jobs/{id}", 200, Duration::from_millis(3));
        metrics.observe("GET", "/jobs/{id}", 200, Duration::from_millis(30));
        metrics.observe("BREW", NO_ROUTE, 404, Duration::from_millis(1));

        let text = text(&metrics);
        for line in [
            "left4me_web_requests_total{method=\"GET\",route=\"/jobs/{id}\",status=\"200\"} 2",
            "left4me_web_requests_total{method=\"other\",route=\"none\",status=\"404\"} 1",
            "left4me_web_request_duration_seconds_bucket{route=\"/jobs/{id}\",le=\"0.005\"} 1",
            "left4me_web_request_duration_seconds_bucket{route=\"/jobs/{id}\",le=\"+Inf\"} 2",
            "left4me_web_request_duration_seconds_count{route=\"/jobs/{id}\"} 2",
            "process_start_time_seconds 1800000000",
        ] {
            assert!(
                text.lines().any(|printed| printed == line),
                "{line}\n{text}"
            );
        }

        let memory = text
            .lines()
            .find_map(|line| line.strip_prefix("process_resident_memory_bytes "))
            .unwrap();
        assert!(memory.parse::<i64>().unwrap() > 100_000, "{memory}");
    }

    #[test]
    fn a_stream_counts_for_as_long_as_it_is_open() {
        let metrics = Metrics::new(0).unwrap();
        let open = metrics.stream("job");
        let line = "left4me_web_streams{kind=\"job\"} ";

        assert!(text(&metrics).contains(&format!("{line}1\n")));
        drop(open);
        metrics.refused("streams");

        let text = text(&metrics);
        assert!(
            text.contains(&format!("{line}0\n"))
                && text.contains("left4me_web_refusals_total{why=\"streams\"} 1\n")
        );
    }
}
