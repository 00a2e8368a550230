//! Builds of the game on the disk, as left4me-publisher leaves them.

use std::os::unix::fs::symlink;

use super::host::TestHost;
use super::{SocketUnit, accept};

/// These builds are kept, and `current` is the one that servers take at their next start.
pub fn kept(host: &TestHost, builds: &[u64], current: u64) {
    for build in builds {
        let about = format!(
            r#"{{"build":{build},"published_at":1795305600000,"job":1,"size":2147483648,"copied":3,"copied_size":1048576}}"#
        );
        host.root.write(format!("builds/{build}/.left4me"), about);
    }

    let link = host.root.join("builds/current");
    std::fs::remove_file(&link).ok();
    symlink(current.to_string(), link).unwrap();
}

/// The server's settings name the build, which it runs if it runs; none for the installation.
pub fn uses(host: &TestHost, server: i64, build: Option<u64>) {
    let root = host.root.path();
    let game = build.map_or("installation".to_owned(), |build| format!("builds/{build}"));
    let layers = format!("{0}/instances/{server}/layer:{0}/{game}", root.display());
    host.root.write(
        format!("instances/{server}/instance.env"),
        format!("LEFT4ME_LOWERDIRS=\"{layers}\"\n"),
    );

    let build = build.map_or("NULL".to_owned(), |build| build.to_string());
    let sql = format!(
        "UPDATE servers SET build = {build}, build_since = 1795305600000 WHERE id = {server}"
    );
    host.db().connection().execute_batch(&sql).unwrap();
}

/// Stands in for left4me-publisher@: this shell code has the request in `$request`.
pub fn publisher(host: &TestHost, code: &str) -> SocketUnit {
    host.root.write("tmp/publisher", "");
    let script = format!(
        "#!/bin/bash\nexec <&3 >&3\nread -r request\necho \"$request\" >>'{}'\n{code}\n",
        host.root.join("tmp/publisher").display()
    );
    let script = host.root.script("publisher.sh", &script);
    accept(
        &host.root.join("publisher.sock"),
        &["/bin/bash", &script.to_string_lossy()],
        &host.root.envs(),
    )
}

/// What the publisher was asked, a line for each request.
pub fn asked(host: &TestHost) -> String {
    std::fs::read_to_string(host.root.join("tmp/publisher")).unwrap_or_default()
}
