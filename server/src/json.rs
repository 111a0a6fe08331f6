//! JSON read as the document describes it: no list stands for an object, and `3.0` is a whole number.
//!
//! Serde takes a list for a struct, field by field, and no number with a point for an integer. JSON Schema says the
//! opposite of both.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};
use serde_path_to_error::Track;

/// Beyond it a number with a point may stand for more than one whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads all of `bytes` as one value; an error says in which field.
pub fn from_slice<T: DeserializeOwned>(
    bytes: &[u8],
) -> Result<T, serde_path_to_error::Error<serde_json::Error>> {
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(AsDescribed(&mut text))?;
    let nowhere = || Track::new().path();
    text.end()
        .map_err(|error| serde_path_to_error::Error::new(nowhere(), error))?;
    Ok(value)
}

/// Hands itself on to whatever is inside of what it wraps, so that all of a value is read in this way.
struct AsDescribed<T>(T);

/// A visitor that is to get a whole number.
struct Whole<V>(V);

macro_rules! reads {
    ($wrapped:ident: $($method:ident($($name:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* $wrapped(visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for AsDescribed<D> {
    type Error = D::Error;

    reads! { Whole:
        deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64()
    }

    reads! { AsDescribed:
        deserialize_any() deserialize_bool() deserialize_f32() deserialize_f64() deserialize_char() deserialize_str()
        deserialize_string() deserialize_bytes() deserialize_byte_buf() deserialize_option() deserialize_unit()
        deserialize_seq() deserialize_map() deserialize_identifier() deserialize_ignored_any()
        deserialize_unit_struct(name: &'static str) deserialize_newtype_struct(name: &'static str)
        deserialize_tuple(len: usize) deserialize_tuple_struct(name: &'static str, len: usize)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(AsDescribed(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }
}

macro_rules! hands_on {
    ($($method:ident($type:ty))*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for AsDescribed<V> {
    type Value = V::Value;

    hands_on! {
        visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) visit_borrowed_str(&'de str)
        visit_string(String) visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(to)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(AsDescribed(from))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(AsDescribed(from))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(AsDescribed(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(AsDescribed(members))
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Whole<V> {
    type Value = V::Value;

    hands_on! { visit_i64(i64) visit_u64(u64) }

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(to)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        if value.fract() == 0.0 && value.abs() <= EXACT {
            return self.0.visit_i64(value as i64);
        }
        self.0.visit_f64(value)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for AsDescribed<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(AsDescribed(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for AsDescribed<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(AsDescribed(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for AsDescribed<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(AsDescribed(from))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        count: u32,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        any: Value,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        at: i64,
    }

    fn read(text: &str) -> Result<Outer, String> {
        from_slice(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_number_with_a_point_is_whole_if_its_value_is() {
        let outer =
            read(r#"{"count": 3.0, "inner": {"at": -2e2}, "list": [{"at": 1}], "any": [3.0]}"#);
        let outer = outer.expect("it fits");
        assert_eq!((outer.count, outer.inner), (3, Some(Inner { at: -200 })));
        assert_eq!(outer.list, [Inner { at: 1 }]);
        assert_eq!(
            outer.any,
            json!([3.0]),
            "what may be anything is kept as it came"
        );
        for wrong in [
            r#"{"count": 3.5}"#,
            r#"{"count": -3.0}"#,
            r#"{"count": 1e300}"#,
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.starts_with("count: "), "{error}");
        }
    }

    #[test]
    fn a_list_is_no_object() {
        for (wrong, place) in [
            ("[3]", "invalid type: sequence, expected struct Outer"),
            (
                r#"{"count": 1, "inner": [1]}"#,
                "inner: invalid type: sequence",
            ),
            (
                r#"{"count": 1, "list": [{"at": 1}, [1]]}"#,
                "list[1]: invalid type: sequence",
            ),
            (r#"{"count": 1} 2"#, "trailing characters"),
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.starts_with(place), "{error}");
        }
    }
}
