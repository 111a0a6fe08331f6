//! Why a policy decided as it did: the statements it came by, with the values they read and the ways they took.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhai::{Array, Dynamic, EvalContext, ImmutableString, Map};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Decided, Decider, Facts, PolicyError};
pub use crate::script::TraceWhat;
use crate::script::{
    Branches, Limits, Read, Root, Script, ScriptError, Seen, Site, Sites, metered_engine,
    on_big_stack, value, watch,
};

/// Steps of a trace kept from its beginning; a policy without loops stays far below.
const FIRST_STEPS: usize = 384;

/// Steps kept from its end, where the decision is made.
const LAST_STEPS: usize = 128;

/// Values kept of one step.
const VALUES: usize = 32;

/// Items kept of an array or a map, and levels of nesting.
const ITEMS: usize = 32;
const LEVELS: usize = 4;

/// Values kept of one step altogether, those within arrays and maps among them.
const PIECES: usize = 1_024;

/// Characters kept of a text.
const TEXT_CHARS: usize = 256;

/// A decision, or why there was none, and the way to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// What [`decide`](super::decide()) gives.
    pub decided: Result<Decided, PolicyError>,
    /// The statements in the order they ran, those of functions called among them.
    pub trace: Vec<TraceStep>,
    /// Steps left out between the first and the last kept, because there were too many.
    pub left_out: u64,
}

impl Explained {
    /// Whether its time was up before it came to its end, so that nobody knows what would have come next.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.decided.as_ref().is_err_and(PolicyError::is_deadline)
    }
}

/// A statement that ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceStep {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// What it is.
    pub what: TraceWhat,
    /// Its first line, trimmed.
    pub text: String,
    /// Whether a condition held, a case fitted, or a loop was entered; absent for what does not branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<bool>,
    /// What it reads: facts, variables and constants as the script writes them, with their values before it ran.
    pub values: BTreeMap<String, Value>,
}

/// The first place where two explanations part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The step of the first; absent where it had ended.
    pub before: Option<TraceStep>,
    /// The step of the second; absent where it had ended.
    pub after: Option<TraceStep>,
}

/// Runs `fn decide(facts)` like [`decide`](super::decide()), and keeps what it came by.
///
/// The trace is a function of script, facts and limits, and bounded whatever the script does.
#[must_use]
pub fn explain(script: &Script, facts: &Facts, limits: &Limits) -> Explained {
    on_big_stack(|| explain_here(script, facts, limits)).unwrap_or_else(|panic| {
        let error = ScriptError::internal(script.name(), &panic.to_string());
        Explained {
            decided: Err(error.into()),
            trace: Vec::new(),
            left_out: 0,
        }
    })
}

fn explain_here(script: &Script, facts: &Facts, limits: &Limits) -> Explained {
    let sites = Arc::new(Sites::of(script));
    let trace = Arc::new(Mutex::new(Trace::of(script)));
    let (mut engine, meter) = metered_engine(limits);
    let (at, seen) = (sites.clone(), trace.clone());
    watch(&mut engine, move |context, node| {
        let Trace { branches, steps } = &mut *lock(&seen);
        branches.pass(&at, node, context.call_level(), |seen| {
            steps.note(&at, seen, Some(context));
        });
    });
    let decided = Decider::on(engine, meter, script).decide(facts);
    let Trace { branches, steps } = &mut *lock(&trace);
    branches.end(&sites, decided.is_err(), |seen| {
        steps.note(&sites, seen, None)
    });
    let (trace, left_out) = std::mem::take(steps).into_kept();
    Explained {
        decided,
        trace,
        left_out,
    }
}

