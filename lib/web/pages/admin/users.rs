//! Accounts and their tokens.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::super::extract::{FormFields, PathId};
use super::super::frame::{Frame, page_with};
use crate::base::names::{TokenId, UserName};
use crate::base::{Error, clock};
use crate::db::tokens::{self, Token};
use crate::db::users::{self, Role, User};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;
use crate::web::viewer::Viewer;

const HERE: &str = "/admin/users";

/// The form for a new account.
#[derive(Debug, Default)]
struct NewUser {
    name: String,
    admin: bool,
}

#[derive(Debug, Default)]
struct UserErrors {
    all: Option<String>,
    name: Option<String>,
    password: Option<String>,
}

#[derive(Template)]
#[template(path = "admin/users.html")]
struct UsersPage {
    frame: Frame,
    tab: &'static str,
    myself: String,
    users: Vec<User>,
    tokens: Vec<Token>,
    new: NewUser,
    trouble: UserErrors,
}

pub(super) async fn list(SignedIn { app, viewer }: SignedIn) -> Result<Response, Failure> {
    let (new, trouble) = (NewUser::default(), UserErrors::default());
    show(&app, viewer, new, trouble, StatusCode::OK).await
}

async fn show(
    app: &App,
    viewer: Viewer,
    new: NewUser,
    trouble: UserErrors,
    status: StatusCode,
) -> Result<Response, Failure> {
    let (users, tokens) = app
        .store
        .read(|db| Ok((users::all(db)?, tokens::all(db)?)))
        .await?;
    let myself = viewer.name.clone();
    let frame = Frame::of(viewer, "Users").within("admin");
    let page = UsersPage {
        frame,
        tab: "users",
        myself,
        users,
        tokens,
        new,
        trouble,
    };
    page_with(status, &page)
}

fn back() -> Response {
    Redirect::to(HERE).into_response()
}

pub(super) async fn create(
    SignedIn { app, viewer }: SignedIn,
    FormFields(fields): FormFields,
) -> Result<Response, Failure> {
    // The password is not sent back.
    let new = NewUser {
        name: fields.raw("name").to_owned(),
        admin: fields.is_set("admin"),
    };

    let name = match new.name.trim().parse::<UserName>() {
        Ok(name) => name,
        Err(bad) => {
            let trouble = UserErrors {
                name: Some(bad.to_string()),
                ..UserErrors::default()
            };

            return show(&app, viewer, new, trouble, StatusCode::UNPROCESSABLE_ENTITY).await;
        }
    };

    let hash = match app.passwords.hash(fields.raw("password").to_owned()).await {
        Ok(hash) => hash,
        Err(failure) if failure.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let trouble = UserErrors {
                password: Some(failure.message),
                ..UserErrors::default()
            };

            return show(&app, viewer, new, trouble, failure.status).await;
        }
        Err(failure) => return Err(failure),
    };

    let role = if new.admin { Role::Admin } else { Role::User };
    let actor = viewer.actor();
    let created = app
        .store
        .write(move |tx| users::create(tx, clock::now_ms(), &actor, &name, role, &hash));
    match created.await.map_err(Failure::from) {
        Ok(_) => Ok(back()),
        Err(failure) if failure.status != StatusCode::CONFLICT => Err(failure),
        Err(failure) => {
            let trouble = UserErrors {
                name: Some(failure.message),
                ..UserErrors::default()
            };

            show(&app, viewer, new, trouble, failure.status).await
        }
    }
}

pub(super) async fn password(
    SignedIn { app, viewer }: SignedIn,
    PathId(name): PathId<UserName>,
    FormFields(fields): FormFields,
) -> Result<Response, Failure> {
    let wanted = name.clone();
    app.store.read(move |db| users::find(db, &wanted)).await?;

    let hash = match app.passwords.hash(fields.raw("password").to_owned()).await {
        Ok(hash) => hash,
        Err(failure) if failure.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let message = format!(
                "The password of {name} was not changed: {}.",
                failure.message
            );

            return show_trouble(&app, viewer, message, failure.status).await;
        }
        Err(failure) => return Err(failure),
    };

    let actor = viewer.actor();

    // This also ends the user's own sessions.
    app.store
        .write(move |tx| users::set_password(tx, clock::now_ms(), &actor, &name, &hash))
        .await?;
    Ok(back())
}

pub(super) async fn disable(
    SignedIn { app, viewer }: SignedIn,
    PathId(name): PathId<UserName>,
) -> Result<Response, Failure> {
    let (actor, myself) = (viewer.actor(), viewer.id);
    let done = app.store.write(move |tx| {
        let user = users::find(tx, &name)?;
        if user.id == myself {
            return Err(Error::conflict(
                "you cannot disable your own account: another admin has to do it",
            ));
        }

        if users::is_last_admin(tx, user.id)? {
            return Err(Error::conflict(format!(
                "{name} is the last admin who can sign in and cannot be disabled"
            )));
        }

        users::disable(tx, clock::now_ms(), &actor, &name)
    });

    match done.await.map_err(Failure::from) {
        Ok(_) => Ok(back()),
        Err(failure) if failure.status == StatusCode::CONFLICT => {
            show_trouble(&app, viewer, failure.message, failure.status).await
        }
        Err(failure) => Err(failure),
    }
}

pub(super) async fn enable(
    SignedIn { app, viewer }: SignedIn,
    PathId(name): PathId<UserName>,
) -> Result<Response, Failure> {
    app.store
        .write(move |tx| users::enable(tx, clock::now_ms(), &viewer.actor(), &name))
        .await?;
    Ok(back())
}

pub(super) async fn revoke(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<TokenId>,
) -> Result<Response, Failure> {
    app.store
        .write(move |tx| tokens::revoke(tx, clock::now_ms(), &viewer.actor(), id))
        .await?;
    Ok(Redirect::to("/admin/users#tokens").into_response())
}

async fn show_trouble(
    app: &App,
    viewer: Viewer,
    message: String,
    status: StatusCode,
) -> Result<Response, Failure> {
    let trouble = UserErrors {
        all: Some(message),
        ..UserErrors::default()
    };
    show(app, viewer, NewUser::default(), trouble, status).await
}
