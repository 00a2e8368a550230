//! What the games of running servers answered: players, map, response time. One row for each run
//! of a server; [`forget`] removes it when that run ends or another one begins.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::names::ServerId;
use crate::db::events::{self, NewEvent};
use crate::db::{changes, execute, exists, first, query, run, text};
use crate::domain::game::{Figures, Game};

/// A running server, as the poller asks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Askable {
    pub id: ServerId,
    pub port: u16,
    /// Tells this run from others: systemd's monotonic time of its start, µs.
    pub started_us: i64,
}

/// A player, or a bot, of a game's last answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = Player)]
pub struct PlayerRow {
    /// As left4me-console made it visible; empty while the player connects.
    pub name: String,
    pub score: i32,
    /// Seconds since the player connected, at that answer.
    pub seconds: u32,
}

/// What is known of a server's run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub game: Option<Game>,
    /// Whether it is the run that was asked, as far as the row says.
    pub is_same_run: bool,
    pub is_unresponsive: bool,
}

const COLUMNS: &str = "g.players, g.bots, g.max_players, g.map, g.response_ms, g.answered_at,
                       g.asked_at, g.unanswered, g.responding";

/// The columns [`COLUMNS`], beginning at `from`. A value that left4me would not write counts as no
/// answer.
fn game(row: &Row<'_>, from: usize) -> rusqlite::Result<Option<Game>> {
    let Some(asked_at) = row.get(from + 6)? else {
        return Ok(None);
    };

    let number = |at: usize| row.get::<_, Option<u32>>(from + at);
    let figures = match (number(0)?, number(1)?, number(2)?, number(4)?) {
        (Some(players), Some(bots), Some(max_players), Some(response_ms)) => Some(Figures {
            players,
            bots,
            max_players,
            map: row.get::<_, Option<String>>(from + 3)?.unwrap_or_default(),
            response_ms,
        }),
        _ => None,
    };

    Ok(Some(Game {
        figures,
        answered_at: row.get(from + 5)?,
        asked_at,
        unanswered: row.get(from + 7)?,
    }))
}

/// The servers that run, by the rows of the last poll.
pub fn askable(connection: &Connection) -> Result<Vec<Askable>> {
    let sql = "SELECT id, port, active_enter_us FROM servers
               WHERE actual_state = 'running' AND id > 0 ORDER BY id";
    query(connection, sql, [], |row| {
        Ok(Askable {
            id: row.get(0)?,
            port: row.get(1)?,
            started_us: row.get(2)?,
        })
    })
}

/// Whether the last question to the game of each running server was asked at `time` (unix ms) or
/// later. A game that was never asked counts as asked.
pub fn asked_since(connection: &Connection, time: i64) -> Result<bool> {
    let sql = "SELECT 1 FROM servers s JOIN server_game g ON g.server_id = s.id
               WHERE s.actual_state = 'running' AND g.asked_at < ?1 LIMIT 1";
    let earlier: Option<i64> = first(connection, sql, [time], |row| row.get(0))?;
    Ok(earlier.is_none())
}

/// What is known of the game of a server's present run.
pub fn get(connection: &Connection, id: ServerId) -> Result<Option<Game>> {
    let sql = format!("SELECT {COLUMNS} FROM server_game g WHERE g.server_id = ?1");
    Ok(first(connection, &sql, [id], |row| game(row, 0))?.flatten())
}

/// The same, with what tells whether an answer to `asked` may be recorded; none if the server is
/// gone.
pub fn known(connection: &Connection, asked: &Askable) -> Result<Option<Known>> {
    let sql = format!(
        "SELECT {COLUMNS}, s.actual_state = 'running' AND s.active_enter_us = ?2,
         s.drift IS 'unresponsive' FROM servers s LEFT JOIN server_game g ON g.server_id = s.id
         WHERE s.id = ?1"
    );
    first(
        connection,
        &sql,
        params![asked.id, asked.started_us],
        |row| {
            Ok(Known {
                game: game(row, 0)?,
                is_same_run: row.get(9)?,
                is_unresponsive: row.get(10)?,
            })
        },
    )
}

