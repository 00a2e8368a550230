//! How templates write text. HTML's special characters are escaped, and characters that reverse or
//! hide text are shown by their number. Values of form fields use `|escape("htm")`, askama's own
//! escaping, so that they are sent back unchanged.

use std::fmt::{self, Write};

use askama::filters::{Escaper, Html};

use crate::base::visible::visible;

/// The escaper of `.html` templates (askama.toml).
#[derive(Clone, Copy, Debug)]
pub struct Visible;

impl Escaper for Visible {
    fn write_escaped_str<W: Write>(&self, dest: W, string: &str) -> fmt::Result {
        Html.write_escaped_str(dest, &visible(string))
    }
}
