//! What a check finds, script by script: a `«` stands before what is wrong and is no part of the script.

use proptest::prelude::*;

use super::*;
use crate::script::shipped;

/// What ends a policy well, so that nothing but what a row is about is wrong with it.
const SOUND: &str = "#{ action: \"monitor\", reason: \"fine\" }";

/// Code, what the hint says, and the script; a body alone is that of `decide` with a sound end.
const FAULTY_POLICIES: [(&str, &str, &str); 63] = [
    (
        "unknown_function",
        "did you mean `round`?",
        "let x = «rond(1.5); print(x);",
    ),
    (
        "unknown_function",
        "did you mean `starts_with`?",
        "if facts.kind.«starts_wiht(\"a\") { print(1); }",
    ),
    ("unknown_function", "", "«step(\"make\", #{});"),
    (
        "unknown_function",
        "did you mean `helper`?",
        "print(«helpr(1));\nSOUND\n}\nfn helper(a) { a",
    ),
    (
        "unknown_function",
        "did you mean `len`?",
        "print(facts.fps_reasons.«lne());",
    ),
    ("wrong_arguments", "give it 1", "print(«round(1.5, 2, 3));"),
    (
        "wrong_arguments",
        "give it 2",
        "print(«helper(1));\nSOUND\n}\nfn helper(a, b) { a + b",
    ),
    (
        "wrong_arguments",
        "give it",
        "print(facts.kind.«starts_with());",
    ),
    (
        "unknown_variable",
        "write `const LIMIT",
        "if facts.dependents > global::«LIMIT { print(1); }",
    ),
    (
        "unknown_variable",
        "did you mean `fps`?",
        "let fps = facts.fps;\nprint(«fsp);\nprint(fps);",
    ),
    ("unknown_field", "did you mean `fps`?", "print(facts.«fsp);"),
    (
        "unknown_field",
        "did you mean `critical_dependents`?",
        "if facts.«critical_dependants > 0 { print(1); }",
    ),
    (
        "unknown_field",
        "did you mean `utilisation`?",
        "print(facts[«\"utilization\"]);",
    ),
    (
        "unknown_field",
        "there are 1d, 7d, 30d",
        "print(facts.fps[«\"week\"]);",
    ),
    (
        "unknown_field",
        "did you mean `serving`?",
        "if facts.redundancy != () { print(facts.redundancy.«sering); }",
    ),
    (
        "unknown_field",
        "there are p05, p50, p95",
        "print(facts.remaining_life_hours?.«median);",
    ),
    (
        "unknown_field",
        "did you mean `kind`?",
        "print(name(facts));\nSOUND\n}\nfn name(f) { f.«kinnd",
    ),
    (
        "unknown_field",
        "did you mean `state`?",
        "let f = facts;\nprint(f.«stat);",
    ),
    (
        "unknown_action",
        "did you mean `monitor`?",
        "if facts.cooling_down { return #{ action: «\"monitr\", reason: \"x\" }; }",
    ),
    (
        "unknown_field",
        "did you mean `reason`?",
        "if facts.cooling_down { return #{ action: \"shift_bandwidth\", reason: \"x\", «reson: \"y\" }; }",
    ),
    (
        "missing_reason",
        "add `reason: …`",
        "if facts.cooling_down { return #{ action: «\"monitor\" }; }",
    ),
    (
        "missing_workflow",
        "add `workflow: …`",
        "let d = #{ action: «\"start\", reason: \"x\" };\nreturn d;\nEND",
    ),
    (
        "missing_return",
        "end every path",
        "«try { SOUND } catch { print(1); }\nEND",
    ),
    (
        "maybe_unknown",
        "!= ()` first",
        "if facts.redundancy?.serving «> 1 { print(1); }",
    ),
    (
        "maybe_unknown",
        "!= ()` first",
        "if type_of(facts.anomaly) == \"()\" { print(facts.anomaly «+ 1.0); }",
    ),
    (
        "missing_return",
        "end every path",
        "«do { if facts.cooling_down { continue; } return SOUND; } while facts.dependents > 3;\nEND",
    ),
    (
        "missing_workflow",
        "add `workflow: …`",
        "if facts.cooling_down { return #{ action: «\"start\", reason: \"x\" }; }",
    ),
    (
        "type",
        "in a text",
        "if facts.cooling_down { return #{ action: \"monitor\", «reason: facts.dependents }; }",
    ),
    (
        "type",
        "give it a map",
        "if facts.cooling_down { return #{ action: \"start\", workflow: \"w\", reason: \"x\", «event: 3 }; }",
    ),
    (
        "type",
        "`facts.kind` is a string",
        "if facts.kind «> 5 { print(1); }",
    ),
    (
        "type",
        "`facts.asset` is a string",
        "if facts.asset «== 7 { print(1); }",
    ),
    (
        "type",
        "`facts.dependents` is a whole number",
        "if facts.dependents «== \"3\" { print(1); }",
    ),
    (
        "type",
        "`facts.cooling_down` is a bool",
        "if facts.cooling_down «== \"yes\" { print(1); }",
    ),
    (
        "type",
        "`facts.fps` is a map",
        "if facts.fps «> 0.2 { print(1); }",
    ),
    ("type", "is a map", "let sum = facts.fps «+ 1;\nprint(sum);"),
    (
        "type",
        "is an array",
        "let n = facts.fps_reasons «* 2;\nprint(n);",
    ),
    (
        "type",
        "is a string",
        "let n = facts.state «- 1;\nprint(n);",
    ),
    (
        "type",
        "call it on a character or a string",
        "print(facts.outage_cost_per_hour.«to_upper());",
    ),
    (
        "type",
        "call it on",
        "print(facts.dependents.«starts_with(\"3\"));",
    ),
    ("type", "give it", "print(facts.kind.«starts_with(3));"),
    (
        "type",
        "only maps have fields",
        "print(facts.outage_cost_per_hour.«amount);",
    ),
    (
        "type",
        "only maps, arrays and strings can",
        "print(facts.cooling_down[«0]);",
    ),
    ("type", "give it a string", "print(facts.fps[«7]);"),
    ("type", "compare", "if «!facts.dependents { print(1); }"),
    (
        "type",
        "go over its `keys()`",
        "for f in «facts.fps { print(f); }",
    ),
    (
        "type",
        "answer with",
        "if facts.cooling_down { return «\"monitor\"; }",
    ),
    (
        "condition",
        "compare it with something",
        "if «facts.dependents { print(1); }",
    ),
    (
        "condition",
        "compare it with something",
        "if facts.cooling_down && «facts.kind { print(1); }",
    ),
    (
        "condition",
        "compare it with something",
        "while «facts.asset { print(1); break; }",
    ),
    (
        "condition",
        "compare it with `()`",
        "if «facts.part { print(1); }",
    ),
    (
        "missing_return",
        "end every path",
        "«if facts.cooling_down { return SOUND; }\nEND",
    ),
    (
        "missing_return",
        "end every path",
        "if facts.cooling_down { SOUND } else { «let _x = 1; }\nEND",
    ),
    (
        "missing_return",
        "end every path",
        "if facts.cooling_down { «return; }",
    ),
    (
        "missing_return",
        "end every path",
        "«switch facts.kind { \"a\" => SOUND }\nEND",
    ),
    (
        "unreachable",
        "take it out or move it up",
        "if facts.cooling_down { return SOUND; «print(1); }",
    ),
    (
        "unreachable",
        "take it out or move it up",
        "if facts.cooling_down { return SOUND; } else { throw 1; }\n«print(1);",
    ),
    (
        "unreachable",
        "take it out or move it up",
        "loop { print(1); }\n«print(2);",
    ),
    (
        "constant_condition",
        "what it guards never runs",
        "if «false { print(1); }",
    ),
    (
        "constant_condition",
        "leave the `if` out",
        "if 1 «< 2 { print(1); }",
    ),
    (
        "constant_condition",
        "leave the comparison out",
        "if facts.kind «== () { print(1); }",
    ),
    (
        "maybe_unknown",
        "facts.anomaly != ()",
        "if facts.anomaly «> 0.5 { print(1); }",
    ),
    (
        "maybe_unknown",
        "facts.redundancy != ()",
        "print(facts.redundancy.«serving);",
    ),
    ("unused_variable", "call it `_x`", "let «x = facts.kind;"),
];

