//! What people read: sentences, times, and the block that says who is in the way.

use std::fmt::Write as _;
use std::time::Duration;

use buildlock::{Busy, Place, ProjectId, Timestamp, wire};
use jiff::tz::TimeZone;

use crate::typed::Typed;

/// A text that others chose, safe to print: characters that reorder or hide what stands beside
/// them are escaped.
pub(crate) fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_visible(c) {
            safe.push(c);
        } else {
            safe.extend(c.escape_unicode());
        }
    }
    safe
}

/// Whether a character shows itself, and neither reorders nor hides what stands beside it.
pub(crate) fn is_visible(c: char) -> bool {
    let reorders_or_hides =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    !c.is_control() && !reorders_or_hides
}

/// A project's id in a sentence.
pub(crate) fn quoted(project: &ProjectId) -> String {
    format!("\"{}\"", shown(project.as_str()))
}

/// A time in the reader's time zone.
pub(crate) fn time(time: Timestamp) -> String {
    wire::time(time).to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// A duration to the second, in its two largest units.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// 1st, 2nd, 3rd …
pub(crate) fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (1, 1..=10 | 12..) => "st",
        (2, 0..=11 | 13..) => "nd",
        (3, 0..=12 | 14..) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// Who is in the way of a project that is locked, and the exact next commands. `turn` is the one that
/// waits, for whoever wants the lock.
pub(crate) fn locked(project: &ProjectId, busy: &Busy, turn: Option<String>) -> String {
    let mut text = format!("{} is locked\n\n{}\n", quoted(project), self::busy(project, busy));
    let typed = Typed::now();
    let force = format!("--token {} --reason \"…\"", busy.lease.token);
    for (what, command) in [
        ("Wait for your turn:", turn),
        ("See how it goes on:", Some(typed.about("status", project, "--watch"))),
        ("If it is stuck:", Some(typed.about("force-unlock", project, &force))),
    ] {
        if let Some(command) = command {
            let _ = write!(text, "\n{what:<20} {command}");
        }
    }
    text
}

/// The block that says who holds a project.
pub(crate) fn busy(project: &ProjectId, busy: &Busy) -> String {
    let Busy { lease, queue_length } = busy;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    line("Project:", shown(project.as_str()));
    line("Holder:", shown(lease.holder.as_str()));
    line("Operation:", shown(lease.operation.as_str()));
    if !lease.message.as_str().is_empty() {
        line("Message:", shown(lease.message.as_str()));
    }
    line("Since:", time(lease.acquired_at));
    line("Until:", format!("{}, unless renewed", time(lease.ends_at())));
    line("Token:", lease.token.to_string());
    line("Waiting:", queue_length.to_string());
    text.truncate(text.trim_end().len());
    text
}

/// The wait has run out.
pub(crate) fn wait_over(project: &ProjectId, place: &Place) -> String {
    let ahead = match place.position {
        1 => "you were next in line".to_owned(),
        position => format!("you were {} in line", ordinal(position)),
    };
    let name = quoted(project);
    format!("the wait for {name} is over: it is still locked, {ahead}\n\n{}", busy(project, &place.busy))
}

/// Where a waiter stands.
pub(crate) fn place(project: &ProjectId, place: &Place, now: Timestamp) -> String {
    let lease = &place.busy.lease;
    let turn = match place.position {
        1 => "you are next".to_owned(),
        position => format!("you are {} in line", ordinal(position)),
    };
    format!(
        "{} is locked by {} ({}) for {}; {turn}",
        quoted(project),
        shown(lease.holder.as_str()),
        shown(lease.operation.as_str()),
        span(now.since(lease.acquired_at)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reorders_text_is_escaped() {
        assert_eq!(shown("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(shown("é 🏗"), "é 🏗");
    }

    #[test]
    fn ordinals_and_spans_read_well() {
        let ordinals: Vec<_> = [1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111].map(ordinal).into();
        assert_eq!(ordinals, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th"]);
        let spans: Vec<_> = [0, 59, 61, 3_661, 90_000].map(|s| span(Duration::from_secs(s))).into();
        assert_eq!(spans, ["0 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
