//! Makes the installation of an older version the first published build, without a copy: it is
//! renamed, which works under the mounts of running servers too. steamcmd gets a new, empty
//! directory, and each instance.env that names installation/ names the build.
//!
//! The link to the current build comes first and leads nowhere until the rename. After a power cut
//! between any two steps `mount` still finds the game, and a repeated run does the rest.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{
    AtFlags, Flock, FlockArg, OFlag, RenameFlags, openat, readlinkat, renameat, renameat2,
};
use nix::sys::stat::{Mode, fchmod, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, symlinkat, unlinkat};

use super::directory::{Directory, Opened, unusable};
use super::settings;
use crate::base::builds::{self, CURRENT, GameFiles};
use crate::base::names::InstanceName;
use crate::base::{Error, Result, failpoint, files, output, users};
use crate::domain::env_file::{self, LAYERS};
use crate::process::{game_files, overlay_mounts};

/// The lock that steamcmd's runner holds.
const STEAM_LOCK: &str = ".left4me-install.lock";

/// Adopts what is installed below `root`. Does nothing if a build is published already, or if no
/// whole Linux server is installed.
///
/// Fails with 4 while a steamcmd runs, or if installation/ cannot be renamed.
pub(super) fn run(root: &Path) -> Result<()> {
    if !root.exists() {
        return Ok(());
    }
    let root = Directory::root(root)?;
    let builds = open(&root, builds::DIRECTORY)?;
    let Ok(_alone) = Flock::lock(builds.fd.try_clone()?, FlockArg::LockExclusiveNonblock) else {
        return Err(busy("a build is being published"));
    };

    if let Some(build) = build_to_adopt(&root, &builds)? {
        let _steam = lock_steam(&root)?;
        rename(&root, &builds, build)?;
        output::line(&format!(
            "the game in installation/ is build {build} now, in {}/{build}",
            builds.path.display()
        ))?;
    }

    open(&root, "installation")?;
    failpoint::hit("adopt-emptied");
    match builds::current(&root.path) {
        Ok(Some(build)) => rewrite_all(&root, build),
        // None is published, or the doctor has a finding.
        _ => Ok(()),
    }
}

/// Opens a directory of steamcmd's user, and creates it if it is missing.
fn open(root: &Directory, name: &str) -> Result<Directory> {
    match root.find(name)? {
        Opened::Open(directory) => Ok(directory),
        Opened::Missing => {
            let owner = users::ids(users::STEAM)?;
            root.ensure(name, Mode::from_bits_truncate(0o755), owner, &[])
        }
    }
}

/// The build that is installed, if it is whole and none is published.
fn build_to_adopt(root: &Directory, builds: &Directory) -> Result<Option<u64>> {
    if !builds::list(&root.path)?.is_empty() {
        return Ok(None);
    }
    let installation = root.path.join("installation");
    let Ok(build) = game_files::verify_finished(&installation) else {
        return Ok(None);
    };

    let name = build.to_string();
    match readlinkat(builds, CURRENT) {
        Err(Errno::ENOENT) => Ok(Some(build)),
        // An earlier run got that far.
        Ok(target) if target.to_str() == Some(name.as_str()) => Ok(Some(build)),
        _ => Err(Error::conflict(format!(
            "{} leads to no build: remove it, then run `left4me-helper upgrade`",
            builds.path.join(CURRENT).display()
        ))),
    }
}

/// Takes the lock that each steamcmd holds while it runs. None if there never was one.
fn lock_steam(root: &Directory) -> Result<Option<Flock<File>>> {
    let Opened::Open(steam) = root.find("steam")? else {
        return Ok(None);
    };
    let path = steam.path.join(STEAM_LOCK);
    let flags = OFlag::O_RDONLY | files::NO_FOLLOW;
    let file = match openat(&steam, STEAM_LOCK, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(unusable(&path, errno)),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Err(busy("an installation is under way")),
        Err((_, errno)) => Err(unusable(&path, errno)),
    }
}

fn busy(what: &str) -> Error {
    Error::conflict(format!(
        "{what}: when it has ended, run `left4me-helper upgrade` as root"
    ))
}

fn rename(root: &Directory, builds: &Directory, build: u64) -> Result<()> {
    let name = build.to_string();
    let link = builds.path.join(CURRENT);
    match symlinkat(name.as_str(), builds, CURRENT) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(unusable(&link, errno)),
    }
    sync(builds)?;
    failpoint::hit("adopt-linked");

    let renamed = renameat2(
        root,
        "installation",
        builds,
        name.as_str(),
        RenameFlags::RENAME_NOREPLACE,
    );
    if let Err(errno) = renamed {
        // Without the build the link would stop every start.
        unlinkat(builds, CURRENT, UnlinkatFlags::NoRemoveDir)
            .map_err(|errno| unusable(&link, errno))?;
        return Err(unmoved(root, errno));
    }
    sync(builds)?;
    sync(root)?;
    failpoint::hit("adopt-renamed");
    Ok(())
}

