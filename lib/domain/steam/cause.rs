//! Why a run of steamcmd failed, and whether another attempt can help.

/// Why a run failed, according to its messages, its state word or its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    DiskFull,
    /// Steam does not give this app to anonymous users, or the account does not own it.
    NoSubscription,
    /// Steam's servers do not give out the build's files yet, or no longer.
    NoContent,
    /// The account's password or cached credentials are not valid.
    Credentials,
    /// Steam asks for a Steam Guard code.
    SteamGuard,
    /// Steam refuses the account itself.
    AccountRefused,
    /// Too many logins in a short time.
    RateLimit,
    /// A 32-bit library or the loader is missing.
    Libraries,
    /// The installation's or steamcmd's own directory is not writable.
    Permissions,
    /// No network, or Steam is down.
    Network,
    /// A reply did not arrive in time.
    TimedOut,
    /// The same account is logged in elsewhere.
    LoggedInElsewhere,
    /// No output and no new data on disk for too long.
    Silent,
    /// steamcmd has no configuration of this app yet.
    MissingConfiguration,
    /// Steam sent no app info of the game, or none that can be read.
    NoAppInfo,
    /// The app info has no build of the branch that players have.
    NoBranch,
    /// The files of the other platform have to be installed first.
    InvalidPlatform,
    /// State 0x402 or 0x602, and others in which an update is required.
    Incomplete,
    /// State 0x606.
    NotWritten,
    /// State 0x626, and others with its flag.
    FilesMissing,
    /// State 0x6a6, and others with its flag.
    Corrupt,
    /// A fatal error of steamcmd itself.
    Fatal,
    /// It exited without a success message.
    NoSuccess,
    /// It reported success, but the files that it left contradict that.
    NoProof,
    /// A signal killed it.
    Killed,
    /// It reported a failure with an unknown message.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Do not retry: an admin has to change something first.
    Never,
    /// After a short, constant wait.
    Soon,
    /// After a wait that doubles each time.
    BackOff,
    /// After the time that Steam's rate limit lasts.
    AfterTheLimit,
}

/// Text that a line contains, in lower case, and its cause. The first match counts.
const WORDS: &[(&str, Cause)] = &[
    ("free disk space to update", Cause::DiskFull),
    ("no space left", Cause::DiskFull),
    ("not enough disk space", Cause::DiskFull),
    ("not enough space", Cause::DiskFull),
    ("not enough disk quota", Cause::DiskFull),
    ("disk quota exceeded", Cause::DiskFull),
    ("rate limit", Cause::RateLimit),
    ("ratelimit", Cause::RateLimit),
    ("limit exceeded", Cause::RateLimit),
    ("too many login failures", Cause::RateLimit),
    ("no subscription", Cause::NoSubscription),
    ("not for anonymous", Cause::NoSubscription),
    ("invalid password", Cause::Credentials),
    ("illegal password", Cause::Credentials),
    ("password required", Cause::Credentials),
    ("cached credentials not found", Cause::Credentials),
    ("account not found", Cause::Credentials),
    ("no cached credentials", Cause::Credentials),
    ("expired", Cause::Credentials),
    ("steam guard", Cause::SteamGuard),
    ("steamguard", Cause::SteamGuard),
    ("two-factor", Cause::SteamGuard),
    ("two factor", Cause::SteamGuard),
    ("twofactor", Cause::SteamGuard),
    ("2fa", Cause::SteamGuard),
    ("login auth code", Cause::SteamGuard),
    ("account logon denied", Cause::SteamGuard),
    ("account login denied", Cause::SteamGuard),
    ("has not been authenticated", Cause::SteamGuard),
    ("steam mobile app", Cause::SteamGuard),
    ("account disabled", Cause::AccountRefused),
    ("account locked", Cause::AccountRefused),
    ("banned", Cause::AccountRefused),
    ("access denied", Cause::AccountRefused),
    ("logged in elsewhere", Cause::LoggedInElsewhere),
    ("logged in from another location", Cause::LoggedInElsewhere),
    ("password check for appid", Cause::NoBranch),
    ("needs to be online", Cause::Network),
    ("no connection", Cause::Network),
    ("no internet connection", Cause::Network),
    ("connect failed", Cause::Network),
    ("connection failed", Cause::Network),
    ("not online", Cause::Network),
    ("not logged in", Cause::Network),
    ("not logged on", Cause::Network),
    ("content servers unreachable", Cause::Network),
    ("no download source", Cause::Network),
    ("could not connect", Cause::Network),
    ("failed to connect", Cause::Network),
    ("could not resolve", Cause::Network),
    ("couldn't resolve", Cause::Network),
    ("name resolution", Cause::Network),
    ("network is unreachable", Cause::Network),
    ("connection refused", Cause::Network),
    ("connection reset", Cause::Network),
    ("http error", Cause::Network),
    ("service unavailable", Cause::Network),
    ("serviceunavailable", Cause::Network),
    ("try another cm", Cause::Network),
    ("tryanothercm", Cause::Network),
    ("remote disconnect", Cause::Network),
    ("remote call failed", Cause::Network),
    ("busy", Cause::Network),
    ("timed out", Cause::TimedOut),
    ("timeout", Cause::TimedOut),
    ("time out", Cause::TimedOut),
    ("manifest unavailable", Cause::NoContent),
    ("manifest not available", Cause::NoContent),
    ("missing manifest", Cause::NoContent),
    ("missing file manifest", Cause::NoContent),
    ("still encrypted", Cause::NoContent),
    ("missing decryption key", Cause::NoContent),
    ("invalid content configuration", Cause::NoContent),
    ("invalid depot configuration", Cause::NoContent),
    ("content unavailable", Cause::NoContent),
    ("missing configuration", Cause::MissingConfiguration),
    ("no such branch", Cause::NoBranch),
    ("invalid branch", Cause::NoBranch),
    ("beta branch not found", Cause::NoBranch),
    ("invalid platform", Cause::InvalidPlatform),
    ("missing file permissions", Cause::Permissions),
    ("read-only file system", Cause::Permissions),
    ("permission denied", Cause::Permissions),
    ("invalid install path", Cause::Permissions),
    ("missing update files", Cause::FilesMissing),
    ("missing installed files", Cause::FilesMissing),
    ("missing shared content", Cause::FilesMissing),
    ("disk write failure", Cause::NotWritten),
    ("disk write error", Cause::NotWritten),
    ("disk read failure", Cause::NotWritten),
    ("disk read error", Cause::NotWritten),
    ("input/output error", Cause::NotWritten),
    ("corrupt", Cause::Corrupt),
];

