//! Styles, scripts and icons. They are built into the program, and their URLs have a hash of their
//! content, so browsers may cache them without limit.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use crate::base::secret;
use crate::web::access::Access;
use crate::web::failure::Failure;
use crate::web::table::Table;

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const ALL: &[Asset] = &[
    Asset {
        name: "style.css",
        kind: "text/css; charset=utf-8",
        content: include_bytes!("assets/style.css"),
    },
    Asset {
        name: "app.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/app.js"),
    },
    Asset {
        name: "streams.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/streams.js"),
    },
    Asset {
        name: "log.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/log.js"),
    },
    Asset {
        name: "command.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/command.js"),
    },
    Asset {
        name: "icon.svg",
        kind: "image/svg+xml",
        content: include_bytes!("assets/icon.svg"),
    },
];

/// Changes whenever an asset does.
static STAMP: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    ALL.iter().for_each(|asset| digest.update(asset.content));
    secret::hex(&digest.finalize()[..6])
});

pub fn url(name: &str) -> String {
    format!("/assets/{}/{name}", *STAMP)
}

pub(super) fn routes(table: Table) -> Table {
    table
        .get(Access::Anyone, "/assets/{stamp}/{name}", show)
        .get(Access::Anyone, "/favicon.ico", icon)
}

async fn show(Path((stamp, name)): Path<(String, String)>) -> Result<Response, Failure> {
    let asset = ALL
        .iter()
        .find(|asset| asset.name == name)
        .filter(|_| stamp == *STAMP)
        .ok_or_else(Failure::no_page)?;
    Ok(content(asset, "public, max-age=31536000, immutable"))
}

async fn icon() -> Result<Response, Failure> {
    let asset = ALL
        .iter()
        .find(|asset| asset.name == "icon.svg")
        .ok_or_else(Failure::no_page)?;
    Ok(content(asset, "public, max-age=86400"))
}

fn content(asset: &Asset, cache: &'static str) -> Response {
    (
        [
            (header::CONTENT_TYPE, asset.kind),
            (header::CACHE_CONTROL, cache),
        ],
        asset.content,
    )
        .into_response()
}
