//! The viewer's account: password and API tokens.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};

use super::extract::{FormFields, PathId, QueryFields};
use super::frame::{Frame, page};
use crate::base::names::{TokenId, TokenName, UserName};
use crate::base::password::MIN_LENGTH;
use crate::base::{Error, Exit, clock, secret};
use crate::db::tokens::Token;
use crate::db::{sessions, tokens, users};
use crate::web::app::App;
use crate::web::auth::session;
use crate::web::auth::throttle::Sender;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;
use crate::web::viewer::{Credential, Viewer};

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    tokens: Vec<Token>,
    news: Notices,
    shortest: usize,
}

#[derive(Default)]
struct Notices {
    /// The message after an action.
    done: Option<&'static str>,
    trouble: Option<String>,
    /// A new token's text, shown only once.
    fresh: Option<String>,
}

pub async fn show(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(query): QueryFields,
) -> Result<Response, Failure> {
    let done = match query.raw("done") {
        "password" => Some(
            "Your password was changed. Your other sessions are signed out, \
             and your tokens are revoked.",
        ),
        "revoked" => Some("The token was revoked and no longer works."),
        _ => None,
    };

    let news = Notices {
        done,
        ..Notices::default()
    };
    render(&app, viewer, news).await
}

async fn render(app: &App, viewer: Viewer, news: Notices) -> Result<Response, Failure> {
    let user = viewer.id;
    let mut tokens = app.store.read(move |db| tokens::of_user(db, user)).await?;
    // Valid tokens first, newest on top.
    tokens.sort_by_key(|token| (token.revoked_at.is_some(), std::cmp::Reverse(token.id)));
    let frame = Frame::of(viewer, "Your account").within("account");
    page(&AccountPage {
        frame,
        tokens,
        news,
        shortest: MIN_LENGTH,
    })
}

/// Changes the password, if the current one is right. That ends all sessions and tokens; this
/// browser gets a new session.
pub async fn set_password(
    SignedIn { app, viewer }: SignedIn,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    let now = clock::now_ms();

    // Someone at another user's open browser must not find the password by guessing.
    let slot = app.passwords.slot()?;
    let sender = match viewer.by {
        Credential::Session(id) => Sender::Session(id),
        Credential::Token(_) => Sender::Unknown,
    };

    let name = viewer.name.clone();
    let mut attempt = app
        .throttle
        .attempt(&name, sender, app.throttle.now())
        .map_err(|wait| {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
            let message = format!("too many attempts: try again in {seconds} s");
            Failure::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(seconds)
        })?;

    // Check the current password.
    let user = viewer.id;
    let hash = app
        .store
        .read(move |db| users::password_hash(db, user))
        .await?;
    attempt.count();
    if !app
        .passwords
        .verify(slot, form.raw("current").to_owned(), hash.clone())
        .await?
    {
        return refuse(&app, viewer, "The current password is wrong.".to_owned()).await;
    }

    attempt.forgive();

    if form.raw("new") != form.raw("again") {
        return refuse(&app, viewer, "The new passwords do not match.".to_owned()).await;
    }

    let fresh = match app.passwords.hash(form.raw("new").to_owned()).await {
        Ok(hash) => hash,
        Err(failure) if failure.status == StatusCode::UNPROCESSABLE_ENTITY => {
            return refuse(&app, viewer, failure.message).await;
        }
        Err(failure) => return Err(failure),
    };

    // Store the new one, and start a session in the same transaction.
    let (text, length) = (secret::random()?, app.settings.session);
    let (name, actor, cookie) = (
        viewer.name.parse::<UserName>()?,
        viewer.actor(),
        text.clone(),
    );

    let changed = app.store.write(move |tx| {
        // It may have changed meanwhile, for instance because an admin locked out a thief.
        if users::password_hash(tx, user)? != hash {
            return Err(Error::conflict(
                "the password was changed meanwhile: sign in again",
            ));
        }

        users::set_password(tx, now, &actor, &name, &fresh)?;
        sessions::begin(tx, user, &text, now, now + length)
    });

    changed.await?;

    let mut response = Redirect::to("/account?done=password").into_response();
    let cookie = session::set_cookie(&cookie, app.origins.is_https(), length / 1000)?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Creates a token and shows its text, only once: only its hash is stored.
pub async fn create_token(
    SignedIn { app, viewer }: SignedIn,
    FormFields(form): FormFields,
) -> Result<Response, Failure> {
    let name: TokenName = match form.required("name") {
        Ok(name) => name,
        Err(failure) => return refuse(&app, viewer, failure.message).await,
    };

    let (user, actor) = (viewer.id, viewer.actor());
    let made = app
        .store
        .write(move |tx| tokens::create(tx, clock::now_ms(), &actor, user, &name));
    let (_, text) = match made.await {
        Err(error) if error.exit == Exit::Conflict => {
            let page = refuse(&app, viewer, error.to_string()).await?;
            return Ok((StatusCode::CONFLICT, page).into_response());
        }
        made => made?,
    };

    let news = Notices {
        fresh: Some(text),
        ..Notices::default()
    };
    render(&app, viewer, news).await
}

/// Revokes one of the viewer's tokens.
pub async fn revoke_token(
    SignedIn { app, viewer }: SignedIn,
    PathId(token): PathId<TokenId>,
) -> Result<Response, Failure> {
    let revoked = app.store.write(move |tx| {
        if !tokens::of_user(tx, viewer.id)?
            .iter()
            .any(|own| own.id == token)
        {
            return Err(Error::not_found(format!("there is no token {token}")));
        }
        tokens::revoke(tx, clock::now_ms(), &viewer.actor(), token)
    });

    revoked.await?;

    Ok(Redirect::to("/account?done=revoked").into_response())
}

async fn refuse(app: &App, viewer: Viewer, trouble: String) -> Result<Response, Failure> {
    let news = Notices {
        trouble: Some(trouble),
        ..Notices::default()
    };
    let page = render(app, viewer, news).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}
