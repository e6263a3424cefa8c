//! Reading a table of the file key by key: what is left at its end is unknown. Every error names the
//! line, the key and what is allowed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// How alike two keys are when one may be meant by the other: 1 is equal (Jaro-Winkler).
const ALIKE: f64 = 0.8;

/// The file, for messages.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// An error at a place in the file.
    pub(super) fn error(&self, offset: usize, problem: impl Into<String>) -> ConfigError {
        let line = self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::Invalid { path: self.path.to_owned(), line, problem: problem.into() }
    }
}

/// A table of the file, such as `[builds]`, whose keys are taken out one by one.
pub(super) struct Section<'a> {
    pub(super) source: Source<'a>,
    /// Its name as a header shows it, without brackets; empty for the whole file.
    pub(super) name: String,
    /// Where it begins.
    pub(super) offset: usize,
    table: DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn whole(source: Source<'a>) -> Result<Self, ConfigError> {
        let table = DeTable::parse(source.text).map_err(|error| {
            source.error(error.span().map_or(0, |span| span.start), error.message().trim_end().to_owned())
        })?;
        Ok(Self { source, name: String::new(), offset: 0, table: table.into_inner(), known: Vec::new() })
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// The key as messages show it.
    fn place(&self, key: &str) -> String {
        if self.name.is_empty() { format!("{key:?}") } else { format!("{key:?} in [{}]", self.name) }
    }

    /// What is wrong with the value of a key.
    pub(super) fn bad(&self, key: &str, offset: usize, problem: impl std::fmt::Display) -> ConfigError {
        self.source.error(offset, format!("{} {problem}", self.place(key)))
    }

    /// A table below this one; an empty one if it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Self, ConfigError> {
        let value = self.take(key);
        let offset = value.as_ref().map_or(self.offset, |value| value.span().start);
        let table = match value.map(Spanned::into_inner) {
            None => DeTable::new(),
            Some(DeValue::Table(table)) => table,
            Some(other) => return Err(self.wrong_type(key, offset, &other, "a table")),
        };
        Ok(self.below(key, offset, table))
    }

    /// All tables below this one, by their names.
    pub(super) fn sections(mut self) -> Result<Vec<(String, Self)>, ConfigError> {
        let mut sections = Vec::new();
        for (key, value) in std::mem::take(&mut self.table) {
            let offset = key.span().start;
            let key = key.into_inner().into_owned();
            match value.into_inner() {
                DeValue::Table(table) => {
                    let section = self.below(&key, offset, table);
                    sections.push((key, section));
                }
                other => return Err(self.wrong_type(&key, offset, &other, "a table")),
            }
        }
        Ok(sections)
    }

    fn below(&self, key: &str, offset: usize, table: DeTable<'a>) -> Self {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        Self { source: self.source, name, offset, table, known: Vec::new() }
    }

    fn wrong_type(&self, key: &str, offset: usize, value: &DeValue<'_>, wanted: &str) -> ConfigError {
        self.bad(key, offset, format_args!("is of type {}; it must be {wanted}", value.type_str()))
    }

    /// A text, and where it stands.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<(String, usize)>, ConfigError> {
        self.take(key).map(|value| self.as_text(key, value, "a text")).transpose()
    }

    fn as_text(&self, key: &str, value: Spanned<DeValue<'a>>, wanted: &str) -> Result<(String, usize), ConfigError> {
        let offset = value.span().start;
        match value.into_inner() {
            DeValue::String(text) => Ok((text.into_owned(), offset)),
            other => Err(self.wrong_type(key, offset, &other, wanted)),
        }
    }

    /// A list of texts, and where each stands.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Option<Vec<(String, usize)>>, ConfigError> {
        const WANTED: &str = "a list of texts, such as [\"sh\", \"generate.sh\"]";
        let Some(value) = self.take(key) else { return Ok(None) };
        let offset = value.span().start;
        match value.into_inner() {
            DeValue::Array(values) => {
                values.into_iter().map(|value| self.as_text(key, value, WANTED)).collect::<Result<_, _>>().map(Some)
            }
            other => Err(self.wrong_type(key, offset, &other, WANTED)),
        }
    }

    /// A table of texts, and where each stands.
    pub(super) fn table_of_texts(&mut self, key: &'static str) -> Result<Vec<(String, String, usize)>, ConfigError> {
        let section = self.section(key)?;
        let entries = section.table.iter().map(|(name, value)| {
            let (text, offset) = section.as_text(name.get_ref(), value.clone(), "a text")?;
            Ok((name.get_ref().clone().into_owned(), text, offset))
        });
        entries.collect()
    }

    /// A path; a relative one is in the folder of the file.
    pub(super) fn path(&mut self, key: &'static str, folder: &Path) -> Result<Option<PathBuf>, ConfigError> {
        match self.text(key)? {
            Some((text, offset)) if text.is_empty() => Err(self.bad(key, offset, "is empty; name a folder")),
            text => Ok(text.map(|(text, _)| folder.join(text))),
        }
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        bounds: std::ops::RangeInclusive<Duration>,
        allowed: &str,
    ) -> Result<Option<Duration>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let (text, offset) = self.as_text(key, value, "a duration, such as \"30s\" or \"10m\"")?;
        match duration(&text).filter(|duration| bounds.contains(duration)) {
            Some(duration) => Ok(Some(duration)),
            None => Err(self.bad(key, offset, format_args!("is {text:?}; allowed: {allowed}"))),
        }
    }

    /// A size in bytes within bounds.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        bounds: std::ops::RangeInclusive<u64>,
        allowed: &str,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let offset = value.span().start;
        let (bytes, shown) = match value.into_inner() {
            DeValue::String(text) => (size(&text), format!("{text:?}")),
            DeValue::Integer(number) => (number.to_string().parse().ok(), number.to_string()),
            other => return Err(self.wrong_type(key, offset, &other, "a size, such as \"64MiB\"")),
        };
        match bytes.filter(|bytes| bounds.contains(bytes)) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(self.bad(key, offset, format_args!("is {shown}; allowed: {allowed}"))),
        }
    }

    /// A whole number within bounds.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        bounds: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let offset = value.span().start;
        let DeValue::Integer(number) = value.get_ref() else {
            return Err(self.wrong_type(key, offset, value.get_ref(), "a whole number"));
        };
        match number.to_string().parse().ok().filter(|number| bounds.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = bounds.into_inner();
                Err(self.bad(key, offset, format_args!("is {number}; allowed: {least} to {most}")))
            }
        }
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), ConfigError> {
        let Some((key, _)) = self.table.iter().next() else { return Ok(()) };
        let name = key.get_ref();
        let alike = self.known.iter().map(|known| (strsim::jaro_winkler(known, name), known));
        let hint = match alike.filter(|(alike, _)| *alike >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((_, meant)) => format!("did you mean {meant:?}?"),
            None => format!("known: {}", self.known.join(", ")),
        };
        let problem = format!("unknown key {}; {hint}", self.place(name));
        Err(self.source.error(key.span().start, problem))
    }
}

/// A duration with its unit, such as `90s`, `1h30m` or `7d`.
fn duration(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let duration: SignedDuration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    duration.try_into().ok()
}

/// A size with its unit, such as `64MiB`.
fn size(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        for bad in ["", "30", "-5s", "soon", "5 parsecs", "1mo"] {
            assert_eq!(duration(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_size_may_have_a_unit() {
        assert_eq!(size("512"), Some(512));
        assert_eq!(size("16KiB"), Some(16_384));
        assert_eq!(size("64 MiB"), Some(64 << 20));
        assert_eq!(size("1GB"), Some(1_000_000_000));
        for bad in ["", "KiB", "-1", "1.5MiB", "1 parsec", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad:?}");
        }
    }
}
