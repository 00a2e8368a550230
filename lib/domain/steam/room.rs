//! Whether the disk has room for a build, as far as that is known before steamcmd starts. A refusal
//! needs proof: where files may take less than they seem to, it is a warning.

use crate::domain::build::Size;
use crate::domain::disk::gib;

/// How a file system stores files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Files take their size, and so do copies (ext4, tmpfs).
    Plain,
    /// Files take their size; copies may share it (xfs).
    MayShare,
    /// Files may be compressed (btrfs, zfs), or it is not known.
    Unknown,
}

/// What is known before a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub build: u64,
    pub size: Size,
    /// What Steam said is still true: it was asked a moment ago.
    pub is_recent: bool,
    /// The bytes that installation/ takes already.
    pub present: u64,
    /// Whether steamcmd never installed there: then all files are copied for servers.
    pub is_first: bool,
    /// Whether servers use a copy (LEFT4ME_BUILDS=beside).
    pub is_copied: bool,
    pub free: u64,
    pub storage: Storage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// As far as it is known.
    Enough,
    /// It is likely too little: what to say.
    Doubtful(String),
    /// It is too little: why.
    Missing(String),
}

/// Whether there is room to install or update in `place`.
pub fn judge(known: &Known, place: &str) -> Room {
    // At the end all files are there, and no more than what is there now can be used again.
    let growth = known.size.files.saturating_sub(known.present);
    // Files that an update leaves alone are not copied, and which ones those are shows only later.
    let copy = match known.is_copied && known.is_first {
        true => known.size.files,
        false => 0,
    };

    let proved = match known.storage {
        _ if !known.is_recent => 0,
        Storage::Plain => growth.saturating_add(copy),
        Storage::MayShare => growth,
        Storage::Unknown => 0,
    };
    if known.free < proved {
        return Room::Missing(missing(known, growth, proved, place));
    }

    // An update downloads all files at most, and then those are copied.
    let times = if known.is_copied { 2 } else { 1 };
    let likely = match known.is_first {
        true => growth.saturating_add(copy),
        false => growth.max(known.size.download.saturating_mul(times)),
    };
    if known.free < likely {
        return Room::Doubtful(format!(
            "build {} may need up to {} in {place}, and {} are free: if the disk gets full, \
             {ADVICE}",
            known.build,
            gib(likely),
            gib(known.free)
        ));
    }

    Room::Enough
}

const ADVICE: &str = "make room (old backups, overlays that no blueprint uses, \
                      `left4me build remove`), then try again";

fn missing(known: &Known, growth: u64, proved: u64, place: &str) -> String {
    let Known { build, free, .. } = known;
    let (growth_gib, free) = (gib(growth), gib(*free));
    let more = if known.present > 0 && !known.is_first {
        " more"
    } else {
        ""
    };

    match proved > growth {
        false => {
            format!(
                "build {build} needs {growth_gib}{more} in {place}, and {free} are free: {ADVICE}"
            )
        }
        true => format!(
            "build {build} needs {growth_gib} in {place} and the same for the copy that servers \
             use, {} in all, and {free} are free: {ADVICE}; or set LEFT4ME_BUILDS=in-place, which \
             needs no copy",
            gib(proved)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A first installation beside, on ext4, of 10 GiB.
    const FIRST: Known = Known {
        build: 7,
        size: Size {
            files: 10 * GIB,
            download: 4 * GIB,
        },
        is_recent: true,
        present: 0,
        is_first: true,
        is_copied: true,
        free: 0,
        storage: Storage::Plain,
    };

    const UPDATE: Known = Known {
        present: 9 * GIB,
        is_first: false,
        ..FIRST
    };

    /// `enough`, `doubtful` or `missing` with so many GiB free.
    fn with(free: u64, known: Known) -> &'static str {
        let known = Known {
            free: free * GIB,
            ..known
        };
        match judge(&known, "/srv/l4d2") {
            Room::Enough => "enough",
            Room::Doubtful(_) => "doubtful",
            Room::Missing(_) => "missing",
        }
    }

    #[test]
    fn a_first_installation_needs_all_files_and_twice_where_copies_take_room() {
        assert_eq!((with(19, FIRST), with(20, FIRST)), ("missing", "enough"));
        let in_place = Known {
            is_copied: false,
            ..FIRST
        };
        assert_eq!(
            (with(9, in_place), with(10, in_place)),
            ("missing", "enough")
        );
        let begun = Known {
            present: 6 * GIB,
            ..FIRST
        };
        assert_eq!((with(13, begun), with(14, begun)), ("missing", "enough"));

        let xfs = Known {
            storage: Storage::MayShare,
            ..FIRST
        };
        let seen = [9, 10, 19, 20].map(|free| with(free, xfs));
        assert_eq!(seen, ["missing", "doubtful", "doubtful", "enough"]);
    }

    #[test]
    fn an_update_needs_what_the_files_grow_by_and_perhaps_the_download_twice() {
        let seen = [0, 1, 7, 8].map(|free| with(free, UPDATE));
        assert_eq!(seen, ["missing", "doubtful", "doubtful", "enough"]);
        let in_place = Known {
            is_copied: false,
            ..UPDATE
        };
        assert_eq!(
            (with(3, in_place), with(4, in_place)),
            ("doubtful", "enough")
        );
        let smaller = Known {
            present: 30 * GIB,
            ..UPDATE
        };
        assert_eq!(with(0, smaller), "doubtful", "it may fit");
    }

    #[test]
    fn nothing_is_refused_on_a_guess() {
        for known in [
            Known {
                storage: Storage::Unknown,
                ..FIRST
            },
            Known {
                is_recent: false,
                ..FIRST
            },
        ] {
            assert_eq!((with(0, known), with(20, known)), ("doubtful", "enough"));
        }
    }

    #[test]
    fn the_message_says_what_it_needs_what_is_there_and_what_to_do() {
        let words = |known: Known, parts: &[&str]| {
            let (Room::Missing(words) | Room::Doubtful(words)) = judge(&known, "/srv/l4d2") else {
                panic!("{known:?}")
            };
            for part in parts {
                assert!(words.contains(part), "{words}");
            }
        };

        let free = 3 * GIB + GIB / 2;
        words(
            Known { free, ..FIRST },
            &[
                "build 7 needs 10.0 GiB in /srv/l4d2 and the same for the copy",
                "20.0 GiB in all, and 3.5 GiB are free: make room",
                "LEFT4ME_BUILDS=in-place",
            ],
        );
        words(
            Known {
                free: GIB / 2,
                ..UPDATE
            },
            &["build 7 needs 1.0 GiB more in /srv/l4d2, and 0.5 GiB are free"],
        );
        words(
            Known { free, ..UPDATE },
            &["may need up to 8.0 GiB in /srv/l4d2, and 3.5 GiB are free"],
        );
    }
}
