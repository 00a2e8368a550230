//! Reads small text files named on a command line.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::{Error, Result, accounts, encoding};

/// Reads a text file of at most `limit` bytes; removes the byte order mark and carriage returns.
/// `-` is standard input.
///
/// Fails if the file does not exist, may not be read, is too large or is not UTF-8. The error
/// contains no byte of the text.
pub fn read(path: &Path, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(limit + 1)
            .read_to_end(&mut bytes)
    } else {
        fs_err::File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
    };

    checked(path, limit, bytes, read)
}

/// As [`read`], for an open file.
pub fn read_opened(file: &File, path: &Path, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    checked(path, limit, bytes, read)
}

fn checked(
    path: &Path,
    limit: u64,
    bytes: Vec<u8>,
    read: std::io::Result<usize>,
) -> Result<String> {
    let shown = path.display();
    match read {
        Ok(_) if bytes.len() as u64 > limit => Err(Error::usage(format!(
            "{shown} is too large: at most {limit} bytes are allowed"
        ))),
        Ok(_) => encoding::decode(bytes).map_err(|why| Error::usage(format!("{shown} is {why}"))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::usage(format!("{shown} does not exist")))
        }
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            Err(Error::usage(format!("{shown} is a directory")))
        }
        // Root reads as left4me, but the file may be readable only for root.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Error::not_permitted(format!(
                "{shown} cannot be read by {}: use `-` and pass the text on standard input",
                user()
            )))
        }
        Err(error) => Err(error.into()),
    }
}

/// The name of the current user.
fn user() -> String {
    let uid = nix::unistd::geteuid();
    accounts::by_uid(uid).map_or_else(|| format!("user id {uid}"), |account| account.name)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_file_too_large_not_text_or_missing_is_a_usage_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert_eq!(read(&path, 4).unwrap_err().exit.code(), 2);
        assert_eq!(read(dir.path(), 4).unwrap_err().exit.code(), 2);

        std::fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), "four");
        assert_eq!(read(&path, 3).unwrap_err().exit.code(), 2);

        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read(&path, 4).unwrap_err().exit.code(), 2);
    }
}
