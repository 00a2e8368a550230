//! Tokens of the REST API: 256 random bits, shown once; only their SHA-256 is stored ([`secret`]).

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::names::{TokenId, TokenName, UserId};
use crate::base::{Error, Result, secret};
use crate::db::events::{self, NewEvent};
use crate::db::{changes, exists, first, query, run};

/// The prefix of every token, by which people and secret scanners recognize it.
pub const PREFIX: &str = "l4m_";

/// A token as lists show it: without the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    pub id: TokenId,
    pub user: String,
    /// Its purpose, as its owner named it.
    pub name: String,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms; none when it was never used.
    pub last_used_at: Option<i64>,
    /// Unix ms; none while it is valid.
    pub revoked_at: Option<i64>,
    #[serde(skip)]
    pub user_id: UserId,
}

/// `SELECT` of a [`Token`], followed by `$tail`.
macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT t.id, u.name, t.name, t.created_at, t.last_used_at, t.revoked_at, t.user_id
             FROM tokens t JOIN users u ON u.id = t.user_id ",
            $tail
        )
    };
}

/// Adds a token and its event; returns it with its text, which cannot be read again. Reloading the
/// page that shows it repeats the request, so no two valid tokens of a user may have the same name.
///
/// Fails with 4 when a valid token of this user has the name; 69 when the database cannot be
/// written or the kernel returns no random bits.
pub fn create(
    tx: &Connection,
    now: i64,
    actor: &str,
    user: UserId,
    name: &TokenName,
) -> Result<(Token, String)> {
    let same = "SELECT id FROM tokens WHERE user_id = ?1 AND name = ?2 AND revoked_at IS NULL";
    let same = first(tx, same, params![user, name.as_str()], |row| {
        row.get::<_, i64>(0)
    })?;

    if let Some(id) = same {
        let words = format!(
            "a good token named '{name}' exists already ({id}): \
             its text was shown once, when it was made"
        );

        return Err(Error::conflict(words));
    }

    let text = format!("{PREFIX}{}", secret::random()?);
    let sql = "INSERT INTO tokens (user_id, name, hash, created_at) VALUES (?1, ?2, ?3, ?4)";
    run(
        tx,
        sql,
        params![user, name.as_str(), secret::digest(&text), now],
    )?;

    let token = get(tx, TokenId(tx.last_insert_rowid()))?;
    add_event(tx, now, actor, "token.created", &token)?;
    Ok((token, text))
}

/// All tokens, including revoked ones, ordered by id.
pub fn all(connection: &Connection) -> Result<Vec<Token>> {
    query(connection, select!("ORDER BY t.id"), [], read)
}

/// A user's tokens, including revoked ones, ordered by id.
pub fn of_user(connection: &Connection, user: UserId) -> Result<Vec<Token>> {
    query(
        connection,
        select!("WHERE t.user_id = ?1 ORDER BY t.id"),
        [user.0],
        read,
    )
}

/// Revokes a token, and adds an event. False when it was revoked already.
pub fn revoke(tx: &Connection, now: i64, actor: &str, id: TokenId) -> Result<bool> {
    let token = get(tx, id)?;
    let sql = "UPDATE tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
    let is_new = changes(tx, sql, params![id, now])?;
    if is_new {
        add_event(tx, now, actor, "token.revoked", &token)?;
    }

    Ok(is_new)
}

/// Revokes all valid tokens of a user, and adds an event for each.
pub fn revoke_all(tx: &Connection, now: i64, actor: &str, user: UserId) -> Result<()> {
    for token in of_user(tx, user)?
        .into_iter()
        .filter(|token| token.revoked_at.is_none())
    {
        revoke(tx, now, actor, token.id)?;
    }
    Ok(())
}

/// The token with this text, if it is valid: not revoked, its owner not disabled.
pub fn authenticate(connection: &Connection, text: &str) -> Result<Option<Token>> {
    first(
        connection,
        select!("WHERE t.hash = ?1 AND t.revoked_at IS NULL AND u.disabled_at IS NULL"),
        [secret::digest(text)],
        read,
    )
}

/// Whether a token is still valid and its user unchanged.
pub fn is_good(connection: &Connection, id: TokenId, is_admin: bool) -> Result<bool> {
    let sql = "SELECT 1 FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.id = ?1
               AND t.revoked_at IS NULL AND u.disabled_at IS NULL AND u.is_admin = ?2";
    exists(connection, sql, params![id, is_admin])
}

/// Records that a token was used. Writes nothing when the last record is less than a minute old.
pub fn touch(tx: &Connection, id: TokenId, now: i64) -> Result<()> {
    let sql = "UPDATE tokens SET last_used_at = ?2
               WHERE id = ?1 AND abs(coalesce(last_used_at, 0) - ?2) > 60000";
    run(tx, sql, params![id, now])
}

fn get(connection: &Connection, id: TokenId) -> Result<Token> {
    first(connection, select!("WHERE t.id = ?1"), [id], read)?.ok_or_else(|| {
        Error::not_found(format!(
            "no token has the id {id}: see `left4me token list`"
        ))
    })
}

fn add_event(tx: &Connection, now: i64, actor: &str, kind: &str, token: &Token) -> Result<()> {
    let detail = format!("{} '{}' of {}", token.id, token.name, token.user);
    events::add(tx, now, &NewEvent::new(kind, actor, &detail))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: row.get(0)?,
        user: row.get(1)?,
        name: row.get(2)?,
        created_at: row.get(3)?,
        last_used_at: row.get(4)?,
        revoked_at: row.get(5)?,
        user_id: row.get(6)?,
    })
}
