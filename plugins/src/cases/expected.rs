//! What is to come of a case, and in what an answer differs from it.

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::call::Answer;
use crate::failure::{Code, Failure};

/// Differences that are told; an answer that is all wrong has thousands.
const TOLD: usize = 20;

/// What is to come of a case.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub enum Expected {
    /// An answer.
    Answer {
        /// What has to be in it; tables may have more than is named.
        answer: Value,
        /// Numbers may be so far apart, of 1 or of themselves if they are greater.
        tolerance: f64,
    },
    /// None.
    Failure {
        /// Its code.
        code: Code,
        /// What its message has to have in it.
        says: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    answer: Option<Value>,
    tolerance: Option<f64>,
    fails: Option<Code>,
    says: Option<String>,
}

impl TryFrom<Written> for Expected {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written {
            answer,
            tolerance,
            fails,
            says,
        } = written;
        match (answer, fails) {
            (Some(_), None) if says.is_some() => Err("only a case that `fails` has `says`"),
            (Some(answer), None) => match tolerance.unwrap_or(0.0) {
                tolerance if tolerance.is_finite() && tolerance >= 0.0 => {
                    Ok(Self::Answer { answer, tolerance })
                }
                _ => Err("a `tolerance` is a finite number, 0 or greater"),
            },
            (None, Some(_)) if tolerance.is_some() => {
                Err("only a case with an `answer` has a `tolerance`")
            }
            (None, Some(code)) => Ok(Self::Failure {
                code,
                says: says.unwrap_or_default(),
            }),
            _ => Err("a case expects either `answer` or `fails`"),
        }
    }
}

impl Expected {
    /// In what a result differs from this; nothing where all is as expected.
    #[must_use]
    pub fn differences(&self, result: &Result<Answer, Box<Failure>>) -> Vec<String> {
        match (self, result) {
            (Self::Answer { answer, tolerance }, Ok(got)) => match as_value(got) {
                Ok(got) => {
                    let mut differs = Vec::new();
                    compare("answer", answer, &got, *tolerance, &mut differs);
                    differs
                }
                Err(why) => vec![why],
            },
            (Self::Failure { code, says }, Err(failure)) => {
                let mut differs = Vec::new();
                if failure.code != *code {
                    differs.push(format!(
                        "it failed with `{}` instead of `{}`: {failure}",
                        failure.code.name(),
                        code.name()
                    ));
                } else if !failure.message.contains(says.as_str()) {
                    differs.push(format!("{:?} has no {says:?} in it", failure.message));
                }
                differs
            }
            (Self::Answer { .. }, Err(failure)) => {
                vec![format!(
                    "it failed with `{}`: {failure}",
                    failure.code.name()
                )]
            }
            (Self::Failure { code, .. }, Ok(_)) => {
                vec![format!("it answered; `{}` was expected", code.name())]
            }
        }
    }
}

/// In what an answer differs from another of the same plugin, place by place: what a new version changes.
#[must_use]
pub fn differences(before: &Answer, now: &Answer) -> Vec<String> {
    match (as_value(before), as_value(now)) {
        (Ok(before), Ok(now)) => {
            let mut differs = Vec::new();
            compare("answer", &before, &now, 0.0, &mut differs);
            if let Some(place) = unknown_to(&before, &now, "answer") {
                differs.push(format!("{place}: was not there"));
            }
            differs
        }
        (Err(why), _) | (_, Err(why)) => vec![why],
    }
}

/// The first place of a request that is not in what was understood of it.
pub(super) fn unknown(written: &Value, understood: &Value) -> Option<String> {
    let place = unknown_to(understood, written, "")?;
    Some(place.trim_start_matches('.').to_owned())
}

/// The first place that the other has and the one has not.
fn unknown_to(one: &Value, other: &Value, place: &str) -> Option<String> {
    match (one, other) {
        (Value::Table(one), Value::Table(other)) => other.iter().find_map(|(name, inner)| {
            let place = format!("{place}.{name}");
            match one.get(name) {
                Some(of_one) => unknown_to(of_one, inner, &place),
                None => Some(place),
            }
        }),
        (Value::Array(one), Value::Array(other)) => {
            let mut pairs = one.iter().zip(other).enumerate();
            pairs.find_map(|(n, (one, other))| unknown_to(one, other, &format!("{place}[{n}]")))
        }
        _ => None,
    }
}

/// An answer in the words of a case: an action's JSON as what it says.
fn as_value(answer: &Answer) -> Result<Value, String> {
    fn written(answer: &impl Serialize) -> Result<Value, String> {
        Value::try_from(answer).map_err(|why| format!("the answer cannot be shown: {why}"))
    }
    match answer {
        Answer::Predict(outlooks) => written(outlooks),
        Answer::Detect(anomalies) => written(anomalies),
        Answer::Design(candidates) => written(candidates),
        Answer::Verify(report) => written(report),
        Answer::Schedule(plan) => written(plan),
        Answer::Act(text) => match serde_json::from_str(text) {
            Ok(json) => Ok(of_json(json).unwrap_or_else(null)),
            Err(why) => Err(format!("the answer is no JSON: {why}")),
        },
    }
}

/// What stands for `null` where something has to stand.
fn null() -> Value {
    Value::String("null".to_owned())
}

