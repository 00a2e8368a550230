//! Digests of overlays, so that hosts of a fleet can compare their files without copying them. An
//! overlay is read again only when the names, sizes or times of its files have changed.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::base::Result;
use crate::db::Db;
use crate::db::fleet::overlays as digests;
use crate::db::overlays;

/// Reads the overlays whose files have changed since they were read last. Gives whether any digest is
/// new. One that cannot be read keeps the digest that it had; why is logged.
pub fn refresh(db: &mut Db, root: &Path, now: i64) -> Result<bool> {
    let mut changed = false;
    for overlay in overlays::all(db.connection())? {
        let directory = root.join("overlays").join(&overlay.reference);
        let known = digests::fingerprint(db.connection(), &overlay.reference)?;
        let files = files_of(&directory).and_then(|files| {
            let fingerprint = fingerprint(&files)?;
            match known.as_ref() == Some(&fingerprint) {
                true => Ok(None),
                false => Ok(Some((digest(&directory, &files)?, fingerprint))),
            }
        });
        match files {
            Ok(None) => {}
            Ok(Some((digest, fingerprint))) => {
                db.write(|tx| digests::put(tx, &overlay.reference, &fingerprint, &digest, now))?;
                changed = true;
            }
            Err(error) => tracing::warn!("overlay '{}' has no digest: {error}", overlay.name),
        }
    }
    Ok(changed)
}

/// The files below a directory, and the links, by name. Links are not followed.
fn files_of(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut files, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs_err::read_dir(&directory)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => left.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    Ok(files)
}

fn fingerprint(files: &[PathBuf]) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        let found = fs_err::symlink_metadata(file)?;
        let (size, ctime) = (found.size(), (found.ctime(), found.ctime_nsec()));
        let times = format!(
            "{} {} {size} {ctime:?} {}\n",
            found.mtime(),
            found.mtime_nsec(),
            found.ino()
        );
        hash.update(file.as_os_str().as_bytes());
        hash.update(b"\0");
        hash.update(times.as_bytes());
    }
    Ok(hex(hash))
}

/// Of the files' names below the overlay, and of their content; not of their times and owners.
fn digest(directory: &Path, files: &[PathBuf]) -> std::io::Result<String> {
    let (mut all, mut buffer) = (Sha256::new(), vec![0; 256 * 1024]);
    for path in files {
        let name = path.strip_prefix(directory).unwrap_or(path);
        let mut own = Sha256::new();
        if path.symlink_metadata()?.is_symlink() {
            own.update(b"link\0");
            own.update(fs_err::read_link(path)?.as_os_str().as_bytes());
        } else {
            let mut file = fs_err::File::open(path)?;
            loop {
                let read = file.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                own.update(&buffer[..read]);
            }
        }
        all.update(name.as_os_str().as_bytes());
        all.update(b"\0");
        all.update(own.finalize());
    }
    Ok(hex(all))
}

fn hex(hash: Sha256) -> String {
    let bytes = hash.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::{OverlayName, OverlayRef};

    #[test]
    fn a_digest_is_that_of_names_and_contents_and_follows_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let mut db = Db::open(&root.join("left4me.db")).unwrap();
        db.write(|tx| {
            for name in ["one", "two"] {
                let (name, path): (OverlayName, OverlayRef) =
                    (name.parse().unwrap(), name.parse().unwrap());
                overlays::create(tx, 1, "anna", &name, &path)?;
                fs_err::create_dir_all(root.join(format!("overlays/{name}/cfg")))?;
                fs_err::write(root.join(format!("overlays/{name}/cfg/a.cfg")), "a")?;
            }
            Ok(())
        })
        .unwrap();

        assert!(refresh(&mut db, root, 1).unwrap());
        let read = |db: &Db| digests::digests(db.connection()).unwrap();
        let first = read(&db);
        assert_eq!(first["one"], first["two"]);
        assert!(!refresh(&mut db, root, 2).unwrap(), "nothing is read twice");

        fs_err::write(root.join("overlays/two/cfg/a.cfg"), "b").unwrap();
        assert!(refresh(&mut db, root, 3).unwrap());
        assert_ne!(read(&db)["two"], first["two"]);
        assert_eq!(read(&db)["one"], first["one"]);

        fs_err::rename(
            root.join("overlays/one/cfg/a.cfg"),
            root.join("overlays/one/cfg/b.cfg"),
        )
        .unwrap();
        refresh(&mut db, root, 4).unwrap();
        assert_ne!(read(&db)["one"], first["one"]);
    }
}
