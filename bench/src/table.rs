//! What the benchmarks print: tables of numbers, and targets with the ratio reached.

use std::time::Duration;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

/// A limit that a benchmark's result should keep to.
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) limit: Limit,
    pub(crate) reached: f64,
    pub(crate) unit: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtLeast(least) => self.reached >= least,
            Limit::AtMost(most) => self.reached <= most,
        }
    }
}

/// A table whose first column is text and whose others are numbers.
pub(crate) struct Numbers(Table);

impl Numbers {
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(header);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Self(table)
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells);
    }

    pub(crate) fn print(&self) {
        println!("{}\n", self.0);
    }
}

pub(crate) fn print_targets(targets: &[Target]) {
    if targets.is_empty() {
        return;
    }
    let mut table = Numbers::new(&["target", "wanted", "reached", ""]);
    for target in targets {
        let wanted = match target.limit {
            Limit::AtLeast(least) => format!("at least {}", amount(least, target.unit)),
            Limit::AtMost(most) => format!("at most {}", amount(most, target.unit)),
        };
        let verdict = if target.is_met() { "meets" } else { "misses" };
        table.row([target.what.to_owned(), wanted, amount(target.reached, target.unit), verdict.to_owned()]);
    }
    table.print();
}

fn amount(number: f64, unit: &str) -> String {
    let number = if number >= 1_000.0 { count(number) } else { format!("{number:.2}") };
    format!("{number}{unit}")
}

/// A whole number with its thousands apart: 1,234,567.
pub(crate) fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1e3)
}

pub(crate) fn ratio(this: f64, that: f64) -> String {
    format!("{:.2}", this / that)
}

/// The middle one: what neither a slow nor a lucky round moves.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}
