//! Where in line a queue begins to look for ready steps.
//!
//! On Postgres a claimed step leaves its old entry in the index of ready steps until no transaction can see that state
//! any more. While one stays open for long, such entries pile up at the head of the line, and every claim would walk
//! over all of them. So each process remembers up to where everything has been taken and looks from there on. What
//! becomes ready further ahead is told with its place ([`Moved::Place`](crate::store::database::Moved)), and a look at
//! what is ahead finds what was not told.

use std::sync::atomic::{AtomicI64, Ordering};

use super::claim::Claimed;

/// What becomes ready is placed at the present moment or later, but is seen only after its commit, and the clocks of two
/// machines differ: so much of the recent past is always looked at, milliseconds.
pub(crate) const RECENT_MS: i64 = 2_000;

/// The place from which on a process looks for ready steps of a queue.
#[derive(Debug)]
pub struct Floor(AtomicI64);

impl Default for Floor {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Floor {
    /// From which place on to look.
    #[must_use]
    pub fn place(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }

    /// Notes what a claim of at most `limit` steps, which looked from `from` on, has taken. A floor that was lowered
    /// meanwhile stays.
    pub fn claimed(&self, from: i64, now: i64, claimed: &[Claimed], limit: usize) {
        let taken_up_to = match claimed.last() {
            Some(last) if claimed.len() >= limit => last.0.place(),
            _ => i64::MAX,
        };
        let next = from.max(taken_up_to.min(now - RECENT_MS));
        let _ = self
            .0
            .compare_exchange(from, next, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Has it look from a place on, if that is further ahead.
    pub fn lower(&self, place: i64) {
        self.0.fetch_min(place, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recent_past_is_always_looked_at() {
        let floor = Floor::default();
        floor.claimed(i64::MIN, 10_000, &[], 5);
        assert_eq!(floor.place(), 10_000 - RECENT_MS);
        floor.claimed(floor.place(), 9_000, &[], 5);
        assert_eq!(
            floor.place(),
            10_000 - RECENT_MS,
            "it does not sink by itself"
        );
    }

    #[test]
    fn what_is_told_while_a_claim_is_under_way_is_not_passed_over() {
        let floor = Floor::default();
        floor.claimed(i64::MIN, 10_000, &[], 5);
        let from = floor.place();
        floor.lower(77);
        floor.claimed(from, 20_000, &[], 5);
        assert_eq!(floor.place(), 77);
        floor.lower(78);
        assert_eq!(floor.place(), 77);
    }
}
