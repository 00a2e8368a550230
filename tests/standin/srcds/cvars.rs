//! The game's console variables: some of those that it has, with their defaults.
//!
//! Defaults and descriptions of the `sv_rcon_*` and `sv_max_queries_*` ones are those of the public
//! cvarlist of Portal 2, of the same branch of the engine.

use std::collections::BTreeMap;

/// Long enough that `cvarlist` is longer than 64 KiB, as the game's own is.
const FURTHER: usize = 1500;

const NOTIFY: &str = "notify";
const REPLICATED: &str = "notify replicated";
const GAME: &str = "game notify replicated";

/// Name, default, flags, description. One that notifies is a rule of `A2S_RULES`.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("coop", "0", NOTIFY, ""),
    ("deathmatch", "1", NOTIFY, ""),
    ("decalfrequency", "10", NOTIFY, ""),
    ("director_afk_timeout", "45", NOTIFY, ""),
    ("director_no_death_check", "0", "game notify cheat", ""),
    (
        "god",
        "0",
        NOTIFY,
        "Toggle god mode. Player becomes invulnerable.",
    ),
    ("hostname", "Left 4 Dead 2", "", "Hostname for server."),
    ("hostport", "", "", "Host game server port"),
    ("ip", "localhost", "", "Overrides IP for multihomed hosts"),
    ("mp_allowNPCs", "1", NOTIFY, ""),
    ("mp_autocrosshair", "1", NOTIFY, ""),
    ("mp_autoteambalance", "1", NOTIFY, ""),
    (
        "mp_disable_autokick",
        "0",
        NOTIFY,
        "Prevents a userid from being auto-kicked",
    ),
    (
        "mp_fadetoblack",
        "0",
        REPLICATED,
        "fade a player's screen to black when he dies",
    ),
    ("mp_falldamage", "0", NOTIFY, ""),
    ("mp_flashlight", "1", NOTIFY, ""),
    ("mp_footsteps", "1", NOTIFY, ""),
    (
        "mp_forcecamera",
        "1",
        "replicated",
        "Restricts spectator modes for dead players",
    ),
    ("mp_forcerespawn", "1", NOTIFY, ""),
    ("mp_fraglimit", "0", REPLICATED, ""),
    (
        "mp_friendlyfire",
        "0",
        GAME,
        "Allows team members to injure other members of their team",
    ),
    (
        "mp_gamemode",
        "coop",
        GAME,
        "Current game mode, acceptable values are coop, versus, survival and scavenge.",
    ),
    (
        "mp_limitteams",
        "2",
        REPLICATED,
        "Max # of players 1 team can have over another",
    ),
    ("mp_stalemate_at_timelimit", "0", NOTIFY, ""),
    ("mp_teamlist", "hgrunt;scientist", NOTIFY, ""),
    ("mp_teamplay", "0", NOTIFY, ""),
    (
        "mp_timelimit",
        "0",
        REPLICATED,
        "game time per map in minutes",
    ),
    ("mp_tournament", "0", REPLICATED, ""),
    ("mp_weaponstay", "0", NOTIFY, ""),
    (
        "nextlevel",
        "",
        NOTIFY,
        "If set to a valid map name, will trigger a changelevel to the specified map at the end of the round",
    ),
    (
        "r_AirboatViewDampenDamp",
        "1.0",
        "notify replicated cheat",
        "",
    ),
    (
        "r_AirboatViewDampenFreq",
        "7.0",
        "notify replicated cheat",
        "",
    ),
    ("r_AirboatViewZHeight", "0.0", "notify replicated cheat", ""),
    ("r_JeepViewDampenDamp", "1.0", "notify replicated cheat", ""),
    ("r_JeepViewDampenFreq", "7.0", "notify replicated cheat", ""),
    ("r_JeepViewZHeight", "10.0", "notify replicated cheat", ""),
    ("r_VehicleViewDampen", "1", "notify replicated cheat", ""),
    ("rcon_password", "", "", "remote console password."),
    (
        "standin_long_log",
        "0",
        "",
        "Survivors' log lines name character, health and place, as some versions have it",
    ),
    (
        "standin_status",
        "l4d2",
        "",
        "Whose `status`: l4d2, or csgo without the entity column, with (18/0 max), and with bots counted",
    ),
    ("survivor_ff_damage_factor_normal", "0.1", REPLICATED, ""),
    (
        "sv_accelerate",
        "5",
        REPLICATED,
        "Linear acceleration amount (old value is 5.6)",
    ),
    ("sv_airaccelerate", "10", GAME, ""),
    (
        "sv_allow_lobby_connect_only",
        "1",
        "",
        "If set, players may only join this server from matchmaking lobby, may not connect directly.",
    ),
    (
        "sv_alltalk",
        "0",
        REPLICATED,
        "Players can hear all other players, no team restrictions",
    ),
    (
        "sv_bounce",
        "0",
        REPLICATED,
        "Bounce multiplier for when physically simulated objects collide with other objects.",
    ),
    ("sv_cheats", "0", REPLICATED, "Allow cheats on server"),
    (
        "sv_consistency",
        "1",
        "replicated",
        "Whether the server enforces file consistency for critical files",
    ),
    ("sv_contact", "", NOTIFY, "Contact email for server sysop"),
    (
        "sv_footsteps",
        "1",
        REPLICATED,
        "Play footstep sound for players",
    ),
    ("sv_friction", "4", GAME, "World friction."),
    ("sv_gravity", "800", GAME, "World gravity."),
    (
        "sv_hibernate_postgame_delay",
        "5",
        "",
        "# of seconds to wait after final client leaves before hibernating.",
    ),
    (
        "sv_hibernate_when_empty",
        "1",
        "",
        "Puts the server into extremely low CPU usage mode when no clients connected",
    ),
    (
        "sv_lan",
        "0",
        "",
        "Server is a lan server ( no heartbeat, no authentication, no non-class C addresses )",
    ),
    (
        "sv_logecho",
        "1",
        "archive",
        "Echo log information to the console.",
    ),
    (
        "sv_logfile",
        "1",
        "archive",
        "Log server information in the log file.",
    ),
    (
        "sv_max_queries_sec",
        "3.0",
        "",
        "Maximum queries per second to respond to from a single IP address.",
    ),
    (
        "sv_max_queries_sec_global",
        "60",
        "",
        "Maximum queries per second to respond to from anywhere.",
    ),
    (
        "sv_max_queries_window",
        "30",
        "",
        "Window over which to average queries per second averages.",
    ),
    (
        "sv_maxplayers",
        "-1",
        "",
        "l4dtoolz: players allowed, whatever a lobby says",
    ),
    ("sv_maxspeed", "320", REPLICATED, ""),
    ("sv_noclipaccelerate", "5", GAME, ""),
    ("sv_noclipspeed", "5", GAME, ""),
    (
        "sv_password",
        "",
        "notify protected",
        "Server password for entry into multiplayer games",
    ),
    ("sv_pausable", "0", "", "Is the server pausable."),
    (
        "sv_rcon_banpenalty",
        "0",
        "",
        "Number of minutes to ban users who fail rcon authentication",
    ),
    ("sv_rcon_log", "1", "", "Enable/disable rcon logging."),
    (
        "sv_rcon_maxfailures",
        "10",
        "",
        "Max number of times a user can fail rcon authentication before being banned",
    ),
    (
        "sv_rcon_minfailures",
        "5",
        "",
        "Number of times a user can fail rcon authentication in sv_rcon_minfailuretime before being banned",
    ),
    (
        "sv_rcon_minfailuretime",
        "30",
        "",
        "Number of seconds to track failed rcon authentications",
    ),
    (
        "sv_region",
        "-1",
        "",
        "The region of the world to report this server in.",
    ),
    ("sv_rollangle", "0", REPLICATED, "Max view roll angle"),
    ("sv_rollspeed", "200", REPLICATED, ""),
    ("sv_specaccelerate", "5", GAME, ""),
    ("sv_specnoclip", "1", GAME, ""),
    ("sv_specspeed", "3", GAME, ""),
    (
        "sv_steamgroup",
        "",
        NOTIFY,
        "The ID of the steam group that this server belongs to.",
    ),
    (
        "sv_steamgroup_exclusive",
        "0",
        "",
        "If set, only members of Steam group will be able to join the server when it's empty",
    ),
    ("sv_stepsize", "18", GAME, ""),
    (
        "sv_stopspeed",
        "75",
        GAME,
        "Minimum stopping speed when on ground.",
    ),
    (
        "sv_tags",
        "",
        NOTIFY,
        "Server tags. Used to provide extra information to clients when they're browsing for servers.",
    ),
    (
        "sv_visiblemaxplayers",
        "-1",
        "",
        "Overrides the max players reported to prospective clients",
    ),
    ("sv_voiceenable", "1", "archive notify", ""),
    ("sv_vote_kick_ban_duration", "5", "", ""),
    ("sv_wateraccelerate", "10", GAME, ""),
    ("sv_waterfriction", "1", GAME, ""),
    ("tv_enable", "0", NOTIFY, "Activates SourceTV on server."),
    ("tv_name", "SourceTV", "", "SourceTV host name"),
    (
        "tv_password",
        "",
        "notify protected",
        "SourceTV password for all clients",
    ),
    ("tv_port", "27020", "", "Host SourceTV port"),
    (
        "tv_relaypassword",
        "",
        "notify protected",
        "SourceTV password for relay proxies",
    ),
    (
        "z_difficulty",
        "Normal",
        GAME,
        "Difficulty of the current game (Easy, Normal, Hard, Impossible)",
    ),
];