/// Messages of the loader and the shell about a 32-bit program on a host without 32-bit libraries.
const LOADER: &[&str] = &[
    "error while loading shared libraries",
    "linux32/steamcmd: no such file",
    "exec format error",
    "wrong elf class",
];

impl Cause {
    /// The cause that a line names, at any position in the line; none when it names none.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let line = line.to_lowercase();
        if LOADER.iter().any(|words| line.contains(words)) {
            return Some(Cause::Libraries);
        }
        // Logged in, but not for these files; in the line of a login it is about the account.
        let is_of_files = ["failed to install", "manifest", "depot"];
        if line.contains("access denied") && is_of_files.iter().any(|words| line.contains(words)) {
            return Some(Cause::NoSubscription);
        }
        WORDS
            .iter()
            .find(|(words, _)| line.contains(words))
            .map(|&(_, cause)| cause)
    }

    /// The cause for a state word. Those that operators explain stand alone; of any other, the flags
    /// say what the state is.
    pub(super) fn of_state(state: u32) -> Option<Self> {
        const UPDATE_REQUIRED: u32 = 0x2;
        const FILES_MISSING: u32 = 0x20;
        const FILES_CORRUPT: u32 = 0x80;
        match state {
            0x202 | 0x212 => Some(Cause::DiskFull),
            0x606 => Some(Cause::NotWritten),
            _ if state & FILES_CORRUPT != 0 => Some(Cause::Corrupt),
            _ if state & FILES_MISSING != 0 => Some(Cause::FilesMissing),
            _ if state & UPDATE_REQUIRED != 0 => Some(Cause::Incomplete),
            _ => None,
        }
    }

    /// The cause for an exit code, used when no message names one.
    pub(super) fn of_code(code: i32) -> Self {
        match code {
            1 => Cause::TimedOut,
            5 => Cause::Network,
            7 => Cause::DiskFull,
            126 | 127 => Cause::Libraries,
            129..=192 => Cause::Killed,
            254 => Cause::Network,
            _ => Cause::NoSuccess,
        }
    }

    /// Whether and when another attempt can help.
    pub fn retry(self) -> Retry {
        match self {
            Cause::DiskFull
            | Cause::NoSubscription
            | Cause::Credentials
            | Cause::SteamGuard
            | Cause::AccountRefused
            | Cause::Libraries
            | Cause::NoBranch
            | Cause::Permissions => Retry::Never,
            Cause::RateLimit => Retry::AfterTheLimit,
            Cause::Network
            | Cause::TimedOut
            | Cause::LoggedInElsewhere
            | Cause::Silent
            | Cause::NoContent => Retry::BackOff,
            Cause::MissingConfiguration
            | Cause::NoAppInfo
            | Cause::InvalidPlatform
            | Cause::Incomplete
            | Cause::NotWritten
            | Cause::FilesMissing
            | Cause::Corrupt
            | Cause::Fatal
            | Cause::NoSuccess
            | Cause::NoProof
            | Cause::Killed
            | Cause::Other => Retry::Soon,
        }
    }

    /// What it means, as part of a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Cause::DiskFull => "the disk is full",
            Cause::NoSubscription => {
                "Steam gives the game's files only to an account that has them (no subscription)"
            }
            Cause::NoContent => "Steam's servers do not give out the files of this build now",
            Cause::Credentials => {
                "the login failed: the Steam account's password or cached credentials are not valid"
            }
            Cause::SteamGuard => "the login failed: Steam Guard asks for a code of the account",
            Cause::AccountRefused => "the login failed: Steam refuses the account",
            Cause::RateLimit => {
                "the login failed: Steam limits this host or account after too many logins"
            }
            Cause::Libraries => "steamcmd cannot be started: a 32-bit library is missing",
            Cause::Permissions => "steamcmd may not write its files",
            Cause::Network => "the login failed or Steam cannot be reached",
            Cause::TimedOut => "Steam did not answer in time",
            Cause::LoggedInElsewhere => {
                "the login failed: the Steam account is logged in elsewhere"
            }
            Cause::Silent => "steamcmd hung and was ended",
            Cause::MissingConfiguration => "Steam sent no configuration of the game",
            Cause::NoAppInfo => "Steam did not say which build of the game is published",
            Cause::NoBranch => "Steam's app info has no build of the game's public branch",
            Cause::InvalidPlatform => "Steam refuses the Linux files (invalid platform)",
            Cause::Incomplete => "the update is not complete",
            Cause::NotWritten => "files could not be read or written",
            Cause::FilesMissing => "files are missing",
            Cause::Corrupt => "the download is corrupt",
            Cause::Fatal => "steamcmd gave up with a fatal error",
            Cause::NoSuccess => "steamcmd ended without reporting success",
            Cause::NoProof => "steamcmd reported success, but the manifest does not confirm it",
            Cause::Killed => "steamcmd was killed or crashed",
            Cause::Other => "steamcmd says that it failed",
        }
    }

    /// What an admin can do about it; `named` when a Steam account is set.
    pub fn advice(self, named: bool) -> &'static str {
        match self {
            Cause::DiskFull => "make room there, then try again",
            Cause::NoSubscription | Cause::MissingConfiguration | Cause::InvalidPlatform
                if !named =>
            {
                "set LEFT4ME_STEAM_ACCOUNT to an account that \
                 owns the game (README, \"A Steam account\")"
            }
            Cause::NoSubscription => {
                "use an account that owns Left 4 Dead 2 in LEFT4ME_STEAM_ACCOUNT"
            }
            Cause::NoContent => {
                "a new build takes a while to reach Steam's servers: try again in an hour"
            }
            Cause::Credentials | Cause::SteamGuard => {
                "log in once by hand as left4me-steam (README, \
                 \"A Steam account\"), then try again"
            }
            Cause::AccountRefused => {
                "log in with Steam itself to see why, or use another LEFT4ME_STEAM_ACCOUNT"
            }
            Cause::RateLimit => "wait half an hour without any login, then try again",
            Cause::Libraries => "`sudo left4me doctor` names it and says how to get it",
            Cause::Permissions => "`sudo left4me doctor` names wrong owners and modes",
            Cause::Network | Cause::TimedOut => {
                "check this host's network, DNS and firewall and Steam's status, then try again"
            }
            Cause::LoggedInElsewhere => {
                "end the other login, or use an account for this host alone"
            }
            Cause::Silent => {
                "see its last lines in the job's log; \
                 try again, and check the network if it repeats"
            }
            Cause::MissingConfiguration | Cause::InvalidPlatform => "try again later",
            Cause::NoAppInfo | Cause::NoBranch => {
                "try again later, or download without the question: \
                 `left4me-job enqueue update --validate`"
            }
            Cause::NotWritten => {
                "check the disk's health and free space (`sudo left4me doctor`, \
                 `dmesg`), then try again"
            }
            Cause::Fatal | Cause::Killed => {
                "see its last lines in the job's log; \
                 a fresh copy of steamcmd often helps (README, step 3)"
            }
            Cause::Incomplete
            | Cause::FilesMissing
            | Cause::Corrupt
            | Cause::NoSuccess
            | Cause::NoProof
            | Cause::Other => "see its last lines in the job's log, then try again",
        }
    }
}
