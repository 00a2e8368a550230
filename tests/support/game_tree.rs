//! Trees of game files as steamcmd leaves them: small, and whole for the proof.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The manifest of a build.
pub fn manifest(build: u64) -> String {
    format!(
        "\"AppState\"\n{{\n\"appid\" \"222860\"\n\"StateFlags\" \"4\"\n\"buildid\" \"{build}\"\n\
         \"BytesToDownload\" \"9\"\n\"BytesDownloaded\" \"9\"\n\
         \"InstalledDepots\" {{ \"222861\" {{ }} \"222863\" {{ }} }}\n}}\n"
    )
}

/// Makes `directory` a whole installation of a build. Files that are there stay.
pub fn install(directory: &Path, build: u64) {
    for (name, text) in [
        ("srcds_linux", "server"),
        ("bin/engine_srv.so", "engine"),
        ("left4dead2/bin/server_srv.so", "game"),
        ("left4dead2/maps/c1m1_hotel.bsp", "a map"),
    ] {
        if !directory.join(name).exists() {
            write(&directory.join(name), text);
        }
    }
    let server = directory.join("srcds_linux");
    std::fs::set_permissions(server, PermissionsExt::from_mode(0o755)).unwrap();
    write(
        &directory.join("steamapps/appmanifest_222860.acf"),
        manifest(build),
    );
}

/// Writes a file; creates the parent directories.
pub fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Every path below `directory` with what it is: a link's target, or mode, time of change and
/// content. Without what left4me itself notes.
pub fn listing(directory: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut found, mut waiting) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(path) = waiting.pop() {
        for entry in std::fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let shown = path.strip_prefix(directory).unwrap().display().to_string();
            if shown == ".left4me" {
                continue;
            }
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                found.push(format!("{shown} -> {}", target.display()));
            } else if metadata.is_dir() {
                waiting.push(path);
                found.push(format!("{shown}/"));
            } else {
                let time = (metadata.mtime(), metadata.mtime_nsec());
                let content = std::fs::read(&path).unwrap();
                let content = String::from_utf8_lossy(&content[..content.len().min(40)]);
                let mode = metadata.mode() & 0o7777;
                found.push(format!(
                    "{shown} {mode:o} {time:?} {} {content}",
                    metadata.len()
                ));
            }
        }
    }
    found.sort();
    found
}
