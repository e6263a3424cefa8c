//! The command as it was typed, and the next one to type: ready to paste, on one line, whatever is in it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

use buildlock::ProjectId;

use crate::text::is_visible;

/// The words of a command line, the program's name first.
pub(crate) struct Typed(Vec<OsString>);

impl Typed {
    /// The command line that this process runs.
    pub(crate) fn now() -> Self {
        Self(env::args_os().collect())
    }

    /// Whether this option was typed.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options().0.iter().any(|word| word == option)
    }

    /// The same command, which waits so long.
    pub(crate) fn waiting(&self, wait: &str) -> String {
        let (options, rest) = self.options();
        let mut words = options.to_vec();
        without(&mut words, "--wait");
        words.extend(["--wait".into(), wait.into()]);
        words.extend_from_slice(rest);
        line(&words)
    }

    /// Another command about a project in the same store, with these options as they are to be typed.
    pub(crate) fn about(&self, verb: &str, project: &ProjectId, options: &str) -> String {
        let (typed, _) = self.options();
        let program = line(&typed[..1.min(typed.len())]);
        let store = line(&without(&mut typed.to_vec(), "--store"));
        let id = shell_word(OsStr::new(project.as_str()));
        let (first, last) = match project.as_str().starts_with('-') {
            true => (String::new(), format!("-- {id}")),
            false => (id, String::new()),
        };
        let parts = [program.as_str(), verb, &first, &store, options, &last];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// What comes before the `--` that ends the options, and the rest.
    fn options(&self) -> (&[OsString], &[OsString]) {
        let end = self.0.iter().position(|word| word == "--").unwrap_or(self.0.len());
        self.0.split_at(end)
    }
}

/// Takes an option with a value out of a command line: as `--name value`, or as `--name=value`.
fn without(words: &mut Vec<OsString>, name: &str) -> Vec<OsString> {
    let with_value = format!("{name}=");
    let is_it = |word: &OsString| word == name || word.as_bytes().starts_with(with_value.as_bytes());
    let Some(start) = words.iter().position(is_it) else { return Vec::new() };
    let end = if words[start] == name { start + 2 } else { start + 1 };
    words.drain(start..end.min(words.len())).collect()
}

fn line(words: &[OsString]) -> String {
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

/// A text as one word of a shell; what cannot be seen, or is no text, as `$'…'` has it.
fn shell_word(word: &OsStr) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Some(text) if text.chars().all(is_visible) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => escaped(word.as_bytes()),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut escaped = String::from("$'");
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\n' => escaped.push_str(r"\n"),
                '\t' => escaped.push_str(r"\t"),
                '\'' | '\\' => escaped.extend(['\\', c]),
                c if is_visible(c) => escaped.push(c),
                c => push_bytes(&mut escaped, c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        push_bytes(&mut escaped, part.invalid());
    }
    escaped + "'"
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // In octal, which has a fixed length: whatever comes next is no part of it.
        let _ = write!(text, r"\{byte:03o}");
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn typed(words: &[&str]) -> Typed {
        Typed(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn the_next_command_is_the_one_that_was_typed_and_waits() {
        for (words, next) in [
            (
                &["buildlock", "run", "my-site", "--", "npm", "run", "build"][..],
                "buildlock run my-site --wait 10m -- npm run build",
            ),
            (
                &["buildlock", "run", "-E", "3", "p", "--", "sh", "-c", "it's"],
                r"buildlock run -E 3 p --wait 10m -- sh -c 'it'\''s'",
            ),
            (&["./b", "lock", "a b", "--message", "one moment"], "./b lock 'a b' --message 'one moment' --wait 10m"),
            (&["b", "lock", "--wait", "0s", "p"], "b lock p --wait 10m"),
            (&["b", "run", "--wait=0s", "p", "--", "x", "--wait", "1s"], "b run p --wait 10m -- x --wait 1s"),
            (&["b", "lock", "--", "--help"], "b lock --wait 10m -- --help"),
        ] {
            assert_eq!(typed(words).waiting("10m"), next);
        }
    }

    #[test]
    fn another_command_is_about_the_same_store() {
        let id = |text: &str| text.parse().unwrap();
        let plain = typed(&["buildlock", "run", "my-site", "--", "--store", "x"]);
        assert_eq!(plain.about("status", &id("my-site"), "--watch"), "buildlock status my-site --watch");
        assert_eq!(plain.about("status", &id("a b"), ""), "buildlock status 'a b'");
        assert_eq!(plain.about("status", &id("--help"), "--watch"), "buildlock status --watch -- --help");
        assert_eq!(plain.about("status", &id("$(rm -rf)"), ""), "buildlock status '$(rm -rf)'");
        for store in [&["--store", "sqlite:a.db"][..], &["--store=sqlite:a.db"]] {
            let elsewhere = typed(&[&["b"], store, &["lock", "p"]].concat());
            assert_eq!(elsewhere.about("status", &id("p"), ""), format!("b status p {}", store.join(" ")));
        }
    }

    #[test]
    fn a_shell_reads_every_word_as_it_was() {
        for word in
            [&b"plain"[..], b"", b"a b", b"it's", b"a\nb\t'\\", b"\x1b[31m1", b"\xff7", "a\u{202e}b 🏗".as_bytes()]
        {
            let quoted = shell_word(OsStr::from_bytes(word));
            assert!(quoted.chars().all(is_visible), "{quoted:?}");
            let output = Command::new("bash").args(["-c", &format!("printf %s {quoted}")]).output().unwrap();
            assert_eq!(output.stdout, word, "{quoted}");
        }
    }
}
