//! Files of a folder that somebody else writes, opened so that nothing outside of it can be reached.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// A file that may be shown.
#[derive(Debug)]
pub(super) struct File {
    pub(super) content: fs::File,
    pub(super) bytes: u64,
    /// Its content type.
    pub(super) kind: &'static str,
    /// It was its folder that was asked for.
    pub(super) is_index: bool,
}

const INDEX: &str = "index.html";

/// Opens a file below a folder; of a folder, its `index.html`. None if there is none that may be shown:
/// links are not followed, names that begin with a dot are nobody's to see, and only regular files are
/// files.
pub(super) fn open(root: &Path, inside: &Path) -> Option<File> {
    // Folder by folder, each from the one before: whoever moves one meanwhile leads nobody astray.
    let mut at = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // A pipe would have its reader wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut name = OsStr::new(INDEX);
    for part in inside.components() {
        let Component::Normal(part) = part else { return None };
        if part.as_encoded_bytes().starts_with(b".") {
            return None;
        }
        at = openat(&at, part, flags, Mode::empty()).ok()?;
        name = part;
    }
    let mut content = fs::File::from(at);
    let is_index = content.metadata().ok()?.is_dir();
    if is_index {
        content = openat(&content, INDEX, flags, Mode::empty()).ok()?.into();
        name = INDEX.as_ref();
    }
    let about = content.metadata().ok()?;
    about.is_file().then(|| File { content, bytes: about.len(), kind: kind(name), is_index })
}

/// The content type that a file's name says.
fn kind(name: &OsStr) -> &'static str {
    let ending = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_but_files_below_the_folder_is_opened() {
        let place = tempfile::tempdir().unwrap();
        let (root, secret) = (place.path().join("workspace"), place.path().join("secret.txt"));
        fs::create_dir_all(root.join("site/about")).unwrap();
        fs::create_dir(root.join("site/empty")).unwrap();
        fs::create_dir(root.join("site/.git")).unwrap();
        for file in ["site/index.html", "site/about/index.html", "site/a b é.css", "site/.env", "site/.git/config"] {
            fs::write(root.join(file), file).unwrap();
        }
        fs::write(&secret, "secret").unwrap();
        fs::write(root.join("draft"), "secret").unwrap();
        symlink(&secret, root.join("site/link.txt")).unwrap();
        symlink(place.path(), root.join("site/up")).unwrap();
        symlink("index.html", root.join("site/alias.html")).unwrap();
        rustix::fs::mkfifoat(CWD, root.join("site/pipe"), Mode::RUSR | Mode::WUSR).unwrap();

        let read = |path: &str| {
            let file = open(&root, &Path::new("site").join(path))?;
            let mut text = String::new();
            (&file.content).read_to_string(&mut text).unwrap();
            assert_eq!(file.bytes, text.len() as u64);
            Some((text, file.kind, file.is_index))
        };
        let html = "text/html; charset=utf-8";
        for (path, file, kind, is_index) in [
            ("", "site/index.html", html, true),
            ("index.html", "site/index.html", html, false),
            ("about", "site/about/index.html", html, true),
            ("about/", "site/about/index.html", html, true),
            ("a b é.css", "site/a b é.css", "text/css; charset=utf-8", false),
        ] {
            assert_eq!(read(path), Some((file.to_owned(), kind, is_index)), "{path}");
        }
        for path in [
            "../draft",
            "..",
            "about/../../draft",
            "/etc/passwd",
            "//etc/passwd",
            "link.txt",
            "up/secret.txt",
            "up",
            "alias.html",
            "pipe",
            "empty",
            ".env",
            ".git/config",
            "no such file",
            "index.html/x",
            "nul\0",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
        assert!(open(&place.path().join("no workspace"), Path::new("site")).is_none());
    }
}
