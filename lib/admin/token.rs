//! `left4me token`: tokens of the REST API.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Context, hint, when};
use crate::base::names::{TokenId, TokenName, UserName};
use crate::base::table::Table;
use crate::base::{Result, output};
use crate::db::tokens::{self, Token};
use crate::db::users;

const EXAMPLES: &str = "\
Examples:
  left4me token create anna --name 'match bot'     prints the token, this once
  left4me token list
  left4me token revoke 3";

/// The verbs of tokens.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// Make a token and print it, this once
    #[command(after_help = EXAMPLES)]
    Create(CreateArgs),
    /// List tokens, without the tokens themselves
    List(ListArgs),
    /// End a token for good
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// The user whose rights it carries
    user: UserName,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    name: TokenName,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ListArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct RevokeArgs {
    /// The token's id, as `left4me token list` shows it
    id: TokenId,
}

/// A token with its text, in the one moment it is told.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    row: Token,
    token: String,
}

pub(super) fn run(context: &Context, verb: Verb) -> Result<()> {
    match verb {
        Verb::Create(args) => create(context, &args),
        Verb::List(args) => list(context, &args),
        Verb::Revoke(args) => revoke(context, &args),
    }
}

fn create(context: &Context, args: &CreateArgs) -> Result<()> {
    let (row, token) = context.db()?.write(|tx| {
        let user = users::find(tx, &args.user)?;
        tokens::create(tx, context.now, &context.actor, user.id, &args.name)
    })?;
    if args.json {
        return output::json(&Told { row, token });
    }
    // On standard error, so that the token alone is the output.
    hint(&format!("token {} of '{}' follows; nobody can see it again", row.id, row.user));
    output::line(&token)
}

fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let tokens = tokens::all(context.db()?.connection())?;
    if args.json {
        return output::json(&tokens);
    }
    if tokens.is_empty() {
        hint("no tokens yet: make one with `left4me token create USER --name TEXT`");
        return Ok(());
    }
    let mut table = Table::new(["ID", "USER", "NAME", "CREATED", "LAST USED", "REVOKED"]);
    for token in tokens {
        let created = when(Some(token.created_at));
        table.row([
            token.id.to_string(),
            token.user,
            token.name,
            created,
            when(token.last_used_at),
            when(token.revoked_at),
        ]);
    }
    table.times(&["CREATED", "LAST USED", "REVOKED"]);
    table.print()
}

fn revoke(context: &Context, args: &RevokeArgs) -> Result<()> {
    let changed = context.db()?.write(|tx| tokens::revoke(tx, context.now, &context.actor, args.id))?;
    output::line(&format!("token {} {}", args.id, if changed { "is revoked" } else { "was revoked already" }))
}
