//! How far the history may be read. Events get their numbers while transactions are under way, and these do not
//! end in that order: where a number is missing, its event may yet come. Whoever read on would miss it.

use std::time::Duration;

use tokio::time::Instant;

/// How long a gap may stay before it is asked who could still fill it: some other program's transaction may go
/// on for hours.
pub(super) const GAP_PATIENCE: Duration = Duration::from_millis(50);

/// When a gap is old: somebody keeps a transaction open, and there is no hurry.
const GAP_OLD_AFTER: Duration = Duration::from_secs(1);

/// What one look at the history showed of the transactions: those below `xmin` have all ended, none above
/// `xmax` has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Snapshot {
    pub(super) xmin: i64,
    pub(super) xmax: i64,
}

/// What is known of the history's end.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    /// Up to here nothing will come any more.
    settled: u64,
    gap: Option<Gap>,
}

/// Numbers are missing below `to`.
#[derive(Debug)]
struct Gap {
    to: u64,
    /// Whoever may still fill it had begun before this.
    xmax: i64,
    seen_at: Instant,
    /// Who may, of those who were asked for last.
    takers: Option<Vec<String>>,
}

impl Frontier {
    pub(super) fn at(settled: u64) -> Self {
        Self { settled, gap: None }
    }

    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Everything up to `contiguous` was seen without a gap, and then, after one, up to `newest`.
    pub(super) fn seen(&mut self, contiguous: Option<u64>, newest: u64, snapshot: Snapshot) {
        self.pass(snapshot);
        self.settled = self.settled.max(contiguous.unwrap_or_default());
        if self.settled < newest {
            // Passed at once or not: whoever looks next sees it.
            let _ = self.note(newest, snapshot);
        }
    }

    /// How many of these events, which come one after the other after `after`, may be read. `known` is what was
    /// settled before they were looked for: what was settled since may be missing among them.
    pub(super) fn readable(&mut self, known: u64, after: u64, ids: &[u64], snapshot: Snapshot) -> usize {
        let known = self.pass(snapshot).unwrap_or_default().max(known);
        let newest = ids.last().copied().unwrap_or_default();
        let mut reached = after.max(known);
        for (count, id) in ids.iter().enumerate() {
            if *id > reached + 1 {
                let is_passed = self.note(newest, snapshot).is_some_and(|passed| passed >= newest);
                return if is_passed { ids.len() } else { count };
            }
            reached = reached.max(*id);
            if after <= known {
                self.settled = self.settled.max(reached);
            }
        }
        ids.len()
    }

    /// Whether it is to be asked who may still fill the gap.
    pub(super) fn wants_takers(&self) -> bool {
        self.gap.as_ref().is_some_and(|gap| gap.seen_at.elapsed() >= GAP_PATIENCE)
    }

    /// Whether there is a gap that is not filled as soon as most are.
    pub(super) fn has_old_gap(&self) -> bool {
        self.gap.as_ref().is_some_and(|gap| gap.seen_at.elapsed() >= GAP_OLD_AFTER)
    }

    /// These transactions have taken numbers and have not ended.
    pub(super) fn takers(&mut self, now: Vec<String>) {
        let Some(gap) = &mut self.gap else { return };
        let left = match &gap.takers {
            None => now,
            Some(before) => now.into_iter().filter(|taker| before.contains(taker)).collect(),
        };
        if left.is_empty() {
            self.settled = self.settled.max(gap.to);
            self.gap = None;
        } else {
            gap.takers = Some(left);
        }
    }

    fn note(&mut self, to: u64, snapshot: Snapshot) -> Option<u64> {
        if self.gap.is_none() {
            self.gap = Some(Gap { to, xmax: snapshot.xmax, seen_at: Instant::now(), takers: None });
        }
        self.pass(snapshot)
    }

    /// Passes the gap if in this look at the history whoever could fill it has ended: up to where.
    fn pass(&mut self, snapshot: Snapshot) -> Option<u64> {
        let gap = self.gap.take_if(|gap| snapshot.xmin >= gap.xmax)?;
        self.settled = self.settled.max(gap.to);
        Some(gap.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Snapshot = Snapshot { xmin: 100, xmax: 100 };
    const BUSY: Snapshot = Snapshot { xmin: 90, xmax: 100 };

    #[test]
    fn without_a_gap_all_is_read() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.readable(0, 0, &[1, 2, 3], BUSY), 3);
        assert_eq!(frontier.settled(), 3);
    }

    #[test]
    fn a_gap_is_waited_for_until_its_filler_must_have_ended() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.readable(0, 0, &[1, 2, 5, 6], BUSY), 2);
        assert_eq!(frontier.readable(2, 2, &[5, 6, 7], Snapshot { xmin: 99, xmax: 120 }), 0);
        assert_eq!(frontier.readable(2, 2, &[3, 5, 6, 7], Snapshot { xmin: 99, xmax: 120 }), 1);
        assert_eq!(frontier.readable(3, 3, &[5, 6, 7], Snapshot { xmin: 100, xmax: 120 }), 3);
    }

    #[test]
    fn a_gap_that_nobody_can_fill_is_passed_at_once() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.readable(0, 0, &[7, 9], QUIET), 2);
        assert_eq!(frontier.settled(), 9);
    }

    #[test]
    fn a_transaction_that_has_nothing_to_do_with_it_does_not_hold_it_up() {
        let mut frontier = Frontier::default();
        frontier.seen(Some(2), 6, BUSY);
        assert_eq!(frontier.settled(), 2);
        frontier.takers(vec!["3/7".to_owned(), "4/1".to_owned()]);
        frontier.takers(vec!["4/1".to_owned(), "5/5".to_owned()]);
        assert_eq!(frontier.settled(), 2);
        frontier.takers(vec!["5/5".to_owned(), "6/1".to_owned()]);
        assert_eq!(frontier.settled(), 6);
    }

    #[test]
    fn what_another_look_has_settled_may_be_missing_in_an_older_one() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.readable(0, 0, &[1, 2, 3], QUIET), 3);
        assert_eq!(frontier.readable(0, 0, &[1, 3], BUSY), 1);
    }

    #[test]
    fn whoever_reads_what_is_long_settled_waits_for_nothing() {
        let mut frontier = Frontier::at(50);
        assert_eq!(frontier.readable(50, 10, &[20, 30, 50, 51], BUSY), 4);
    }
}
