//! Signing in and out.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::{Extension, Form};
use serde::Deserialize;

use super::extract::QueryFields;
use super::frame::{Frame, page, page_with};
use crate::base::names::{UserName, normal};
use crate::base::{clock, secret};
use crate::db::events::{self, NewEvent};
use crate::db::{sessions, users};
use crate::web::app::App;
use crate::web::auth::client::Client;
use crate::web::auth::redirect::local_path;
use crate::web::auth::session;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;
use crate::web::viewer::{Credential, Viewer};

/// The same for an unknown user, a wrong password and a disabled account, so that it reveals
/// nothing.
const WRONG: &str = "User name or password is wrong.";

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: Frame,
    name: &'a str,
    next: &'a str,
    trouble: Option<&'a str>,
}

#[derive(Deserialize)]
pub struct Credentials {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    next: String,
}

/// The form. A signed-in user is redirected.
pub async fn show(
    QueryFields(wanted): QueryFields,
    viewer: Option<Extension<Viewer>>,
) -> Result<Response, Failure> {
    if viewer.is_some() {
        return Ok(Redirect::to(local_path(wanted.raw("next"))).into_response());
    }
    page(&LoginPage {
        frame: Frame::anonymous("Sign in"),
        name: "",
        next: local_path(wanted.raw("next")),
        trouble: None,
    })
}

/// Starts a new session, and ends the browser's previous one.
pub async fn sign_in(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Form(form): Form<Credentials>,
) -> Result<Response, Failure> {
    let now = clock::now_ms();

    // A 503 of the password check or the database does not count: the attempt is dropped with it.
    let slot = app.passwords.slot()?;

    // Normalized, so that different spellings of a name share one count.
    let account = normal(&form.name);
    let mut attempt = match app
        .throttle
        .attempt(&account, client.sender, app.throttle.now())
    {
        Ok(attempt) => attempt,
        Err(wait) => return too_many(&form, wait),
    };

    let name = account.clone();
    let found = app.store.read(move |db| {
        let user = name
            .parse::<UserName>()
            .ok()
            .map(|name| users::by_name(db, name.as_str()))
            .transpose()?
            .flatten();
        let user = user.filter(|user| user.disabled_at.is_none());
        let hash = user
            .as_ref()
            .map(|user| users::password_hash(db, user.id))
            .transpose()?
            .flatten();
        Ok(user.zip(hash))
    });

    let (user, hash) = found.await?.unzip();
    attempt.count();

    let good = app
        .passwords
        .verify(slot, form.password.clone(), hash.clone())
        .await?;
    let Some(user) = user.filter(|_| good) else {
        tracing::info!(from = %client.sender, "a sign-in failed");
        return again(&form, WRONG, StatusCode::UNPROCESSABLE_ENTITY);
    };

    attempt.forgive();

    // Start the session, and end the previous one in the same transaction.
    let text = secret::random()?;
    let before = session::cookie(&headers, app.origins.is_https()).map(str::to_owned);
    let (cookie, length) = (text.clone(), app.settings.session);
    let begun = app
        .store
        .write(move |tx| {
            // If the password changed or the account was disabled meanwhile, this session must not
            // start.
            let same = users::password_hash(tx, user.id)? == hash;
            if !same || users::get(tx, user.id)?.is_none_or(|user| user.disabled_at.is_some()) {
                return Ok(false);
            }

            if let Some(old) = before
                .map(|text| sessions::find(tx, &text, now))
                .transpose()?
                .flatten()
            {
                sessions::end(tx, old.id, now)?;
            }

            sessions::begin(tx, user.id, &text, now, now + length)?;

            let actor = format!("web:{}", user.name);
            let event = NewEvent::new("user.signed-in", &actor, &user.name);
            events::add(tx, now, &event)?;
            Ok(true)
        })
        .await?;

    if !begun {
        return again(&form, WRONG, StatusCode::UNPROCESSABLE_ENTITY);
    }

    let mut response = Redirect::to(local_path(&form.next)).into_response();
    let cookie = session::set_cookie(&cookie, app.origins.is_https(), length / 1000)?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

fn too_many(form: &Credentials, wait: Duration) -> Result<Response, Failure> {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
    let message = format!("Too many attempts: try again in {seconds} s.");
    let mut response = again(form, &message, StatusCode::TOO_MANY_REQUESTS)?;
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, seconds.into());
    Ok(response)
}

/// Ends the session.
pub async fn sign_out(SignedIn { app, viewer }: SignedIn) -> Result<Response, Failure> {
    if let Credential::Session(id) = viewer.by {
        app.store
            .write(move |tx| sessions::end(tx, id, clock::now_ms()))
            .await?;
    }

    let mut response = Redirect::to("/login").into_response();
    response.headers_mut().insert(
        header::SET_COOKIE,
        session::set_cookie("", app.origins.is_https(), 0)?,
    );

    Ok(response)
}

fn again(form: &Credentials, trouble: &str, status: StatusCode) -> Result<Response, Failure> {
    let frame = Frame::anonymous("Sign in");
    let page = LoginPage {
        frame,
        name: &form.name,
        next: local_path(&form.next),
        trouble: Some(trouble),
    };
    page_with(status, &page)
}
