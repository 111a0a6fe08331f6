//! What a draft would have decided on recorded facts, and which decisions it flips.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Decided, Decider, Decision, Facts, PolicyError};
use crate::model::Timestamp;
use crate::script::{Limits, Script, on_big_stack};

/// What came of asking a policy, reasons left out: two outcomes that differ make a flip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The action, or `failed`.
    pub action: String,
    /// The workflow to start, or the code of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// What the decision adds to the run's event.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub event: Map<String, Value>,
}

const FAILED: &str = "failed";

impl Outcome {
    /// The outcome of asking.
    #[must_use]
    pub fn of(answer: &Result<Decided, PolicyError>) -> Self {
        match answer {
            Ok(decided) => Self::from(&decided.decision),
            Err(error) => Self {
                action: FAILED.to_owned(),
                workflow: Some(error.code().to_owned()),
                event: Map::new(),
            },
        }
    }

    /// Whether the policy failed.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.action == FAILED
    }

    /// Whether something else would have happened.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        self != other
    }
}

impl From<&Decision> for Outcome {
    fn from(decision: &Decision) -> Self {
        let (workflow, event) = match decision {
            Decision::Start {
                workflow, event, ..
            } => (Some(workflow.clone()), event.clone()),
            _ => (None, Map::new()),
        };
        Self {
            action: decision.action().to_owned(),
            workflow,
            event,
        }
    }
}

/// `monitor`, `start replace_part`, `failed limit.operations`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.workflow {
            Some(workflow) => write!(f, "{} {workflow}", self.action),
            None => f.write_str(&self.action),
        }
    }
}

/// A decision as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The decision's id.
    pub decision: String,
    /// The asset decided on.
    pub asset: String,
    /// The moment the facts speak of.
    pub at: Timestamp,
    /// Digest of the revision that decided.
    pub revision: String,
    /// The facts, JSON.
    pub facts: String,
    /// The answer, JSON.
    pub verdict: String,
}

/// A recorded decision that a draft would have made otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Flip {
    /// The decision's id.
    pub decision: String,
    /// The asset decided on.
    pub asset: String,
    /// The moment the facts speak of.
    pub at: Timestamp,
    /// Digest of the revision that decided.
    pub revision: String,
    /// What was decided.
    pub before: Outcome,
    /// What the draft would have decided.
    pub after: Outcome,
}

/// Why a recorded decision cannot be asked about again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the recorded {what} of decision `{decision}` cannot be read: {message}")]
pub struct Unreadable {
    /// The decision's id.
    pub decision: String,
    /// Facts or answer.
    pub what: &'static str,
    /// Why not.
    pub message: String,
}

/// The decisions a draft was asked about again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replayed {
    /// How many.
    pub decisions: u64,
    /// Those it would have made otherwise, in the order they were recorded.
    pub flips: Vec<Flip>,
    /// Those that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// How many flips there are from which outcome to which.
    pub pairs: BTreeMap<(String, String), u64>,
    /// How often what was decided, and would have been, by day (`2026-01-31`, UTC) and outcome.
    pub days: BTreeMap<String, BTreeMap<String, DayCount>>,
    /// Operations of the draft, one number per decision it made, in no order.
    pub operations: Vec<u64>,
}

/// How often something was decided on a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayCount {
    /// As recorded.
    pub before: u64,
    /// By the draft.
    pub after: u64,
}

/// Reads recorded facts of any version: what was not recorded then is not known, what nobody asks for now is left out.
///
/// # Errors
///
/// When it is no map, or a fact is of another type than it has now.
pub fn read_facts(text: &str) -> Result<Facts, serde_json::Error> {
    // Facts of this version are the rule; they need no detour.
    if let Ok(facts) = serde_json::from_str(text) {
        return Ok(facts);
    }
    let recorded: Map<String, Value> = serde_json::from_str(text)?;
    let unknown = Facts::about("", "", Timestamp(0));
    let mut facts = serde_json::to_value(unknown)?;
    for (name, value) in recorded {
        if let Some(slot) = facts.get_mut(&name) {
            *slot = value;
        }
    }
    serde_json::from_value(facts)
}

