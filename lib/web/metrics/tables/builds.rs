//! The builds of the game, and how many servers run each.

use prometheus::proto::{MetricFamily, MetricType};

use super::{family, gauge, number};
use crate::db::metrics::BuildFigures;

/// The label of servers that came up before that was recorded.
const UNKNOWN: &str = "unknown";

pub(super) fn families(builds: &BuildFigures) -> Vec<MetricFamily> {
    let one = |build: Option<u64>| build.map(|build| gauge(&[], number(build)));
    let servers = builds.servers.iter().map(|(build, &n)| {
        let build = build.map_or_else(|| UNKNOWN.to_owned(), |build| build.to_string());
        gauge(&[("build", &build)], number(n))
    });

    vec![
        family(
            "left4me_servers_on_build",
            "Running servers by the build of the game on which they came up.",
            MetricType::GAUGE,
            servers,
        ),
        family(
            "left4me_build_current",
            "The build that servers take at their next start; no series while none is published.",
            MetricType::GAUGE,
            one(builds.current),
        ),
        family(
            "left4me_build_available",
            "The build that Steam publishes; no series before the first check.",
            MetricType::GAUGE,
            one(builds.available),
        ),
        family(
            "left4me_build_rejected",
            "1 if updates skip the build that Steam publishes, because servers did not come up on it \
             or an admin went back from it.",
            MetricType::GAUGE,
            [gauge(&[], f64::from(u8::from(builds.is_rejected)))],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_counted_by_build_and_unknown_builds_have_no_number() {
        let render = |builds: &BuildFigures| {
            let mut all = families(builds);
            all.retain(|family| !family.get_metric().is_empty());
            prometheus::TextEncoder::new()
                .encode_to_string(&all)
                .unwrap()
        };
        let text = render(&BuildFigures {
            current: Some(11_906_514),
            available: Some(11_906_600),
            is_rejected: true,
            servers: [(None, 1), (Some(11_906_514), 3)].into(),
        });
        for line in [
            "left4me_servers_on_build{build=\"unknown\"} 1\n",
            "left4me_servers_on_build{build=\"11906514\"} 3\n",
            "left4me_build_current 11906514\n",
            "left4me_build_available 11906600\n",
            "left4me_build_rejected 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }

        let text = render(&BuildFigures::default());
        assert!(text.contains("left4me_build_rejected 0\n"), "{text}");
        assert!(!text.contains("_current ") && !text.contains("_available "));
    }
}
