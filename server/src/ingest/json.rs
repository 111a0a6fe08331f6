//! The JSON batch: `{"samples": [{"asset", "metric", "time", "value"}, …]}`.

use std::{collections::HashMap, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::parsed::{IngestError, MAX_SAMPLES, Parsed};
use crate::telemetry::{Rejected, Sample};

/// Reads a batch. An item that is not a sample is rejected by itself; text that is not JSON, or
/// not a batch, is an error with its line and column.
pub fn parse(bytes: &[u8]) -> Result<Parsed, IngestError> {
    // Serde would take a list for the object.
    if let Some(place) = bytes.iter().position(|byte| !byte.is_ascii_whitespace())
        && bytes[place] != b'{'
    {
        let before = &bytes[..place];
        let line_start = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        return Err(IngestError::Json {
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            column: place - line_start + 1,
            reason: "expected an object with a list `samples`".to_owned(),
        });
    }
    let batch: Batch = serde_json::from_slice(bytes).map_err(|error| {
        if error.to_string().starts_with(OVERSIZED) {
            let (limit, unit) = (MAX_SAMPLES, "samples");
            return IngestError::Oversized { limit, unit };
        }
        let text = error.to_string();
        let reason = text
            .rsplit_once(" at line ")
            .map_or(&*text, |parts| parts.0);
        IngestError::Json {
            line: error.line(),
            column: error.column(),
            reason: reason.to_owned(),
        }
    })?;
    let mut parsed = Parsed::default();
    let mut names = Names::default();
    for (index, item) in batch.samples.0.into_iter().enumerate() {
        match item.into_sample(&mut names) {
            Ok(sample) => {
                parsed.samples.push(sample);
                parsed.indices.push(index);
            }
            Err((field, reason)) => parsed.rejected.push(Rejected {
                index,
                field: field.into(),
                reason,
            }),
        }
    }
    Ok(parsed)
}

/// Begins the message by which a list that is too long makes itself known.
const OVERSIZED: &str = "too many samples";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    samples: Items,
}

/// The items of a batch; reading stops at the first one too many.
struct Items(Vec<Item>);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Items;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a list of samples")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MAX_SAMPLES {
                        return Err(A::Error::custom(OVERSIZED));
                    }
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        from.deserialize_seq(List)
    }
}