/// Asks a draft about recorded decisions, one after the other.
#[must_use]
pub fn replay(draft: &Script, recorded: &[Recorded], limits: &Limits) -> Replayed {
    let all = || {
        let mut replayed = Replayed::default();
        let mut decider = Decider::new(draft, limits);
        for one in recorded {
            replayed.ask(&mut decider, one);
        }
        replayed
    };
    // One deep stack for all of them; a thread for each would cost more than the decision.
    on_big_stack(all).unwrap_or_else(|panic| Replayed {
        unreadable: vec![Unreadable {
            decision: recorded
                .first()
                .map_or_else(String::new, |r| r.decision.clone()),
            what: "facts",
            message: panic.to_string(),
        }],
        ..Replayed::default()
    })
}

impl Replayed {
    fn ask(&mut self, draft: &mut Decider, recorded: &Recorded) {
        self.decisions += 1;
        let unreadable = |what, e: serde_json::Error| Unreadable {
            decision: recorded.decision.clone(),
            what,
            message: e.to_string(),
        };
        let facts = read_facts(&recorded.facts).map_err(|e| unreadable("facts", e));
        let before = serde_json::from_str::<Outcome>(&recorded.verdict);
        let (facts, before) = match (facts, before.map_err(|e| unreadable("answer", e))) {
            (Ok(facts), Ok(before)) => (facts, before),
            (Err(error), _) | (_, Err(error)) => return self.unreadable.push(error),
        };
        let answer = draft.decide(&facts);
        if let Ok(decided) = &answer {
            self.operations.push(decided.operations);
        }
        let after = Outcome::of(&answer);
        self.count(recorded.at, &before, &after);
        if before.differs(&after) {
            self.flips.push(Flip {
                decision: recorded.decision.clone(),
                asset: recorded.asset.clone(),
                at: recorded.at,
                revision: recorded.revision.clone(),
                before,
                after,
            });
        }
    }

    fn count(&mut self, at: Timestamp, before: &Outcome, after: &Outcome) {
        let day = at.to_string().chars().take(10).collect();
        let (was, is) = (before.to_string(), after.to_string());
        let day = self.days.entry(day).or_default();
        day.entry(was.clone()).or_default().before += 1;
        day.entry(is.clone()).or_default().after += 1;
        if before.differs(after) {
            *self.pairs.entry((was, is)).or_default() += 1;
        }
    }

    /// Adds what was replayed after this.
    pub fn extend(&mut self, later: Self) {
        self.decisions += later.decisions;
        self.flips.extend(later.flips);
        self.unreadable.extend(later.unreadable);
        self.operations.extend(later.operations);
        for (pair, count) in later.pairs {
            *self.pairs.entry(pair).or_default() += count;
        }
        for (day, outcomes) in later.days {
            let known = self.days.entry(day).or_default();
            for (outcome, count) in outcomes {
                let sum = known.entry(outcome).or_default();
                sum.before += count.before;
                sum.after += count.after;
            }
        }
    }

