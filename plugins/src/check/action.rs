//! What an action meets; only its author knows an input that it takes, so most of these are ones it may refuse.

use super::kit::Case;
use super::samples::STRANGE;
use crate::call::Request;

pub(super) fn cases() -> Vec<Case> {
    let wide: Vec<String> = (0..10_000).map(|n| format!("\"k{n}\": {n}")).collect();
    let inputs: [(&str, String); 24] = [
        ("an empty object", "{}".to_owned()),
        ("nothing at all", String::new()),
        ("white space", " \n\t ".to_owned()),
        ("null", "null".to_owned()),
        ("true", "true".to_owned()),
        ("a number", "7".to_owned()),
        ("a number beyond all", "1e999".to_owned()),
        ("a number of many digits", "1".repeat(1_000)),
        ("a string", "\"text\"".to_owned()),
        ("an empty list", "[]".to_owned()),
        ("a list of nothing", "[null, null]".to_owned()),
        ("no JSON", "{not json".to_owned()),
        ("cut off", "{\"asset\": \"fan-".to_owned()),
        ("two documents", "{} {}".to_owned()),
        ("a comment", "{} // yes".to_owned()),
        ("an escape that is none", "\"\\x\"".to_owned()),
        ("half a surrogate", "\"\\ud800\"".to_owned()),
        (
            "a strange key",
            format!("{{{:?}: 1}}", STRANGE.replace('\0', "")),
        ),
        ("the same key twice", "{\"a\": 1, \"a\": 2}".to_owned()),
        (
            "unknown keys",
            "{\"forewright_unknown\": {\"x\": [1]}}".to_owned(),
        ),
        (
            "deep",
            format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)),
        ),
        ("deep and cut off", "{\"a\":".repeat(10_000)),
        ("wide", format!("{{{}}}", wide.join(", "))),
        (
            "a MiB",
            format!("{{\"note\": \"{}\"}}", "x".repeat((1 << 20) - 16)),
        ),
    ];
    let case = |(name, input): (&str, String)| {
        let request = Request::Act {
            input,
            key: "conformance".to_owned(),
        };
        Case::new(
            format!("input: {name}"),
            "an input it does not take is `invalid-input`",
            request,
        )
    };
    let mut cases: Vec<Case> = inputs.into_iter().map(case).collect();
    for (name, key) in [
        ("empty", ""),
        ("strange", STRANGE),
        ("long", &"k".repeat(10_000)),
    ] {
        let request = Request::Act {
            input: "{}".to_owned(),
            key: key.to_owned(),
        };
        cases.push(Case::new(
            format!("key: {name}"),
            "a key is any text",
            request,
        ));
    }
    cases
}
