//! The RCON password of a server: the game's configuration has it, and left4me-console reads it
//! from the file [`FILE`] of the instance. It is in no message, no log and no argument.

use std::fmt;
use std::io::{Error as IoError, ErrorKind, Read as _, Result as IoResult};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Error, Result, files};

/// The file in `instances/ID` that holds the password, on one line. The group left4me reads it.
pub const FILE: &str = "rcon_password";

/// A file in `instances/ID` that asks the next initialization for a new password.
pub const ROTATE: &str = "rcon_password.rotate";

const LENGTH: usize = 32;

/// A password of [`LENGTH`] letters and digits: 190 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct RconPassword(String);

impl fmt::Debug for RconPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RconPassword")
    }
}

impl RconPassword {
    /// A new one, from the kernel's random bits.
    pub fn generate() -> Result<Self> {
        const LETTERS: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        // Bytes from this on would make some letters more likely than others.
        const FAIR: u8 = 62 * 4;

        let mut password = String::with_capacity(LENGTH);
        let mut bytes = [0; LENGTH];
        while password.len() < LENGTH {
            getrandom::fill(&mut bytes).map_err(|error| {
                Error::unavailable(format!("no random bits from the kernel: {error}"))
            })?;

            let fair = bytes.iter().filter(|byte| **byte < FAIR);
            let letters = fair.map(|byte| char::from(LETTERS[usize::from(byte % 62)]));
            password.extend(letters.take(LENGTH - password.len()));
        }

        Ok(Self(password))
    }

    /// Reads the file. None if there is none.
    ///
    /// Fails if it is no regular file, if other users can access it, or if it holds no password.
    pub fn read(path: &Path) -> IoResult<Option<Self>> {
        let file = match files::open_to_read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };

        let wrong = |why: &str| IoError::new(ErrorKind::InvalidData, why);
        if file.metadata()?.mode() & 0o007 != 0 {
            return Err(wrong("other users can access this password"));
        }

        let mut text = String::new();
        file.take(2 * LENGTH as u64).read_to_string(&mut text)?;
        Self::parse(text.strip_suffix('\n').unwrap_or(&text))
            .map(Some)
            .ok_or_else(|| wrong("it holds no password"))
    }

    fn parse(text: &str) -> Option<Self> {
        let is_password =
            text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_password.then(|| Self(text.to_owned()))
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn passwords_differ_and_use_every_letter_and_digit() {
        let all: HashSet<String> = (0..200)
            .map(|_| RconPassword::generate().unwrap().expose().to_owned())
            .collect();
        assert_eq!(all.len(), 200);
        assert!(all.iter().all(|text| RconPassword::parse(text).is_some()));

        let letters: HashSet<char> = all.iter().flat_map(|text| text.chars()).collect();
        assert_eq!(letters.len(), 62);
    }

    #[test]
    fn only_a_closed_file_with_one_password_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let read = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            RconPassword::read(&path)
        };

        assert_eq!(RconPassword::read(&path).unwrap(), None);
        let good = RconPassword::generate().unwrap();
        let line = format!("{}\n", good.expose());
        assert_eq!(read(&line, 0o640).unwrap().as_ref(), Some(&good));
        assert_eq!(read(good.expose(), 0o600).unwrap().as_ref(), Some(&good));

        for (text, mode) in [
            (line.as_str(), 0o644),
            ("", 0o640),
            ("short\n", 0o640),
            (&format!("{line}\n"), 0o640),
            (&format!("{}\"; quit", &good.expose()[..24]), 0o640),
            (&line.repeat(9), 0o640),
        ] {
            let error = read(text, mode).unwrap_err().to_string();
            assert!(!error.contains(&good.expose()[..8]), "{error}");
        }

        assert!(RconPassword::read(dir.path()).is_err());
        assert!(!format!("{good:?}").contains(good.expose()));
    }
}