const FAULTY_SCRIPTS: [(&str, &str, &str); 10] = [
    (
        "shadowed_variable",
        "than that of line 2",
        "fn decide(facts) {\n  let x = 1;\n  if x > 0 { let «x = 2; print(x); }\nSOUND\n}",
    ),
    (
        "shadowed_variable",
        "than the parameter",
        "fn decide(facts) {\n  let «facts = facts.kind;\n  #{ action: \"monitor\", reason: facts }\n}",
    ),
    (
        "missing_function",
        "write `fn decide(facts)",
        "fn other(facts) { SOUND }",
    ),
    (
        "missing_function",
        "did you mean `decde`?",
        "fn decde(facts) { SOUND }",
    ),
    (
        "top_level",
        "move it into `fn decide`",
        "«print(1);\nfn decide(facts) { SOUND }",
    ),
    (
        "top_level",
        "move it into `fn decide`",
        "«let LIMIT = 3;\nfn decide(facts) { SOUND }",
    ),
    (
        "unknown_function",
        "did you mean `floor`?",
        "const LIMIT = «flor(3.7);\nfn decide(facts) { if facts.dependents > global::LIMIT { print(1); } SOUND }",
    ),
    ("parse", "", "fn decide(facts) {\n  let x = «;\n}"),
    (
        "limit.depth",
        "",
        "fn decide(facts) {\n  let x = ((((((((((«(((((((((((((((1)))))))))))))))))))))))))); x\n}",
    ),
    (
        "unknown_variable",
        "did you mean `facts`?",
        "fn decide(facts) {\n  «fact.kind\n}",
    ),
];

