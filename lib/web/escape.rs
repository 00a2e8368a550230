//! How templates write text: what HTML gives a meaning is escaped, and what turns a line around or
//! hides in it is shown as its number, wherever the text came from. The values of form fields are
//! written with `|escape("htm")`, askama's own escaping: they come back as they were sent.

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
