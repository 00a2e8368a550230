//! The game's installation: its build, and installs and updates.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use axum::response::Response;

use super::super::extract::FormFields;
use super::super::server_acts::press;
use crate::base::{builds, untrusted_file};
use crate::db::builds::Available;
use crate::domain::operation::Operation;
use crate::domain::steam::{self, MANIFEST, MANIFEST_LIMIT};
use crate::web::app::App;
use crate::web::disk;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

/// The build that servers take at their next start, or why there is none; and why nothing can be
/// installed. The pages work without the disk.
pub async fn look(app: &App) -> (Result<u64, String>, Option<String>) {
    let root = app.settings.root.clone();
    let steamcmd = app.settings.doctor.place.steamcmd.clone();
    let looked = disk::look(move || (build(&root), nothing(&root, steamcmd.as_deref())));
    looked
        .await
        .unwrap_or_else(|failure| (Err(failure.message), None))
}

/// Whether Steam publishes another build than the one that servers take.
pub fn is_new(available: Option<Available>, build: &Result<u64, String>) -> bool {
    let is_new = |available: Available| match build {
        Ok(build) => available.is_new(*build),
        Err(_) => true,
    };
    available.is_some_and(is_new)
}

/// The build that servers take at their next start, or why there is none: the current one, or what is
/// installed if none is published.
fn build(root: &Path) -> Result<u64, String> {
    match builds::current(root) {
        Ok(Some(build)) => Ok(build),
        Ok(None) => installed(root),
        Err(error) => Err(error.to_string()),
    }
}

/// The installed build, or why there is none. Reads a file of a few kilobytes.
fn installed(root: &Path) -> Result<u64, String> {
    let bytes = untrusted_file::read(&root.join("installation"), &MANIFEST, MANIFEST_LIMIT + 1);
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
    let text = text.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "not installed".to_owned(),
        _ => format!("installation/{}: {error}", MANIFEST.join("/")),
    })?;
    steam::prove(&text).map_err(|why| format!("incomplete: {why}"))
}

/// Which installs are offered. One that must fail is not.
pub struct InstallOptions {
    /// Why neither an install nor an update can work.
    pub nothing: Option<String>,
    /// Whether a running server uses the files that an install writes to. An install would be refused;
    /// an update stops the server first.
    pub mounted: bool,
}

impl InstallOptions {
    /// Whether an install can work.
    pub fn can_install(&self) -> bool {
        self.nothing.is_none() && !self.mounted
    }

    /// Whether Steam can be asked.
    pub fn can_check(&self) -> bool {
        self.nothing.is_none()
    }

    /// Whether an update can work, and differs from an install.
    pub fn can_update(&self, installed: bool) -> bool {
        self.nothing.is_none() && (installed || self.mounted)
    }
}

/// Why nothing can be installed. Checks only a steamcmd below `root`: the sandbox hides the rest of
/// the host.
fn nothing(root: &Path, steamcmd: Option<&Path>) -> Option<String> {
    let steamcmd = steamcmd.map_or_else(|| root.join("steam/steamcmd.sh"), Path::to_owned);
    if !steamcmd.starts_with(root) {
        return None;
    }

    let shown = steamcmd.display();
    match steamcmd.metadata() {
        Ok(found) if !found.is_file() => Some(format!(
            "{shown} is not a file: the game cannot be installed"
        )),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Some(format!(
            "{shown} is not executable: the game cannot be installed. Run `sudo left4me doctor`"
        )),
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(format!(
            "steamcmd is missing: the game cannot be installed. Unpack Valve's \
            steamcmd_linux.tar.gz as user \
             left4me-steam so that {shown} exists (README, Install), then reload this page"
        )),
        // The sandbox may hide it; the doctor checks it on the host.
        Err(_) => None,
    }
}

pub(super) async fn install(signed_in: SignedIn, form: FormFields) -> Result<Response, Failure> {
    press(signed_in, form, Operation::Install, None).await
}

pub(super) async fn update(signed_in: SignedIn, form: FormFields) -> Result<Response, Failure> {
    press(signed_in, form, Operation::Update, None).await
}

pub(super) async fn check(signed_in: SignedIn, form: FormFields) -> Result<Response, Failure> {
    press(signed_in, form, Operation::Check, None).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_install_that_must_fail_is_not_offered() {
        let dir = tempfile::tempdir().unwrap();
        let steamcmd = dir.path().join("steam/steamcmd.sh");

        assert!(
            nothing(dir.path(), None)
                .unwrap()
                .contains("steamcmd is missing")
        );

        std::fs::create_dir(dir.path().join("steam")).unwrap();
        std::fs::write(&steamcmd, "").unwrap();
        assert!(
            nothing(dir.path(), None)
                .unwrap()
                .contains("not executable")
        );

        std::fs::set_permissions(&steamcmd, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(nothing(dir.path(), None), None);
        assert_eq!(
            nothing(dir.path(), Some(Path::new("/usr/games/steamcmd"))),
            None,
            "not seen from here"
        );

        let offer = |nothing: Option<&str>, mounted| InstallOptions {
            nothing: nothing.map(str::to_owned),
            mounted,
        };

        assert!(offer(None, false).can_install() && !offer(None, false).can_update(false));
        assert!(!offer(None, true).can_install() && offer(None, true).can_update(false));
        assert!(!offer(Some("x"), false).can_install() && !offer(Some("x"), true).can_update(true));
    }

    #[test]
    fn the_current_build_counts_before_what_is_installed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(build(dir.path()).unwrap_err(), "not installed");
        std::fs::create_dir_all(dir.path().join("installation/steamapps")).unwrap();

        let write = |text: &str| {
            std::fs::write(
                dir.path()
                    .join("installation/steamapps/appmanifest_222860.acf"),
                text,
            )
            .unwrap();
        };

        write(
            "\"AppState\" { \"appid\" \"222860\" \"StateFlags\" \"4\" \"buildid\" \"8490279\" \
             \"InstalledDepots\" { \"222861\" { } \"222863\" { } } }",
        );

        assert_eq!(build(dir.path()), Ok(8_490_279));
        write("\"AppState\" { \"appid\" \"222860\" \"StateFlags\" \"6\" \"buildid\" \"8490279\" }");
        assert!(build(dir.path()).unwrap_err().contains("incomplete"));

        std::fs::create_dir_all(dir.path().join("builds/9")).unwrap();
        let link = dir.path().join("builds/current");
        std::os::unix::fs::symlink("9", &link).unwrap();
        assert_eq!(build(dir.path()), Ok(9));
        std::fs::remove_dir(dir.path().join("builds/9")).unwrap();
        assert!(build(dir.path()).unwrap_err().contains("no build there"));
    }
}
