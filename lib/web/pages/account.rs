//! The own account: its password, and tokens for the REST API.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};

use super::extract::{Asked, Sent, id};
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
use crate::web::viewer::{Credential, Viewer};

#[derive(Template)]
#[template(path = "account.html")]
struct Page {
    frame: Frame,
    tokens: Vec<Token>,
    /// What was done just now.
    done: Option<&'static str>,
    trouble: Option<String>,
    /// A token's text, shown this once.
    fresh: Option<String>,
    shortest: usize,
}

/// What there is to tell above the page.
#[derive(Default)]
struct News {
    done: Option<&'static str>,
    trouble: Option<String>,
    fresh: Option<String>,
}

/// The page.
pub async fn show(State(app): State<App>, viewer: Viewer, Asked(asked): Asked) -> Result<Response, Failure> {
    let done = match asked.raw("done") {
        "password" => {
            Some("Your password is changed. Everywhere else you are signed out, and your tokens are revoked.")
        }
        "revoked" => Some("The token is revoked: it is not good for anything any more."),
        _ => None,
    };
    render(&app, viewer, News { done, ..News::default() }).await
}

async fn render(app: &App, viewer: Viewer, news: News) -> Result<Response, Failure> {
    let user = viewer.id;
    let mut tokens = app.store.read(move |db| tokens::of_user(db, user)).await?;
    // The good ones first, the newest of them on top.
    tokens.sort_by_key(|token| (token.revoked_at.is_some(), std::cmp::Reverse(token.id)));
    let frame = Frame::of(viewer, "Your account").within("account");
    page(&Page { frame, tokens, done: news.done, trouble: news.trouble, fresh: news.fresh, shortest: MIN_LENGTH })
}

/// Changes the password, for who knows the one that is good now. That ends all sessions and tokens;
/// this browser gets a new session.
pub async fn set_password(State(app): State<App>, viewer: Viewer, Sent(form): Sent) -> Result<Response, Failure> {
    let now = clock::now_ms();
    // Who sits at somebody else's open browser shall not find out the password by trying.
    let place = app.passwords.place()?;
    let sender = match viewer.by {
        Credential::Session(id) => Sender::Session(id),
        Credential::Token(_) => Sender::Unknown,
    };
    let name = viewer.name.clone();
    let mut attempt = app.throttle.attempt(&name, sender, app.throttle.now()).map_err(|wait| {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
        let words = format!("too many attempts: try again in {seconds} s");
        Failure::new(StatusCode::TOO_MANY_REQUESTS, words).retry_after(seconds)
    })?;
    let user = viewer.id;
    let hash = app.store.read(move |db| users::password_hash(db, user)).await?;
    attempt.count();
    if !app.passwords.verify(place, form.raw("current").to_owned(), hash.clone()).await? {
        return refuse(&app, viewer, "The current password is wrong.".to_owned()).await;
    }
    attempt.forgive();
    if form.raw("new") != form.raw("again") {
        return refuse(&app, viewer, "The new password is not the same in both fields.".to_owned()).await;
    }
    let fresh = match app.passwords.hash(form.raw("new").to_owned()).await {
        Ok(hash) => hash,
        Err(failure) if failure.status == StatusCode::UNPROCESSABLE_ENTITY => {
            return refuse(&app, viewer, failure.message).await;
        }
        Err(failure) => return Err(failure),
    };
    let (text, length) = (secret::random()?, app.settings.session);
    let (name, actor, cookie) = (viewer.name.parse::<UserName>()?, viewer.actor(), text.clone());
    let changed = app.store.write(move |tx| {
        // Somebody may have changed it meanwhile: an admin who shuts a thief out, for one.
        if users::password_hash(tx, user)? != hash {
            return Err(Error::conflict("the password was changed meanwhile: sign in again"));
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

/// Makes a token and shows its text, this once: only its hash is kept.
pub async fn create_token(State(app): State<App>, viewer: Viewer, Sent(form): Sent) -> Result<Response, Failure> {
    let name: TokenName = match form.required("name") {
        Ok(name) => name,
        Err(failure) => return refuse(&app, viewer, failure.message).await,
    };
    let (user, actor) = (viewer.id, viewer.actor());
    let made = app.store.write(move |tx| tokens::create(tx, clock::now_ms(), &actor, user, &name));
    let (_, text) = match made.await {
        Err(error) if error.exit == Exit::Conflict => {
            let mut response = refuse(&app, viewer, error.to_string()).await?;
            *response.status_mut() = StatusCode::CONFLICT;
            return Ok(response);
        }
        made => made?,
    };
    render(&app, viewer, News { fresh: Some(text), ..News::default() }).await
}

/// Ends one of the viewer's tokens.
pub async fn revoke_token(
    State(app): State<App>,
    viewer: Viewer,
    Path(path): Path<String>,
) -> Result<Response, Failure> {
    let token = id::<TokenId>(&path)?;
    let revoked = app.store.write(move |tx| {
        if !tokens::of_user(tx, viewer.id)?.iter().any(|own| own.id == token) {
            return Err(Error::not_found(format!("there is no token {token}")));
        }
        tokens::revoke(tx, clock::now_ms(), &viewer.actor(), token)
    });
    revoked.await?;
    Ok(Redirect::to("/account?done=revoked").into_response())
}

async fn refuse(app: &App, viewer: Viewer, trouble: String) -> Result<Response, Failure> {
    let mut response = render(app, viewer, News { trouble: Some(trouble), ..News::default() }).await?;
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(response)
}