/// JSON as TOML, which has no `null`: an entry that is null is not there.
fn of_json(json: serde_json::Value) -> Option<Value> {
    use serde_json::Value as Json;
    Some(match json {
        Json::Null => return None,
        Json::Bool(yes) => Value::Boolean(yes),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::String(text),
        Json::Array(items) => {
            let item = |item| of_json(item).unwrap_or_else(null);
            Value::Array(items.into_iter().map(item).collect())
        }
        Json::Object(entries) => {
            let inner = |(name, value)| Some((name, of_json(value)?));
            Value::Table(entries.into_iter().filter_map(inner).collect())
        }
    })
}

fn compare(place: &str, wanted: &Value, got: &Value, tolerance: f64, differs: &mut Vec<String>) {
    if differs.len() >= TOLD {
        return;
    }
    match (wanted, got) {
        // As they are: a float has not all whole numbers.
        (Value::Integer(wanted), Value::Integer(got)) if wanted == got => {}
        (Value::Integer(wanted), Value::Integer(got)) if tolerance == 0.0 => {
            differs.push(format!("{place}: {got} instead of {wanted}"));
        }
        (Value::Table(wanted), Value::Table(got)) => {
            for (name, wanted) in wanted {
                let place = format!("{place}.{name}");
                match got.get(name) {
                    Some(got) => compare(&place, wanted, got, tolerance, differs),
                    None => differs.push(format!("{place}: is missing; it is to be {wanted}")),
                }
            }
        }
        (Value::Array(wanted), Value::Array(got)) => {
            if wanted.len() != got.len() {
                differs.push(format!(
                    "{place}: has {} entries instead of {}",
                    got.len(),
                    wanted.len()
                ));
            }
            for (n, (wanted, got)) in wanted.iter().zip(got).enumerate() {
                compare(&format!("{place}[{n}]"), wanted, got, tolerance, differs);
            }
        }
        _ => {
            let same = match (number(wanted), number(got)) {
                (Some(wanted), Some(got)) => near(wanted, got, tolerance),
                _ => wanted == got,
            };
            if !same {
                differs.push(format!("{place}: {got} instead of {wanted}"));
            }
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(whole) => Some(*whole as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

fn near(wanted: f64, got: f64, tolerance: f64) -> bool {
    wanted == got
        || (wanted.is_nan() && got.is_nan())
        || (wanted.is_finite() && (wanted - got).abs() <= tolerance * wanted.abs().max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differs(wanted: &str, got: &str, tolerance: f64) -> Vec<String> {
        let value = |text: &str| {
            let table: toml::Table = format!("v = {text}").parse().unwrap();
            table["v"].clone()
        };
        let mut differs = Vec::new();
        compare(
            "answer",
            &value(wanted),
            &value(got),
            tolerance,
            &mut differs,
        );
        differs
    }

    #[test]
    fn numbers_are_near_or_not() {
        assert!(differs("1.0", "1", 0.0).is_empty());
        assert!(differs("nan", "nan", 0.0).is_empty());
        assert!(differs("1000.0", "1000.5", 1e-3).is_empty());
        assert!(differs("0.0", "0.0005", 1e-3).is_empty());
        assert_eq!(differs("nan", "1.0", 1.0), ["answer: 1.0 instead of nan"]);
        assert_eq!(differs("1.0", "inf", 1.0), ["answer: inf instead of 1.0"]);
        assert_eq!(differs("inf", "1.0", 1.0), ["answer: 1.0 instead of inf"]);
        let great = ["9007199254740993", "9007199254740992"];
        assert_eq!(differs(great[0], great[1], 0.0).len(), 1);
        assert!(differs(great[0], great[1], 1e-9).is_empty());
    }

    #[test]
    fn what_is_null_keeps_its_place_in_a_list() {
        let value = |text: &str| of_json(serde_json::from_str(text).unwrap());
        let list = value("[1, null, 3]").unwrap();
        assert_eq!(list.as_array().map(Vec::len), Some(3));
        assert_eq!(value("null"), None);
        assert_eq!(value(r#"{"a": null}"#).unwrap().to_string(), "{}");
    }

    #[test]
    fn versions_are_compared_both_ways() {
        let act = |text: &str| Answer::Act(text.to_owned());
        let differs = differences(&act(r#"{"a": [1]}"#), &act(r#"{"a": [{"c": 1}], "b": 2}"#));
        assert_eq!(
            differs,
            [
                "answer.a[0]: { c = 1 } instead of 1",
                "answer.b: was not there"
            ]
        );
        let same = differences(&act(r#"{"a": 1}"#), &act(r#"{ "a": 1 }"#));
        assert_eq!(same, Vec::<String>::new());
    }

    #[test]
    fn a_difference_is_told_by_its_place() {
        let told = differs("[{ a = 1, b = 'x' }, {}]", "[{ a = 2, c = 3 }]", 0.0);
        let expected = [
            "answer: has 1 entries instead of 2",
            "answer[0].a: 2 instead of 1",
            "answer[0].b: is missing; it is to be \"x\"",
        ];
        assert_eq!(told, expected);
        let many = format!("[{}]", "1, ".repeat(100));
        let other = format!("[{}]", "2, ".repeat(100));
        assert_eq!(differs(&many, &other, 0.0).len(), TOLD);
    }
}
