//! Which servers start at boot, from the symlinks that `systemctl enable` creates. Units that are
//! not loaded have them too, and no call to PID 1 per unit is needed.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use crate::base::Result;
use crate::base::names::{server_instance, server_unit};

/// The directory of symlinks that survive a reboot.
pub const SYSTEM: &str = "/etc/systemd/system";

/// The instances of left4me-server@ that a unit in `directory` wants or requires, and that are not
/// masked there.
pub fn enabled(directory: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs_err::read_dir(directory)? {
        let path = entry?.path();
        if !path
            .extension()
            .is_some_and(|end| end == "wants" || end == "requires")
        {
            continue;
        }

        let links = match fs_err::read_dir(&path) {
            Ok(links) => links,
            // A file with that name, or a directory that systemctl has just removed with its last
            // link.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                continue;
            }
            Err(error) => return Err(error.into()),
        };

        for link in links {
            let name = link?.file_name();
            found.extend(name.to_str().and_then(server_instance).map(str::to_owned));
        }
    }

    found.retain(|instance| {
        let mask = directory.join(server_unit(instance));
        !mask
            .read_link()
            .is_ok_and(|target| target == Path::new("/dev/null"))
    });

    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_unit_wants_is_enabled_unless_it_is_masked() {
        let dir = tempfile::tempdir().unwrap();
        let link = |path: &str, target: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
        };

        let template = "/usr/lib/systemd/system/left4me-server@.service";
        link("multi-user.target.wants/left4me-server@1.service", template);
        link(
            "friday.target.requires/left4me-server@x-2.service",
            template,
        );

        link("multi-user.target.wants/left4me-server@3.service", template);
        link("left4me-server@3.service", "/dev/null");
        link("multi-user.target.wants/left4me-server@.service", template);
        link("multi-user.target.wants/ssh.service", template);
        link("left4me-server@4.service", template);
        std::fs::write(dir.path().join("file.wants"), "").unwrap();

        let enabled: Vec<String> = enabled(dir.path()).unwrap().into_iter().collect();
        assert_eq!(enabled, ["1", "x-2"]);
        assert!(super::enabled(&dir.path().join("missing")).is_err());
    }
}
