//! Steam's client library, where servers look for it. A server's own `.steam/sdk32` leads to
//! steam/linux32; where steamcmd keeps its files elsewhere, as Debian's package does, that is a
//! link to there.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::base::Result;
use crate::domain::steam::HOMES;
use crate::process::Stage;
use crate::wire::Stream;

/// Where this steamcmd keeps `linux32/steamclient.so`, if it has it already.
fn keeps(steamcmd: &Path, home: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(steamcmd).ok();
    let beside = [Some(steamcmd), real.as_deref()].into_iter().flatten().filter_map(Path::parent).map(Path::to_owned);
    let mut places = beside.chain(HOMES.map(|below| home.join(below)));
    places.find(|place| place.join("linux32/steamclient.so").is_file())
}

/// Leads every place where the library is looked for to where this steamcmd keeps it.
///
/// # Errors
/// 1 or 77 when a link cannot be made.
pub(super) fn link(stage: &mut Stage, home: &Path, steamcmd: &Path) -> Result<()> {
    let found = keeps(steamcmd, home);
    if found.is_none() {
        let words = format!(
            "warning: {} has no linux32/steamclient.so beside it, and there is none below {}: servers would be LAN only",
            steamcmd.display(),
            home.display()
        );
        stage.say(Stream::Stderr, &words);
    }
    let place = found.unwrap_or_else(|| home.to_owned());
    fs::create_dir_all(home.join(".steam"))?;
    for (name, directory) in [("sdk32", "linux32"), ("sdk64", "linux64")] {
        lead(stage, &home.join(".steam").join(name), &place.join(directory))?;
        let fixed = home.join(directory);
        if place != home && (directory == "linux32" || place.join(directory).is_dir()) {
            set_aside(stage, &fixed)?;
            lead(stage, &fixed, &place.join(directory))?;
        }
    }
    Ok(())
}

/// A directory that another steamcmd has left behind would be an old library, with nothing to say
/// so.
fn set_aside(stage: &mut Stage, path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        let aside = path.with_extension("unused");
        match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::rename(path, &aside)?,
        }
        stage.say(Stream::Stderr, &format!("{} is of another steamcmd: now {}", path.display(), aside.display()));
    }
    Ok(())
}

/// Makes `link` a link to `target`. What is no link stays.
fn lead(stage: &mut Stage, link: &Path, target: &Path) -> Result<()> {
    match fs::read_link(link) {
        Ok(found) if found == target => return Ok(()),
        Ok(_) => fs::remove_file(link)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => {
            stage.say(Stream::Stderr, &format!("{} is no link: left as it is", link.display()));
            return Ok(());
        }
    }
    Ok(fs::os::unix::fs::symlink(target, link)?)
}
