//! Users: local accounts that admins create. There is no public sign-up.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::names::{UserId, UserName};
use crate::base::{Error, Result};
use crate::db::events::{self, NewEvent};
use crate::db::{changes, first, one, query, run, tokens, write_name};

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An admin, who may do everything.
    Admin,
    /// A user, who manages their own servers and blueprints.
    User,
}

/// A user; the password's hash stays in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    pub id: UserId,
    pub name: String,
    /// Whether the user is an admin.
    pub is_admin: bool,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms.
    pub updated_at: i64,
    /// Since when sign-in is disabled, unix ms; none while it is enabled.
    pub disabled_at: Option<i64>,
}

/// `SELECT` of a [`User`], followed by `$tail`.
macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, name, is_admin, created_at, updated_at, disabled_at FROM users ",
            $tail
        )
    };
}

/// The user with this name.
pub fn find(connection: &Connection, name: &UserName) -> Result<User> {
    by_name(connection, name.as_str())?.ok_or_else(|| {
        Error::not_found(format!(
            "no user is named '{name}': see `left4me user list`"
        ))
    })
}

/// The user with this name, if there is one. Accepts any text.
pub fn by_name(connection: &Connection, name: &str) -> Result<Option<User>> {
    first(connection, select!("WHERE name = ?1"), [name], read)
}

/// The user with this id, if there is one.
pub fn get(connection: &Connection, id: UserId) -> Result<Option<User>> {
    first(connection, select!("WHERE id = ?1"), [id], read)
}

/// All users, ordered by name.
pub fn all(connection: &Connection) -> Result<Vec<User>> {
    query(connection, select!("ORDER BY name"), [], read)
}

/// The hash of a user's password, for signing in.
pub fn password_hash(connection: &Connection, id: UserId) -> Result<Option<String>> {
    let sql = "SELECT password_hash FROM users WHERE id = ?1";
    first(connection, sql, [id], |row| row.get(0))
}

/// Adds a user and its event. `hash` is what [`crate::base::password::hash`] made of the password.
pub fn create(
    tx: &Connection,
    now: i64,
    actor: &str,
    name: &UserName,
    role: Role,
    hash: &str,
) -> Result<User> {
    let (is_admin, event) = match role {
        Role::Admin => (true, "user.added-as-admin"),
        Role::User => (false, "user.added"),
    };

    let sql = "INSERT INTO users (name, password_hash, is_admin, created_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?4)";
    let taken = || format!("a user named '{name}' exists already: see `left4me user passwd`");
    write_name(tx, sql, params![name.as_str(), hash, is_admin, now], taken)?;
    add_event(tx, now, actor, event, name)?;

    find(tx, name)
}

/// Sets a new password, ends the user's sessions and tokens, and adds events. A password is changed
/// when another person may know it, and that person may have created a token.
pub fn set_password(
    tx: &Connection,
    now: i64,
    actor: &str,
    name: &UserName,
    hash: &str,
) -> Result<User> {
    let user = find(tx, name)?;
    let sql = "UPDATE users SET password_hash = ?2, updated_at = ?3 WHERE id = ?1";
    run(tx, sql, params![user.id, hash, now])?;
    end_sessions(tx, now, user.id)?;
    add_event(tx, now, actor, "user.password-changed", name)?;
    tokens::revoke_all(tx, now, actor, user.id)?;
    find(tx, name)
}

/// Disables a user: blocks sign-in, and ends sessions and tokens, so that enabling the user does
/// not restore them. False when the user was disabled already.
pub fn disable(tx: &Connection, now: i64, actor: &str, name: &UserName) -> Result<bool> {
    let user = find(tx, name)?;
    let sql = "UPDATE users SET disabled_at = ?2, updated_at = ?2
               WHERE id = ?1 AND disabled_at IS NULL";
    let is_new = changes(tx, sql, params![user.id, now])?;
    if is_new {
        end_sessions(tx, now, user.id)?;
        add_event(tx, now, actor, "user.disabled", name)?;
        tokens::revoke_all(tx, now, actor, user.id)?;
    }

    Ok(is_new)
}

/// Enables a user, and adds an event. False when the user was enabled already.
pub fn enable(tx: &Connection, now: i64, actor: &str, name: &UserName) -> Result<bool> {
    let user = find(tx, name)?;
    let sql = "UPDATE users SET disabled_at = NULL, updated_at = ?2
               WHERE id = ?1 AND disabled_at IS NOT NULL";
    let is_new = changes(tx, sql, params![user.id, now])?;
    if is_new {
        add_event(tx, now, actor, "user.enabled", name)?;
    }

    Ok(is_new)
}

/// Whether this is the last admin who can sign in.
pub fn is_last_admin(connection: &Connection, id: UserId) -> Result<bool> {
    let sql = "SELECT count(*) = 1 AND max(id) = ?1 FROM users
               WHERE is_admin = 1 AND disabled_at IS NULL";
    one(connection, sql, [id], |row| row.get(0))
}

fn end_sessions(tx: &Connection, now: i64, user: UserId) -> Result<()> {
    let sql = "UPDATE sessions SET ended_at = ?2 WHERE user_id = ?1 AND ended_at IS NULL";
    run(tx, sql, params![user, now])
}

fn add_event(tx: &Connection, now: i64, actor: &str, kind: &str, name: &UserName) -> Result<()> {
    events::add(tx, now, &NewEvent::new(kind, actor, name.as_str()))
}

fn read(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: row.get(0)?,
        name: row.get(1)?,
        is_admin: row.get(2)?,
        created_at: row.get(3)?,
        updated_at: row.get(4)?,
        disabled_at: row.get(5)?,
    })
}
