//! Reads a secret from a file that root writes, so that it is in no process list and no settings
//! file.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt as _;
use sha2::{Digest as _, Sha256};

use super::{Error, Result};

/// Minimum length in bytes: a shorter secret could be guessed.
const MIN_LENGTH: usize = 32;
const MAX_LENGTH: u64 = 512;

/// The hash of a secret. Comparing hashes takes the same time for any text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Reads the single line of the file.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |what: &str| Error::usage(format!("{}: {what}", path.display()));
        let mut options = fs_err::OpenOptions::new();

        // Do not block on a FIFO.
        let file = options
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path);
        let file = file.map_err(|error| Error::unavailable(error.to_string()))?;
        let found = file
            .metadata()
            .map_err(|error| Error::unavailable(error.to_string()))?;

        if !found.is_file() {
            return Err(wrong("not a regular file"));
        }
        if found.permissions().mode() & 0o007 != 0 {
            return Err(wrong(
                "other users can read or write this secret: chown root:left4me and chmod 0640",
            ));
        }

        let mut text = String::new();
        let read = file.take(MAX_LENGTH + 2).read_to_string(&mut text);
        read.map_err(|_| wrong("the secret is not text"))?;

        let text = text.strip_suffix('\n').unwrap_or(&text);
        let is_good = (MIN_LENGTH..=MAX_LENGTH as usize).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_good {
            return Err(wrong(
                "the secret has to be one line of 32 to 512 \
                 letters and digits: `openssl rand -hex 32`",
            ));
        }

        Ok(Self::of(text.as_bytes()))
    }

    /// Whether `text` is the secret, in constant time.
    pub fn is(&self, text: &[u8]) -> bool {
        let other = Self::of(text);
        self.0
            .iter()
            .zip(other.0)
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
    }

    fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_long_line_that_other_users_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let read = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Secret::read(&path)
        };

        let good = "0123456789abcdef0123456789abcdef";

        let secret = read(&format!("{good}\n"), 0o640).unwrap();
        assert!(secret.is(good.as_bytes()) && !secret.is(b"") && !secret.is(&good.as_bytes()[1..]));
        assert_eq!(read(good, 0o600).unwrap(), secret);
        assert!(!format!("{secret:?}").contains("0123"));

        for (text, mode) in [
            (good, 0o644),
            (good, 0o642),
            ("", 0o640),
            (&good[1..], 0o640),
            (&format!("{good}\n\n"), 0o640),
            (&format!("{good} x"), 0o640),
            (&good.repeat(17), 0o640),
        ] {
            let error = read(text, mode).unwrap_err();
            assert!(
                error.exit.code() == 2 && !error.to_string().contains("89abcdef"),
                "{error}"
            );
        }

        assert_eq!(Secret::read(dir.path()).unwrap_err().exit.code(), 2);
        assert_eq!(
            Secret::read(&dir.path().join("none"))
                .unwrap_err()
                .exit
                .code(),
            69
        );
    }
}
