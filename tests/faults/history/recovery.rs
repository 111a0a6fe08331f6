//! How soon a lease that was lost was taken back, and how soon the step was in other hands.

use std::collections::BTreeMap;

use super::witness::Seen;

/// Times in which nobody could have taken anything back: the database was away. Milliseconds since the epoch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outages(pub(crate) Vec<(i64, i64)>);

impl Outages {
    /// When a moment counts as having come, if it fell into an outage or an outage came before the answer.
    fn shift(&self, from: i64, to: i64) -> i64 {
        let met = self
            .0
            .iter()
            .filter(|(begun, over)| *begun <= to && *over >= from);
        met.map(|(_, over)| *over)
            .max()
            .map_or(from, |over| over.clamp(from, to))
    }
}

/// A process that was killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Killed {
    /// Its process id.
    pub(crate) pid: u32,
    /// When, ms since the epoch.
    pub(crate) at: i64,
}

/// What was measured, milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recovery {
    /// From the end of a lease that ran out to its taking back.
    pub(crate) overdue: Vec<i64>,
    /// From the kill of its holder to the taking back.
    pub(crate) taken_back: Vec<i64>,
    /// From the kill of its holder to the next claim; a full queue makes it wait behind others.
    pub(crate) claimed_again: Vec<i64>,
}

impl Recovery {
    /// Measures the lives of some rows.
    pub(crate) fn of(
        lives: &BTreeMap<String, Vec<Seen>>,
        killed: &[Killed],
        outages: &Outages,
    ) -> Self {
        let mut measured = Self::default();
        for life in lives.values() {
            for (index, pair) in life.windows(2).enumerate() {
                let (Some(until), Some(owner)) = (pair[0].until, &pair[0].owner) else {
                    continue;
                };
                let at = pair[1].at;
                if !["leased", "held"].contains(&pair[0].state.as_str()) || at < until {
                    continue;
                }
                let back = [&*pair[0].state, "done", "ended"];
                if back.contains(&&*pair[1].state) {
                    continue; // It came back, late, and nobody else had it.
                }
                measured.overdue.push(at - outages.shift(until, at));
                let holder = killed.iter().find(|killed| {
                    owner.starts_with(&format!("worker-{}-", killed.pid))
                        && killed.at >= pair[0].at
                        && killed.at <= at
                });
                let Some(holder) = holder else { continue };
                measured.taken_back.push(at - outages.shift(holder.at, at));
                let next = life[index + 1..].iter().find(|seen| seen.state == "leased");
                if let Some(next) = next {
                    let from = outages.shift(holder.at, next.at);
                    measured.claimed_again.push(next.at - from);
                }
            }
        }
        measured
    }

    /// Adds what was measured elsewhere.
    pub(crate) fn add(&mut self, other: Self) {
        self.overdue.extend(other.overdue);
        self.taken_back.extend(other.taken_back);
        self.claimed_again.extend(other.claimed_again);
    }
}

/// The value that a share of them does not exceed; nothing of nothing.
pub(crate) fn quantile(of: &[i64], share: f64) -> Option<i64> {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * share).round() as usize])
}