/// The first step in which two explanations differ, by what it is or says, by the way it took or by its values.
///
/// Where a statement stands does not count: a rule that moved is the same rule. Where every step is alike and the
/// decisions are not, the last steps are what differs, for they answered. Where steps were left out, or the time was
/// up, only those before are compared: what is alike until there parts later, if it does, and nobody can tell where.
#[must_use]
pub fn first_difference(a: &Explained, b: &Explained) -> Option<Difference> {
    let longer = a.trace.len().max(b.trace.len());
    let known = comparable(a).min(comparable(b));
    let cut_off = a.is_cut_off() || b.is_cut_off();
    for index in 0..longer.min(known) {
        let (before, after) = (a.trace.get(index), b.trace.get(index));
        let both = before.zip(after);
        let same = both.is_some_and(|(before, after)| alike(before, after, cut_off));
        if !same {
            return Some(difference(before, after));
        }
    }
    if known < usize::MAX {
        return None;
    }
    let answered = |e: &Explained| {
        e.decided
            .as_ref()
            .map(|d| d.decision.clone())
            .map_err(Clone::clone)
    };
    (answered(a) != answered(b)).then(|| difference(a.trace.last(), b.trace.last()))
}

/// How many steps from the beginning are known. Where the whole way is, there is no bound: that nothing follows the
/// last step is known too.
fn comparable(explained: &Explained) -> usize {
    if explained.left_out > 0 {
        FIRST_STEPS
    } else if explained.is_cut_off() {
        explained.trace.len()
    } else {
        usize::MAX
    }
}

/// Whether two steps are alike. Where one was cut off in a condition, that had gone neither way yet.
fn alike(a: &TraceStep, b: &TraceStep, cut_off: bool) -> bool {
    let undecided = cut_off && (a.taken.is_none() || b.taken.is_none());
    (a.what, &a.text, &a.values) == (b.what, &b.text, &b.values)
        && (undecided || a.taken == b.taken)
}

fn difference(before: Option<&TraceStep>, after: Option<&TraceStep>) -> Difference {
    Difference {
        before: before.cloned(),
        after: after.cloned(),
    }
}

struct Trace {
    branches: Branches,
    steps: Steps,
}

impl Trace {
    fn of(script: &Script) -> Self {
        let ast = script.ast();
        let constants = ast.iter_literal_variables(true, false);
        Self {
            branches: Branches::default(),
            steps: Steps {
                lines: script
                    .source()
                    .lines()
                    .map(|l| l.trim().to_owned())
                    .collect(),
                constants: constants
                    .map(|(name, _, value)| (name.to_owned(), value))
                    .collect(),
                ..Steps::default()
            },
        }
    }
}

/// The first and the last steps of a run.
#[derive(Default)]
struct Steps {
    lines: Vec<String>,
    constants: BTreeMap<String, Dynamic>,
    first: Vec<TraceStep>,
    last: VecDeque<TraceStep>,
    left_out: usize,
}

impl Steps {
    fn note(&mut self, sites: &Sites, seen: Seen, context: Option<&EvalContext>) {
        match seen {
            Seen::Statement { site } => {
                let step = self.step(&sites.all()[site], context);
                self.push(step);
            }
            Seen::Arm { site, arm, nth } => {
                let holds = sites.all()[site].arms[arm].holds;
                if let Some(step) = self.nth(nth) {
                    step.taken = Some(holds);
                }
            }
        }
    }

    fn step(&self, site: &Site, context: Option<&EvalContext>) -> TraceStep {
        let reads = site.reads.iter().take(VALUES);
        let mut left = PIECES;
        let value = |read: &Read| {
            let value = self.value(read, context, &mut left)?;
            Some((read.text.clone(), value))
        };
        TraceStep {
            line: site.line(),
            column: site.column(),
            what: site.what,
            text: self.text(site),
            taken: None,
            values: reads.filter_map(value).collect(),
        }
    }

    fn text(&self, site: &Site) -> String {
        let index = (site.line() as usize).checked_sub(1);
        let line = index.and_then(|index| self.lines.get(index));
        line.cloned().unwrap_or_default()
    }

    fn value(&self, read: &Read, context: Option<&EvalContext>, left: &mut usize) -> Option<Value> {
        let root = match &read.root {
            Root::Variable(name) => context?.scope().get(name)?,
            Root::Constant(name) => self.constants.get(name)?,
        };
        read.look(root, |value| shown(value, LEVELS, left))
    }

