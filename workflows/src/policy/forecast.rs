//! What a policy is going to cost: the operations it takes over facts that are known, against its budget.

use serde::{Deserialize, Serialize};

use super::{Decider, Facts, PolicyError};
use crate::script::{Limits, Script, on_big_stack};

/// The operations of a policy over a set of facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Decisions asked for.
    pub decisions: usize,
    /// Those of them that failed, for whatever reason.
    pub failed: usize,
    /// Those of them that were stopped because the budget was used up.
    pub over_budget: usize,
    /// Operations that half of the decisions stay within.
    pub p50: u64,
    /// Operations that 99 of 100 decisions stay within.
    pub p99: u64,
    /// Operations of the heaviest decision.
    pub max: u64,
    /// Which facts that was, counted from 0; absent where there were none.
    pub heaviest: Option<usize>,
    /// Operations one decision may take.
    pub budget: u64,
}

/// Asks a policy about all the facts, and tells what it took; what it decides is not looked at.
///
/// A decision that fails counts with the operations it took until then, one that is stopped with its whole budget.
#[must_use]
pub fn forecast(script: &Script, facts: &[Facts], limits: &Limits) -> Forecast {
    let mut forecast = Forecast {
        decisions: facts.len(),
        budget: limits.operations,
        ..Forecast::default()
    };
    let asked = on_big_stack(|| {
        let mut decider = Decider::new(script, limits);
        let counted = facts.iter().map(|facts| decider.decide_counted(facts));
        counted.collect::<Vec<_>>()
    });
    let mut operations: Vec<(u64, usize)> = Vec::with_capacity(facts.len());
    for (at, (decided, used)) in asked.unwrap_or_default().into_iter().enumerate() {
        forecast.failed += usize::from(decided.is_err());
        let stopped = decided.as_ref().is_err_and(is_over_budget);
        forecast.over_budget += usize::from(stopped);
        operations.push((used.min(limits.operations), at));
    }
    operations.sort_unstable_by_key(|(used, at)| (*used, std::cmp::Reverse(*at)));
    let rank = |share: usize| {
        let at = (operations.len() * share).div_ceil(100).saturating_sub(1);
        operations.get(at).map_or(0, |(used, _)| *used)
    };
    (forecast.p50, forecast.p99) = (rank(50), rank(99));
    if let Some((used, at)) = operations.last() {
        (forecast.max, forecast.heaviest) = (*used, Some(*at));
    }
    forecast
}

fn is_over_budget(error: &PolicyError) -> bool {
    error.code() == "limit.operations"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn facts(count: u32) -> Vec<Facts> {
        let numbered = |dependents| Facts {
            dependents,
            ..Facts::about("fan-1", "fan_tray", Timestamp(0))
        };
        (0..count).map(numbered).collect()
    }

    fn of(body: &str, facts: &[Facts], limits: &Limits) -> Forecast {
        let source =
            format!("fn decide(facts) {{ {body} #{{ action: \"monitor\", reason: \"x\" }} }}");
        let script = Script::compile("p", &source).expect("compiles");
        forecast(&script, facts, limits)
    }

    #[test]
    fn operations_are_told_by_rank() {
        let limits = Limits::decision();
        let body = "let n = 0; while n < facts.dependents { n += 1; }";
        let hundred = of(body, &facts(100), &limits);
        assert_eq!(
            (hundred.decisions, hundred.failed, hundred.over_budget),
            (100, 0, 0)
        );
        assert!(
            hundred.p50 < hundred.p99 && hundred.p99 < hundred.max,
            "{hundred:?}"
        );
        assert_eq!((hundred.heaviest, hundred.budget), (Some(99), 200_000));
        // Each turn of the loop takes as much as any other.
        let per_turn = hundred.max - hundred.p99;
        assert_eq!(hundred.p99 - hundred.p50, 49 * per_turn);
        let one = of(body, &facts(1), &limits);
        assert_eq!(
            (one.p50, one.p99, one.heaviest),
            (one.max, one.max, Some(0))
        );
        assert_eq!(
            of(body, &[], &limits),
            Forecast {
                budget: 200_000,
                ..Forecast::default()
            }
        );
    }

    #[test]
    fn what_fails_counts_with_what_it_took() {
        let limits = Limits {
            operations: 1_000,
            ..Limits::decision()
        };
        let body = "if facts.dependents == 7 { loop { } } if facts.dependents == 3 { throw 1; }";
        let ten = of(body, &facts(10), &limits);
        assert_eq!((ten.failed, ten.over_budget, ten.max), (2, 1, 1_000));
        assert_eq!(ten.heaviest, Some(7));
        assert!(ten.p50 < 50, "{ten:?}");
    }
}