const FAULTY_WORKFLOWS: [(&str, &str, &str); 24] = [
    (
        "unknown_queue",
        "did you mean `vision`?",
        "step(\"make\", #{ build: \"b\" }, #{ queue: «\"vison\" });",
    ),
    (
        "unknown_role",
        "there are operator",
        "approval(«\"janitor\", #{}, \"2h\");",
    ),
    (
        "out_of_range",
        "0 or more",
        "step(\"make\", #{ build: \"b\" }, #{ retry: «-1 });",
    ),
    (
        "exclusive_options",
        "take one of them out",
        "step(\"make\", #{ build: \"b\" }, #{ concurrency_key: \"a\", «idempotency_key: \"b\" });",
    ),
    (
        "unknown_kind",
        "did you mean `notify`?",
        "step(«\"notfy\", #{});",
    ),
    (
        "unknown_kind",
        "did you mean `make`?",
        "wait(start(«\"mak\", #{}));",
    ),
    (
        "unknown_field",
        "did you mean `subject`?",
        "step(\"notify\", #{ «subjct: \"a\" });",
    ),
    (
        "unknown_option",
        "did you mean `timeout`?",
        "step(\"notify\", #{}, #{ «timout: \"1h\" });",
    ),
    (
        "invalid_duration",
        "write it like",
        "step(\"notify\", #{}, #{ timeout: «\"1 hour\" });",
    ),
    (
        "invalid_duration",
        "write it like",
        "step(\"notify\", #{}, #{ backoff: «30 });",
    ),
    (
        "type",
        "without quotes",
        "step(\"notify\", #{}, #{ retry: «\"3\" });",
    ),
    (
        "invalid_rate",
        "write it like",
        "step(\"notify\", #{}, #{ rate: «\"10 a minute\" });",
    ),
    (
        "invalid_rate",
        "write it like",
        "step(\"notify\", #{}, #{ rate: «10 });",
    ),
    (
        "lone_option",
        "add a rate",
        "step(\"notify\", #{}, #{ «rate_key: \"mail\" });",
    ),
    ("invalid_duration", "write it like", "sleep(«\"soon\");"),
    (
        "invalid_duration",
        "write it like",
        "approval(\"technician\", #{}, «\"a day\");",
    ),
    ("wrong_arguments", "give it 1", "«sleep();"),
    ("wrong_arguments", "give it 3", "«wait_event(\"a\", \"b\");"),
    ("type", "give it a map", "«step(\"notify\", #{}, \"1h\");"),
    ("type", "call it on a string", "«step(#{}, #{});"),
    ("type", "call it on an array", "«wait_all(\"a\");"),
    (
        "type",
        "put a string on both sides",
        "if now() «> 5 { log(\"x\"); }",
    ),
    ("unknown_function", "did you mean `wait`?", "«wiat(1);"),
    ("unreachable", "take it out", "fail(\"no\");\n«log(\"x\");"),
];