    /// How many flips there are by asset, most first.
    #[must_use]
    pub fn assets(&self) -> Vec<(&str, u64)> {
        let mut by_asset = BTreeMap::<&str, u64>::new();
        for flip in &self.flips {
            *by_asset.entry(&flip.asset).or_default() += 1;
        }
        let mut counted: Vec<_> = by_asset.into_iter().collect();
        counted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        counted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::decide;

    const HOUR_MS: i64 = 3_600_000;

    fn policy(threshold: f64) -> Script {
        let source = format!(
            r#"fn decide(facts) {{
                let risk = facts.fps.get("7d");
                if risk == () {{ return #{{ action: "monitor", reason: "no model" }}; }}
                if risk > {threshold} {{
                    return #{{ action: "start", workflow: "replace_part", reason: `${{risk}}` }};
                }}
                #{{ action: "monitor", reason: `${{risk}}` }}
            }}"#
        );
        Script::compile("p", &source).expect("compiles")
    }

    /// What `script` decided when the risk was this.
    fn record(script: &Script, n: usize, risk: Option<f64>) -> Recorded {
        let at = Timestamp(n as i64 * HOUR_MS);
        let asset = format!("fan-{}", n % 7);
        let mut facts = Facts::about(&asset, "fan", at);
        if let Some(risk) = risk {
            facts.fps.insert("7d".into(), risk);
        }
        let decided = decide(script, &facts, &Limits::decision()).expect("decided");
        Recorded {
            decision: format!("{n:06}"),
            asset,
            at,
            revision: script.digest().to_owned(),
            facts: serde_json::to_string(&facts).expect("JSON"),
            verdict: serde_json::to_string(&decided.decision).expect("JSON"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn exactly_the_flipped_ones_are_listed(
            risks in prop::collection::vec(prop::option::of(0.0..1.0_f64), 0..60),
            was in 0.0..1.0_f64,
            is in 0.0..1.0_f64,
            cut in 0_usize..60,
        ) {
            let (old, new) = (policy(was), policy(is));
            let recorded: Vec<_> = risks.iter().enumerate().map(|(n, r)| record(&old, n, *r)).collect();
            let (first, rest) = recorded.split_at(cut.min(recorded.len()));
            let mut replayed = replay(&new, first, &Limits::decision());
            replayed.extend(replay(&new, rest, &Limits::decision()));
            // The rule itself says which decisions flip; no script is asked.
            let flipped = |risk: f64| (risk > was) != (risk > is);
            let wanted: Vec<String> = risks.iter().enumerate()
                .filter(|(_, risk)| risk.is_some_and(flipped))
                .map(|(n, _)| format!("{n:06}"))
                .collect();
            let listed: Vec<String> = replayed.flips.iter().map(|f| f.decision.clone()).collect();
            prop_assert_eq!(&listed, &wanted);
            prop_assert_eq!(replayed.decisions, risks.len() as u64);
            prop_assert_eq!(replayed.pairs.values().sum::<u64>(), wanted.len() as u64);
            prop_assert_eq!(replayed.assets().iter().map(|a| a.1).sum::<u64>(), wanted.len() as u64);
            let by_day: u64 = replayed.days.values().flat_map(BTreeMap::values).map(|c| c.after).sum();
            prop_assert_eq!(by_day, risks.len() as u64);
        }
    }

    #[test]
    fn the_same_revision_flips_nothing_and_a_broken_one_everything() {
        let old = policy(0.5);
        let recorded: Vec<_> = (0..50)
            .map(|n| record(&old, n, Some(n as f64 / 50.0)))
            .collect();
        let again = replay(&old, &recorded, &Limits::decision());
        assert_eq!((again.flips.len(), again.operations.len()), (0, 50));
        let broken = Script::compile("p", "fn decide(facts) { loop { } }").expect("compiles");
        let limits = Limits {
            operations: 1_000,
            ..Limits::decision()
        };
        let replayed = replay(&broken, &recorded, &limits);
        assert_eq!(replayed.flips.len(), 50);
        assert_eq!(
            replayed.flips[0].after.to_string(),
            "failed limit.operations"
        );
        assert_eq!(replayed.days.len(), 3, "fifty hours are of three days");
    }

    #[test]
    fn facts_and_answers_of_other_versions_are_still_asked_about() {
        let old = policy(0.5);
        let mut recorded = record(&old, 1, Some(0.9));
        recorded.facts = r#"{"asset":"fan-1","fps":{"7d":0.9},"weather":"hot"}"#.into();
        recorded.verdict = r#"{"action":"page_somebody","reason":"x","who":"ada"}"#.into();
        let replayed = replay(&old, &[recorded.clone()], &Limits::decision());
        assert_eq!(replayed.flips[0].before.to_string(), "page_somebody");
        assert_eq!(replayed.flips[0].after.to_string(), "start replace_part");
        recorded.facts = "[]".into();
        let replayed = replay(&old, &[recorded], &Limits::decision());
        assert_eq!((replayed.decisions, replayed.unreadable.len()), (1, 1));
    }

    #[test]
    fn a_reason_in_other_words_is_no_flip_and_another_event_is_one() {
        let start = |event: &str, reason: &str| {
            let source = format!(
                r#"fn decide(facts) {{ #{{ action: "start", workflow: "w", reason: "{reason}", event: #{{ n: {event} }} }} }}"#
            );
            Script::compile("p", &source).expect("compiles")
        };
        let recorded = [record(&start("1", "so"), 1, None)];
        let flips = |draft| replay(&draft, &recorded, &Limits::decision()).flips.len();
        assert_eq!(flips(start("1", "because")), 0);
        assert_eq!(flips(start("2", "so")), 1);
    }
}