/// Those of plugins, each of which has its version among the rules.
const PLUGINS: &[&str] = &[
    "all4dead",
    "anti_friendly_fire",
    "basebans",
    "confogl",
    "current",
    "defib_fix",
    "finalefix",
    "gear_transfer",
    "hud",
    "l4d_ready",
    "l4d_survivor_ai",
    "left4dhooks",
    "l4dtoolz",
    "mapchooser",
    "metamod",
    "multislots",
    "nextmap",
    "noobs_only",
    "pause",
    "rygive",
    "score_team_manager",
    "skip_intro",
    "sourcemod",
    "specrates",
    "superversus",
    "tickrate_enabler",
    "votemanager",
    "weapon_unlock",
    "witch_announce",
    "z_spawn_fix",
];

struct Cvar {
    value: Vec<u8>,
    default: &'static str,
    flags: &'static str,
    about: &'static str,
}

/// By name, in lower case for the game finds them in any.
pub struct Cvars(BTreeMap<String, (String, Cvar)>);

impl Cvars {
    pub fn new() -> Self {
        let entry = |&(name, default, flags, about): &(&str, &'static str, _, _)| {
            let value = default.as_bytes().to_vec();
            let cvar = Cvar {
                value,
                default,
                flags,
                about,
            };
            (name.to_ascii_lowercase(), (name.to_owned(), cvar))
        };
        let mut all = Self(TABLE.iter().map(entry).collect());
        for plugin in PLUGINS {
            all.set(&format!("{plugin}_version"), b"1.12.0.7210");
        }
        all
    }

