//! The mounts of this process, from /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::base::Result;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory within the file system that is mounted.
    pub root: PathBuf,
    pub point: PathBuf,
    /// Its file system, such as `overlay` or `cgroup2`.
    pub kind: String,
    /// Its source; free text for file systems without a device.
    pub source: String,
}

/// All mounts that this process sees, oldest first.
pub fn all() -> Result<Vec<Mount>> {
    Ok(parse(&fs_err::read("/proc/self/mountinfo")?))
}

/// The mounts at `point`; the last one is on top.
pub fn at(point: &Path) -> Result<Vec<Mount>> {
    Ok(all()?
        .into_iter()
        .filter(|mount| mount.point == point)
        .collect())
}

/// The mount that `path` is on, which must be without symbolic links; none if /proc does not say.
pub fn of(path: &Path) -> Result<Option<Mount>> {
    let above = all()?
        .into_iter()
        .filter(|mount| path.starts_with(&mount.point));
    // Of several at one point, the last one is on top.
    Ok(above.max_by_key(|mount| mount.point.components().count()))
}

fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let root = path(words.nth(3)?);
    let point = path(words.next()?);
    // A variable number of optional fields ends with a hyphen.
    words.find(|word| *word == b"-")?;

    let kind = String::from_utf8_lossy(words.next()?).into_owned();
    let source = path(words.next()?).to_string_lossy().into_owned();
    Some(Mount {
        root,
        point,
        kind,
        source,
    })
}

/// Undoes the kernel's octal escapes of space, tab, line feed and backslash.
fn path(word: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        let is_octal = |digits: &&[u8]| digits.iter().all(|digit| matches!(digit, b'0'..=b'7'));
        let digits = tail.get(..3).filter(is_octal).filter(|_| byte == b'\\');
        let value = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let value = value.and_then(|digits| u8::from_str_radix(digits, 8).ok());

        out.push(value.unwrap_or(byte));
        rest = if value.is_some() { &tail[3..] } else { tail };
    }

    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mountinfo_is_read_with_its_escapes() {
        let text =
            b"36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 shared:2 - overlay left4me-1:ab \
                    rw,lowerdir=/x\n\
            37 35 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let mounts = parse(text);

        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, Path::new("/a b"));
        assert_eq!(
            (mounts[0].kind.as_str(), mounts[0].source.as_str()),
            ("overlay", "left4me-1:ab")
        );

        assert_eq!(
            (mounts[1].root.as_path(), mounts[1].kind.as_str()),
            (Path::new("/"), "cgroup2")
        );
    }

    #[test]
    fn this_machine_has_a_root_mount() {
        assert!(!at(Path::new("/")).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }
    }
}
