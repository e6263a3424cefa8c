//! The page: a few static files in the binary. It holds no secret and knows no project; what it shows
//! it asks of the API, as the caller that the session's cookie names.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::app::App;

#[derive(RustEmbed)]
#[folder = "page/"]
struct Files;

const INDEX: &str = "index.html";

/// Nothing from elsewhere, no inline script or style, in nobody's frame.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(crate) fn routes() -> Router<App> {
    // The page itself reads from its address what it shows: any text is a project's id.
    Router::new().route("/", get(index)).route("/build/{*project}", get(index)).route("/page/{file}", get(file))
}

async fn index(headers: HeaderMap) -> Response {
    answer(INDEX, &headers)
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    answer(&name, &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Response {
    let (Some(kind), Some(file)) = (kind(name), Files::get(name)) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let tag = tag(&file);
    let fresh = headers.get(header::IF_NONE_MATCH).is_some_and(|known| names(known, &tag));
    let mut response = if fresh { StatusCode::NOT_MODIFIED.into_response() } else { file.data.into_response() };
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        // Asked again each time, so that a newer server never meets an older page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(header::ETAG, tag);
    response
}

fn kind(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

fn tag(file: &EmbeddedFile) -> HeaderValue {
    let digits: String = file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("\"{digits}\"")).expect("hexadecimal digits in quotes are a header's value")
}

/// Whether `If-None-Match` names the tag. A layer that compresses may have made it a weak one.
fn names(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(known), Ok(tag)) = (known.to_str(), tag.to_str()) else { return false };
    known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
}
