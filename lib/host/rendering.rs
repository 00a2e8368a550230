//! Renders the files that initializing writes, as text. Initializing and the preview of a blueprint
//! both use this module, so they cannot differ.

use std::path::Path;

use crate::base::Result;
use crate::base::builds::GameFiles;
use crate::base::names::{InstanceName, OverlayRef};
use crate::domain::blueprint::Spec;
use crate::domain::{launch, notices};
use crate::host::configs::{self, ConfigFile, SettingConflict};
use crate::host::{env_file, layer, overlay};

/// The first lines of a server.cfg.
const HEADER: &str = "// left4me writes this file from the server's blueprint whenever the server \
                     starts.\n\
                      // What is changed here is lost: change the blueprint.\n";

/// The game writes the permanent bans into this file, but does not read it by itself, and
/// forgets what it did not read when it writes the file again. First, so that nothing in it wins
/// over other lines.
const BANS: &str = "\n// The bans that the game has written.\nexec banned_user.cfg\n";

/// The comments before the overlays' own files, and before the blueprint's lines.
const FIRST: &str = "\n// The overlays' own server.cfg files, the lowest overlay first.\n";
const THEN: &str = "\n// The blueprint's lines. They win over the lines above.\n";

/// The end of a server.cfg. What sets the password runs last, so that nothing replaces it.
const LAST: &str = "\n// The password by which left4me reaches the game's console.\nexec ";

/// The command that `left4me-server@.service` starts in the merged directory. systemd expands the
/// two variables.
const COMMAND: &str =
    "srcds_linux -game left4dead2 -strictportbind +ip 0.0.0.0 +hostport ${L4D2_PORT} $L4D2_ARGS";

/// The texts of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// The whole server.cfg of the instance's own layer. It does not hold the RCON password.
    pub server_cfg: String,
    /// The lines of instance.env with port and arguments.
    pub launch: String,
    /// The line of instance.env with the lower layers.
    pub stack: String,
}

impl Rendering {
    pub fn environment(&self) -> String {
        format!("{}{}", self.launch, self.stack)
    }
}

/// The texts of an instance with `spec` over `layers`, topmost first, and the server.cfg files that
/// overlays contain.
///
/// Fails with 1 when arguments or layers together are longer than the kernel's limit.
pub fn render(spec: &Spec, layers: &[String], brought: &[ConfigFile]) -> Result<Rendering> {
    let mut server_cfg = format!("{HEADER}{BANS}");
    if !brought.is_empty() {
        server_cfg.push_str(FIRST);
        for file in brought {
            server_cfg.push_str(&format!("exec {}\n", file.name));
        }
    }
    server_cfg.push_str(THEN);

    for line in &spec.config {
        server_cfg.push_str(line.as_str());
        server_cfg.push('\n');
    }

    server_cfg.push_str(LAST);
    server_cfg.push_str(layer::RCON_CFG);
    server_cfg.push('\n');

    let arguments = env_file::assignment("L4D2_ARGS", &words(spec))?;
    let launch = format!("L4D2_PORT={}\n{arguments}", spec.port);
    Ok(Rendering {
        server_cfg,
        launch,
        stack: env_file::assignment(env_file::LAYERS, &layers.join(":"))?,
    })
}

fn words(spec: &Spec) -> String {
    env_file::words(launch::words(&spec.arguments))
}

/// One lower layer, usable or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its path, even when it does not exist.
    pub path: String,
    /// The overlay; none for the instance's own layer and the game files.
    pub overlay: Option<OverlayRef>,
    /// Why it cannot be used.
    pub trouble: Option<String>,
}

/// The result that initializing would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The lower layers, topmost first.
    pub layers: Vec<Layer>,
    /// The texts that would be written. The line with the layers has only the usable ones.
    pub rendering: Rendering,
    /// The command line that systemd starts, in its own quoting.
    pub command: String,
    /// The overlays' server.cfg files that run before the blueprint's lines, in this order.
    pub brought: Vec<ConfigFile>,
    /// Settings that several of them, or one of them and the blueprint, set.
    pub conflicts: Vec<SettingConflict>,
    /// Notices about settings that hide the server from players.
    pub notices: Vec<String>,
    pub trouble: Option<String>,
}

