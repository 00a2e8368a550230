//! `status` and `users`, as public samples of Left 4 Dead 2 show them.
//!
//! A name is printed as it is: with quotes, and with what looks like another row.

use crate::game::Game;
use crate::players::connected;

impl Game {
    pub fn status(&self) -> Vec<Vec<u8>> {
        let (ip, port) = &self.address;
        let secure = if self.is_insecure() {
            "insecure"
        } else {
            "secure"
        };
        let mut lines = vec![
            [b"hostname: ", self.cvars.value("hostname")].concat(),
            format!("version : {} 10097 {secure}  (unknown)", self.version).into_bytes(),
            format!("udp/ip  : {ip}:{port} [ public n/a ]").into_bytes(),
            b"os      : Linux Dedicated".to_vec(),
            format!("map     : {}", self.map).into_bytes(),
            self.counted().into_bytes(),
            Vec::new(),
        ];

        let is_csgo = self.is_like_csgo();
        lines.push(b"# userid name uniqueid connected ping loss state rate adr".to_vec());
        let survivors = self.idle_survivors();
        lines.extend(survivors.map(|(id, name)| format!("#{id:>2} \"{name}\" BOT active").into()));
        for (at, player) in self.players.iter().enumerate() {
            let id = player.userid;
            if player.is_bot() {
                let before = format!("#{id:>2} \"");
                lines.push([before.as_bytes(), &player.name, b"\" BOT active"].concat());
                continue;
            }

            let before = if is_csgo {
                format!("# {id:>2} \"")
            } else {
                format!("# {id:>2} {} \"", at + 1)
            };
            let after = format!(
                "\" {} {} {} {} {} 30000 {}",
                player.steam,
                connected(player.since.elapsed()),
                30 + id % 100,
                id % 3,
                if player.has_entered {
                    "active"
                } else {
                    "spawning"
                },
                player.address
            );
            lines.push([before.as_bytes(), &player.name, after.as_bytes()].concat());
        }

        lines.push(b"#end".to_vec());
        lines
    }

    /// Left 4 Dead 2 says `0 bots` although there are rows of bots: so have the samples it.
    fn counted(&self) -> String {
        let (humans, max) = (self.humans(), self.max_players());
        let hibernating = if self.is_hibernating {
            "hibernating"
        } else {
            "not hibernating"
        };
        let reserved = self.lobby.as_ref().map_or_else(
            || "unreserved".to_owned(),
            |cookie| format!("reserved {cookie}"),
        );
        let (bots, max) = if self.is_like_csgo() {
            (
                self.bots() + self.idle_survivors().count(),
                format!("{max}/0 max"),
            )
        } else {
            (0, format!("{max} max"))
        };
        format!("players : {humans} humans, {bots} bots ({max}) ({hibernating}) ({reserved})")
    }

    pub fn users(&self) -> Vec<Vec<u8>> {
        let mut lines = vec![b"<slot:userid:\"name\">".to_vec()];
        for (at, player) in self.players.iter().enumerate() {
            let before = format!("{at}:{}:\"", player.userid);
            lines.push([before.as_bytes(), &player.name, b"\""].concat());
        }
        lines.push(format!("{} users", self.players.len()).into_bytes());
        lines
    }

    /// Those that `standin.join` named.
    pub fn bots(&self) -> usize {
        self.players.len() - self.humans()
    }

    pub fn is_insecure(&self) -> bool {
        self.has_option("-insecure")
    }

    fn is_like_csgo(&self) -> bool {
        self.cvars.value("standin_status") == b"csgo"
    }
}
