//! Commands about players and maps, made of several steps: whom a name means is asked first, and a
//! player may leave in between.
//!
//! Each function sends with `send`, which gets a command and the reason that its event records.

use crate::base::{Error, Result};
use crate::domain::game_command::{self, STATUS, WRITE_BANS};
use crate::domain::status::{NoSuchPlayer, Row, Status, SteamId, Who};
use crate::queue::game::Reply;

/// A player who was banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banned {
    pub id: SteamId,
    /// None when the player was not there.
    pub player: Option<Row>,
}

/// Who plays, with the numbers that kicks and bans need.
///
/// Fails with 1 when the reply is no table of players, and with the errors of `send`.
pub fn status(send: &mut impl FnMut(&str, &str) -> Result<Reply>) -> Result<Status> {
    let reply = send(STATUS, "")?;
    Status::parse(&reply.text).ok_or_else(|| {
        Error::failed("the game's reply to 'status' has no table of players: try again in a moment")
    })
}

/// Removes a player from the game.
///
/// Fails with 3 when the player is not there, or has left; 2 when several have that name.
pub fn kick(
    send: &mut impl FnMut(&str, &str) -> Result<Reply>,
    who: &Who,
    reason: &str,
) -> Result<Row> {
    let status = status(send)?;
    let row = find(&status, who)?;
    if !kick_row(send, row, reason)? {
        return Err(Error::not_found(format!(
            "player {who} has left meanwhile; a ban by Steam ID works without the player"
        )));
    }
    Ok(row.clone())
}

/// Whether the player was still there.
fn kick_row(
    send: &mut impl FnMut(&str, &str) -> Result<Reply>,
    row: &Row,
    reason: &str,
) -> Result<bool> {
    let reply = send(&game_command::kick(row.user_id, reason), reason)?;
    Ok(!reply.text.contains("not found"))
}

/// Bans a player's account, for ever with 0 minutes, and removes the player from the game. With a
/// Steam ID the player need not be there.
///
/// Fails with 3 when nobody has that name or number; 2 when several have it; 4 when the account is
/// not known, as of a bot.
pub fn ban(
    send: &mut impl FnMut(&str, &str) -> Result<Reply>,
    who: &Who,
    minutes: u32,
    reason: &str,
) -> Result<Banned> {
    let status = status(send)?;
    let (id, row) = match (find(&status, who), who) {
        (Err(_), Who::Steam(id)) => (id.clone(), None),
        (found, _) => {
            let row = found?;
            (account(row)?.clone(), Some(row))
        }
    };

    send(&game_command::ban(&id, minutes)?, reason)?;
    if let Some(row) = row {
        kick_row(send, row, reason)?;
    }
    if minutes == 0 {
        send(WRITE_BANS, "")?;
    }

    Ok(Banned {
        id,
        player: row.cloned(),
    })
}

/// Lifts a ban.
///
/// Fails with 3 when the account is not banned.
pub fn unban(
    send: &mut impl FnMut(&str, &str) -> Result<Reply>,
    id: &SteamId,
    reason: &str,
) -> Result<()> {
    let reply = send(&game_command::unban(id), reason)?;
    if reply.text.contains("couldn't find") || reply.text.contains("not found") {
        return Err(Error::not_found(format!("{id} is not banned")));
    }
    send(WRITE_BANS, "").map(drop)
}

/// Changes the map.
///
/// Fails with 2 when `map` is no name of a map; 3 when the game does not have it.
pub fn change_map(send: &mut impl FnMut(&str, &str) -> Result<Reply>, map: &str) -> Result<Reply> {
    let reply = send(&game_command::change_map(map)?, "")?;
    if game_command::is_no_such_map(&reply.text) {
        return Err(Error::not_found(format!(
            "the server has no map '{map}': its overlays and the game have others"
        )));
    }
    Ok(reply)
}

fn find<'s>(status: &'s Status, who: &Who) -> Result<&'s Row> {
    status.find(who).map_err(|none| match none {
        NoSuchPlayer::None => Error::not_found(format!("no player {who} is on the server")),
        NoSuchPlayer::Several(ids) => {
            let ids: Vec<String> = ids.iter().map(|id| format!("'#{id}'")).collect();
            Error::usage(format!(
                "several players are named {who}; say which by number: {}",
                ids.join(", ")
            ))
        }
    })
}