    pub fn is_known(&self, name: &str) -> bool {
        self.0.contains_key(&name.to_ascii_lowercase())
    }

    /// A name that nothing here knows gets a variable, as a plugin's. Its version is a rule.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let fresh = || Cvar {
            value: Vec::new(),
            default: "",
            flags: if name.ends_with("_version") {
                NOTIFY
            } else {
                ""
            },
            about: "",
        };
        let entry = self.0.entry(name.to_ascii_lowercase());
        entry.or_insert_with(|| (name.to_owned(), fresh())).1.value = value.to_vec();
    }

    pub fn value(&self, name: &str) -> &[u8] {
        self.0.get(name).map_or(b"", |(_, cvar)| &cvar.value)
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.value(name)).into_owned()
    }

    /// As C's atof does it: what is no number is 0.
    pub fn number(&self, name: &str) -> f64 {
        self.text(name).trim().parse().unwrap_or(0.0)
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.number(name) != 0.0
    }

    /// What the console prints for a name without a value. A password is shown as any other value.
    pub fn described(&self, name: &str) -> Vec<Vec<u8>> {
        let Some((name, cvar)) = self.0.get(&name.to_ascii_lowercase()) else {
            return Vec::new();
        };

        let mut first = [b"\"", name.as_bytes(), b"\" = \"", &cvar.value, b"\""].concat();
        if cvar.value != cvar.default.as_bytes() {
            first.extend(format!(" ( def. \"{}\" )", cvar.default).bytes());
        }
        let mut lines = vec![first];
        if !cvar.flags.is_empty() {
            lines.push(format!(" {}", cvar.flags).into_bytes());
        }
        if !cvar.about.is_empty() {
            lines.push(format!(" - {}", cvar.about).into_bytes());
        }

        lines
    }

    /// The rules of `A2S_RULES`. Of a password only whether there is one.
    pub fn rules(&self) -> Vec<(&str, &[u8])> {
        let rules = self
            .0
            .values()
            .filter(|(_, cvar)| cvar.flags.contains("notify"));
        rules
            .map(|(name, cvar)| {
                let value = match (cvar.flags.contains("protected"), cvar.value.is_empty()) {
                    (false, _) => cvar.value.as_slice(),
                    (true, true) => b"0",
                    (true, false) => b"1",
                };
                (name.as_str(), value)
            })
            .collect()
    }

    /// `cvarlist`, far longer than a packet.
    pub fn list(&self) -> Vec<Vec<u8>> {
        let mut lines = vec![b"cvar list".to_vec(), b"--------------".to_vec()];
        for (name, cvar) in self.0.values() {
            let before = format!("{name:<40} : ");
            let after = format!(" : {} : {}", cvar.flags, cvar.about);
            lines.push([before.as_bytes(), &cvar.value, after.as_bytes()].concat());
        }
        lines.extend((0..FURTHER).map(|number| {
            format!("z_standin_{number:<30} : 0        : , \"sv\", \"cheat\" : one of many")
                .into_bytes()
        }));

        let total = format!("{} total convars/concommands", lines.len() - 2);
        lines.push(b"--------------".to_vec());
        lines.push(total.into_bytes());
        lines
    }
}
