//! The game's installation: which build it is, and asking for one.

use std::path::Path;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::super::asked::Sent;
use crate::base::names::RequestKey;
use crate::base::{clock, plain};
use crate::domain::operation::Operation;
use crate::domain::steam::{self, APP, MANIFEST_LIMIT};
use crate::queue::enqueue::{Asker, Targets, Wish, enqueue};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// The build that is installed, or why there is none. Reads a file of some kilobytes.
pub fn build(root: &Path) -> Result<u64, String> {
    let name = format!("appmanifest_{APP}.acf");
    let bytes = plain::read(&root.join("installation"), &["steamapps", &name], MANIFEST_LIMIT + 1);
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
    let text = text.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "not installed".to_owned(),
        _ => format!("installation/steamapps/{name}: {error}"),
    })?;
    steam::prove(&text).map_err(|why| format!("not whole: {why}"))
}

pub(super) async fn install(app: State<App>, viewer: Viewer, form: Sent) -> Result<Response, Failure> {
    ask(app, viewer, form, Operation::Install).await
}

pub(super) async fn update(app: State<App>, viewer: Viewer, form: Sent) -> Result<Response, Failure> {
    ask(app, viewer, form, Operation::Update).await
}

async fn ask(
    State(app): State<App>,
    viewer: Viewer,
    Sent(fields): Sent,
    operation: Operation,
) -> Result<Response, Failure> {
    let key = fields.optional::<RequestKey>("key")?;
    let accepted = app.store.with(move |db| {
        let actor = viewer.actor();
        let asker = Asker { name: &actor, user: Some(viewer.id), key: key.as_ref() };
        enqueue(db, &Wish { operation, targets: Targets::None, unique: true, asker }, clock::now_ms())
    });
    let job = accepted.await?.job_id;
    app.poke();
    Ok(Redirect::to(&format!("/jobs/{job}")).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_told_by_its_manifest_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(build(dir.path()).unwrap_err(), "not installed");
        std::fs::create_dir_all(dir.path().join("installation/steamapps")).unwrap();
        let write = |text: &str| {
            std::fs::write(dir.path().join("installation/steamapps/appmanifest_222860.acf"), text).unwrap();
        };
        write(
            "\"AppState\" { \"appid\" \"222860\" \"StateFlags\" \"4\" \"buildid\" \"8490279\" \
             \"InstalledDepots\" { \"222861\" { } \"222863\" { } } }",
        );
        assert_eq!(build(dir.path()), Ok(8_490_279));
        write("\"AppState\" { \"appid\" \"222860\" \"StateFlags\" \"6\" \"buildid\" \"8490279\" }");
        assert!(build(dir.path()).unwrap_err().contains("not whole"));
    }
}