fn unmoved(root: &Directory, errno: Errno) -> Error {
    let installation = root.path.join("installation");
    match errno {
        Errno::EXDEV => Error::conflict(format!(
            "installation/ and builds/ are on different file systems, so what is installed cannot \
             become a build: put both on that of {}, or set LEFT4ME_BUILDS=in-place",
            root.path.display()
        )),
        Errno::EBUSY => Error::conflict(format!(
            "{} is a file system of its own, so it cannot become a build: mount that at {}, \
             or set LEFT4ME_BUILDS=in-place",
            installation.display(),
            root.path.display()
        )),
        errno => unusable(&installation, errno),
    }
}

/// Lets every instance.env that names installation/ name the build. A problem with one does not
/// stop the others.
fn rewrite_all(root: &Directory, build: u64) -> Result<()> {
    let Opened::Open(instances) = root.find("instances")? else {
        return Ok(());
    };
    let mut last = Ok(());
    for entry in fs_err::read_dir(&instances.path)? {
        let name = entry?.file_name();
        let Some(server) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Err(error) = rewrite(root, &instances, &server, build) {
            let error = error.within(format!("server {server}"));
            if let Err(told) = std::mem::replace(&mut last, Err(error)) {
                tracing::error!("{told}");
            }
        }
    }
    last
}

fn rewrite(
    root: &Directory,
    instances: &Directory,
    server: &InstanceName,
    build: u64,
) -> Result<()> {
    let Opened::Open(instance) = instances.find(server.as_str())? else {
        return Ok(());
    };
    // initialize holds it while it writes, mount while it reads.
    let instance = Directory {
        fd: instance.fd.try_clone()?,
        path: instance.path,
    };
    let _alone = Flock::lock(instance.fd.try_clone()?, FlockArg::LockExclusive)
        .map_err(|(_, errno)| unusable(&instance.path, errno))?;
    let Some(text) = settings::open(instances, &instance, server)? else {
        return Ok(());
    };
    let Some(changed) = changed(&text, build)? else {
        return Ok(());
    };

    // steamcmd may have filled the new directory since, and the server may run over that.
    let is_begun = game_files::is_begun(&root.path.join("installation"));
    if is_begun && overlay_mounts::is_mounted(&root.path, server)? {
        return Err(Error::conflict(
            "it runs with the files of installation/: restart it".to_owned(),
        ));
    }
    replace(&instance, &changed)
}

/// The text with the build as the lowest layer. None if that is not installation/.
fn changed(text: &str, build: u64) -> Result<Option<String>> {
    let Some(layers) = env_file::value(text, LAYERS) else {
        return Ok(None);
    };
    let (above, lowest) = match layers.rsplit_once(':') {
        Some((above, lowest)) => (format!("{above}:"), lowest),
        None => (String::new(), layers.as_str()),
    };
    let Some(root) = Path::new(lowest).parent() else {
        return Ok(None);
    };
    if GameFiles::at(root, Path::new(lowest)) != Some(GameFiles::Installation) {
        return Ok(None);
    }

    let path = builds::path(root, build);
    let layers = format!("{above}{}", path.display());
    env_file::with_value(text, LAYERS, &layers).map(Some)
}

/// Replaces instance.env in one step, with the owner and mode of the old one.
fn replace(instance: &Directory, text: &str) -> Result<()> {
    const NAME: &str = "instance.env";
    // What an interrupted initialization may leave has the same name, and is removed with it.
    const NEW: &str = "instance.new";

    let refused = |errno| unusable(&instance.path.join(NAME), errno);
    let old = fstatat(instance, NAME, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(refused)?;
    match unlinkat(instance, NEW, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(unusable(&instance.path.join(NEW), errno)),
    }

    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | files::NO_FOLLOW;
    let fd: OwnedFd = openat(instance, NEW, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        .map_err(|errno| unusable(&instance.path.join(NEW), errno))?;
    let mut file = File::from(fd);
    file.write_all(text.as_bytes())?;
    let owner = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
    fchmod(&file, Mode::from_bits_truncate(old.st_mode & 0o777)).map_err(refused)?;
    fchown(&file, Some(owner.0), Some(owner.1)).map_err(refused)?;
    file.sync_all()?;
    failpoint::hit("adopt-instance");
    renameat(instance, NEW, instance, NAME).map_err(refused)?;
    sync(instance)
}

fn sync(directory: &Directory) -> Result<()> {
    fsync(directory).map_err(|errno| unusable(&directory.path, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_installation_at_the_bottom_becomes_the_build() {
        let env = |layers: &str| format!("A=1\n{LAYERS}=\"{layers}\"\nB=\"2\"\n");
        let new = changed(
            &env("/r/instances/7/layer:/r/overlays/installation:/r/installation"),
            6,
        );
        assert_eq!(
            new.unwrap().as_deref(),
            Some(
                "A=1\nB=\"2\"\nLEFT4ME_LOWERDIRS=\"/r/instances/7/layer:\
                 /r/overlays/installation:/r/builds/6\"\n"
            )
        );
        for other in [
            "/r/installation:/r/builds/5",
            "/r/builds/5",
            "",
            "/r/overlays/x",
        ] {
            assert_eq!(changed(&env(other), 6).unwrap(), None, "{other}");
        }
        assert_eq!(changed("A=1\n", 6).unwrap(), None);
    }
}
