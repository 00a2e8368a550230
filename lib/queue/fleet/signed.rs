//! Messages of the engine, before anything in them is believed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::keys::{PublicKey, Purpose};
use crate::wire::gate::{Message, SignedText};

/// A message with its bytes.
pub(super) struct Signed<'a> {
    message: &'a Message,
    signature: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl<'a> Signed<'a> {
    /// None if the message is not in the form of one.
    pub(super) fn read(message: &'a Message) -> Option<Self> {
        Some(Self {
            message,
            signature: STANDARD.decode(&message.signature).ok()?,
            body: STANDARD.decode(&message.body).ok()?,
        })
    }

    /// Whether this key signed the body for this purpose. The message names its key, so that a
    /// signature is verified once, not for each key that it could be of.
    pub(super) fn is_by(&self, key: &PublicKey, purpose: Purpose) -> bool {
        self.message.key == key.as_str() && key.verifies(purpose, &self.body, &self.signature)
    }
}

/// The same of a text that came as a question or an answer.
pub(super) fn is_by(text: &SignedText, key: &PublicKey, purpose: Purpose) -> bool {
    let signature = STANDARD.decode(&text.signature).unwrap_or_default();
    text.key == key.as_str() && key.verifies(purpose, text.body.as_bytes(), &signature)
}
