//! Any text as PostgreSQL keeps it, which knows no NUL. What a program prints may have one, and is kept as it is.

use std::borrow::Cow;

/// Begins a pair that stands for one character. It is no character of any script.
const ESCAPE: char = '\u{10FFFF}';

/// What follows it.
const NUL: char = '0';
const ITSELF: char = '1';

/// A text as it is written to a column.
pub(super) fn kept(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return text.into();
    }
    let mut kept = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => kept.extend([ESCAPE, NUL]),
            ESCAPE => kept.extend([ESCAPE, ITSELF]),
            c => kept.push(c),
        }
    }
    kept.into()
}

/// The text that was written to a column.
pub(super) fn said(kept: String) -> String {
    if !kept.contains(ESCAPE) {
        return kept;
    }
    let mut said = String::with_capacity(kept.len());
    let mut chars = kept.chars().peekable();
    while let Some(c) = chars.next() {
        // A pair that is none was written by somebody else, and is shown as it stands.
        let stands_for = match (c, chars.peek()) {
            (ESCAPE, Some(&NUL)) => Some('\0'),
            (ESCAPE, Some(&ITSELF)) => Some(ESCAPE),
            _ => None,
        };
        said.push(stands_for.unwrap_or(c));
        if stands_for.is_some() {
            chars.next();
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back_as_it_was() {
        for text in
            ["", "plain", "\0", "a\0b\0\0", "\u{10FFFF}", "\u{10FFFF}0", "\u{10FFFF}\0", "1\u{10FFFF}\u{10FFFF}1"]
        {
            let column = kept(text).into_owned();
            assert!(!column.contains('\0'), "{column:?}");
            assert_eq!(said(column), text);
        }
        assert_eq!(said("\u{10FFFF}x\u{10FFFF}".to_owned()), "\u{10FFFF}x\u{10FFFF}");
    }
}