/// One item as it came, before anything is asked of it.
#[derive(Default)]
struct Item {
    asset: Option<Scalar>,
    metric: Option<Scalar>,
    time: Option<Scalar>,
    value: Option<Scalar>,
    fault: Option<(&'static str, String)>,
}

impl Item {
    fn into_sample(self, names: &mut Names) -> Result<Sample, (&'static str, String)> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let value = match self.value {
            Some(Scalar::Number(value)) => value,
            other => return Err(("value", expected("a number", other.as_ref()))),
        };
        let time_ms = match self.time {
            Some(Scalar::Text(text)) => instant(&text)?,
            other => {
                let what = "an RFC 3339 time such as \"2026-01-31T08:00:00Z\"";
                return Err(("time", expected(what, other.as_ref())));
            }
        };
        Ok(Sample {
            asset: names.shared("asset", self.asset)?,
            metric: names.shared("metric", self.metric)?,
            time_ms,
            value,
        })
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl ItemVisitor {
    fn not_an_object(found: &str) -> Item {
        let fault = Some(("", format!("expected an object, found {found}")));
        Item {
            fault,
            ..Item::default()
        }
    }
}

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a sample")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let mut item = Item::default();
        while let Some(key) = map.next_key::<String>()? {
            let scalar = map.next_value::<Scalar>()?;
            let (name, place) = match &*key {
                "asset" => ("asset", &mut item.asset),
                "metric" => ("metric", &mut item.metric),
                "time" => ("time", &mut item.time),
                "value" => ("value", &mut item.value),
                _ => {
                    let shown: String = key.chars().take(40).collect();
                    let reason = format!(
                        "unknown field `{shown}`; a sample has asset, metric, time and value"
                    );
                    item.fault.get_or_insert(("", reason));
                    continue;
                }
            };
            if place.replace(scalar).is_some() {
                let reason = "appears more than once".to_owned();
                item.fault.get_or_insert((name, reason));
            }
        }
        Ok(item)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Item, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::not_an_object("a list"))
    }

    fn visit_unit<E>(self) -> Result<Item, E> {
        Ok(Self::not_an_object("null"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Item, E> {
        Ok(Self::not_an_object("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Item, E> {
        Ok(Self::not_an_object("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Item, E> {
        Ok(Self::not_an_object("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Item, E> {
        Ok(Self::not_an_object("a number"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Item, E> {
        Ok(Self::not_an_object("a string"))
    }
}

/// The value of a field; anything larger than a scalar is only remembered by its kind.
enum Scalar {
    Text(String),
    Number(f64),
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value as f64))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
                Ok(Scalar::Other("a boolean"))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Other("null"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other("a list"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other("an object"))
            }
        }
        from.deserialize_any(Any)
    }
}

/// Names already seen, so that a thousand samples of one series share one string.
#[derive(Default)]
struct Names(HashMap<String, Arc<str>>);

impl Names {
    fn shared(
        &mut self,
        field: &'static str,
        name: Option<Scalar>,
    ) -> Result<Arc<str>, (&'static str, String)> {
        let Some(Scalar::Text(name)) = name else {
            return Err((field, expected("a string", name.as_ref())));
        };
        if let Some(shared) = self.0.get(&name) {
            return Ok(Arc::clone(shared));
        }
        let shared: Arc<str> = name.as_str().into();
        self.0.insert(name, Arc::clone(&shared));
        Ok(shared)
    }
}

fn expected(what: &str, found: Option<&Scalar>) -> String {
    match found {
        None => "is missing".to_owned(),
        Some(Scalar::Text(_)) => format!("expected {what}, found a string"),
        Some(Scalar::Number(_)) => format!("expected {what}, found a number"),
        Some(Scalar::Other(found)) => format!("expected {what}, found {found}"),
    }
}

fn instant(text: &str) -> Result<i64, (&'static str, String)> {
    match text.parse::<jiff::Timestamp>() {
        Ok(instant) => Ok(instant.as_millisecond()),
        Err(_) => {
            let shown: String = text.chars().take(40).collect();
            let reason = format!(
                "`{shown}` is not an RFC 3339 time with a zone, such as 2026-01-31T08:00:00Z"
            );
            Err(("time", reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str =
        r#"{"asset":"fan-1","metric":"rpm","time":"2026-01-31T09:00:00+01:00","value":1200}"#;

    fn batch(items: &[&str]) -> Parsed {
        let text = format!(r#"{{"samples":[{}]}}"#, items.join(","));
        parse(text.as_bytes()).expect("the batch is readable")
    }

    #[test]
    fn a_good_item_becomes_a_sample() {
        let parsed = batch(&[GOOD]);
        assert_eq!(parsed.rejected, []);
        assert_eq!(
            parsed.samples,
            [Sample {
                asset: "fan-1".into(),
                metric: "rpm".into(),
                time_ms: 1_769_846_400_000,
                value: 1200.0,
            }]
        );
    }

    #[test]
    fn bad_items_are_rejected_one_by_one() {
        let cases = [
            ("7", ""),
            ("null", ""),
            ("[[1],{}]", ""),
            ("{}", "value"),
            (r#"{"asset":"a","metric":"m","value":1}"#, "time"),
            (
                r#"{"asset":"a","metric":"m","time":"yesterday","value":1}"#,
                "time",
            ),
            (
                r#"{"asset":"a","metric":"m","time":"2026-01-31T09:00:00","value":1}"#,
                "time",
            ),
            (
                r#"{"asset":"a","metric":"m","time":1769850000,"value":1}"#,
                "time",
            ),
            (
                r#"{"asset":"a","metric":"m","time":"2026-01-31T09:00:00Z","value":"1"}"#,
                "value",
            ),
            (
                r#"{"asset":"a","metric":"m","time":"2026-01-31T09:00:00Z","value":null}"#,
                "value",
            ),
            (
                r#"{"asset":4,"metric":"m","time":"2026-01-31T09:00:00Z","value":1}"#,
                "asset",
            ),
            (
                r#"{"asset":"a","metric":{"x":[]},"time":"2026-01-31T09:00:00Z","value":1}"#,
                "metric",
            ),
            (
                r#"{"asset":"a","asset":"b","metric":"m","time":"x","value":1}"#,
                "asset",
            ),
            (
                r#"{"asset":"a","unit":"b","metric":"m","time":"x","value":1}"#,
                "",
            ),
        ];
        for (item, field) in cases {
            let parsed = batch(&[GOOD, item, GOOD]);
            assert_eq!(parsed.indices, [0, 2], "{item}");
            assert_eq!(parsed.rejected.len(), 1, "{item}");
            assert_eq!(
                (parsed.rejected[0].index, &*parsed.rejected[0].field),
                (1, field),
                "{item}"
            );
        }
    }

    #[test]
    fn text_that_is_no_batch_is_refused_with_its_place() {
        let cases = [
            ("", 1, 0),
            ("{\"samples\":[\n  {\"asset\": oops}]}", 2, 13),
            ("\n []", 2, 2),
            ("{\"samples\":7}", 1, 12),
            ("{\"sample\":[]}", 1, 9),
        ];
        for (text, line, column) in cases {
            match parse(text.as_bytes()) {
                Err(IngestError::Json {
                    line: l, column: c, ..
                }) => {
                    assert_eq!((l, c), (line, column), "{text}");
                }
                other => panic!("`{text}` gave {other:?}"),
            }
        }
    }

    #[test]
    fn one_sample_too_many_is_refused() {
        let items = vec!["0"; MAX_SAMPLES + 1].join(",");
        let text = format!(r#"{{"samples":[{items}]}}"#);
        let refused = parse(text.as_bytes());
        assert!(
            matches!(refused, Err(IngestError::Oversized { .. })),
            "{refused:?}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_batch_gets_an_answer(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            keep in any::<prop::sample::Index>(),
        ) {
            let mut bytes = format!(r#"{{"samples":[{GOOD},{GOOD}]}}"#).into_bytes();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Ok(parsed) = parse(&bytes) {
                prop_assert_eq!(parsed.samples.len(), parsed.indices.len());
                prop_assert!(parsed.samples.len() + parsed.rejected.len() <= 2);
            }
            bytes.truncate(keep.index(bytes.len()));
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