fn steps() -> Vec<StepInput> {
    let mut notify = StepInput::of_kind("notify");
    notify.fields = Some(vec!["subject".into(), "payload".into()]);
    vec![notify, StepInput::of_kind("make")]
}

/// The script without its mark, and where the mark was.
fn marked(text: &str) -> (String, Option<(u32, u32)>) {
    let text = text.replace("SOUND", SOUND);
    let Some((before, after)) = text.split_once('«') else {
        return (text, None);
    };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    let place = (
        u32::try_from(line).expect("small"),
        u32::try_from(column).expect("small"),
    );
    (format!("{before}{after}"), Some(place))
}

fn found(source: &str, workflow: bool) -> Vec<Finding> {
    match workflow {
        true => look_over_workflow("s", source, &steps()),
        false => look_over_policy("s", source),
    }
}

/// What is told of a script other than what was expected.
fn amiss(code: &str, hint: &str, text: &str, workflow: bool) -> Option<String> {
    let (source, place) = marked(text);
    let findings = found(&source, workflow);
    if let [finding] = findings.as_slice() {
        let at = finding.error.line.zip(finding.error.column);
        let said = finding.hint.clone().unwrap_or_default();
        let hinted = said.contains(hint) && hint.is_empty() == said.is_empty();
        if finding.error.code == code && at == place && hinted {
            return None;
        }
    }
    let told: Vec<String> = findings
        .iter()
        .map(|f| format!("{} {f}", f.error.code))
        .collect();
    Some(format!(
        "{source}\nexpected {code} {place:?} {hint}\n{told:#?}\n"
    ))
}

fn decide(body: &str) -> String {
    match body.strip_suffix("\nEND") {
        Some(body) => format!("fn decide(facts) {{\n{body}\n}}"),
        None if body.contains("\nSOUND\n}") => format!("fn decide(facts) {{\n{body}\n}}"),
        None => format!("fn decide(facts) {{\n{body}\nSOUND\n}}"),
    }
}