    fn push(&mut self, step: TraceStep) {
        if self.first.len() < FIRST_STEPS {
            self.first.push(step);
            return;
        }
        if self.last.len() == LAST_STEPS {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(step);
    }

    fn nth(&mut self, nth: usize) -> Option<&mut TraceStep> {
        match nth.checked_sub(FIRST_STEPS) {
            None => self.first.get_mut(nth),
            Some(late) => self.last.get_mut(late.checked_sub(self.left_out)?),
        }
    }

    fn into_kept(self) -> (Vec<TraceStep>, u64) {
        let kept = self.first.into_iter().chain(self.last).collect();
        (kept, self.left_out as u64)
    }
}

/// A value as it is shown: what is too long is cut off, and how much was. Each piece of it is taken off `left`.
fn shown(value: &Dynamic, levels: usize, left: &mut usize) -> Value {
    *left = left.saturating_sub(1);
    let kept = if levels == 0 { 0 } else { ITEMS.min(*left) };
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return cut(&text).into();
    }
    if let Some(items) = value.read_lock::<Array>() {
        let items_kept = items.iter().take(kept);
        let mut array: Vec<Value> = items_kept
            .map(|item| shown(item, levels - 1, left))
            .collect();
        if items.len() > kept {
            array.push(format!("… {} more", items.len() - kept).into());
        }
        return array.into();
    }
    if let Some(fields) = value.read_lock::<Map>() {
        let fields_kept = fields.iter().take(kept);
        let mut object: serde_json::Map<String, Value> = fields_kept
            .map(|(name, field)| (cut(name), shown(field, levels - 1, left)))
            .collect();
        if fields.len() > kept {
            object.insert(
                "…".to_owned(),
                format!("{} more", fields.len() - kept).into(),
            );
        }
        return object.into();
    }
    value::from_dynamic(value).unwrap_or_else(|_| value.to_string().into())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn lock(trace: &Mutex<Trace>) -> MutexGuard<'_, Trace> {
    trace.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::Timestamp,
        policy::decide,
        script::{StopFlag, StopReason, shipped},
    };

    fn told(source: &str, fps: f64, dependents: u32) -> Explained {
        let script = Script::compile("p", source).expect("compiles");
        let mut facts = Facts::about("fan-1", "fan_tray", Timestamp(0));
        facts.fps.insert("7d".into(), fps);
        facts.critical_dependents = dependents;
        let explained = explain(&script, &facts, &Limits::decision());
        assert_eq!(
            explained.decided,
            decide(&script, &facts, &Limits::decision()),
            "to be watched changes nothing"
        );
        assert_eq!(
            explained,
            explain(&script, &facts, &Limits::decision()),
            "it is deterministic"
        );
        explained
    }

    fn lines(explained: &Explained) -> Vec<(u32, TraceWhat, Option<bool>)> {
        let steps = explained.trace.iter();
        steps.map(|s| (s.line, s.what, s.taken)).collect()
    }

    const RULE: &str = r#"const THRESHOLD = 0.2;
