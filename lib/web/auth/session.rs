//! Sessions: random bits in a cookie. The form token is derived from the same bits, so it need not
//! be stored.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::base::{Error, Result, clock, secret};
use crate::db::fleet::overview;
use crate::db::sessions;
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::viewer::{Credential, Viewer};

/// With this prefix browsers take a cookie only over TLS, from this host, and if it is Secure.
const HOST_COOKIE: &str = "__Host-left4me";
/// The cookie without TLS, on loopback.
const COOKIE: &str = "left4me";

pub fn cookie_name(https: bool) -> &'static str {
    if https { HOST_COOKIE } else { COOKIE }
}

/// The session's secret from the request's cookies.
pub fn cookie(headers: &HeaderMap, https: bool) -> Option<&str> {
    let wanted = cookie_name(https);
    let all = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let pairs = all
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .into_iter()
        .find(|(name, _)| *name == wanted)
        .map(|(_, text)| text)
        .filter(|text| text.len() == 64)
}

/// The cookie that starts a session; with an empty text, the one that ends it.
pub fn set_cookie(text: &str, https: bool, seconds: i64) -> Result<HeaderValue> {
    let (name, secure) = (cookie_name(https), if https { "; Secure" } else { "" });
    let cookie =
        format!("{name}={text}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&cookie)
        .map_err(|error| Error::failed(format!("the session's cookie: {error}")))
}

/// The token for the session's forms. It does not reveal the session's secret.
pub fn csrf(text: &str) -> String {
    secret::hex(&secret::digest(&format!("left4me form token {text}"))[..16])
}

/// The viewer of a session. Requests that a page makes `by_itself` do not keep the session alive.
pub async fn viewer(app: &App, text: String, by_itself: bool) -> Result<Option<Viewer>, Failure> {
    let now = clock::now_ms();
    let csrf = csrf(&text);

    let Some((session, in_fleet)) = app
        .store
        .read(move |db| {
            let found = sessions::find(db, &text, now)?;
            found
                .map(|session| Ok((session, overview::belongs(db)?)))
                .transpose()
        })
        .await?
    else {
        return Ok(None);
    };

    if session.is_stale && !by_itself {
        let id = session.id;
        app.store
            .write_in_passing(move |tx| sessions::touch(tx, id, now));
    }

    let by = Credential::Session(session.id);
    Ok(Some(Viewer {
        id: session.user,
        name: session.name,
        is_admin: session.is_admin,
        csrf,
        by,
        in_fleet,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_tls_only_the_cookie_that_tls_protects_counts() {
        let text = "a".repeat(64);
        let header = |line: String| {
            HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&line).unwrap())])
        };
        let both = header(format!(
            "x=1; left4me={}; __Host-left4me={text}",
            "b".repeat(64)
        ));

        assert_eq!(cookie(&both, true), Some(text.as_str()));
        assert_eq!(cookie(&header(format!("left4me={text}")), true), None);
        assert_eq!(cookie(&header("left4me=short".to_owned()), false), None);
        assert!(
            set_cookie(&text, true, 60)
                .unwrap()
                .to_str()
                .unwrap()
                .ends_with("; Secure")
        );
    }

    #[test]
    fn the_form_token_does_not_reveal_the_session() {
        let text = secret::random().unwrap();
        assert_eq!(csrf(&text).len(), 32);
        assert!(!text.contains(&csrf(&text)) && csrf(&text) != csrf(&secret::random().unwrap()));
    }
}
