//! `check-overlay`: checks whether servers' overlays can be mounted where the data is, by mounting
//! one. For left4me-overlay-check.service, and for root by hand.
//!
//! The type of a file system is not enough: ZFS supports overlays from 2.2 on, XFS and ext4 do not
//! if they were created without file types, and a container's permissions depend on its host. So
//! the code that mounts the overlays of servers mounts one here, with the same options, with upper
//! and work directory on the same file system, and the check uses it as a game does.
//!
//! An unprivileged user namespace would need no root, but answers another question: its overlays
//! keep their marks in `user.*` attributes instead of `trusted.*`, and many hosts forbid it.

use std::path::Path;

use fs_err as fs;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchdir};

use super::directory::{Directory, FLAGS, Opened, unusable};
use super::empty;
use super::kernel_log::{KernelLog, configure};
use super::layers::Layer;
use super::runtime::Runtime;
use super::stack::{self, Refused, WithoutStandIns};
use crate::base::clock::Moment;
use crate::base::filesystem::ADVICE;
use crate::base::overlay_check::{Checked, OverlayVerdict};
use crate::base::{Error, Result, users};
use crate::process::mounts;

/// The directory of the test, below runtime/. No server can have this name.
const NAME: &str = ".overlay-check";

const ROOT: (Uid, Gid) = (Uid::from_raw(0), Gid::from_raw(0));

/// What the lower layer contains: two files, and a directory with a file.
const KEPT: &str = "kept.cfg";
const DELETED: &str = "deleted.cfg";
const REPLACED: &str = "replaced";

/// The directories of the data that hold lower layers.
const LAYERS: [&str; 4] = ["installation", "builds", "overlays", "workshop_cache"];

/// Runs the test and writes its result.
///
/// Fails with 1 if no server could start, or if the test or its result could not be completed.
pub(super) fn run(root: &Path) -> Result<()> {
    let at_us = Moment::now().monotonic_us;
    let verdict = run_test(root).unwrap_or_else(|error| OverlayVerdict::Untried {
        why: error.to_string(),
    });
    let checked = Checked {
        root: root.to_owned(),
        file_system: file_system(root),
        at_us,
        verdict,
    };

    checked.write()?;

    match &checked.verdict {
        OverlayVerdict::Good => Ok(()),
        OverlayVerdict::Limited { why, .. } => {
            tracing::warn!("{}: {why}", checked.place());
            Ok(())
        }
        OverlayVerdict::Unfit { why, .. } => {
            Err(Error::failed(format!("{}: {why}", checked.place())))
        }
        OverlayVerdict::Untried { why } => Err(Error::failed(format!(
            "an overlay could not be tried: {why}"
        ))),
    }
}

/// The type of runtime/'s file system, as in the list of mounts.
fn file_system(root: &Path) -> String {
    let runtime = fs::canonicalize(root.join("runtime")).unwrap_or_else(|_| root.to_owned());
    mounts::of(&runtime)
        .ok()
        .flatten()
        .map_or_else(String::new, |mount| mount.kind)
}

fn run_test(root: &Path) -> Result<OverlayVerdict> {
    let runtime = Directory::root(root)?.enter("runtime")?;
    // Another test waits until this one has finished.
    let alone = Flock::lock(runtime.fd.try_clone()?, FlockArg::LockExclusive);
    let _alone = alone.map_err(|(_, errno)| unusable(&runtime.path, errno))?;

    clear(&runtime)?;

    let verdict = OverlayTest::prepare(&runtime).and_then(|test| test.verdict());
    clear(&runtime)?;
    verdict
}

/// Removes what this test, or one that was killed, has left behind.
fn clear(runtime: &Directory) -> Result<()> {
    let Opened::Open(all) = runtime.find(NAME)? else {
        return Ok(());
    };
    stack::clear(&all.path.join("merged"))?;
    stack::clear(&all.path.join("parts"))?;
    drop(all);
    empty::remove(runtime, c".overlay-check")
}

struct OverlayTest {
    all: Directory,
    lower: Directory,
    runtime: Runtime,
    owner: (Uid, Gid),
    log: KernelLog,
}

impl OverlayTest {
    /// Creates the directories of a server, and a lower layer.
    fn prepare(runtime: &Directory) -> Result<Self> {
        let log = KernelLog::from_now();
        let owner = users::ids(users::LEFT4ME)?;
        let all = runtime.ensure(NAME, Mode::S_IRWXU, ROOT, &[])?;

        let lower = all.ensure("lower", Mode::from_bits_truncate(0o755), ROOT, &[])?;
        for name in [KEPT, DELETED] {
            fs::write(lower.path.join(name), "lower\n")?;
        }

        fs::create_dir(lower.path.join(REPLACED))?;
        fs::write(lower.path.join(REPLACED).join(KEPT), "lower\n")?;

        let runtime = Runtime::inside(&all, owner, &[])?;
        Ok(Self {
            all,
            lower,
            runtime,
            owner,
            log,
        })
    }

    fn verdict(mut self) -> Result<OverlayVerdict> {
        let layer = Layer {
            path: self.lower.path.clone(),
            fd: self.lower.fd.try_clone()?,
            is_own: false,
            is_game: false,
        };

        let stacked =
            match stack::mount("left4me-overlay-check", &[layer], &self.runtime, self.owner) {
                Ok(stacked) => stacked,
                Err(Refused::Kernel(errno, _)) => return Ok(self.refused(errno)),
                Err(Refused::Other(error)) => return Err(error),
            };

        let used = self.use_it();
        let merged = &self.runtime.merged.path;
        umount2(merged, MntFlags::UMOUNT_NOFOLLOW).map_err(|errno| unusable(merged, errno))?;

        let said = self.log.overlayfs();
        Ok(match used {
            Err(Fault::Needed(what)) => OverlayVerdict::Unfit {
                why: with(what, &said),
                advice: ADVICE.to_owned(),
            },
            Err(Fault::Rare(what)) => OverlayVerdict::Limited {
                why: with(what, &said),
                advice: ADVICE.to_owned(),
            },
            Ok(()) => match stacked {
                Some(WithoutStandIns(errno)) => OverlayVerdict::Limited {
                    why: with(
                        format!(
                            "the game can only read, not write in place, the files of overlays: {}",
                            errno.desc()
                        ),
                        &said,
                    ),
                    advice: ADVICE.to_owned(),
                },
                None => self.other_layers()?,
            },
        })
    }

