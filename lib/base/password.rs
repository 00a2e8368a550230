//! Password hashing: argon2id with 19 MiB, two passes and one lane, as in OWASP's password storage
//! cheat sheet.

use argon2::password_hash::PasswordVerifier as _;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};

use super::{Error, Result};

/// Minimum length of a password, in characters.
pub const MIN_LENGTH: usize = 10;

/// Maximum length of a password, in bytes: hashing must not become a denial of service.
pub const MAX_BYTES: usize = 1024;

/// Refuses a password that is too short, too long, or has control characters.
///
/// Errors: Names the broken rule; the message does not contain the password.
pub fn check(password: &str) -> Result<()> {
    if password.chars().count() < MIN_LENGTH {
        return Err(Error::usage(format!(
            "the password is too short: at least {MIN_LENGTH} characters are needed"
        )));
    }

    if password.len() > MAX_BYTES {
        return Err(Error::usage(format!(
            "the password is too long: at most {MAX_BYTES} bytes are allowed"
        )));
    }

    if password.contains(char::is_control) {
        return Err(Error::usage(
            "the password has a control character or a line break",
        ));
    }

    Ok(())
}

/// The hash of a password in PHC form, with a new salt. Takes about 30 ms and 19 MiB.
pub fn hash(password: &str) -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::unavailable(format!("the password cannot be hashed: {error}"))
    };
    let hashed = hasher()
        .map_err(|error| failed(&error))?
        .hash_password(password.as_bytes());
    hashed
        .map(|hash| hash.to_string())
        .map_err(|error| failed(&error))
}

/// Whether `password` matches `hash`. A damaged hash matches no password.
pub fn verify(password: &str, hash: &str) -> bool {
    let parsed = argon2::password_hash::phc::PasswordHash::new(hash);
    password.len() <= MAX_BYTES
        && parsed.is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        })
}

fn hasher() -> argon2::Result<Argon2<'static>> {
    Ok(Argon2::new(
        Algorithm::Argon2id,
        Version::V0x13,
        Params::new(19_456, 2, 1, None)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_only_its_own_hash() {
        let hashed = hash("correct horse").unwrap();
        assert!(
            hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hashed}"
        );

        assert!(verify("correct horse", &hashed));
        assert!(!verify("correct house", &hashed) && !verify("x", "damaged") && !verify("", ""));
        assert_ne!(
            hashed,
            hash("correct horse").unwrap(),
            "the salt is new each time"
        );
    }

    #[test]
    fn a_password_has_ten_characters_and_no_line_break() {
        assert!(check("ünïcödé-10").is_ok());
        for bad in ["short", "with\nbreak in it", &"x".repeat(2000)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
