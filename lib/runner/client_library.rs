//! Gives servers Steam's client library. A server's own `.steam/sdk32` leads to a copy of it in
//! steam/client, or to steam/linux32 where there is no copy yet; where steamcmd keeps its files
//! elsewhere, as Debian's package does, that is a link to there.
//!
//! Every run of steamcmd may update steamcmd itself, also a check while servers run, and no option
//! prevents that (`ValveSoftware/steam-for-linux#12389`). Its updater unpacks into package/tmp and
//! renames from there (#11830: errno 18 from a directory on another file system; #4018), so a
//! running server keeps the file that it has mapped. But Valve documents none of that, and the
//! updater does not sync what it writes: a power cut has left libraries of 0 bytes (#636). So
//! servers use the copy. Its files are replaced by rename, and never by an empty one.

use std::fs::FileTimes;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::base::{Result, files};
use crate::domain::steam::{CLIENT, HOMES, LIBRARY};
use crate::process::Supervisor;
use crate::wire::Stream;

/// The directory in which this steamcmd keeps `linux32/steamclient.so`, if it has that already:
/// beside itself, or where the newest one is.
fn find(steamcmd: &Path, home: &Path) -> Option<PathBuf> {
    let library = |directory: &Path| directory.join("linux32").join(LIBRARY);
    let real = fs::canonicalize(steamcmd).ok();
    let mut programs = [Some(steamcmd), real.as_deref()].into_iter().flatten();
    let beside = programs.find_map(|program| {
        let directory = program.parent()?;
        library(directory).is_file().then(|| directory.to_owned())
    });

    // An update of the package may move its directory, and leaves the old one.
    let placed = |directory: &PathBuf| {
        let found = library(directory).metadata().ok()?;
        Some((found.ctime(), found.ctime_nsec()))
    };
    beside.or_else(|| {
        let homes = HOMES.map(|below| home.join(below)).into_iter();
        let found = homes.filter(|directory| library(directory).is_file());
        found.max_by_key(placed)
    })
}

/// Whether an installation has to end with a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    Now,
    /// steamcmd may not have brought it yet.
    Later,
}

/// Links every path where servers look for the library to where this steamcmd keeps it, and renews
/// their copy. For after each run of steamcmd, which may have brought it or moved it.
///
/// Fails if a link cannot be made.
pub(super) fn provide(
    supervisor: &mut Supervisor,
    home: &Path,
    steamcmd: &Path,
    needed: Needed,
) -> Result<()> {
    let found = find(steamcmd, home);
    if found.is_none() {
        if needed == Needed::Later {
            return Ok(());
        }
        let warning = format!(
            "warning: {} has no linux32/steamclient.so beside it, \
             and there is none below {}: servers would be LAN only",
            steamcmd.display(),
            home.display()
        );

        supervisor.write_line(Stream::Stderr, &warning);
    }

    link(supervisor, home, found.as_deref().unwrap_or(home))?;
    if let Some(directory) = found
        && let Err(error) = copy(&directory.join("linux32"), &home.join(CLIENT))
    {
        let warning = format!("warning: servers keep their copy of {LIBRARY}: {error}");
        supervisor.write_line(Stream::Stderr, &warning);
    }
    Ok(())
}

fn link(supervisor: &mut Supervisor, home: &Path, source: &Path) -> Result<()> {
    fs::create_dir_all(home.join(".steam"))?;
    for (name, directory) in [("sdk32", "linux32"), ("sdk64", "linux64")] {
        let target = source.join(directory);
        make_link(supervisor, &home.join(".steam").join(name), &target)?;

        let fixed = home.join(directory);
        if source != home && (directory == "linux32" || target.is_dir()) {
            set_aside(supervisor, &fixed)?;
            make_link(supervisor, &fixed, &target)?;
        }
    }

    Ok(())
}

/// Renames a directory that another steamcmd left behind: servers would silently use its old
/// library.
fn set_aside(supervisor: &mut Supervisor, path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        let aside = path.with_extension("unused");
        match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::rename(path, &aside)?,
        }

        let (path, aside) = (path.display(), aside.display());
        supervisor.write_line(
            Stream::Stderr,
            &format!("{path} is of another steamcmd: renamed to {aside}"),
        );
    }

    Ok(())
}

/// Makes `link` a link to `target`. A file or directory that is no link stays.
fn make_link(supervisor: &mut Supervisor, link: &Path, target: &Path) -> Result<()> {
    match fs::read_link(link) {
        Ok(found) if found == target => return Ok(()),
        Ok(_) => fs::remove_file(link)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => {
            supervisor.write_line(
                Stream::Stderr,
                &format!("{} is no link: not changed", link.display()),
            );

            return Ok(());
        }
    }

    Ok(fs::os::unix::fs::symlink(target, link)?)
}

/// Copies the libraries in `source` that `target` does not have yet, each in one step.
fn copy(source: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let name = entry.file_name();
        // steamclient.so, and what it loads from beside itself.
        let is_library = name.to_str().is_some_and(|name| name.contains(".so"));
        if !is_library || !entry.file_type()?.is_file() {
            continue;
        }

        let (from, to) = (entry.path(), target.join(&name));
        let found = from.symlink_metadata()?;
        // A power cut has left it.
        if found.len() == 0 {
            continue;
        }
        let is_same = to.symlink_metadata().is_ok_and(|copy| {
            let of = |file: &std::fs::Metadata| (file.len(), file.mtime(), file.mtime_nsec());
            copy.is_file() && of(&copy) == of(&found)
        });
        if !is_same {
            replace(&from, &to)?;
        }
    }

    fs::File::open(target)?.sync_all()
}

fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let new = to.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }

    let mut source = files::open_to_read(from)?;
    let modified = source.metadata()?.modified()?;
    let mut copy = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&new)?;
    io::copy(&mut source, &mut copy)?;
    copy.file()
        .set_times(FileTimes::new().set_modified(modified))?;
    copy.sync_all()?;
    fs::rename(&new, to)
}