    /// Why the kernel did not mount the overlay.
    fn refused(&mut self, errno: Errno) -> OverlayVerdict {
        let mut said = self.log.overlayfs();
        // Tries again with short relative names, which the kernel can put in its messages.
        if fchdir(&self.all).is_ok()
            && let Err((_, words)) = configure(&[
                ("lowerdir", "lower"),
                ("upperdir", "upper"),
                ("workdir", "work"),
            ])
        {
            said.extend(words);
        }

        let why = with(
            format!("no server's overlay can be mounted there: {}", errno.desc()),
            &said,
        );

        let advice = match errno {
            Errno::ENODEV => "the kernel has no overlayfs: `modprobe overlay`".to_owned(),
            Errno::EPERM | Errno::EACCES => "in a container: let it mount overlays (LXC: \
                 a privileged one, or nesting); else see the kernel's log"
                .to_owned(),
            _ => ADVICE.to_owned(),
        };

        OverlayVerdict::Unfit { why, advice }
    }

    /// Uses the mount as a game does.
    fn use_it(&self) -> Result<(), Fault> {
        let merged = self.runtime.merged.path.as_path();
        let needed = |what: &str, error: std::io::Error| Fault::Needed(format!("{what}: {error}"));
        let kept = merged.join(KEPT);
        append(&kept, "game\n")
            .map_err(|error| needed("a file of an overlay cannot be written", error))?;

        let is_changed = fs::read_to_string(&kept).is_ok_and(|text| text == "lower\ngame\n");
        let is_untouched =
            fs::read_to_string(self.lower.path.join(KEPT)).is_ok_and(|text| text == "lower\n");
        if !is_changed || !is_untouched {
            return Err(Fault::Needed(
                "what is written to a file of an overlay does not stay".to_owned(),
            ));
        }

        let (new, renamed) = (merged.join("new.cfg"), merged.join("renamed.cfg"));
        append(&new, "game\n")
            .and_then(|()| fs::rename(&new, &renamed))
            .and_then(|()| fs::remove_file(&renamed))
            .map_err(|error| needed("a file cannot be made, renamed and deleted", error))?;

        let rare = |what: &str, why: &str| Fault::Rare(format!("{what}{why}"));
        // Deleting a file of a lower layer needs a whiteout.
        let deleted = "a file of an overlay that the game deletes stays in its directory";
        let gone = fs::remove_file(merged.join(DELETED));

        gone.map_err(|error| rare(deleted, &format!(": {error}")))?;
        if names(merged).is_none_or(|names| names.iter().any(|name| name == DELETED)) {
            return Err(rare(deleted, ""));
        }

        // Replacing a directory of a lower layer needs an opaque one.
        let replaced = "a directory of an overlay that the game replaces cannot be replaced";
        let directory = merged.join(REPLACED);

        fs::remove_dir_all(&directory)
            .and_then(|()| fs::create_dir(&directory))
            .map_err(|error| rare(replaced, &format!(": {error}")))?;
        if names(&directory).is_none_or(|names| !names.is_empty()) {
            return Err(rare(replaced, ""));
        }

        Ok(())
    }

    /// Checks whether the directories of the data can be lower layers. Each may be on another file
    /// system.
    fn other_layers(&mut self) -> Result<OverlayVerdict> {
        let failed = |errno| unusable(&self.all.path, errno);
        fchdir(&self.all).map_err(failed)?;

        for name in LAYERS {
            let path = format!("../../{name}");
            let Ok(_there) = open(path.as_str(), FLAGS | OFlag::O_PATH, Mode::empty()) else {
                continue;
            };
            if let Err((errno, mut said)) = configure(&[("lowerdir", &format!("lower:{path}"))]) {
                said.extend(self.log.overlayfs());
                let why = with(
                    format!("{name}/ cannot be a layer of an overlay: {}", errno.desc()),
                    &said,
                );

                return Ok(OverlayVerdict::Unfit {
                    why,
                    advice: ADVICE.to_owned(),
                });
            }
        }

        Ok(OverlayVerdict::Good)
    }
}

enum Fault {
    /// Every server needs it.
    Needed(String),
    /// Few games and plugins need it, so the installation is not refused.
    Rare(String),
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The names in a directory; none if they cannot be read.
fn names(path: &Path) -> Option<Vec<std::ffi::OsString>> {
    fs::read_dir(path)
        .ok()?
        .map(|entry| entry.map(|entry| entry.file_name()).ok())
        .collect()
}

/// `what (the kernel: …)`, with each message once.
fn with(what: String, said: &[String]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for one in said {
        if !words.contains(&one.as_str()) {
            words.push(one);
        }
    }

    if words.is_empty() {
        what
    } else {
        format!("{what} (the kernel: {})", words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_added_once_each() {
        let said = ["a".to_owned(), "b".to_owned(), "a".to_owned()];
        assert_eq!(with("no".to_owned(), &said), "no (the kernel: a; b)");
        assert_eq!(with("no".to_owned(), &[]), "no");
        assert!(
            NAME.parse::<crate::base::names::InstanceName>().is_err(),
            "no server has this name"
        );
    }
}