#[test]
fn every_faulty_script_is_told_by_code_place_and_hint() {
    let policies = FAULTY_POLICIES.iter();
    let policies =
        policies.filter_map(|(code, hint, body)| amiss(code, hint, &decide(body), false));
    let scripts = FAULTY_SCRIPTS.iter();
    let scripts = scripts.filter_map(|(code, hint, text)| amiss(code, hint, text, false));
    let workflows = FAULTY_WORKFLOWS.iter().filter_map(|(code, hint, body)| {
        amiss(code, hint, &format!("fn run(event) {{\n{body}\n}}"), true)
    });
    let all: Vec<String> = policies.chain(scripts).chain(workflows).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn a_sound_script_is_left_alone() {
    for body in [
        "let fps = facts.fps[\"7d\"];\nif fps > 0.2 { print(fps); }",
        "if facts.redundancy != () && facts.redundancy.serving > 1 { print(1); }",
        "if facts.redundancy == () || facts.redundancy.serving > 1 { print(1); }",
        "if facts.redundancy == () { return SOUND; }\nprint(facts.redundancy.serving + 1);",
        "if !(facts.anomaly == ()) { print(facts.anomaly * 2.0); }",
        "if facts.anomaly != () { if facts.anomaly > 0.5 { print(1); } }",
        "let a = facts.anomaly;\nif a != () && a > 0.5 { print(a); }",
        "if (facts.anomaly ?? 0.0) > 0.5 { print(1); }",
        "if type_of(facts.part) == \"string\" { print(facts.part.len()); }",
        "print(facts.redundancy?.serving);",
        "if facts.redundancy?.serving != () { print(facts.redundancy.serving + 1); }",
        "let n = facts.redundancy?.serving;\nif n == () { return SOUND; }\nprint(n + 1);",
        "if type_of(facts.anomaly) == \"()\" { return SOUND; }\nprint(facts.anomaly > 0.5);",
        "if type_of(facts.anomaly) != \"()\" { print(facts.anomaly > 0.5); }",
        "return #{ action: \"start\", workflow: \"w\", reason: \"r\", event: #{ action: \"draining\" } };\nEND",
        "let d = #{ action: \"start\", reason: \"x\" };\nd.workflow = \"w\";\nreturn d;\nEND",
        "try { SOUND } catch (e) { return #{ action: \"monitor\", reason: `${e}` }; }\nEND",
        "do { if facts.cooling_down { continue; } return SOUND; } while true;\nEND",
        "switch facts.cooling_down { true => return SOUND, false => return SOUND }\nEND",
        "let worst = [1, 2].map(|x| x + 1).filter(|x| x > 1);\nprint(worst);",
        "let n = 0;\nfor r in facts.fps_reasons { n += 1; }\nprint(n);",
        "let last = ();\nfor r in facts.fps_reasons { if last != () { print(last.len()); } last = r; }",
        "let x = if facts.cooling_down { 1 } else { 2.5 };\nprint(x + 1);",
        "print(facts.fps.keys().len() + facts.kind.len + facts.fps_reasons.len);",
        "print(`${facts.dependents}` + \" of \" + facts.critical_dependents);",
        "let m = #{ n: 1, twice: |x| x * 2 };\nprint(m.n + m.twice.call(2) + m[\"n\"]);",
        "switch facts.state { \"offline\" | \"retired\" => return SOUND, _ => () }",
        "if facts.cooling_down { return SOUND; } else { return SOUND; }\nEND",
        "switch facts.kind { \"a\" => SOUND, _ => SOUND }\nEND",
        "loop { if facts.cooling_down { return SOUND; } break; }",
        "loop { return SOUND; }\nEND",
        "try { print(risky(facts)); } catch (e) { print(e); }\nSOUND\n}\nfn risky(f) { if f.dependents > 3 { throw \"too many\"; } f.dependents",
        "print(sum(3));\nSOUND\n}\nfn sum(n) { if n <= 0 { 0 } else { n + sum(n - 1) }",
        "print(max(facts.dependents, 3) + facts.outage_cost_per_hour.round().to_int());",
        "if \"7d\" in facts.fps { print(facts.fps[\"7d\"] ** 2 % 3); }",
        "print(facts.kind.sub_string(0, 2).to_upper() == \"FA\" || 'a' < 'b');",
        "print(pick(facts.kind, 1));\nprint(pick(facts.dependents, 1));\nSOUND\n}\nfn pick(a, b) { if a == b { a } else { b }",
        "print([3, 1].map(\"twice\"));\nSOUND\n}\nfn twice(n) { n * 2",
        "let _unused = 1;\nlet f = Fn(\"twice\");\nprint(f.call(2));\nSOUND\n}\nfn twice(n) { n * 2",
        "facts.note = \"mine\";\nprint(facts.note);",
        "let copy = facts;\ncopy += #{ more: 1 };\nprint(copy.more);",
        "return #{ action: \"start\", workflow: facts.part ?? \"w\", reason: facts.kind, event: #{ a: 1 } };\nEND",
        "return helper(facts);\nEND\n",
    ] {
        let text = match body.strip_suffix("\nEND\n") {
            Some(body) => format!(
                "fn decide(facts) {{\n{body}\n}}\nfn helper(f) {{ if f.cooling_down {{ return SOUND; }} SOUND }}"
            ),
            None => decide(body),
        };
        let (source, _) = marked(&text);
        assert_eq!(found(&source, false), [], "{source}");
    }
}

#[test]
fn a_sound_workflow_is_left_alone() {
    for body in [
        "let handles = [start(\"make\", #{ any: 1 }), start(\"notify\", #{ subject: \"a\" })];\nwait_all(handles)",
        "let said = step(\"notify\", #{ subject: `of ${event.asset}` }, #{ retry: 3, timeout: \"1h30m\", priority: -1 });\nsaid.subject",
        "on_failure(|| step(\"notify\", #{ subject: event.asset }));\nsleep(\"2h\");",
        "let by = time_plus(now(), \"1d\");\nif seconds_between(now(), by) > 3.0 { log(\"late\", #{ by: by }); }",
        "let kind = \"make\";\nlet spans = [\"1h\"];\nstep(kind, event);\nsleep(spans[0]);",
        "if event.get(\"x\") == () { fail(\"code\", \"why\"); }\nrandom()",
    ] {
        let source = format!("const N = 3;\nfn run(event) {{\n{body}\n}}");
        assert_eq!(found(&source, true), [], "{source}");
    }
}

#[test]
fn a_finding_has_an_end_and_reads_as_one_line() {
    let findings = found("fn decide(facts) {\n  let unused = facts.fsp;\n}", false);
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "s:2:3: here `decide` ends without a decision; end every path with `#{ action: …, reason: … }`",
            "s:2:7: warning: `unused` is never used; take it out, or call it `_unused`",
            "s:2:22: there is no fact `fsp`; did you mean `fps`?"
        ]
    );
    let ends: Vec<_> = findings
        .iter()
        .map(|f| (f.end_line, f.end_column))
        .collect();
    assert_eq!(ends[2], (Some(2), Some(25)));
    let json = serde_json::to_value(&findings[2]).expect("JSON");
    assert_eq!(json["severity"], "error");
    assert_eq!(
        (&json["code"], &json["line"]),
        (&"unknown_field".into(), &2.into())
    );
}

