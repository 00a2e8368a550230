//! `mount N`: a server's overlay, on ROOT/runtime/N/merged. For left4me-overlay@.service, and root by hand.

use std::path::Path;

use nix::unistd::{Gid, Uid};
use sha2::{Digest as _, Sha256};

use super::directory::{Directory, Found};
use super::layers::{self, Layer};
use super::runtime::{self, Runtime};
use super::{environment, former, settings, stack, umount, unfinished, user, walk};
use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::process::mounts;

/// Mounts the overlay with the layers that instance.env names, for the user as which systemd starts the server, and
/// writes what systemd reads before. The same layers mounted already, for the same user: only the file is written.
///
/// # Errors
/// Exit 3 when the server was not initialized or a layer is missing; 4 when something that is not ours is mounted
/// there; 1 for a layer that may not be one, and for what the kernel refuses.
pub(super) fn run(root: &Path, server: &InstanceName) -> Result<()> {
    let directory = Directory::root(root)?;
    // Until the mount stands, nobody changes a layer: whoever initializes holds the other side of this lock.
    let _reading = layers::lock(&directory, server)?;
    let settings = settings::read(&directory, server)?;
    let layers = layers::open(&directory, root, server, &settings.layers)?;
    unfinished::refuse([&directory.path, root], &layers)?;

    let owner = user::loaded(server)?;
    let source = source(server, &layers);

    let merged = runtime::merged(&directory, server);
    match mounts::at(&merged)?.last() {
        None => {}
        Some(mount)
            if mount.kind == "overlay"
                && mount.source == source
                && runtime::upper_owner(&directory, server)? == Some(owner.0) =>
        {
            return environment::write(server, &settings);
        }
        Some(mount) if mount.kind == "overlay" && mount.source.starts_with("left4me-") => {
            umount::run(root, server)?;
        }
        Some(mount) => {
            let words = format!("{} has a {} mounted on it that is not ours", merged.display(), mount.kind);
            return Err(Error::conflict(format!("{words}: unmount it first")));
        }
    }

    if user::former() == Some(owner.0) {
        // The loaded units say so. Those of a later reload must, too, as long as this mount stands.
        former::write_drop_ins(server)?;
    }

    share_layer(&directory, server, owner.1)?;
    stack::clear_leftovers(&directory, server)?;

    let runtime = Runtime::ensure(&directory, server, owner, &earlier_users(server)?)?;
    environment::write(server, &settings)?;
    stack::mount(&source, &layers, &runtime, owner)?;
    Ok(())
}

/// The users that the tree may have had before: that of all servers, and the server's own where the loaded units do not
/// know it yet.
fn earlier_users(server: &InstanceName) -> Result<Vec<Uid>> {
    Ok(user::former().into_iter().chain([user::ensure(server)?.0]).collect())
}

/// server.cfg may hold rcon_password: the server's group reads the instance's own layer, and no other does.
fn share_layer(root: &Directory, server: &InstanceName, group: Gid) -> Result<()> {
    let instances = root.enter("instances")?;
    let Found::Open(layer) = instances.enter(server.as_str())?.find("layer")? else { return Ok(()) };
    walk::share(&layer, instances.owner()?, group)
}

/// What stands as source in the list of mounts: a mount with the same source has the same layers.
fn source(server: &InstanceName, layers: &[Layer]) -> String {
    let mut hash = Sha256::new();
    for layer in layers {
        hash.update(layer.path.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }
    let hex: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("left4me-{server}:{hex}")
}
