//! Secrets that we hand out: 256 random bits as text. Kept is only their SHA-256; a secret is as strong as its bits, so the
//! fast hash is the right one: there is no dictionary to try.

use sha2::{Digest as _, Sha256};

use super::{Error, Result};

/// 256 bits from the kernel, in hexadecimal: 64 characters.
///
/// # Errors
/// 69 when the kernel gives none.
pub fn random() -> Result<String> {
    let mut bits = [0_u8; 32];
    getrandom::fill(&mut bits)
        .map_err(|error| Error::unavailable(format!("no random bits from the kernel: {error}")))?;
    Ok(hex(&bits))
}

/// What is kept of a secret's text.
#[must_use]
pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Bytes in hexadecimal, lower case.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // A String takes everything.
        write!(text, "{byte:02x}").ok();
        text
    })
}
