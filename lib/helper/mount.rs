//! `mount N`: mounts the overlay of a server on ROOT/runtime/N/merged. For
//! left4me-overlay@.service, and for root by hand.

use std::path::Path;

use nix::unistd::{Gid, Uid};
use sha2::{Digest as _, Sha256};

use super::directory::{Directory, Opened};
use super::layers::{self, Layer};
use super::runtime::{self, Runtime};
use super::{
    environment, former, game_layer, mounted_layers, settings, stack, umount, unfinished, user,
    walk,
};
use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::process::mounts;

/// Mounts the overlay with the layers that instance.env names, for the user that systemd starts the
/// server as, and writes the file that systemd reads before it. If the same layers are already
/// mounted for the same user, it only writes the file.
///
/// Fails with 3 if the server was not initialized or a layer is missing; 4 if something else is
/// mounted there; 1 for a layer that is not allowed, or if the kernel refuses.
pub(super) fn run(root: &Path, server: &InstanceName) -> Result<()> {
    let directory = Directory::root(root)?;
    // No layer may change until the mount is complete. initialize takes the exclusive side of this
    // lock.
    let _reading = layers::lock(&directory, server)?;
    let mut settings = settings::read(&directory, server)?;
    game_layer::choose(&directory, root, server, &mut settings.layers);
    let layers = layers::open(&directory, root, server, &settings.layers)?;
    unfinished::refuse(&layers)?;
    game_layer::refuse_incomplete(&directory.path, &layers)?;

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
            mounted_layers::write(&directory, server, &layers)?;
            return environment::write(server, &settings);
        }
        // Mounted by left4me, but with other layers or for another user.
        Some(mount) if mount.kind == "overlay" && mount.source.starts_with("left4me-") => {
            umount::run(root, server)?;
        }
        Some(mount) => {
            let words = format!(
                "{} has a {} mounted on it that is not left4me's",
                merged.display(),
                mount.kind
            );

            return Err(Error::conflict(format!("{words}: unmount it first")));
        }
    }

    if user::former() == Some(owner.0) {
        // The loaded units have the former user. The drop-ins keep it after a reload, as long as
        // this mount exists.
        former::write_drop_ins(server)?;
    }

    share_layer(&directory, server, owner.1)?;
    stack::clear_leftovers(&directory, server)?;

    let runtime = Runtime::ensure(&directory, server, owner, &earlier_users(server)?)?;
    mounted_layers::write(&directory, server, &layers)?;
    environment::write(server, &settings)?;
    stack::mount(&source, &layers, &runtime, owner)?;
    Ok(())
}

/// The users that may own the tree from before: the former user of all servers, and the server's
/// own user if the loaded units do not use it yet.
fn earlier_users(server: &InstanceName) -> Result<Vec<Uid>> {
    Ok(user::former()
        .into_iter()
        .chain([user::ensure(server)?.0])
        .collect())
}

/// Lets the group of the server, and no other, read the instance's own layer: it contains the RCON
/// password.
fn share_layer(root: &Directory, server: &InstanceName, group: Gid) -> Result<()> {
    let instances = root.enter("instances")?;
    let Opened::Open(layer) = instances.enter(server.as_str())?.find("layer")? else {
        return Ok(());
    };
    walk::share(&layer, instances.owner()?, group)
}

/// The source in the list of mounts. Mounts with the same source have the same layers.
fn source(server: &InstanceName, layers: &[Layer]) -> String {
    let mut hash = Sha256::new();
    for layer in layers {
        hash.update(layer.path.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }

    let hex: String = hash
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("left4me-{server}:{hex}")
}
