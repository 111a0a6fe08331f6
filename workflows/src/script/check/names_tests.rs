//! What a check says of names: those a file of tests gives its functions, and those nobody declares.

use super::*;

const RULE: &str = "const LIMIT = 3;
fn decide(facts) { risky(facts) }
fn risky(facts) { facts.dependents > global::LIMIT }";

fn compiled(name: &str, source: &str) -> Script {
    Script::compile(name, source).expect("compiles")
}

/// Code, line, and the nearest name of what is told of tests.
fn told(tests: &str) -> Vec<(String, u32, Option<String>)> {
    let kinds = [StepInput::of_kind("notify"), StepInput::of_kind("make")];
    let found = test_findings(&compiled("s", RULE), &compiled("s_test", tests), &kinds);
    let told = |f: Finding| {
        (
            f.error.code,
            f.error.line.unwrap_or_default(),
            f.error.nearest,
        )
    };
    found.into_iter().map(told).collect()
}

#[test]
fn a_test_that_would_never_run_is_told() {
    for (tests, code, nearest) in [
        ("fn test_x(a) { a }", "test_signature", None),
        (
            "fn case_x() { }\nfn cases_x() { [1] }",
            "test_signature",
            None,
        ),
        ("fn case_x(row) { row }", "missing_table", None),
        ("fn cases_x() { [1] }", "missing_case", None),
        ("fn tset_x() { }", "not_a_test", Some("test_x")),
        ("fn Test_x() { }", "not_a_test", Some("test_x")),
        ("fn testing_x() { }", "not_a_test", Some("test_x")),
        ("fn testx() { }", "not_a_test", Some("test_x")),
        ("fn cse_x(row) { row }", "not_a_test", Some("case_x")),
        ("fn casess_x() { [1] }", "not_a_test", Some("cases_x")),
    ] {
        let wanted = (code.to_owned(), 1, nearest.map(ToOwned::to_owned));
        assert_eq!(told(tests), [wanted], "{tests}");
    }
    let sound = "fn cases_x() { [best_of(1)] }\nfn case_x(row) { row }\nfn test_x() { }\nfn best_of(n) { n }\nfn facts() { }";
    assert_eq!(told(sound), []);
}

#[test]
fn a_function_that_would_stand_for_one_of_the_script_names_both_places() {
    let tests = "fn test_x() { assert(decide(#{})); }\n\nfn risky(facts) { true }";
    let found = test_findings(&compiled("s", RULE), &compiled("s_test", tests), &[]);
    let [finding] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(finding.error.code, "replaced_function");
    let text = finding.to_string();
    assert!(text.starts_with("s_test:3:4: "), "{text}");
    assert!(text.contains("of `s`, line 3,"), "{text}");
    assert_eq!(told("fn risky() { } fn test_x() { risky(); }"), []);
}

#[test]
fn a_constant_of_the_script_is_not_another_one_in_its_tests() {
    let body = "fn test_x() { assert(global::LIMIT > 0); }";
    let wanted = ("replaced_constant".to_owned(), 1, None);
    assert_eq!(told(&format!("const LIMIT = 4; {body}")), [wanted]);
    assert_eq!(told(&format!("const MOST = 4; {body}")), []);
}

#[test]
fn a_script_that_is_wrong_everywhere_is_told_of_in_no_time() {
    let source = format!("fn decide(facts) {{ {} }}", "a();".repeat(50_000));
    let found = look_over_policy("s", &source);
    assert_eq!(found.len(), 201);
    let last = found.iter().filter(|f| f.error.code == "too_many");
    assert_eq!(last.count(), 1);
    let name = "n".repeat(100_000);
    let source = format!("fn decide(facts) {{ {name}a(); }} fn {name}b() {{ }}");
    assert!(!look_over_policy("s", &source).is_empty());
}

#[test]
fn calls_of_tests_are_looked_up_in_the_script_too() {
    assert_eq!(
        told("fn test_x() { assert(risky(#{ dependents: global::LIMIT })); }"),
        []
    );
    for (body, code, nearest) in [
        ("rsky(#{});", "unknown_function", Some("risky")),
        ("risky(1, 2);", "wrong_arguments", None),
        ("asert(true);", "unknown_function", Some("assert")),
        ("print(global::LIMT);", "unknown_variable", Some("LIMIT")),
        ("on_step(\"notfy\", |i| i);", "unknown_kind", Some("notify")),
        ("on_step(\"make\");", "wrong_arguments", None),
        ("run_workflow();", "wrong_arguments", None),
    ] {
        let tests = format!("fn test_x() {{\n{body}\n}}");
        let wanted = (code.to_owned(), 2, nearest.map(ToOwned::to_owned));
        assert_eq!(told(&tests), [wanted], "{body}");
    }
}

#[test]
fn an_unknown_variable_hides_nothing_and_a_constant_is_told_by_its_whole_name() {
    let source = "const LIMIT = 3;
fn decide(facts) {
    if facts.dependents > LIMIT { print(facts.fsp); }
    print([1].filter(|x| x > LIMIT));
    print(factss);
    whence = 1;
    #{ action: \"monitr\", reason: \"fine\" }
}";
    let found = look_over_policy("s", source);
    let told: Vec<(&str, u32, Option<&str>)> = found
        .iter()
        .map(|f| {
            let nearest = f.error.nearest.as_deref();
            (
                f.error.code.as_str(),
                f.error.line.unwrap_or_default(),
                nearest,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("unknown_variable", 3, Some("global::LIMIT")),
            ("unknown_field", 3, Some("fps")),
            ("unknown_variable", 4, Some("global::LIMIT")),
            ("unknown_variable", 5, Some("facts")),
            ("unknown_variable", 6, None),
            ("unknown_action", 7, Some("monitor")),
        ],
        "{found:#?}"
    );
    let error = Script::compile("s", source).expect_err("it does not compile");
    assert_eq!(error.nearest.as_deref(), Some("global::LIMIT"));
}
