//! An instance's own layer as data: its target content, whether a directory holds exactly that, and
//! how it is written.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::base::rcon_password::RconPassword;
use crate::base::{Error, Result, files};
use crate::domain::steam::{CLIENT, LIBRARY};
use crate::host::configs::ConfigFile;

/// The file that sets the RCON password. server.cfg runs it at its end.
pub(super) const RCON_CFG: &str = "left4me_rcon.cfg";

/// The mode of written files: the group can read. Once the layer is mounted, that is the game's
/// group.
const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// The mode of an instance's directory: the game can enter it, but not list it.
const INSTANCE_MODE: u32 = 0o711;

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// A directory with exactly these entries.
    Dir(Vec<(String, Node)>),
    /// A file with exactly this text.
    File(String),
    /// A link to exactly this path.
    Link(PathBuf),
}

/// The topmost lower layer of an instance: server.cfg, second names of the overlays' own, the file
/// with the RCON password, and the link by which the game finds Steam's client library. The game's
/// HOME is the merged directory. `root` must be canonical.
pub(super) fn of(
    root: &Path,
    server_cfg: &str,
    brought: &[ConfigFile],
    password: &RconPassword,
) -> Node {
    let dir = |name: &str, entries| (name.to_owned(), Node::Dir(entries));
    let file = |name: &str, text: String| (name.to_owned(), Node::File(text));
    let mut cfg = vec![
        file("server.cfg", server_cfg.to_owned()),
        file(
            RCON_CFG,
            format!("rcon_password \"{}\"\n", password.expose()),
        ),
    ];
    // A link, not a copy: the mode of the overlay's file decides who may read it, and the game
    // reads its current content at each map load.
    cfg.extend(
        brought
            .iter()
            .map(|file| (file.name.clone(), Node::Link(file.path.clone()))),
    );

    let sdk = ("sdk32".to_owned(), Node::Link(client_library(root)));
    Node::Dir(vec![
        dir("left4dead2", vec![dir("cfg", cfg)]),
        dir(".steam", vec![sdk]),
    ])
}

/// Where servers find Steam's client library: in the copy that the runner makes, which no update of
/// steamcmd touches; before its first run, where steamcmd keeps it.
fn client_library(root: &Path) -> PathBuf {
    let steam = root.join("steam");
    let copy = steam.join(CLIENT);
    match copy.join(LIBRARY).is_file() {
        true => copy,
        false => steam.join("linux32"),
    }
}

impl Node {
    /// Whether `path` is exactly this. An unreadable path is not.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        match self {
            Node::Link(target) => std::fs::read_link(path).is_ok_and(|found| found == *target),
            Node::File(text) => {
                path.symlink_metadata()
                    .is_ok_and(|found| found.is_file() && found.len() == text.len() as u64)
                    && is_text(path, text)
            }
            Node::Dir(entries) => {
                path.symlink_metadata().is_ok_and(|found| found.is_dir())
                    && std::fs::read_dir(path).is_ok_and(|found| found.count() == entries.len())
                    && entries
                        .iter()
                        .all(|(name, node)| node.is_at(&path.join(name)))
            }
        }
    }

    /// Writes it durably at a path that does not exist yet.
    fn write(&self, path: &Path) -> Result<()> {
        match self {
            Node::Link(target) => Ok(fs_err::os::unix::fs::symlink(target, path)?),
            Node::File(text) => write_file(path, text),
            Node::Dir(entries) => {
                make_dir(path)?;
                for (name, node) in entries {
                    node.write(&path.join(name))?;
                }
                settle_mode(path)?;
                sync(path)
            }
        }
    }

    /// Makes `path` exactly this in one step: builds it beside, exchanges the two, and removes the
    /// old one.
    pub(super) fn replace(&self, path: &Path) -> Result<()> {
        let beside = path.with_extension("new");
        remove(&beside)?;
        self.write(&beside)?;
        exchange(&beside, path)?;
        remove(&beside)
    }
}

/// Whether a file holds exactly this text. An unreadable file does not.
fn is_text(path: &Path, text: &str) -> bool {
    let mut found = Vec::with_capacity(text.len() + 1);
    let most = text.len() as u64 + 1;
    let read = files::open_to_read(path).and_then(|file| file.take(most).read_to_end(&mut found));
    read.is_ok() && found == text.as_bytes()
}

/// Removes a file, a link or a whole directory. Does not follow links; a missing path is no error.
///
/// Fails with 1 or 77 when something is left.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs_err::remove_dir_all(path),
        Ok(_) => fs_err::remove_file(path),
        Err(error) => Err(std::io::Error::new(
            error.kind(),
            format!("{} cannot be accessed: {error}", path.display()),
        )),
    };

    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The temporary names beside `path` that replacing it uses.