fn account(row: &Row) -> Result<&SteamId> {
    let what = if row.is_bot {
        "is a bot"
    } else {
        "has no Steam ID yet"
    };
    row.steam_id.as_ref().ok_or_else(|| {
        Error::conflict(format!(
            "player #{} {what}, and cannot be banned: kick works",
            row.user_id
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS_REPLY: &str = "\
        # userid name uniqueid connected ping loss state rate adr\n\
        # 7 1 \"Ann\" STEAM_1:0:70 05:40 99 0 active 30000 192.0.2.4:44563\n\
        # 8 2 \"x\" STEAM_1:0:80 05:40 99 0 active 30000 192.0.2.5:44563\n\
        # 9 3 \"x\" STEAM_ID_LAN 05:40 99 0 active 30000 192.0.2.6:44563\n\
        #10 \"Coach\" BOT active\n#end\n";

    /// Runs with a game that replies with `replies` to what is no `status`; returns the result and
    /// the other commands.
    fn with<T>(
        replies: &str,
        act: impl FnOnce(&mut dyn FnMut(&str, &str) -> Result<Reply>) -> Result<T>,
    ) -> (Result<T>, Vec<String>) {
        let mut sent = Vec::new();
        let result = act(&mut |command: &str, reason: &str| {
            assert!(crate::domain::game_command::check(command).is_ok());
            let text = if command == STATUS {
                STATUS_REPLY
            } else {
                sent.push(format!("{command} [{reason}]"));
                replies
            };
            Ok(Reply {
                text: text.to_owned(),
                cut: false,
            })
        });
        (result, sent)
    }

    fn who(text: &str) -> Who {
        text.parse().unwrap()
    }

    #[test]
    fn a_player_is_kicked_by_the_number_that_status_gives() {
        let (kicked, sent) = with("", |mut send| kick(&mut send, &who("ann"), "afk; quit"));
        assert_eq!(kicked.unwrap().user_id, 7);
        assert_eq!(sent, ["kickid 7 afk quit [afk; quit]"]);
    }

    #[test]
    fn a_player_who_left_between_list_and_kick_is_not_found() {
        let left = "userid \"7\" not found\n";
        let (kicked, _) = with(left, |mut send| kick(&mut send, &who("#7"), ""));
        let error = kicked.unwrap_err();
        assert_eq!(error.exit.code(), 3);
        assert!(error.to_string().contains("has left"), "{error}");

        for (name, code) in [("nobody", 3), ("#99", 3), ("x", 2)] {
            let (kicked, sent) = with("", |mut send| kick(&mut send, &who(name), ""));
            assert_eq!(kicked.unwrap_err().exit.code(), code, "{name}");
            assert_eq!(sent, [] as [&str; 0], "{name}");
        }
    }

    #[test]
    fn a_ban_is_by_account_and_is_written_when_it_is_for_ever() {
        let (banned, sent) = with("", |mut send| ban(&mut send, &who("Ann"), 0, "r"));
        assert_eq!(banned.unwrap().id.to_string(), "STEAM_1:0:70");
        assert_eq!(
            sent,
            ["banid 0 STEAM_1:0:70 [r]", "kickid 7 r [r]", "writeid []"]
        );

        let (banned, sent) = with("", |mut send| ban(&mut send, &who("STEAM_0:1:5"), 30, ""));
        assert_eq!(banned.unwrap().player, None);
        assert_eq!(sent, ["banid 30 STEAM_1:1:5 []"]);

        for name in ["#9", "Coach"] {
            let (banned, sent) = with("", |mut send| ban(&mut send, &who(name), 0, ""));
            assert_eq!(banned.unwrap_err().exit.code(), 4, "{name}");
            assert!(sent.is_empty(), "{name}");
        }
    }

    #[test]
    fn what_is_not_banned_or_not_a_map_is_not_found() {
        let id: SteamId = "STEAM_1:0:5".parse().unwrap();
        let (lifted, sent) = with("", |mut send| unban(&mut send, &id, ""));
        lifted.unwrap();
        assert_eq!(sent, ["removeid STEAM_1:0:5 []", "writeid []"]);

        let missing = "removeid: couldn't find STEAM_1:0:5\n";
        let (lifted, _) = with(missing, |mut send| unban(&mut send, &id, ""));
        assert_eq!(lifted.unwrap_err().exit.code(), 3);

        let missing = "changelevel failed: nomap not found\n";
        let (changed, _) = with(missing, |mut send| change_map(&mut send, "nomap"));
        assert_eq!(changed.unwrap_err().exit.code(), 3);
    }
}
