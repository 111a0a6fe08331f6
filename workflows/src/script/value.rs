//! Values between JSON, as everything is stored, and Rhai, as scripts see it.

use rhai::{Array, Dynamic, ImmutableString, Map};
use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

/// Deepest nesting a value may have on its way in or out.
const MAX_DEPTH: usize = 64;

/// Why a value cannot cross.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {why}")]
pub struct ValueError {
    /// Where in the value.
    pub path: String,
    /// What is wrong there.
    pub why: String,
}

/// JSON as a script sees it: `null` is `()`, whole numbers are integers.
///
/// # Errors
///
/// On an integer beyond 64 bits with sign, which would silently lose digits, and on nesting beyond 64 levels.
pub fn to_dynamic(value: &Value) -> Result<Dynamic, ValueError> {
    into(value, &mut Vec::new())
}

/// A script's value as JSON; characters become text.
///
/// # Errors
///
/// On what JSON cannot hold: numbers that are not finite, functions, handles, blobs; and on nesting beyond 64 levels.
pub fn from_dynamic(value: &Dynamic) -> Result<Value, ValueError> {
    out_of(value, &mut Vec::new())
}

/// Digest of a value that does not depend on the order its keys are kept in.
#[must_use]
pub fn digest(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    sha256(text.as_bytes())
}

/// `sha256:` and the digest of some bytes in hexadecimal.
#[must_use]
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, field) in fields {
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_canonical(field, text);
                text.push(',');
            }
            text.push('}');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

fn into(value: &Value, path: &mut Vec<String>) -> Result<Dynamic, ValueError> {
    check_depth(path)?;
    Ok(match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => int.into(),
            (None, Some(_)) if number.is_u64() => {
                return Err(fail(path, format!("is {number}, beyond a 64-bit integer")));
            }
            (None, Some(float)) => float.into(),
            (None, None) => return Err(fail(path, format!("is {number}, which no number holds"))),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => {
            let mut array = Array::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                array.push(within(path, index.to_string(), |path| into(item, path))?);
            }
            array.into()
        }
        Value::Object(fields) => {
            let mut map = Map::new();
            for (name, field) in fields {
                let field = within(path, name.clone(), |path| into(field, path))?;
                map.insert(name.as_str().into(), field);
            }
            map.into()
        }
    })
}

fn out_of(value: &Dynamic, path: &mut Vec<String>) -> Result<Value, ValueError> {
    check_depth(path)?;
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = value.as_bool() {
        return Ok(flag.into());
    }
    if let Ok(int) = value.as_int() {
        return Ok(int.into());
    }
    if let Ok(float) = value.as_float() {
        return Number::from_f64(float)
            .map(Value::Number)
            .ok_or_else(|| fail(path, format!("is {float}, not a finite number")));
    }
    if let Ok(letter) = value.as_char() {
        return Ok(letter.to_string().into());
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(text.as_str().into());
    }
    if let Some(items) = value.read_lock::<Array>() {
        let mut array = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            array.push(within(path, index.to_string(), |path| out_of(item, path))?);
        }
        return Ok(array.into());
    }
    if let Some(fields) = value.read_lock::<Map>() {
        let mut object = serde_json::Map::new();
        for (name, field) in fields.iter() {
            let field = within(path, name.to_string(), |path| out_of(field, path))?;
            object.insert(name.to_string(), field);
        }
        return Ok(object.into());
    }
    let kind = value.type_name();
    let kind = kind.rsplit("::").next().unwrap_or(kind);
    Err(fail(path, format!("is a {kind}, which cannot be stored")))
}

fn within<T>(
    path: &mut Vec<String>,
    name: String,
    go: impl FnOnce(&mut Vec<String>) -> Result<T, ValueError>,
) -> Result<T, ValueError> {
    path.push(name);
    let result = go(path);
    path.pop();
    result
}

fn check_depth(path: &[String]) -> Result<(), ValueError> {
    if path.len() > MAX_DEPTH {
        return Err(fail(
            &path[..4],
            format!("is nested deeper than {MAX_DEPTH} levels"),
        ));
    }
    Ok(())
}

fn fail(path: &[String], why: String) -> ValueError {
    let path = if path.is_empty() {
        "value".to_owned()
    } else {
        path.join(".")
    };
    ValueError { path, why }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_survives_the_way_in_and_out() {
        let value = json!({"a": [1, 2.5, -3.0, true, null, "é"], "b": {"c": {}}, "d": i64::MIN});
        let there = to_dynamic(&value).expect("fits");
        assert_eq!(from_dynamic(&there), Ok(value));
    }

    #[test]
    fn what_would_be_lost_is_refused_by_its_path() {
        let error = to_dynamic(&json!({"event": {"seed": u64::MAX}})).expect_err("too large");
        assert_eq!(error.path, "event.seed");
        let mut map = Map::new();
        map.insert("x".into(), f64::NAN.into());
        assert_eq!(
            from_dynamic(&map.into()).map_err(|e| e.to_string()),
            Err("`x` is NaN, not a finite number".to_owned())
        );
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        assert!(to_dynamic(&deep).is_err());
        let deep = (0..100).fold(Dynamic::from(1_i64), |inner, _| vec![inner].into());
        assert!(from_dynamic(&deep).is_err());
    }

    #[test]
    fn the_digest_ignores_the_order_of_keys_and_nothing_else() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":2}"#).expect("json");
        let other: Value = serde_json::from_str(r#"{"b":2,"a":1}"#).expect("json");
        assert_eq!(digest(&one), digest(&other));
        assert_ne!(digest(&json!({"a": 1})), digest(&json!({"a": 1.0})));
        assert_ne!(digest(&json!(["a", "b"])), digest(&json!(["a,b"])));
        assert!(digest(&one).starts_with("sha256:"));
    }
}
