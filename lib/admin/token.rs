//! `left4me token`: creates, lists and revokes tokens of the REST API.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Context, ListArgs, hint, print_list, when};
use crate::base::names::{TokenId, TokenName, UserName};
use crate::base::{Result, output};
use crate::db::tokens::{self, Token};
use crate::db::users;

const EXAMPLES: &str = "\
Examples:
  left4me token create anna --name 'match bot'     prints the token, only this time
  left4me token list
  left4me token revoke 3";

#[derive(Subcommand)]
pub(super) enum TokenVerb {
    /// Create a token and print it; it cannot be shown again
    #[command(after_help = EXAMPLES)]
    Create(TokenCreateArgs),
    /// List tokens, without their secrets
    List(ListArgs),
    /// Revoke a token for good
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub(super) struct TokenCreateArgs {
    /// The user whose rights the token has
    user: UserName,
    /// What the token is for
    #[arg(long, value_name = "TEXT")]
    name: TokenName,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct RevokeArgs {
    /// The token's id, as `left4me token list` shows it
    id: TokenId,
}

/// A new token with its secret, which is shown only once.
#[derive(Serialize)]
struct NewToken {
    #[serde(flatten)]
    row: Token,
    token: String,
}

pub(super) fn run(context: &Context, verb: TokenVerb) -> Result<()> {
    match verb {
        TokenVerb::Create(args) => create(context, &args),
        TokenVerb::List(args) => list(context, &args),
        TokenVerb::Revoke(args) => revoke(context, &args),
    }
}

fn create(context: &Context, args: &TokenCreateArgs) -> Result<()> {
    let (row, token) = context.db()?.write(|tx| {
        let user = users::find(tx, &args.user)?;
        tokens::create(tx, context.now, &context.actor, user.id, &args.name)
    })?;

    if args.json {
        return output::json(&NewToken { row, token });
    }

    // On standard error, so that the token alone is the output.
    hint(&format!(
        "token {} of '{}'; it cannot be shown again",
        row.id, row.user
    ));

    output::line(&token)
}

fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let tokens = tokens::all(context.db()?.connection())?;
    print_list(
        &tokens,
        args.json,
        "no tokens yet: create one with `left4me token create USER --name TEXT`",
        ["ID", "USER", "NAME", "CREATED", "LAST USED", "REVOKED"],
        &["CREATED", "LAST USED", "REVOKED"],
        |token| {
            [
                token.id.to_string(),
                token.user.clone(),
                token.name.clone(),
                when(Some(token.created_at)),
                when(token.last_used_at),
                when(token.revoked_at),
            ]
        },
    )
}

fn revoke(context: &Context, args: &RevokeArgs) -> Result<()> {
    let changed = context
        .db()?
        .write(|tx| tokens::revoke(tx, context.now, &context.actor, args.id))?;
    output::line(&format!(
        "token {} {}",
        args.id,
        if changed {
            "is revoked"
        } else {
            "is revoked already"
        }
    ))
}