fn a_script() -> impl Strategy<Value = (String, bool)> {
    let policies = shipped::POLICIES
        .iter()
        .map(|s| (s.source.to_owned(), false));
    let workflows = shipped::WORKFLOWS
        .iter()
        .map(|s| (s.source.to_owned(), true));
    let faulty = FAULTY_POLICIES
        .iter()
        .map(|row| (marked(&decide(row.2)).0, false));
    let all: Vec<_> = policies.chain(workflows).chain(faulty).collect();
    proptest::sample::select(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_mutilated_script_is_checked_without_a_panic(
        (source, workflow) in a_script(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[a-z(){}|;.\" é«=!<>&+0-9\\n]{0,4}"), 1..4),
    ) {
        let mut text: Vec<char> = source.chars().collect();
        for (at, length, new) in cuts {
            let from = at.index(text.len() + 1);
            let to = (from + length).min(text.len());
            text.splice(from..to, new.chars());
        }
        let source: String = text.into_iter().collect();
        let lines: Vec<usize> = source.split('\n').map(|line| line.chars().count()).collect();
        for finding in found(&source, workflow) {
            prop_assert_ne!(finding.error.code.as_str(), "internal", "{}", finding);
            if let (Some(line), Some(column)) = (finding.error.line, finding.error.column) {
                let length = lines.get(line as usize - 1);
                prop_assert!(length.is_some_and(|length| column as usize <= length + 1), "{}\n{}", source, finding);
            }
        }
    }
}
