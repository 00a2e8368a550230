//! The game's installation: which build it is, how far an install is, and asking for one.

use std::io::Read as _;
use std::path::Path;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use rusqlite::Connection;

use super::super::asked::Sent;
use super::super::job;
use crate::base::names::{JobId, RequestKey};
use crate::base::{Result, clock};
use crate::db::logs;
use crate::domain::operation::Operation;
use crate::domain::steam::{self, APP, MANIFEST_LIMIT};
use crate::queue::enqueue::{Asker, Targets, Wish, enqueue};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// Progress comes many times a second: the last one is among so many lines.
const LAST_LINES: u32 = 200;

/// The build that is installed, or why there is none. Reads a file of some kilobytes.
pub fn build(root: &Path) -> Result<u64, String> {
    let path = root.join(format!("installation/steamapps/appmanifest_{APP}.acf"));
    let file = std::fs::File::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "not installed".to_owned(),
        _ => format!("{}: {error}", path.display()),
    })?;
    let mut text = String::new();
    let most = MANIFEST_LIMIT as u64 + 1;
    file.take(most).read_to_string(&mut text).map_err(|error| format!("{}: {error}", path.display()))?;
    steam::prove(&text).map_err(|why| format!("not whole: {why}"))
}

/// How far this job is, in percent and words, by what steamcmd last said in its log; none when that was no progress.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn progress(db: &Connection, job: JobId) -> Result<Option<(String, String)>> {
    Ok(job::progress(&logs::before(db, job, i64::MAX, LAST_LINES)?))
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
    use crate::db::with_servers;
    use crate::wire::Stream;

    #[test]
    fn a_build_is_told_by_its_manifest_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(build(dir.path()).unwrap_err(), "not installed");
        std::fs::create_dir_all(dir.path().join("installation/steamapps")).unwrap();
        let write = |text: &str| {
            std::fs::write(dir.path().join("installation/steamapps/appmanifest_222860.acf"), text).unwrap();
        };
        write("\"AppState\" { \"appid\" \"222860\" \"StateFlags\" \"4\" \"buildid\" \"8490279\" }");
        assert_eq!(build(dir.path()), Ok(8_490_279));
        write("\"AppState\" { \"appid\" \"222860\" \"StateFlags\" \"6\" \"buildid\" \"8490279\" }");
        assert!(build(dir.path()).unwrap_err().contains("not whole"));
    }

    #[test]
    fn progress_is_the_last_that_was_told() {
        let db = with_servers(0);
        db.execute(
            "INSERT INTO jobs (operation, requested_by, created_at, updated_at) VALUES ('install', 'x', 1, 1)",
            [],
        )
        .unwrap();
        assert_eq!(progress(&db, JobId(1)).unwrap(), None);
        for line in [
            " Update state (0x61) downloading, progress: 12.34 (1 / 8)",
            " Update state (0x61) downloading, progress: 45.67 (3 / 8)",
            "something else",
        ] {
            logs::append(&db, JobId(1), 1, Stream::Stdout, line).unwrap();
        }
        let told = progress(&db, JobId(1)).unwrap().unwrap();
        assert_eq!((told.0.as_str(), told.1.as_str()), ("45.7", "downloading, 3 B of 8 B"));
    }
}