fn decide(facts) {
    let fps = facts.fps["7d"];
    if fps <= global::THRESHOLD {
        return #{ action: "monitor", reason: "healthy" };
    }
    let workflow = if facts.critical_dependents > 0 { "replace_part" } else { "relieve_asset" };
    switch facts.state {
        "offline" => return #{ action: "monitor", reason: "off" },
        _ => ()
    }
    #{ action: "start", workflow: workflow, reason: told(fps) }
}
fn told(fps) {
    `fails at ${fps}`
}"#;

    #[test]
    fn the_way_to_a_decision_is_told_with_what_was_read() {
        use TraceWhat::{If, Let, Return, Switch, Value};
        let healthy = told(RULE, 0.1, 0);
        assert_eq!(
            lines(&healthy),
            [(3, Let, None), (4, If, Some(true)), (5, Return, None)]
        );
        assert_eq!(healthy.trace[0].text, "let fps = facts.fps[\"7d\"];");
        assert_eq!(
            healthy.trace[0].values,
            BTreeMap::from([("facts.fps[\"7d\"]".into(), json!(0.1))])
        );
        let read = BTreeMap::from([
            ("fps".into(), json!(0.1)),
            ("global::THRESHOLD".into(), json!(0.2)),
        ]);
        assert_eq!(healthy.trace[1].values, read);
        assert_eq!((healthy.trace[1].column, healthy.left_out), (5, 0));

        let failing = told(RULE, 0.4, 2);
        assert_eq!(
            lines(&failing),
            [
                (3, Let, None),
                (4, If, Some(false)),
                (7, Let, None),
                (7, If, Some(true)),
                (7, Value, None),
                (8, Switch, Some(false)),
                (12, Value, None),
                (15, Value, None)
            ]
        );
        assert_eq!(failing.trace[3].values["facts.critical_dependents"], 2);
        assert_eq!(failing.trace[7].values["fps"], 0.4);
    }

    #[test]
    fn two_explanations_part_at_the_first_step_that_differs() {
        let one = told(RULE, 0.4, 2);
        assert_eq!(first_difference(&one, &one), None);
        let other = told(&RULE.replace("<= global", "< 0.5 + global"), 0.4, 2);
        let difference = first_difference(&one, &other).expect("they differ");
        assert_eq!(
            difference.before.map(|s| (s.line, s.taken)),
            Some((4, Some(false)))
        );
        assert_eq!(
            difference.after.map(|s| (s.line, s.taken)),
            Some((4, Some(true)))
        );

        let moved = told(&format!("// a remark\n{RULE}"), 0.4, 2);
        assert_eq!(
            first_difference(&one, &moved),
            None,
            "where a rule stands does not count"
        );
        let by_value = first_difference(&one, &told(&RULE.replace("0.2", "0.3"), 0.4, 2));
        let after = by_value.and_then(|d| d.after).expect("another threshold");
        assert_eq!(
            (after.line, &after.values["global::THRESHOLD"]),
            (4, &json!(0.3))
        );

        let two_lines = "fn decide(facts) {\n  #{ action: \"monitor\",\n     reason: \"a\" }\n}";
        let a = told(two_lines, 0.4, 2);
        let b = told(&two_lines.replace("\"a\"", "\"b\""), 0.4, 2);
        let by_answer = first_difference(&a, &b).expect("the answers differ");
        assert_eq!(by_answer.before.map(|s| s.line), Some(2));
    }

    #[test]
    fn a_condition_without_an_answer_took_no_way() {
        let explained = told(
            "fn decide(facts) {\n  if facts.kind > 1.0.no() { return 1; }\n  2\n}",
            0.4,
            2,
        );
        assert!(explained.decided.is_err());
        assert_eq!(lines(&explained), [(2, TraceWhat::If, None)]);
        // A condition that calls a function with statements of its own is still seen to hold or not.
        let calls = "fn decide(facts) {\n  if bad(facts) { return 1; }\n  throw 2;\n}\nfn bad(f) { let x = f.kind; x == \"a\" }";
        let explained = told(calls, 0.4, 2);
        let ifs = explained.trace.iter().find(|s| s.what == TraceWhat::If);
        assert_eq!(ifs.and_then(|s| s.taken), Some(false));
        assert_eq!(
            explained.trace.last().map(|s| s.what),
            Some(TraceWhat::Throw)
        );
    }

    #[test]
    fn a_trace_is_bounded_and_keeps_both_ends() {
        let source = "fn decide(facts) {\n  let n = 0;\n  while n < 5_000 { n += 1; if n == 4_999 { continue; } }\n  #{ action: \"monitor\", reason: \"x\".repeat_(n) }\n}\nfn repeat_(n) { let s = this; while s.len() < 1_000 { s += \"xxxxxxxxxxxxxxxxxxxxxxxxxxxx\"; } s }";
        let explained = told(source, 0.4, 2);
        assert!(explained.decided.is_ok(), "{:?}", explained.decided);
        assert_eq!(explained.trace.len(), FIRST_STEPS + LAST_STEPS);
        assert!(explained.left_out > 9_000, "{}", explained.left_out);
        assert_eq!(explained.trace[1].taken, Some(true), "the loop was entered");
        let last = explained.trace.last().expect("steps");
        let shown = last.values["s"].as_str().expect("a text");
        assert_eq!(shown.chars().count(), TEXT_CHARS + 1);
        let endless = told(
            "fn decide(facts) { let a = [[[[[1]]]]]; loop { a.push(1); } }",
            0.4,
            2,
        );
        assert_eq!(endless.decided.expect_err("a limit").code(), "limit.size");
        assert_eq!(endless.trace.len(), FIRST_STEPS + LAST_STEPS);
    }

    /// Comes by its sixth line only after far more steps than are kept from the beginning.
    const LATE: &str = "fn decide(facts) {
    let n = 0;
    loop {
        n += 1;
        if n < 1_000 { continue; }
        if n > 1_007 { break; }
    }
    #{ action: \"monitor\", reason: `${n}` }
}";

    #[test]
    fn where_two_part_behind_steps_that_were_left_out_is_not_made_up() {
        let one = told(LATE, 0.4, 2);
        let other = told(&LATE.replace("1_007", "1_008"), 0.4, 2);
        assert!(one.left_out > 0 && other.left_out > 0);
        assert_ne!(one.decided, other.decided);
        assert_eq!(first_difference(&one, &other), None);
        let early = told(&LATE.replace("n += 1;", "n += 2;"), 0.4, 2);
        let difference = first_difference(&one, &early).expect("they differ");
        assert_eq!(difference.before.map(|s| s.line), Some(4));
    }

    #[test]
    fn what_comes_after_a_trace_that_was_cut_off_is_not_made_up() {
        let one = told(LATE, 0.4, 2);
        let stop = StopFlag::default();
        stop.raise(StopReason::UsedUp);
        let script = Script::compile("p", LATE).expect("compiles");
        let mut facts = Facts::about("fan-1", "fan_tray", Timestamp(0));
        facts.fps.insert("7d".into(), 0.4);
        facts.critical_dependents = 2;
        let cut = explain(&script, &facts, &Limits::decision().stopped_by(stop));
        assert!(cut.is_cut_off() && !one.is_cut_off());
        assert!(!cut.trace.is_empty() && cut.trace.len() < FIRST_STEPS);
        assert_eq!(first_difference(&one, &cut), None);
        assert_eq!(first_difference(&cut, &one), None);
    }

    #[test]
    fn of_what_is_nested_only_so_much_is_shown() {
        let source = "fn decide(facts) {
    let a = []; a.pad(30, 1);
    let b = []; b.pad(30, a);
    let c = []; c.pad(10, b);
    if c == facts.kind { return 1; }
    #{ action: \"monitor\", reason: `${c.len()}` }
}";
        let explained = told(source, 0.4, 2);
        let step = explained
            .trace
            .iter()
            .find(|s| s.line == 5)
            .expect("a step");
        let text = step.values["c"].to_string();
        assert!(
            text.matches('1').count() < 2 * PIECES,
            "9,000 were there: {text}"
        );
        assert!(text.contains("… 30 more"), "{text}");
    }

    #[test]
    fn a_shipped_policy_explains_itself() {
        let explained = told(shipped::POLICIES[0].source, 0.41, 2);
        let texts: Vec<&str> = explained.trace.iter().map(|s| s.text.as_str()).collect();
        assert!(
            texts.contains(&"if facts.critical_dependents > 0 {"),
            "{texts:?}"
        );
        let held = explained
            .trace
            .iter()
            .filter(|s| s.taken == Some(true))
            .map(|s| s.text.as_str());
        assert_eq!(
            held.collect::<Vec<_>>(),
            ["if facts.critical_dependents > 0 {"],
            "the threshold is exceeded and dependents exist"
        );
    }
}
