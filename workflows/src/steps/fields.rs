//! The fields a structure is read from, asked of the code that reads it.

use serde::{
    Deserializer,
    de::{DeserializeOwned, Error, Visitor, value::Error as ValueError},
    forward_to_deserialize_any,
};

/// The names of the fields of a structure; `None` for what is read otherwise.
pub(super) fn fields_of<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut fields = None;
    // Reading ends at once: nothing is there to be read, and all that is wanted has been said by then.
    let _ = T::deserialize(Fields(&mut fields));
    fields
}

struct Fields<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ValueError> {
        Err(ValueError::custom("nothing to read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ValueError> {
        *self.0 = Some(fields);
        Err(ValueError::custom("nothing to read"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::registry;

    #[test]
    fn the_fields_of_inputs_are_known() {
        let registry = registry();
        let notify = registry.get("notify").expect("a kind");
        assert_eq!(notify.fields(), Some(&["subject", "payload"][..]));
        let known = registry
            .kinds()
            .filter(|(kind, _)| registry.get(kind).is_some_and(|s| s.fields().is_some()));
        assert_eq!(
            known.count(),
            registry.kinds().count(),
            "every input is a plain structure"
        );
        assert_eq!(fields_of::<Vec<u8>>(), None);
        assert_eq!(fields_of::<serde_json::Value>(), None);
    }
}
