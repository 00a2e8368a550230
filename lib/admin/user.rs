//! `left4me user`: local accounts.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use clap::{Args, Subcommand};

use super::{Context, ListArgs, print_list, when};
use crate::base::names::UserName;
use crate::base::{Error, Result, output, password};
use crate::db::users::{self, Role};

const EXAMPLES: &str = "\
Examples:
  left4me user add anna --admin                        asks for the password twice
  pwgen -s 24 1 | left4me user add bert --password-stdin";

#[derive(Subcommand)]
pub(super) enum UserVerb {
    /// Add a user
    #[command(after_help = EXAMPLES)]
    Add(AddArgs),
    /// List users
    List(ListArgs),
    /// Set a new password; ends the user's sessions and revokes their tokens
    Passwd(PasswdArgs),
    /// Disable a user; ends their sessions and revokes their tokens
    Disable(NameArgs),
    /// Enable a disabled user
    Enable(NameArgs),
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// Login name: 1 to 64 visible characters in any script
    name: UserName,
    /// Give the user all rights
    #[arg(long)]
    admin: bool,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Args)]
pub(super) struct PasswdArgs {
    /// The user
    name: UserName,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Args)]
pub(super) struct NameArgs {
    /// The user
    name: UserName,
}

pub(super) fn run(context: &Context, verb: UserVerb) -> Result<()> {
    match verb {
        UserVerb::Add(args) => add(context, &args),
        UserVerb::List(args) => list(context, &args),
        UserVerb::Passwd(args) => passwd(context, &args),
        UserVerb::Disable(args) => disable(context, &args.name),
        UserVerb::Enable(args) => enable(context, &args.name),
    }
}

fn add(context: &Context, args: &AddArgs) -> Result<()> {
    let mut db = context.db()?;
    if users::by_name(db.connection(), args.name.as_str())?.is_some() {
        return Err(Error::conflict(format!(
            "a user named '{0}' exists already: see `left4me user passwd {0}`",
            args.name
        )));
    }

    // Hashing is slow on purpose, so it happens before the transaction.
    let hash = password::hash(&ask(args.password_stdin)?)?;
    let role = if args.admin { Role::Admin } else { Role::User };
    let user =
        db.write(|tx| users::create(tx, context.now, &context.actor, &args.name, role, &hash))?;

    output::line(&format!(
        "{} '{}' added",
        if user.is_admin { "admin" } else { "user" },
        user.name
    ))
}

fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let users = users::all(context.db()?.connection())?;
    print_list(
        &users,
        args.json,
        "no users yet: add one with `left4me user add NAME --admin`",
        ["ID", "NAME", "ROLE", "CREATED", "DISABLED"],
        &["CREATED", "DISABLED"],
        |user| {
            [
                user.id.to_string(),
                user.name.clone(),
                if user.is_admin { "admin" } else { "user" }.to_owned(),
                when(Some(user.created_at)),
                when(user.disabled_at),
            ]
        },
    )
}

fn passwd(context: &Context, args: &PasswdArgs) -> Result<()> {
    let mut db = context.db()?;
    users::find(db.connection(), &args.name)?;
    let hash = password::hash(&ask(args.password_stdin)?)?;
    db.write(|tx| users::set_password(tx, context.now, &context.actor, &args.name, &hash))?;
    output::line(&format!(
        "user '{}' has a new password; all sessions are ended and all tokens revoked",
        args.name
    ))
}

fn disable(context: &Context, name: &UserName) -> Result<()> {
    let changed = context
        .db()?
        .write(|tx| users::disable(tx, context.now, &context.actor, name))?;
    output::line(&format!(
        "user '{name}' {}",
        if changed {
            "is disabled; all sessions are ended and all tokens revoked; servers keep running"
        } else {
            "is disabled already"
        }
    ))
}

fn enable(context: &Context, name: &UserName) -> Result<()> {
    let changed = context
        .db()?
        .write(|tx| users::enable(tx, context.now, &context.actor, name))?;
    output::line(&format!(
        "user '{name}' {}",
        if changed {
            "is enabled"
        } else {
            "is enabled already"
        }
    ))
}

/// Reads a valid password: a line of standard input, or a prompt that asks twice.
fn ask(from_stdin: bool) -> Result<String> {
    let password = if from_stdin {
        first_line()?
    } else if std::io::stdin().is_terminal() {
        let password = prompt("Password: ")?;
        password::check(&password)?;
        if prompt("Repeat password: ")? != password {
            return Err(Error::usage("the two passwords differ"));
        }
        password
    } else {
        return Err(Error::usage(
            "no terminal to ask for the password: pass it with --password-stdin",
        ));
    };

    password::check(&password)?;
    Ok(password)
}

fn prompt(text: &str) -> Result<String> {
    rpassword::prompt_password(text)
        .map_err(|error| Error::from(error).within("the password cannot be read"))
}

fn first_line() -> Result<String> {
    let most = password::MAX_BYTES as u64 + 2;
    let mut line = Vec::new();
    std::io::stdin()
        .lock()
        .take(most)
        .read_until(b'\n', &mut line)?;

    let line = line
        .strip_suffix(b"\n")
        .map_or(&line[..], |line| line.strip_suffix(b"\r").unwrap_or(line));
    match std::str::from_utf8(line) {
        Ok("") => Err(Error::usage(
            "no password on standard input: its first line is empty",
        )),
        Ok(password) => Ok(password.to_owned()),
        Err(_) => Err(Error::usage("the password is not UTF-8 text")),
    }
}