/// Records what is known of a running server's game and who plays. The server's version grows if
/// that changed: pages that show it are refreshed.
pub fn record(
    tx: &Connection,
    id: ServerId,
    before: Option<&Game>,
    now: &Game,
    players: &[PlayerRow],
) -> Result<()> {
    let figures = now.figures.as_ref();
    let sql = "INSERT INTO server_game (server_id, responding, players, bots, max_players, map,
               response_ms, answered_at, asked_at, unanswered)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
               ON CONFLICT (server_id) DO UPDATE SET responding = excluded.responding,
               players = excluded.players, bots = excluded.bots,
               max_players = excluded.max_players, map = excluded.map,
               response_ms = excluded.response_ms, answered_at = excluded.answered_at,
               asked_at = excluded.asked_at, unanswered = excluded.unanswered";
    run(
        tx,
        sql,
        params![
            id,
            now.responding().as_str(),
            figures.map(|figures| figures.players),
            figures.map(|figures| figures.bots),
            figures.map(|figures| figures.max_players),
            figures.map(|figures| figures.map.as_str()),
            figures.map(|figures| figures.response_ms),
            now.answered_at,
            now.asked_at,
            now.unanswered
        ],
    )?;

    let have_changed = record_players(tx, id, players)?;

    // The response time differs at every poll, and no page needs it at once.
    let shown = |game: &Game| {
        let figures = game.figures.clone();
        (
            game.responding(),
            figures.map(|figures| Figures {
                response_ms: 0,
                ..figures
            }),
        )
    };
    if have_changed || before.map(shown) != Some(shown(now)) {
        run(
            tx,
            "UPDATE servers SET version = version + 1 WHERE id = ?1",
            [id],
        )?;
    }

    Ok(())
}

/// Replaces the players of a server. True if a name or a score changed.
fn record_players(tx: &Connection, id: ServerId, players: &[PlayerRow]) -> Result<bool> {
    let before = self::players(tx, id)?;
    if before == players {
        return Ok(false);
    }

    let count = i64::try_from(players.len()).unwrap_or(i64::MAX);
    let sql = "DELETE FROM server_players WHERE server_id = ?1 AND position >= ?2";
    run(tx, sql, params![id, count])?;

    let sql = "INSERT OR REPLACE INTO server_players (server_id, position, name, score, seconds)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    for (position, player) in (0_i64..).zip(players) {
        let PlayerRow {
            name,
            score,
            seconds,
        } = player;
        run(tx, sql, params![id, position, name, score, seconds])?;
    }

    let shown = |players: &[PlayerRow]| {
        let shown = players
            .iter()
            .map(|player| (player.name.clone(), player.score));
        shown.collect::<Vec<_>>()
    };
    Ok(shown(&before) != shown(players))
}

/// Who plays, by the game's last answer; empty while it does not answer.
pub fn players(connection: &Connection, id: ServerId) -> Result<Vec<PlayerRow>> {
    let sql = "SELECT name, score, seconds FROM server_players
               WHERE server_id = ?1 ORDER BY position";
    query(connection, sql, [id], |row| {
        Ok(PlayerRow {
            name: text(row, 0)?,
            score: row.get(1)?,
            seconds: row.get(2)?,
        })
    })
}

/// Removes what was known of a run that has ended.
pub fn forget(tx: &Connection, id: ServerId) -> Result<()> {
    if execute(tx, "DELETE FROM server_game WHERE server_id = ?1", [id])? > 0 {
        run(tx, "DELETE FROM server_players WHERE server_id = ?1", [id])?;
    }
    Ok(())
}

/// A running server and its game, as `/metrics` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedGame {
    pub id: ServerId,
    /// Its display name, as stored.
    pub name: String,
    pub game: Game,
}

/// The games of all servers that run, ordered by id.
pub fn all(connection: &Connection) -> Result<Vec<NamedGame>> {
    let sql = format!(
        "SELECT {COLUMNS}, s.id, s.name FROM server_game g JOIN servers s ON s.id = g.server_id
         WHERE s.actual_state = 'running' ORDER BY s.id"
    );
    let rows = query(connection, &sql, [], |row| {
        Ok(game(row, 0)?.map(|game| (game, row.get(9), text(row, 10))))
    })?;

    let named = rows.into_iter().flatten().map(|(game, id, name)| {
        Ok(NamedGame {
            id: id?,
            name: name?,
            game,
        })
    });
    named.collect()
}

/// Whether a server counts as unresponsive already.
pub fn is_unresponsive(connection: &Connection, id: ServerId) -> Result<bool> {
    let sql = "SELECT 1 FROM servers WHERE id = ?1 AND drift = 'unresponsive'";
    exists(connection, sql, [id])
}

/// A server that does not answer and whose setting asks for a restart then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToRestart {
    pub id: ServerId,
    /// Why it counts as unresponsive.
    pub why: String,
}

/// The servers that are unresponsive and have the setting.
pub fn to_restart(connection: &Connection) -> Result<Vec<ToRestart>> {
    let sql = "SELECT id, coalesce(drift_why, '') FROM servers
               WHERE restart_unresponsive = 1 AND drift = 'unresponsive'
                   AND desired_state = 'running' AND actual_state = 'running' AND id > 0
               ORDER BY id";
    query(connection, sql, [], |row| {
        Ok(ToRestart {
            id: row.get(0)?,
            why: text(row, 1)?,
        })
    })
}

/// When `actor` last requested a restart of this server, unix ms.
pub fn last_restart(connection: &Connection, id: ServerId, actor: &str) -> Result<Option<i64>> {
    let sql = "SELECT j.created_at FROM job_targets t JOIN jobs j ON j.id = t.job_id
               WHERE t.server_id = ?1 AND j.requested_by = ?2 AND j.operation = 'restart'
               ORDER BY t.job_id DESC LIMIT 1";
    first(connection, sql, params![id, actor], |row| row.get(0))
}