/// Previews what initializing an instance from `spec` would write. Writes nothing, and continues
/// when an overlay is missing.
///
/// Fails with 1 or 77 when the root itself cannot be used, or the texts are too long.
pub fn preview(root: &Path, instance: &InstanceName, spec: &Spec) -> Result<Preview> {
    let root = fs_err::canonicalize(root)?;
    let game = GameFiles::current(&root)?;
    let (found, trouble) = match overlay::lower_layers(&root, instance, &spec.overlays, game) {
        Ok(found) => (found, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };

    let mut layers = vec![layer(
        root.join("instances").join(instance.as_str()).join("layer"),
        None,
    )];

    for reference in &spec.overlays {
        layers.push(match overlay::locate(&root, reference) {
            Ok(path) => layer(path, Some(reference)),
            Err(error) => Layer {
                trouble: Some(error.to_string()),
                ..layer(
                    root.join("overlays").join(reference.as_str()),
                    Some(reference),
                )
            },
        });
    }

    let directory = game.directory(&root);
    let is_there = directory.is_dir();

    layers.push(Layer {
        trouble: (!is_there).then(|| "it is not there: install the game first".to_owned()),
        ..layer(directory, None)
    });

    let usable = if trouble.is_none() {
        found
    } else {
        layers
            .iter()
            .filter(|layer| layer.trouble.is_none())
            .map(|layer| layer.path.clone())
            .collect()
    };

    let located = layers.iter().filter(|layer| layer.trouble.is_none());
    let located: Vec<_> = located
        .filter_map(|one| Some((one.overlay.as_ref()?, Path::new(&one.path))))
        .collect();
    let brought = configs::find(located.into_iter(), &usable);
    let conflicts = configs::conflicts(&brought, &spec.config);
    let rendering = render(spec, &usable, &brought)?;
    let command = COMMAND
        .replace("${L4D2_PORT}", &spec.port.to_string())
        .replace("$L4D2_ARGS", &words(spec));
    let command = command.trim_end().to_owned();
    let notices = notices::of(&spec.arguments, &spec.config);

    Ok(Preview {
        layers,
        rendering,
        command,
        brought,
        conflicts,
        notices,
        trouble,
    })
}

fn layer(path: std::path::PathBuf, overlay: Option<&OverlayRef>) -> Layer {
    Layer {
        path: path.to_string_lossy().into_owned(),
        overlay: overlay.cloned(),
        trouble: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::instance::{Initialized, initialize};
    use std::path::PathBuf;

    fn root() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for below in [
            "overlays/maps",
            "overlays/mods",
            "workshop_cache/7",
            "installation",
            "instances",
        ] {
            std::fs::create_dir_all(root.join(below)).unwrap();
        }

        std::os::unix::fs::symlink(root.join("workshop_cache/7"), root.join("overlays/cached"))
            .unwrap();
        (dir, root)
    }

    fn spec(overlays: &[&str], arguments: &[&str], config: &[&str]) -> Spec {
        Spec {
            port: 27005,
            overlays: overlays
                .iter()
                .map(|overlay| overlay.parse().unwrap())
                .collect(),
            arguments: arguments
                .iter()
                .map(|argument| argument.parse().unwrap())
                .collect(),
            config: config.iter().map(|line| line.parse().unwrap()).collect(),
        }
    }

    fn name() -> InstanceName {
        "7".parse().unwrap()
    }

    #[test]
    fn the_preview_is_what_initializing_writes() {
        let odd = [
            "+sv_tags",
            "$HOME,${L4D2_PORT},$L4D2_ARGS,%n,`id`,'***',?",
            "+map",
            "c1m1_hotel",
        ];

        for spec in [
            spec(&[], &[], &[]),
            spec(
                &["mods", "cached", "maps"],
                &["+map", "c1m1_hotel"],
                &["hostname \"x\"", "", "// ü\tb"],
            ),
            spec(&["maps"], &odd, &["sv_tags \"$a\""]),
        ] {
            let (_dir, root) = root();
            let shown = preview(&root, &name(), &spec).unwrap();
            assert_eq!(
                std::fs::read_dir(root.join("instances")).unwrap().count(),
                0,
                "a preview writes nothing"
            );

            assert_eq!(
                initialize(&root, &name(), &spec, None, || Ok(())).unwrap(),
                Initialized::Written
            );

            let written = |below: &str| {
                std::fs::read_to_string(root.join("instances/7").join(below)).unwrap()
            };
            assert_eq!(shown.rendering.environment(), written("instance.env"));
            assert_eq!(
                shown.rendering.server_cfg,
                written("layer/left4dead2/cfg/server.cfg")
            );

            let paths: Vec<&str> = shown
                .layers
                .iter()
                .map(|layer| layer.path.as_str())
                .collect();
            assert!(
                written("instance.env")
                    .contains(&format!("LEFT4ME_LOWERDIRS=\"{}\"", paths.join(":")))
            );

            assert_eq!(shown.trouble, None);
        }
    }

    #[test]
    fn the_overlays_own_server_cfg_runs_before_the_blueprints_lines() {
        let (_dir, root) = root();
        for (overlay, text) in [
            ("maps", "hostname \"maps\"\n"),
            ("mods", "hostname \"mods\"\nsv_tags x\n"),
        ] {
            std::fs::create_dir_all(root.join("overlays").join(overlay).join("left4dead2/cfg"))
                .unwrap();
            std::fs::write(
                root.join("overlays")
                    .join(overlay)
                    .join("left4dead2/cfg/server.cfg"),
                text,
            )
            .unwrap();
        }

        for lines in [&["hostname \"mine\""][..], &[]] {
            let spec = spec(&["mods", "maps"], &[], lines);
            let shown = preview(&root, &name(), &spec).unwrap();
            initialize(&root, &name(), &spec, None, || Ok(())).unwrap();

            let cfg = root.join("instances/7/layer/left4dead2/cfg");
            let text = std::fs::read_to_string(cfg.join("server.cfg")).unwrap();
            assert_eq!(shown.rendering.server_cfg, text);

            let commands: Vec<&str> = text
                .lines()
                .filter(|line| !line.starts_with("//") && !line.is_empty())
                .collect();
            let (first, last) = (
                &[
                    "exec banned_user.cfg",
                    "exec server_maps.cfg",
                    "exec server_mods.cfg",
                ][..],
                &["exec left4me_rcon.cfg"][..],
            );
            assert_eq!(commands, [first, lines, last].concat());

            let through = std::fs::read_to_string(cfg.join("server_mods.cfg")).unwrap();
            assert_eq!(through, "hostname \"mods\"\nsv_tags x\n");

            let winner = shown.conflicts[0].winner.as_ref().map(ToString::to_string);
            assert_eq!(
                winner,
                lines.is_empty().then(|| "mods".to_owned()),
                "the blueprint's line, else the topmost"
            );
        }
    }

    #[test]
    fn where_an_overlay_is_missing_it_is_named_as_initializing_does_and_the_rest_is_shown() {
        let (_dir, root) = root();
        let spec = spec(&["maps", "gone", "mods"], &["+map", "x"], &["a"]);
        let shown = preview(&root, &name(), &spec).unwrap();
        let refused = initialize(&root, &name(), &spec, None, || Ok(()))
            .unwrap_err()
            .to_string();
        assert_eq!(shown.trouble.as_deref(), Some(refused.as_str()));

        let troubled: Vec<&str> = shown
            .layers
            .iter()
            .filter(|layer| layer.trouble.is_some())
            .map(|layer| layer.path.as_str())
            .collect();

        assert_eq!(troubled, [root.join("overlays/gone").to_str().unwrap()]);
        assert!(
            shown.rendering.server_cfg.contains("\na\n")
                && shown.command.ends_with("+hostport 27005 \"+map\" \"x\"")
        );
    }

    #[test]
    fn the_command_is_the_one_of_the_unit() {
        let unit = include_str!("../../systemd/left4me-server@.service");
        let line = format!("ExecStart=/var/lib/left4me/runtime/%i/merged/{COMMAND}");
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}
