//! Lower layers of an instance: its own layer, its blueprint's overlays, the game files.

use std::path::{Path, PathBuf};

use crate::base::builds::GameFiles;
use crate::base::names::{InstanceName, OverlayRef, shown};
use crate::base::{Error, Result};

/// The most lower layers that the kernel accepts (OVL_MAX_STACK).
const MAX_LAYERS: usize = 500;

/// The absolute paths of all lower layers, topmost first. `root` must be canonical.
///
/// Fails with 1 with the overlay and its path when it is missing, not a directory, outside of what
/// the game may see, contains a character that mount options cannot, or overlaps another one.
pub(super) fn lower_layers(
    root: &Path,
    instance: &InstanceName,
    overlays: &[OverlayRef],
    game: GameFiles,
) -> Result<Vec<String>> {
    let layer = root.join("instances").join(instance.as_str()).join("layer");
    let mut layers =
        vec![mountable(&layer).map_err(|why| Error::failed(format!("the root {why}")))?];

    let mut found: Vec<(PathBuf, &OverlayRef)> = Vec::with_capacity(overlays.len());
    for overlay in overlays {
        let path = locate(root, overlay)?;
        layers.push(mountable(&path).map_err(|why| refused(overlay, &path, &why))?);
        found.push((path, overlay));
    }

    // Sorted by path components, everything below a directory follows it directly.
    found.sort_unstable();
    for pair in found.windows(2) {
        let [(path, overlay), (below, other)] = pair else {
            continue;
        };
        if below.starts_with(path) {
            return Err(refused(
                other,
                below,
                &format!(
                    "overlays cannot overlap, and overlay '{overlay}' is {}",
                    path.display()
                ),
            ));
        }
    }

    layers.push(
        mountable(&game.directory(root)).map_err(|why| Error::failed(format!("the root {why}")))?,
    );

    if layers.len() > MAX_LAYERS {
        return Err(Error::failed(format!(
            "{} overlays are too many: the kernel takes {}",
            overlays.len(),
            MAX_LAYERS - 2
        )));
    }

    Ok(layers)
}

/// Pairs the overlays with their directories among all lower layers.
pub(super) fn with_paths<'o>(
    overlays: &'o [OverlayRef],
    layers: &'o [String],
) -> impl DoubleEndedIterator<Item = (&'o OverlayRef, &'o Path)> {
    overlays
        .iter()
        .zip(layers.iter().skip(1))
        .map(|(overlay, path)| (overlay, Path::new(path)))
}

/// The overlay's real path: below overlays/, or through a symbolic link below workshop_cache/.
/// `root` must be canonical.
///
/// Fails with 1 with the overlay and its path when it is missing, not a directory, or outside of
/// what the game may see.
pub fn locate(root: &Path, overlay: &OverlayRef) -> Result<PathBuf> {
    let named = root.join("overlays").join(overlay.as_str());
    let path = match named.canonicalize() {
        Ok(path) => path,
        Err(error) => return Err(refused(overlay, &named, &message(&error))),
    };

    let allowed = ["overlays", "workshop_cache"].iter().any(|below| {
        let below = root.join(below);
        path.starts_with(&below) && path != below
    });

    if !allowed {
        return Err(refused(
            overlay,
            &path,
            "it leads outside of overlays/ and workshop_cache/, where the game cannot see it",
        ));
    }

    if !path.is_dir() {
        return Err(refused(overlay, &path, "it is not a directory"));
    }

    Ok(path)
}

fn message(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "it does not exist; make it, or take the overlay out of the blueprint".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => {
            "permission denied: check its owner and mode".to_owned()
        }
        _ => error.to_string(),
    }
}

/// The path as text, if mount options and a settings file can contain it.
fn mountable(path: &Path) -> Result<String, String> {
    match path.to_str() {
        Some(text) if !text.contains(|c: char| matches!(c, ':' | ',' | '\\') || c.is_control()) => {
            Ok(text.to_owned())
        }
        _ => Err(
            "has ':', ',', '\\' or a control character in its path, which a mount cannot take"
                .to_owned(),
        ),
    }
}

fn refused(overlay: &OverlayRef, path: &Path, why: &str) -> Error {
    Error::failed(format!(
        "overlay '{overlay}' ({}) cannot be used: {why}",
        shown_path(path)
    ))
}

fn shown_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.contains(char::is_control) {
        shown(&text)
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for below in [
            "overlays/maps/one",
            "overlays/two",
            "workshop_cache/123",
            "installation",
            "instances",
        ] {
            std::fs::create_dir_all(root.join(below)).unwrap();
        }

        (dir, root)
    }

    fn layers(root: &Path, overlays: &[&str]) -> Result<Vec<String>> {
        let overlays: Vec<OverlayRef> = overlays
            .iter()
            .map(|overlay| overlay.parse().unwrap())
            .collect();
        lower_layers(
            root,
            &"7".parse().unwrap(),
            &overlays,
            GameFiles::Installation,
        )
    }

    #[test]
    fn the_own_layer_is_topmost_then_the_overlays_in_order_then_the_installation() {
        let (_dir, root) = root();
        symlink(
            root.join("workshop_cache/123"),
            root.join("overlays/cached"),
        )
        .unwrap();

        let all = layers(&root, &["two", "maps/one", "cached"]).unwrap();
        let below: Vec<_> = all
            .iter()
            .map(|path| path.strip_prefix(root.to_str().unwrap()).unwrap())
            .collect();

        assert_eq!(
            below,
            [
                "/instances/7/layer",
                "/overlays/two",
                "/overlays/maps/one",
                "/workshop_cache/123",
                "/installation"
            ]
        );
    }

    #[test]
    fn an_overlay_that_leads_outside_is_named_with_its_path() {
        let (_dir, root) = root();
        for (name, target) in [
            ("etc", Path::new("/etc")),
            ("self", &root.join("overlays")),
            ("inst", &root.join("installation")),
        ] {
            symlink(target, root.join("overlays").join(name)).unwrap();
            let error = layers(&root, &[name]).unwrap_err().to_string();
            assert!(
                error.contains(&format!("'{name}'")) && error.contains(target.to_str().unwrap()),
                "{error}"
            );
        }
    }

    #[test]
    fn a_missing_overlay_a_file_a_loop_and_bad_characters_are_refused() {
        let (_dir, root) = root();
        std::fs::write(root.join("overlays/file"), "x").unwrap();
        symlink("loop", root.join("overlays/loop")).unwrap();

        for (name, odd) in [
            ("colon", "a:b"),
            ("comma", "a,b"),
            ("newline", "a\nb"),
            ("backslash", "a\\b"),
        ] {
            std::fs::create_dir(root.join("overlays").join(odd)).unwrap();
            symlink(odd, root.join("overlays").join(name)).unwrap();
        }

        for name in [
            "missing",
            "file",
            "loop",
            "colon",
            "comma",
            "newline",
            "backslash",
        ] {
            let error = layers(&root, &["two", name]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn overlays_that_overlap_are_refused_because_the_kernel_refuses_them() {
        let (_dir, root) = root();
        symlink("two", root.join("overlays/again")).unwrap();
        for pair in [["maps", "maps/one"], ["maps/one", "maps"], ["two", "again"]] {
            assert!(
                layers(&root, &pair)
                    .unwrap_err()
                    .to_string()
                    .contains("overlap"),
                "{pair:?}"
            );
        }
    }
}