pub(super) fn beside(path: &Path) -> [PathBuf; 2] {
    [path.with_extension("new"), path.with_extension("old")]
}

/// Replaces a file in one step, durably.
pub(super) fn replace_file(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("new");
    remove(&beside)?;
    write_file(&beside, text)?;
    fs_err::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync)
}

/// Creates a directory if it is missing. Its group and setgid bit come from its parent.
///
/// Fails with 1 or 77 when it cannot be created, or something else is there.
pub(super) fn make_dir(path: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            match path.symlink_metadata() {
                Ok(found) if found.is_dir() => Ok(()),
                _ => Err(Error::failed(format!(
                    "{} is in the way: it is not a directory",
                    path.display()
                ))),
            }
        }
        other => other.map_err(|error| Error::from(error).within(path.display())),
    }
}

/// Gives a directory its mode where the umask was stricter. The new mode must keep the setgid bit,
/// which passes the game's group on. If the kernel or a sandbox refuses that, this is an error:
/// otherwise a server could not read its settings.
///
/// Fails with 1 when the mode cannot be set.
pub(super) fn settle_mode(path: &Path) -> Result<()> {
    let before = fs_err::symlink_metadata(path)?.permissions().mode() & 0o7777;
    let wanted = (before & 0o7000) | DIR_MODE;
    if before == wanted {
        return Ok(());
    }

    let set = fs_err::set_permissions(path, Permissions::from_mode(wanted));
    let after = fs_err::symlink_metadata(path)?.permissions().mode() & 0o7777;
    if set.is_err() || after != wanted {
        return Err(Error::failed(format!(
            "{} has mode {after:04o} and needs {wanted:04o}: run this with umask 027",
            path.display()
        )));
    }

    Ok(())
}

/// Gives an instance's directory its mode. This drops the access of the group of all games, which
/// the directory inherited by the setgid bit.
///
/// Fails with 1 or 77 when the mode cannot be changed.
pub(super) fn settle_instance_mode(path: &Path) -> Result<()> {
    let mode = fs_err::symlink_metadata(path)?.permissions().mode() & 0o7777;
    if mode == INSTANCE_MODE {
        return Ok(());
    }
    Ok(fs_err::set_permissions(
        path,
        Permissions::from_mode(INSTANCE_MODE),
    )?)
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    let mut file = fs_err::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file.sync_all()?)
}

/// Exchanges two names; moves the first to the second when that does not exist. Where the file
/// system cannot exchange, two renames do it, and the old content ends at `new`.
fn exchange(new: &Path, old: &Path) -> Result<()> {
    match renameat2(AT_FDCWD, new, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => {}
        Err(Errno::ENOENT) => fs_err::rename(new, old)?,
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            let aside = old.with_extension("old");
            remove(&aside)?;
            fs_err::rename(old, &aside)?;
            fs_err::rename(new, old)?;
            fs_err::rename(&aside, new)?;
        }
        Err(errno) => return Err(Error::from(std::io::Error::from(errno)).within(old.display())),
    }

    old.parent().map_or(Ok(()), sync)
}

/// Makes a directory's entries durable.
///
/// Fails with 1 when the disk does not accept them.
pub(super) fn sync(dir: &Path) -> Result<()> {
    Ok(fs_err::File::open(dir)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        Node::Dir(vec![
            (
                "d".to_owned(),
                Node::Dir(vec![("f".to_owned(), Node::File(text.to_owned()))]),
            ),
            ("l".to_owned(), Node::Link(PathBuf::from("/x"))),
        ])
    }

    #[test]
    fn what_was_written_is_recognised_and_any_difference_is_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer");

        assert!(!tree("a").is_at(&path));
        tree("a").replace(&path).unwrap();
        assert!(tree("a").is_at(&path) && !tree("b").is_at(&path));
        std::fs::write(path.join("d/extra"), "").unwrap();
        assert!(!tree("a").is_at(&path), "an entry too many");
        tree("b").replace(&path).unwrap();
        assert!(tree("b").is_at(&path));
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn removing_does_not_follow_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("kept")).unwrap();
        std::fs::write(dir.path().join("kept/file"), "x").unwrap();
        std::os::unix::fs::symlink("kept", dir.path().join("link")).unwrap();
        remove(&dir.path().join("link")).unwrap();
        remove(&dir.path().join("link")).unwrap();
        assert!(dir.path().join("kept/file").exists());
    }
}
