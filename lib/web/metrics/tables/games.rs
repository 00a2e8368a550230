//! The figures of running games: who plays, and how fast they answer.

use prometheus::proto::{MetricFamily, MetricType};

use super::{family, gauge, seconds};
use crate::db::game::NamedGame;
use crate::db::metrics::Snapshot;
use crate::domain::game::{Figures, Responding};

/// A game that was asked longer ago than this, ms, has no series: left4me-console or the poller do
/// not work, and what was known is no longer true.
const ASKED_LATELY: i64 = 300_000;

pub(super) fn families(tables: &Snapshot, now: i64) -> Vec<MetricFamily> {
    let known = || {
        let games = tables.games.iter();
        games.filter(|one| (now - one.game.asked_at).abs() <= ASKED_LATELY)
    };

    let gauge_of = |one: &NamedGame, value: f64| {
        let id = one.id.to_string();
        gauge(&[("server", &id), ("name", &one.name)], value)
    };
    let figures = |value: fn(&Figures) -> f64| {
        known().filter_map(move |one| {
            let figures = one.game.figures.as_ref()?;
            Some(gauge_of(one, value(figures)))
        })
    };
    let responding = known().filter_map(|one| match one.game.responding() {
        Responding::Yes => Some(gauge_of(one, 1.0)),
        Responding::No => Some(gauge_of(one, 0.0)),
        Responding::NotYet => None,
    });

    vec![
        family(
            "left4me_server_players",
            "People who play on each server whose game answers, without bots.",
            MetricType::GAUGE,
            figures(|figures| figures.players.into()),
        ),
        family(
            "left4me_server_max_players",
            "How many may play on each server whose game answers.",
            MetricType::GAUGE,
            figures(|figures| figures.max_players.into()),
        ),
        family(
            "left4me_server_query_seconds",
            "From the poller's last question to the game's answer.",
            MetricType::GAUGE,
            figures(|figures| seconds(figures.response_ms.into())),
        ),
        family(
            "left4me_server_responding",
            "1 for each running server whose game answered the last poll, 0 for those that did not; \
             no series before the first answer since its start.",
            MetricType::GAUGE,
            responding,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::ServerId;
    use crate::db::metrics::snapshot;
    use crate::domain::game::Game;

    fn nothing() -> Snapshot {
        snapshot(&crate::db::with_servers(0)).unwrap()
    }

    fn render(tables: &Snapshot, now: i64) -> String {
        let mut families = families(tables, now);
        families.retain(|family| !family.get_metric().is_empty());
        let encoder = prometheus::TextEncoder::new();
        encoder.encode_to_string(&families).unwrap()
    }

    #[test]
    fn a_games_figures_are_those_of_its_last_answer_while_it_is_asked() {
        let figures = Figures {
            players: 3,
            bots: 1,
            max_players: 8,
            map: "c1m1_hotel".to_owned(),
            response_ms: 12,
        };
        let yes = Game::after(None, Some(figures), 1_000_000);
        let games = [
            yes.clone(),
            Game::after(Some(&yes), None, 1_000_000),
            Game::after(None, None, 1_000_000),
        ];
        let games = (1..).zip(games).map(|(id, game)| NamedGame {
            id: ServerId(id),
            name: format!("S{id}"),
            game,
        });
        let tables = Snapshot {
            games: games.collect(),
            ..nothing()
        };

        let lines = |now| {
            let text = render(&tables, now);
            let names = ["_players", "_max_players", "_query_seconds", "_responding"];
            let lines = text.lines().filter(|line| {
                let mut names = names.iter().map(|name| format!("left4me_server{name}{{"));
                names.any(|name| line.starts_with(&name))
            });
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(1_030_000),
            [
                r#"left4me_server_players{server="1",name="S1"} 3"#,
                r#"left4me_server_max_players{server="1",name="S1"} 8"#,
                r#"left4me_server_query_seconds{server="1",name="S1"} 0.012"#,
                r#"left4me_server_responding{server="1",name="S1"} 1"#,
                r#"left4me_server_responding{server="2",name="S2"} 0"#,
            ]
        );
        assert_eq!(lines(2_000_000), [] as [&str; 0], "nobody asks any more");
    }
}