/// Sets whether the poller restarts the server when its game no longer answers, and adds an event.
/// False when it is set so already, or when the server does not exist.
pub fn set_restart(tx: &Connection, now: i64, actor: &str, id: ServerId, on: bool) -> Result<bool> {
    let sql = "UPDATE servers SET version = version + 1, restart_unresponsive = ?2, updated_at = ?3
               WHERE id = ?1 AND restart_unresponsive <> ?2";
    if !changes(tx, sql, params![id, on, now])? {
        return Ok(false);
    }

    let detail = match on {
        true => "restarts by itself when its game does not answer",
        false => "does not restart by itself when its game does not answer",
    };
    let event = NewEvent {
        server: Some(id),
        ..NewEvent::new("server.set", actor, detail)
    };
    events::add(tx, now, &event)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{servers, with_servers};
    use crate::domain::game::Responding;

    const SERVER: ServerId = ServerId(1);

    fn answered(players: u32, at: i64) -> Game {
        let figures = Figures {
            players,
            bots: 0,
            max_players: 8,
            map: "c1m1_hotel".to_owned(),
            response_ms: u32::try_from(at % 50).unwrap(),
        };
        Game::after(None, Some(figures), at)
    }

    fn player(name: &str, score: i32, seconds: u32) -> PlayerRow {
        PlayerRow {
            name: name.to_owned(),
            score,
            seconds,
        }
    }

    #[test]
    fn what_was_recorded_is_read_again_until_the_run_ends() {
        let db = with_servers(2);
        db.execute_batch("UPDATE servers SET actual_state = 'running', active_enter_us = 7")
            .unwrap();
        let asked = askable(&db).unwrap();
        assert_eq!((asked.len(), asked[0].started_us), (2, 7));

        let four = [player("Anna", 4, 60), player("<b>", -1, 0)];
        let game = answered(2, 1000);
        record(&db, SERVER, None, &game, &four).unwrap();
        assert_eq!(get(&db, SERVER).unwrap(), Some(game.clone()));
        assert_eq!(players(&db, SERVER).unwrap(), four);

        let server = servers::get(&db, SERVER).unwrap().unwrap();
        assert_eq!(
            (server.responding, server.players, server.max_players),
            (Some(Responding::Yes), Some(2), Some(8))
        );
        assert_eq!(all(&db).unwrap().len(), 1);

        let known = known(&db, &asked[0]).unwrap().unwrap();
        assert!(known.is_same_run && !known.is_unresponsive && known.game.is_some());
        let later = Askable {
            started_us: 8,
            ..asked[0]
        };
        assert!(!super::known(&db, &later).unwrap().unwrap().is_same_run);

        let silent = Game::after(Some(&game), None, 2000);
        record(&db, SERVER, Some(&game), &silent, &[]).unwrap();
        assert_eq!(get(&db, SERVER).unwrap(), Some(silent));
        assert_eq!(players(&db, SERVER).unwrap(), []);

        forget(&db, SERVER).unwrap();
        assert_eq!(get(&db, SERVER).unwrap(), None);
        let server = servers::get(&db, SERVER).unwrap().unwrap();
        assert_eq!((server.responding, server.answered_at), (None, None));
    }

    #[test]
    fn a_page_is_refreshed_by_what_it_shows_and_not_by_each_poll() {
        let db = with_servers(1);
        let mut before: Option<Game> = None;
        let mut grows = |game: Game, players: &[PlayerRow]| {
            let version = || servers::get(&db, SERVER).unwrap().unwrap().version;
            let first = version();
            record(&db, SERVER, before.as_ref(), &game, players).unwrap();
            before = Some(game);
            version() > first
        };

        assert!(grows(answered(1, 1000), &[player("Anna", 4, 60)]));
        assert!(
            !grows(answered(1, 1011), &[player("Anna", 4, 90)]),
            "only times differ"
        );
        assert!(
            grows(answered(1, 1020), &[player("Anna", 5, 90)]),
            "a score"
        );
        assert!(grows(answered(1, 1030), &[player("Bert", 5, 90)]), "a name");
        assert!(grows(answered(2, 1040), &[player("Bert", 5, 90)]), "a bot");
    }

    #[test]
    fn a_setting_is_an_event_once() {
        let db = with_servers(1);
        let set = |on| set_restart(&db, 5, "anna", SERVER, on).unwrap();
        assert_eq!(
            [set(false), set(true), set(true), set(false)],
            [false, true, false, true]
        );
        assert!(!set_restart(&db, 5, "anna", ServerId(9), true).unwrap());

        let events = events::of_server(&db, SERVER, 10).unwrap();
        assert_eq!(events.len(), 2);
        assert!(events.iter().all(|event| event.kind == "server.set"));
    }
}
