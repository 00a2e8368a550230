//! Which instances' overlays are mounted.

use std::path::Path;

use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::process::mounts;

/// The instances with a mount on ROOT/runtime/NAME/merged, ordered by name.
///
/// Fails with 1 when the list of mounts cannot be read.
pub fn mounted(root: &Path) -> Result<Vec<InstanceName>> {
    let root = match fs_err::canonicalize(root) {
        Ok(root) => root,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };

    let runtime = root.join("runtime");
    let all = mounts::all().map_err(unreadable)?;
    let mut names: Vec<InstanceName> = all
        .iter()
        .filter_map(|mount| instance_of(&runtime, &mount.point))
        .collect();

    names.sort_unstable();
    names.dedup();

    Ok(names)
}

/// Whether ROOT/runtime/INSTANCE/merged is a mount point. `root` must be canonical.
pub fn is_mounted(root: &Path, instance: &InstanceName) -> Result<bool> {
    let merged = root.join("runtime").join(instance.as_str()).join("merged");
    Ok(!mounts::at(&merged).map_err(unreadable)?.is_empty())
}

fn unreadable(error: Error) -> Error {
    error.within("what is mounted cannot be read")
}

/// The instance, if `point` is RUNTIME/NAME/merged.
fn instance_of(runtime: &Path, point: &Path) -> Option<InstanceName> {
    let name = point
        .strip_prefix(runtime)
        .ok()?
        .parent()
        .filter(|_| point.ends_with("merged"))?;
    name.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_merged_directory_of_a_valid_instance_counts() {
        let runtime = Path::new("/var/lib/left4me/runtime");
        let of = |point: &str| instance_of(runtime, Path::new(point)).map(|name| name.to_string());
        assert_eq!(
            of("/var/lib/left4me/runtime/7/merged").as_deref(),
            Some("7")
        );

        for other in [
            "/var/lib/left4me/runtime/7",
            "/var/lib/left4me/runtime/7/upper",
            "/var/lib/left4me/runtime/merged",
            "/var/lib/left4me/runtime/a/b/merged",
            "/var/lib/left4me/runtime/..x/merged",
            "/srv/runtime/7/merged",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_root_without_mounts_and_a_missing_root_have_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(mounted(root.path()).unwrap(), []);
        assert_eq!(mounted(&root.path().join("missing")).unwrap(), []);
    }
}
