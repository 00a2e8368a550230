//! Finds or creates the Unix user of a server. systemd-sysusers creates it, because it locks the
//! user database and replaces it atomically.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User};

use super::NAME;
use crate::base::names::InstanceName;
use crate::base::server_user::{self, ServerUser};
use crate::base::{Error, Result, users};
use crate::process::{Peer, Relay, Spec, Supervisor, Terminal};
use crate::wire::{LINE_LIMIT, Stream};

/// How long systemd-sysusers may take after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// The variable by which the loaded units show that a server still has the user of all servers (see
/// former.rs).
pub(super) const SETTING: &str = "LEFT4ME_SERVER_USER";

/// The ids of the server's user. Creates the user if it is missing.
///
/// Fails with 69 if the user cannot be created.
pub(super) fn ensure(server: &InstanceName) -> Result<(Uid, Gid)> {
    let user = ServerUser::of(server);
    if let Some(found) = find(&user.name)? {
        return Ok(found);
    }
    make(&user, server)?;
    find(&user.name)?.ok_or_else(|| {
        Error::unavailable(format!(
            "the user {} of server {server} is missing",
            user.name
        ))
    })
}

/// The ids of the user that systemd will start the server as: its own, or left4me-game for a server
/// that ran during an upgrade, until its units are reloaded.
pub(super) fn loaded(server: &InstanceName) -> Result<(Uid, Gid)> {
    match std::env::var(SETTING) {
        Err(_) => ensure(server),
        Ok(name) if name == users::GAME => users::ids(users::GAME),
        Ok(_) => Err(Error::failed(format!(
            "server {server}: {SETTING} is set by left4me's own drop-in only; remove it from yours \
            (`systemctl cat left4me-overlay@{server}`)"
        ))),
    }
}

/// The user that all servers shared before each had its own.
pub(super) fn former() -> Option<Uid> {
    users::uid(users::GAME)
}

fn find(name: &str) -> Result<Option<(Uid, Gid)>> {
    match User::from_name(name) {
        // If a person's account happens to have such a name, no game may use it.
        Ok(Some(user)) if !server_user::is_managed(&user) => Err(Error::conflict(format!(
            "the account {name} (uid {}) is not one that left4me made: \
             a server needs that name for its own user",
            user.uid
        ))),
        Ok(user) => Ok(user.map(|user| (user.uid, user.gid))),
        Err(errno) => Err(Error::unavailable(format!(
            "the user {name} cannot be looked up: {}",
            errno.desc()
        ))),
    }
}

/// Creates the user. If its uid is already taken, systemd-sysusers uses a free one, so the entry
/// counts and not the number.
fn make(user: &ServerUser, server: &InstanceName) -> Result<()> {
    let line = format!(
        "u {} {} \"{} {server}\" -",
        user.name,
        user.id,
        server_user::COMMENT
    );

    let spec = Spec {
        argv: ["/usr/bin/systemd-sysusers", "--inline", &line]
            .map(Into::into)
            .to_vec(),
        env: [("LANG", "C.UTF-8"), ("PATH", "/usr/bin:/bin")]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        cwd: "/".into(),
        terminal: Terminal::Pipes,
        first_signal: Signal::SIGTERM,
        line_limit: LINE_LIMIT,
    };

    let mut last = String::new();
    let outcome = Supervisor::new(Peer::person(NAME), GRACE)?.run(&spec, &mut |stream, line| {
        if stream == Stream::Stderr {
            line.clone_into(&mut last);
        }
        Relay::Drop
    })?;

    if outcome.succeeded() {
        return Ok(());
    }

    Err(Error::unavailable(format!(
        "the user {} of server {server} cannot be made: {last}",
        user.name
    )))
}
