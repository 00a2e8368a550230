//! Recognizes file systems that cannot be an upper layer of overlayfs. It needs trusted extended
//! attributes, RENAME_WHITEOUT and file types in directory entries; without them, mount(2) fails
//! with EINVAL, and only the kernel log has the reason. A type is a guess, for where a trial
//! ([`super::overlay_check`]) cannot be made.

use std::path::Path;

use nix::sys::statfs::{FsType, statfs};

/// Magic numbers of linux/magic.h, and names for people.
const UNFIT: [(i64, &str); 10] = [
    (0x794c_7630, "overlayfs (as the root of most containers is)"),
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
    (0xf15f, "eCryptfs"),
];

/// What to do about an unfit file system.
pub const ADVICE: &str = "mount one that can (ext4, xfs, btrfs; in a container: \
                          a volume) in its place; as root: \
                          `systemctl stop left4me.target 'left4me-server@*'`, \
                          `cp -a /var/lib/left4me/. /mnt/` with it on /mnt, \
                          then mount it on /var/lib/left4me (and so in /etc/fstab), \
                          `systemctl start left4me.target`, then the servers";

/// The name of the file system of `path`, or of its nearest existing ancestor, if it cannot hold an
/// upper layer. None if it can, or if it is unknown.
pub fn unfit(path: &Path) -> Option<&'static str> {
    let kind = path
        .ancestors()
        .find_map(|path| statfs(path).ok())?
        .filesystem_type();
    UNFIT
        .iter()
        .find(|(magic, _)| is(kind, *magic))
        .map(|(_, name)| *name)
}

fn is(kind: FsType, magic: i64) -> bool {
    // The kernel's field is signed, and wider than some of the numbers.
    kind.0 == magic || kind.0 & 0xffff_ffff == magic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_systems_unfit_for_overlayfs_are_named() {
        for (magic, name) in [
            (0x794c_7630, "overlayfs"),
            (0x6969, "NFS"),
            (0x6573_5546, "FUSE"),
        ] {
            let found = UNFIT
                .iter()
                .find(|(unfit, _)| is(FsType(magic), *unfit))
                .map(|(_, name)| *name);
            assert!(
                found.is_some_and(|found| found.starts_with(name)),
                "{found:?}"
            );
        }

        // ext4, xfs, btrfs, tmpfs.
        for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994] {
            assert!(
                !UNFIT.iter().any(|(unfit, _)| is(FsType(magic), *unfit)),
                "{magic:x}"
            );
        }

        assert_eq!(unfit(Path::new("/proc/no/such/directory")), None);
    }
}
