//! Secrets that left4me issues: 256 random bits as text. Only their SHA-256 is stored. A fast hash
//! is enough, because no dictionary contains random bits.

use sha2::{Digest as _, Sha256};

use super::{Error, Result};

/// 256 bits from the kernel, in hexadecimal: 64 characters.
pub fn random() -> Result<String> {
    let mut bits = [0_u8; 32];
    getrandom::fill(&mut bits)
        .map_err(|error| Error::unavailable(format!("no random bits from the kernel: {error}")))?;
    Ok(hex(&bits))
}

/// The hash of a secret, as it is stored.
pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Bytes in hexadecimal, lower case.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}
