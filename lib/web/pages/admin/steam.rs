//! The game's installation: which build it is, and asking for one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::super::extract::Sent;
use crate::base::names::RequestKey;
use crate::base::{clock, plain};
use crate::domain::operation::Operation;
use crate::domain::steam::{self, MANIFEST, MANIFEST_LIMIT};
use crate::queue::enqueue::{Asker, Targets, Wish, enqueue};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// The build that is installed, or why there is none. Reads a file of some kilobytes.
pub fn build(root: &Path) -> Result<u64, String> {
    let bytes = plain::read(&root.join("installation"), &MANIFEST, MANIFEST_LIMIT + 1);
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
    let text = text.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "not installed".to_owned(),
        _ => format!("installation/{}: {error}", MANIFEST.join("/")),
    })?;
    steam::prove(&text).map_err(|why| format!("not whole: {why}"))
}

/// What may be asked for: an operation that is bound to fail is not offered.
pub struct Offer {
    /// Why neither an install nor an update can work.
    pub nothing: Option<String>,
    /// Whether a server has the game's files mounted: an install would be refused, an update stops it first.
    pub mounted: bool,
}

impl Offer {
    /// Whether an install can work.
    #[must_use]
    pub fn can_install(&self) -> bool {
        self.nothing.is_none() && !self.mounted
    }

    /// Whether an update can work, and is something else than an install.
    #[must_use]
    pub fn can_update(&self, installed: bool) -> bool {
        self.nothing.is_none() && (installed || self.mounted)
    }
}

/// Why nothing can be installed. Only of a steamcmd below `root`: this sandbox does not show the rest of the host.
pub fn nothing(root: &Path, steamcmd: Option<&Path>) -> Option<String> {
    let steamcmd = steamcmd.map_or_else(|| root.join("steam/steamcmd.sh"), Path::to_owned);
    if !steamcmd.starts_with(root) {
        return None;
    }
    let shown = steamcmd.display();
    match steamcmd.metadata() {
        Ok(found) if !found.is_file() => Some(format!("{shown} is not a file: the game cannot be installed")),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Some(format!(
            "{shown} is not executable: the game cannot be installed. `sudo left4me doctor` says what to do"
        )),
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(format!(
            "steamcmd is missing: the game cannot be installed. Unpack steamcmd_linux.tar.gz of Valve as user \
             left4me-steam, so that {shown} is there (README, Install), then load this page again"
        )),
        // What this sandbox may not look at is the doctor's to judge.
        Err(_) => None,
    }
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
    fn what_is_bound_to_fail_is_not_offered() {
        let dir = tempfile::tempdir().unwrap();
        let steamcmd = dir.path().join("steam/steamcmd.sh");
        assert!(nothing(dir.path(), None).unwrap().contains("steamcmd is missing"));
        std::fs::create_dir(dir.path().join("steam")).unwrap();
        std::fs::write(&steamcmd, "").unwrap();
        assert!(nothing(dir.path(), None).unwrap().contains("not executable"));
        std::fs::set_permissions(&steamcmd, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(nothing(dir.path(), None), None);
        assert_eq!(nothing(dir.path(), Some(Path::new("/usr/games/steamcmd"))), None, "not seen from here");

        let offer = |nothing: Option<&str>, mounted| Offer { nothing: nothing.map(str::to_owned), mounted };
        assert!(offer(None, false).can_install() && !offer(None, false).can_update(false));
        assert!(!offer(None, true).can_install() && offer(None, true).can_update(false));
        assert!(!offer(Some("x"), false).can_install() && !offer(Some("x"), true).can_update(true));
    }

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
