//! Paths of the API. An id is data: whatever it has in it stays within its segment.

use std::fmt::Write;

use buildlock_core::ProjectId;

use crate::wire::PATH_GUARD;

/// The path of a project.
pub(super) fn of_project(project: &ProjectId) -> String {
    let mut id = project.as_str().to_owned();
    if id == "." || id == ".." {
        id.push(PATH_GUARD);
    }
    format!("/v1/projects/{}", encoded(&id))
}

/// Percent-encodes all but what never means anything in a URL.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // To write to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_one_segment_of_the_path() {
        for (id, path) in [
            ("my-site", "/v1/projects/my-site"),
            ("a/b", "/v1/projects/a%2Fb"),
            ("../x", "/v1/projects/..%2Fx"),
            ("a?b#c%20", "/v1/projects/a%3Fb%23c%2520"),
            ("é 🏗", "/v1/projects/%C3%A9%20%F0%9F%8F%97"),
            (".", "/v1/projects/.%7F"),
            ("..", "/v1/projects/..%7F"),
            ("...", "/v1/projects/..."),
        ] {
            assert_eq!(of_project(&id.parse().unwrap()), path);
            let url = reqwest::Url::parse(&format!("http://host{path}")).unwrap();
            assert_eq!(url.path(), path, "a URL parser leaves it as it is");
        }
    }
}
