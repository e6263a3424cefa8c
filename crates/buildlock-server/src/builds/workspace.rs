//! Where a project's builds work: a folder with a name that is safe whatever the project's id.

use std::fmt::Write as _;

use buildlock::ProjectId;
use sha2::{Digest, Sha256};

/// How much of an id is left readable.
const READABLE_CHARS: usize = 40;

/// How many bytes of the id's hash tell folders apart: so many that nobody finds an id for another's
/// folder.
const HASH_BYTES: usize = 16;

/// The name of a project's folder: what of its id is harmless everywhere, and a hash of all of it. Two
/// ids never share one, also where upper and lower case are one.
pub(super) fn folder_name(project: &ProjectId) -> String {
    let id = project.as_str();
    let mut name = String::new();
    for c in id.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        if name.len() >= READABLE_CHARS {
            break;
        }
    }
    if !name.is_empty() && !name.ends_with('-') {
        name.push('-');
    }
    for byte in &Sha256::digest(id.as_bytes())[..HASH_BYTES] {
        // A String takes all that is written.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_project_has_a_folder_of_its_own_with_a_harmless_name() {
        let long = "x".repeat(200);
        let ids = ["my-site", "My-Site", "../x", "a/b", "a-b", ".", "..", "🏗️", " ", "CON", "-rf", "~", "$HOME", &long];
        let names: Vec<String> = ids.iter().map(|id| folder_name(&id.parse().unwrap())).collect();
        for name in &names {
            assert!(name.len() <= READABLE_CHARS + 1 + 2 * HASH_BYTES, "{name}");
            assert!(name.starts_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase() || c == '-'), "{name}");
        }
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), ids.len());
        assert!(names[0].starts_with("my-site-"), "{}", names[0]);
    }
}
