//! What a draft would have decided on recorded facts, and which decisions it flips.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::decide::DEADLINE;
use super::{Decided, Decider, Decision, Facts, PolicyError};
use crate::model::Timestamp;
use crate::script::{Limits, Panicked, Script, StopFlag, StopReason, on_big_stack};

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
            Err(error) => Self::failed(error.code()),
        }
    }

    fn failed(code: &str) -> Self {
        Self {
            action: FAILED.to_owned(),
            workflow: Some(code.to_owned()),
            event: Map::new(),
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

/// What a draft answered on recorded facts, beside what was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// What was decided.
    pub before: Outcome,
    /// What the draft would have decided.
    pub after: Outcome,
    /// Operations of the draft; absent where it failed.
    pub operations: Option<u64>,
}

/// What came of asking about a recorded decision again.
pub type Reply = Result<Answered, Unreadable>;

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

/// Asks a draft about recorded decisions, in the order they are given, and tells what came of each.
///
/// The next one is taken when the one before is answered, so that whoever bounds the time of one can begin to count
/// anew. Where the flag of the limits says that nobody waits any more, the one at work is not told, nor any after it.
///
/// # Errors
///
/// When there is no thread for it, or the engine panics.
pub fn replay<'a>(
    draft: &Script,
    recorded: impl IntoIterator<Item = &'a Recorded> + Send,
    limits: &Limits,
) -> Result<Vec<Reply>, Panicked> {
    // One deep stack for all of them; a thread for each would cost more than the decision.
    on_big_stack(|| {
        let (mut decider, mut replies) = (None, Vec::new());
        for one in recorded {
            // Only now, for its constants are worked out in the time of the first decision.
            let decider = decider.get_or_insert_with(|| Decider::new(draft, limits));
            let reply = Answered::of(decider, one);
            if is_given_up(limits) {
                break;
            }
            replies.push(reply);
        }
        replies
    })
}

fn is_given_up(limits: &Limits) -> bool {
    limits.stop.as_ref().and_then(StopFlag::raised) == Some(StopReason::GivenUp)
}

impl Answered {
    fn of(draft: &mut Decider, recorded: &Recorded) -> Reply {
        let facts = read_facts(&recorded.facts).map_err(|e| recorded.unreadable("facts", &e))?;
        let before = recorded.outcome()?;
        let answer = draft.decide(&facts);
        Ok(Self {
            before,
            after: Outcome::of(&answer),
            operations: answer.ok().map(|decided| decided.operations),
        })
    }

    /// What is told of a draft that took longer than anybody could wait.
    ///
    /// # Errors
    ///
    /// When what was decided cannot be read.
    pub fn not_in_time(recorded: &Recorded) -> Reply {
        Ok(Self {
            before: recorded.outcome()?,
            after: Outcome::failed(DEADLINE),
            operations: None,
        })
    }
}

impl Recorded {
    fn outcome(&self) -> Result<Outcome, Unreadable> {
        let outcome = serde_json::from_str(&self.verdict);
        outcome.map_err(|e| self.unreadable("answer", &e))
    }

    fn unreadable(&self, what: &'static str, error: &serde_json::Error) -> Unreadable {
        Unreadable {
            decision: self.decision.clone(),
            what,
            message: error.to_string(),
        }
    }
}

impl Replayed {
    /// Counts what came of asking about one more, in the order they were recorded.
    pub fn add(&mut self, recorded: &Recorded, reply: Reply) {
        self.decisions += 1;
        let answered = match reply {
            Ok(answered) => answered,
            Err(unreadable) => return self.unreadable.push(unreadable),
        };
        let (before, after) = (answered.before, answered.after);
        self.operations.extend(answered.operations);
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

    fn replayed(draft: &Script, recorded: &[Recorded], limits: &Limits) -> Replayed {
        let replies = replay(draft, recorded, limits).expect("a thread");
        let mut replayed = Replayed::default();
        for (one, reply) in recorded.iter().zip(replies) {
            replayed.add(one, reply);
        }
        replayed
    }

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
        ) {
            let (old, new) = (policy(was), policy(is));
            let recorded: Vec<_> = risks.iter().enumerate().map(|(n, r)| record(&old, n, *r)).collect();
            let replayed = replayed(&new, &recorded, &Limits::decision());
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
        let again = replayed(&old, &recorded, &Limits::decision());
        assert_eq!((again.flips.len(), again.operations.len()), (0, 50));
        let broken = Script::compile("p", "fn decide(facts) { loop { } }").expect("compiles");
        let limits = Limits {
            operations: 1_000,
            ..Limits::decision()
        };
        let replayed = replayed(&broken, &recorded, &limits);
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
        let asked = replayed(&old, &[recorded.clone()], &Limits::decision());
        assert_eq!(asked.flips[0].before.to_string(), "page_somebody");
        assert_eq!(asked.flips[0].after.to_string(), "start replace_part");
        recorded.facts = "[]".into();
        let asked = replayed(&old, &[recorded], &Limits::decision());
        assert_eq!((asked.decisions, asked.unreadable.len()), (1, 1));
    }

    #[test]
    fn a_decision_out_of_time_fails_and_one_that_nobody_waits_for_is_not_told() {
        let old = policy(0.5);
        let recorded: Vec<_> = (0..5).map(|n| record(&old, n, Some(0.9))).collect();
        let source = r#"fn decide(facts) { let n = 0; while n < 1_000 { n += 1; } #{ action: "monitor", reason: `${n}` } }"#;
        let draft = Script::compile("p", source).expect("compiles");
        let stop = StopFlag::default();
        let limits = Limits::decision().stopped_by(stop.clone());
        let stopped_at_the_fourth = |reason| {
            let asked = recorded.iter().enumerate().map(|(n, one)| {
                stop.lower();
                if n == 3 {
                    stop.raise(reason);
                }
                one
            });
            let replies = replay(&draft, asked, &limits).expect("a thread");
            let answers = replies
                .into_iter()
                .map(|reply| reply.expect("it can be read"));
            answers.map(|a| a.after.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            stopped_at_the_fourth(StopReason::UsedUp),
            [
                "monitor",
                "monitor",
                "monitor",
                "failed limit.deadline",
                "monitor"
            ]
        );
        assert_eq!(stopped_at_the_fourth(StopReason::GivenUp), ["monitor"; 3]);
        let late = Answered::not_in_time(&recorded[3]).expect("it can be read");
        assert_eq!(late.after.to_string(), "failed limit.deadline");
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
        let flips = |draft| replayed(&draft, &recorded, &Limits::decision()).flips.len();
        assert_eq!(flips(start("1", "because")), 0);
        assert_eq!(flips(start("2", "so")), 1);
    }
}
