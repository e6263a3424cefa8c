//! A builder's output, cut into lines of bounded length.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// How much is read at once: what a pipe holds.
const READ_BYTES: usize = 64 << 10;

/// An output, read line by line.
pub(super) struct Lines<R> {
    output: BufReader<R>,
    line: Line,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `limit` bytes.
    pub(super) fn of(output: R, limit: usize) -> Self {
        let line = Line { bytes: Vec::new(), cut: 0, limit };
        Self { output: BufReader::with_capacity(READ_BYTES, output), line }
    }

    /// The next line; none at the output's end. Cancel-safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            let part = self.output.fill_buf().await?;
            if part.is_empty() {
                return Ok((!self.line.bytes.is_empty()).then(|| self.line.end()));
            }
            let newline = part.iter().position(|byte| *byte == b'\n');
            self.line.add(&part[..newline.unwrap_or(part.len())]);
            let used = newline.map_or(part.len(), |newline| newline + 1);
            self.output.consume(used);
            if newline.is_some() {
                return Ok(Some(self.line.end()));
            }
        }
    }
}

/// A line as far as it was read.
struct Line {
    bytes: Vec<u8>,
    /// How many bytes were beyond the limit.
    cut: u64,
    limit: usize,
}

impl Line {
    fn add(&mut self, part: &[u8]) {
        let room = (self.limit - self.bytes.len()).min(part.len());
        self.bytes.extend_from_slice(&part[..room]);
        self.cut += (part.len() - room) as u64;
    }

    /// The line as text, and a new one begins.
    fn end(&mut self) -> String {
        let cut = std::mem::take(&mut self.cut);
        let mut bytes = self.bytes.as_slice();
        if cut == 0 {
            bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        } else if let Err(error) = std::str::from_utf8(bytes)
            && error.error_len().is_none()
        {
            // The limit fell within a character.
            bytes = &bytes[..error.valid_up_to()];
        }
        let mut text = visible(bytes);
        if cut > 0 {
            text.push_str(&format!(" … [{cut} bytes more]"));
        }
        self.bytes.clear();
        text
    }
}

/// Bytes as text; those that are no UTF-8, and NUL, as `\xNN`.
fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for (n, part) in chunk.valid().split('\0').enumerate() {
            if n > 0 {
                text.push_str("\\x00");
            }
            text.push_str(part);
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(output: &[u8], limit: usize) -> Vec<String> {
        let mut reader = Lines::of(output, limit);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn lines_end_with_newlines_or_the_output() {
        assert_eq!(lines(b"", 80).await, [""; 0]);
        assert_eq!(lines(b"a\n\nb\r\nc", 80).await, ["a", "", "b", "c"]);
        assert_eq!(lines("é 🏗\n".as_bytes(), 80).await, ["é 🏗"]);
    }

    #[tokio::test]
    async fn what_is_no_text_is_made_visible() {
        assert_eq!(lines(b"a\xff\xfeb\0c\n", 80).await, [r"a\xff\xfeb\x00c"]);
        assert_eq!(lines(b"\xf0\x9f\n", 80).await, [r"\xf0\x9f"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_says_so() {
        let mut output = vec![b'x'; 1 << 20];
        output.extend_from_slice(b"\nnext\n");
        let got = lines(&output, 80).await;
        assert_eq!(got, [format!("{} … [{} bytes more]", "x".repeat(80), (1 << 20) - 80), "next".to_owned()]);
        // A character is not cut in two.
        assert_eq!(lines("aéz".as_bytes(), 2).await, ["a … [2 bytes more]"]);
    }
}
