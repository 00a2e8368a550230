//! Who is on the server.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// The longest name, in bytes (`MAX_PLAYER_NAME_LENGTH` of the branch, without its NUL). A longer
/// one is cut, in the middle of a character too.
const LONGEST_NAME: usize = 127;

pub const BOT: &str = "BOT";
/// The characters that the game itself plays until somebody comes.
pub const SURVIVORS: [&str; 4] = ["Coach", "Ellis", "Rochelle", "Nick"];

pub struct Player {
    pub userid: u32,
    pub name: Vec<u8>,
    /// `STEAM_1:…`, `STEAM_ID_LAN`, or [`BOT`].
    pub steam: String,
    pub address: String,
    pub since: Instant,
    pub score: i32,
    /// Has loaded the map.
    pub has_entered: bool,
}

impl Player {
    /// From a line of `standin.join`: `NAME`, `NAME TAB STEAMID`, `NAME TAB STEAMID TAB SCORE`.
    pub fn parse(line: &[u8], userid: u32) -> Self {
        let mut fields = line.split(|byte| *byte == b'\t');
        let name = fields.next().unwrap_or_default();
        let text = |field: Option<&[u8]>| {
            field
                .map(|field| String::from_utf8_lossy(field).into_owned())
                .filter(|text| !text.is_empty())
        };

        let steam = text(fields.next());
        let steam =
            steam.unwrap_or_else(|| format!("STEAM_1:{}:{}", userid % 2, 4_000_000 + userid));
        let score = text(fields.next()).and_then(|text| text.parse().ok());

        // Addresses of RFC 5737, which are nobody's.
        let octet = u8::try_from(userid % 254).unwrap_or_default() + 1;
        Self {
            userid,
            name: name[..name.len().min(LONGEST_NAME)].to_vec(),
            address: format!("{}:27005", Ipv4Addr::new(203, 0, 113, octet)),
            steam,
            since: Instant::now(),
            score: score.unwrap_or(0),
            has_entered: false,
        }
    }

    pub fn is_bot(&self) -> bool {
        self.steam == BOT
    }

    /// The line of `standin.join` that it comes back with.
    pub fn join_line(&self) -> Vec<u8> {
        let rest = format!("\t{}\t{}", self.steam, self.score);
        [self.name.as_slice(), rest.as_bytes()].concat()
    }

    /// `name<userid><steamid><team>`, as log lines begin. Names can hold `<` too.
    pub fn in_log(&self, is_long: bool) -> Vec<u8> {
        let team = if self.has_entered { "Survivor" } else { "" };
        let mut tail = format!("<{}><{}><{team}>", self.userid, self.steam);
        if is_long && self.has_entered {
            let who = SURVIVORS[self.userid as usize % SURVIVORS.len()];
            tail.push_str(&format!(
                "<{who}><ALIVE><100+0><setpos_exact 831.96 5457.06 2718.03; setang 8.73 201.79 0.00><Area 12063>"
            ));
        }
        [&self.name, tail.as_bytes()].concat()
    }
}

/// `05:10`, `1:02:33`.
pub fn connected(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours == 0 {
        format!("{minutes:02}:{seconds:02}")
    } else {
        format!("{hours}:{minutes:02}:{seconds:02}")
    }
}
