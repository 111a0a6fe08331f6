//! Lives of the parts that sat in one asset, one after the other: what a replacement ends and begins.

use crate::store::outcomes::outcome;

/// A span in which one part served, as far as its history can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// The first moment of it, ms.
    pub from_ms: i64,
    /// The last moment of it, ms.
    pub until_ms: i64,
    /// Whether it ended with a failure; if not, how long it would have gone on is not known (censored).
    pub failed: bool,
}

/// The lives told by the outcomes of one asset, in order of time; the last one is the present part's.
///
/// A replacement ends one life and begins the next. A life that fails ends there: what an asset did after a repair,
/// with the same part, says nothing of how long that part lasts.
#[must_use]
pub(super) fn lives<'a>(
    outcomes: impl IntoIterator<Item = &'a outcome::Model>,
    now_ms: i64,
) -> Vec<Life> {
    let mut turns: Vec<(i64, Turn)> = outcomes
        .into_iter()
        .filter_map(|outcome| Some((outcome.at, Turn::of(&outcome.kind)?)))
        // What is announced for later has not happened: the old part still serves.
        .filter(|&(at, turn)| turn == Turn::Failed || at < now_ms)
        .collect();
    turns.sort_unstable();
    let mut lives = Vec::new();
    let mut life = begun(0, now_ms);
    for (at, turn) in turns {
        match turn {
            Turn::Failed if life.failed => {}
            Turn::Failed => (life.until_ms, life.failed) = (at, true),
            Turn::Replaced => {
                if !life.failed {
                    life.until_ms = at;
                }
                lives.push(life);
                life = begun(at + 1, now_ms);
            }
        }
    }
    lives.push(life);
    lives
}

/// The first moment, ms, of what the part now in an asset lived through.
#[must_use]
pub fn present_since<'a>(
    outcomes: impl IntoIterator<Item = &'a outcome::Model>,
    now_ms: i64,
) -> i64 {
    lives(outcomes, now_ms)
        .last()
        .map_or(0, |life| life.from_ms)
}

/// When the part now in an asset was put in, ms, where that is known.
#[must_use]
pub fn installed<'a>(
    outcomes: impl IntoIterator<Item = &'a outcome::Model>,
    now_ms: i64,
) -> Option<i64> {
    // Its life begins right after the replacement; that of an asset's first part is not known.
    let since = present_since(outcomes, now_ms);
    (since > 0).then_some(since - 1)
}

fn begun(from_ms: i64, now_ms: i64) -> Life {
    Life {
        from_ms,
        until_ms: now_ms,
        failed: false,
    }
}

/// What turns one life into another; a failure at the moment of a replacement is what the part was replaced for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Failed,
    Replaced,
}

impl Turn {
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "failed" => Some(Self::Failed),
            "replaced" => Some(Self::Replaced),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000;

    fn told(outcomes: &[(&str, i64)]) -> Vec<(i64, i64, bool)> {
        let outcomes: Vec<outcome::Model> = outcomes
            .iter()
            .map(|&(kind, at)| outcome::Model {
                id: format!("{kind}-{at}"),
                asset: "fan-1".into(),
                kind: kind.into(),
                at,
                note: String::new(),
                run_id: None,
                position: None,
                recorded_at: NOW,
            })
            .collect();
        let lives = lives(&outcomes, NOW);
        assert_eq!(present_since(&outcomes, NOW), lives.last().unwrap().from_ms);
        let plain = |life: &Life| (life.from_ms, life.until_ms, life.failed);
        lives.iter().map(plain).collect()
    }

    #[test]
    fn a_replacement_ends_one_life_and_begins_another() {
        for (outcomes, expected) in [
            (&[][..], &[(0, NOW, false)][..]),
            (&[("healthy", 3), ("prevented", 4)], &[(0, NOW, false)]),
            (&[("failed", 5)], &[(0, 5, true)]),
            (&[("failed", 5), ("failed", 9)], &[(0, 5, true)]),
            (&[("replaced", 5)], &[(0, 5, false), (6, NOW, false)]),
            (
                &[("replaced", 9), ("replaced", 5)],
                &[(0, 5, false), (6, 9, false), (10, NOW, false)],
            ),
            (
                &[("failed", 5), ("replaced", 9)],
                &[(0, 5, true), (10, NOW, false)],
            ),
            (
                &[("replaced", 5), ("failed", 9)],
                &[(0, 5, false), (6, 9, true)],
            ),
            (
                &[("replaced", 5), ("failed", 5)],
                &[(0, 5, true), (6, NOW, false)],
            ),
            (&[("replaced", NOW)], &[(0, NOW, false)]),
            (&[("replaced", NOW + 9)], &[(0, NOW, false)]),
        ] {
            assert_eq!(told(outcomes), expected, "{outcomes:?}");
        }
    }
}
