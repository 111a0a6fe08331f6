//! What is known of the type of a value: the set of kinds it may have, and the fields of a map that is known.

use std::{
    any::TypeId,
    ops::{Range, RangeInclusive},
};

use rhai::{Array, Dynamic, FLOAT, FnPtr, INT, ImmutableString, Map};

/// A set of kinds of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    pub(super) const NONE: Self = Self(0);
    pub(super) const UNIT: Self = Self(1);
    pub(super) const BOOL: Self = Self(1 << 1);
    pub(super) const INT: Self = Self(1 << 2);
    pub(super) const FLOAT: Self = Self(1 << 3);
    pub(super) const CHAR: Self = Self(1 << 4);
    pub(super) const TEXT: Self = Self(1 << 5);
    pub(super) const ARRAY: Self = Self(1 << 6);
    pub(super) const MAP: Self = Self(1 << 7);
    pub(super) const FN: Self = Self(1 << 8);
    pub(super) const RANGE: Self = Self(1 << 9);
    pub(super) const OTHER: Self = Self(1 << 10);
    pub(super) const ANY: Self = Self((1 << 11) - 1);
    pub(super) const NUMBER: Self = Self(Self::INT.0 | Self::FLOAT.0);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The kinds one by one.
    pub(super) fn each(self) -> impl Iterator<Item = Self> {
        (0..11)
            .map(|bit| Self(1 << bit))
            .filter(move |kind| self.meets(*kind))
    }
}

impl std::fmt::Display for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 11] = [
            "()",
            "a bool",
            "a whole number",
            "a float",
            "a character",
            "a string",
            "an array",
            "a map",
            "a function",
            "a range",
            "a handle",
        ];
        let names: Vec<&str> = (0..11)
            .filter(|bit| self.0 & (1 << bit) != 0)
            .map(|bit| NAMES[bit])
            .collect();
        f.write_str(&names.join(" or "))
    }
}

/// What is known of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) kinds: Kinds,
    /// The fields of the map it is, or may be.
    pub(super) shape: Option<&'static Shape>,
}

/// The fields of a map that is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// What the map is, e.g. ``fact `redundancy` ``.
    pub(super) what: &'static str,
    pub(super) fields: &'static [(&'static str, Type)],
}

impl Type {
    pub(super) const NONE: Self = Self::of(Kinds::NONE);
    pub(super) const ANY: Self = Self::of(Kinds::ANY);
    pub(super) const UNIT: Self = Self::of(Kinds::UNIT);
    pub(super) const BOOL: Self = Self::of(Kinds::BOOL);
    pub(super) const TEXT: Self = Self::of(Kinds::TEXT);

    pub(super) const fn of(kinds: Kinds) -> Self {
        Self { kinds, shape: None }
    }

    /// This or that.
    pub(super) fn or(self, other: Self) -> Self {
        let shape = match (self.shape, other.shape) {
            (mine, theirs) if mine == theirs => mine,
            // A map without fields that are known has any.
            (mine, None) if !other.kinds.meets(Kinds::MAP) => mine,
            (None, theirs) if !self.kinds.meets(Kinds::MAP) => theirs,
            _ => None,
        };
        Self {
            kinds: self.kinds.or(other.kinds),
            shape,
        }
    }

    pub(super) fn without(self, kinds: Kinds) -> Self {
        Self {
            kinds: self.kinds.without(kinds),
            ..self
        }
    }

    pub(super) fn is_any(self) -> bool {
        self.kinds == Kinds::ANY || self.kinds.is_none()
    }

    /// Whether it is certain that it is none of these.
    pub(super) fn never(self, kinds: Kinds) -> bool {
        !self.kinds.is_none() && !self.kinds.meets(kinds)
    }

    /// Whether it is known that it is `()` at times, which of a value nobody knows is not.
    pub(super) fn may_be_unit(self) -> bool {
        !self.is_any() && self.kinds.meets(Kinds::UNIT)
    }
}

/// The kind of a constant.
pub(super) fn of_constant(value: &Dynamic) -> Type {
    let kinds = match () {
        () if value.is_unit() => Kinds::UNIT,
        () if value.is_bool() => Kinds::BOOL,
        () if value.is_int() => Kinds::INT,
        () if value.is_float() => Kinds::FLOAT,
        () if value.is_char() => Kinds::CHAR,
        () if value.is_string() => Kinds::TEXT,
        () if value.is_array() => Kinds::ARRAY,
        () if value.is_map() => Kinds::MAP,
        () if value.is_fnptr() => Kinds::FN,
        () => Kinds::ANY,
    };
    Type::of(kinds)
}

/// The kinds a native function takes as a parameter of this type.
pub(super) fn of_parameter(id: TypeId) -> Kinds {
    let known = [
        (TypeId::of::<()>(), Kinds::UNIT),
        (TypeId::of::<bool>(), Kinds::BOOL),
        (TypeId::of::<INT>(), Kinds::INT),
        (TypeId::of::<FLOAT>(), Kinds::FLOAT),
        (TypeId::of::<char>(), Kinds::CHAR),
        (TypeId::of::<ImmutableString>(), Kinds::TEXT),
        (TypeId::of::<Array>(), Kinds::ARRAY),
        (TypeId::of::<Map>(), Kinds::MAP),
        (TypeId::of::<FnPtr>(), Kinds::FN),
        (TypeId::of::<Range<INT>>(), Kinds::RANGE),
        (TypeId::of::<RangeInclusive<INT>>(), Kinds::RANGE),
        (TypeId::of::<Dynamic>(), Kinds::ANY),
    ];
    let found = known.iter().find(|(known, _)| *known == id);
    found.map_or(Kinds::OTHER, |(_, kinds)| *kinds)
}

/// The type a native function gives, by what it is called in its signature.
pub(super) fn of_result(name: &str) -> Type {
    let name = name
        .trim_start_matches("RhaiResultOf<")
        .trim_end_matches('>');
    let kinds = match name.trim() {
        "()" => Kinds::UNIT,
        "bool" => Kinds::BOOL,
        "INT" | "i64" => Kinds::INT,
        "FLOAT" | "f64" => Kinds::FLOAT,
        "char" => Kinds::CHAR,
        "ImmutableString" | "String" | "&str" => Kinds::TEXT,
        "Array" => Kinds::ARRAY,
        "Map" => Kinds::MAP,
        _ => Kinds::ANY,
    };
    Type::of(kinds)
}
