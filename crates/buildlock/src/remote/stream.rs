//! Reads server-sent events from bytes as they come.

use crate::StoreError;

/// The longest line, and the longest event. The longest event of a lock is far below.
const LIMIT_BYTES: usize = 64 * 1024;

/// One event of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StreamEvent {
    /// Where the stream stands with it.
    pub(super) id: Option<u64>,
    /// Its name; empty for one that only tells where the stream stands.
    pub(super) name: String,
    /// What it says.
    pub(super) data: String,
}

/// Puts lines and events together.
#[derive(Debug, Default)]
pub(super) struct StreamReader {
    line: Vec<u8>,
    event: StreamEvent,
}

impl StreamReader {
    /// Takes what has come, and gives the events that are now complete.
    ///
    /// # Errors
    ///
    /// [`StoreError::Protocol`] if a line or an event is longer than any can be.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Vec<StreamEvent>, StoreError> {
        let mut events = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() + self.event.data.len() > LIMIT_BYTES {
                    return Err(StoreError::Protocol("an event is too long".to_owned()));
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if event != StreamEvent::default() {
                    events.push(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => self.event.id = value.parse().ok(),
                "event" => value.clone_into(&mut self.event.name),
                "data" => {
                    if !self.event.data.is_empty() {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                // Comments, and what a newer server may add.
                _ => {}
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u64, name: &str, data: &str) -> StreamEvent {
        StreamEvent { id: Some(id), name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_read_wherever_the_bytes_are_cut() {
        let text = ": hello\n\nid: 7\nevent: granted\ndata: {\"a\":1}\n\nretry: 1000\r\nid:8\r\ndata\r\ndata:x\r\n\r\nid: 9\n\n";
        let whole = StreamReader::default().read(text.as_bytes()).unwrap();
        assert_eq!(whole, [event(7, "granted", "{\"a\":1}"), event(8, "", "x"), event(9, "", "")]);
        for size in 1..text.len() {
            let mut reader = StreamReader::default();
            let cut: Vec<_> = text.as_bytes().chunks(size).flat_map(|bytes| reader.read(bytes).unwrap()).collect();
            assert_eq!(cut, whole, "cut into pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut reader = StreamReader::default();
        let endless = std::iter::repeat_n([b'x'; 1024], 100);
        assert!(endless.map(|bytes| reader.read(&bytes)).any(|read| read.is_err()));
    }
}
