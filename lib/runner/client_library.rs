//! Links Steam's client library to where servers look for it. A server's own `.steam/sdk32` points
//! to steam/linux32; where steamcmd keeps its files elsewhere, as Debian's package does, that is a
//! link to there.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::base::Result;
use crate::domain::steam::HOMES;
use crate::process::Supervisor;
use crate::wire::Stream;

/// The directory in which this steamcmd keeps `linux32/steamclient.so`, if it has that already.
fn find(steamcmd: &Path, home: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(steamcmd).ok();
    let programs = [Some(steamcmd), real.as_deref()].into_iter().flatten();
    let beside = programs.filter_map(Path::parent).map(Path::to_owned);
    let mut candidates = beside.chain(HOMES.map(|below| home.join(below)));
    candidates.find(|directory| directory.join("linux32/steamclient.so").is_file())
}

/// Links every path where servers look for the library to where this steamcmd keeps it.
///
/// Fails if a link cannot be made.
pub(super) fn link(supervisor: &mut Supervisor, home: &Path, steamcmd: &Path) -> Result<()> {
    let found = find(steamcmd, home);
    if found.is_none() {
        let warning = format!(
            "warning: {} has no linux32/steamclient.so beside it, \
             and there is none below {}: servers would be LAN only",
            steamcmd.display(),
            home.display()
        );

        supervisor.write_line(Stream::Stderr, &warning);
    }

    let source = found.unwrap_or_else(|| home.to_owned());
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
