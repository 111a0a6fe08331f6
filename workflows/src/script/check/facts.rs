//! The facts of a policy: their names, their types, and the fields of those that have some.

use super::types::{Kinds, Shape, Type};

/// What `decide` gets.
pub(super) const FACTS: Type = Type {
    kinds: Kinds::MAP,
    shape: Some(&SHAPE),
};

static SHAPE: Shape = Shape {
    what: "facts",
    fields: &[
        ("anomaly", MAYBE_FLOAT),
        ("asset", Type::TEXT),
        ("at", Type::TEXT),
        ("cooling_down", Type::BOOL),
        ("critical_dependents", WHOLE),
        ("dependents", WHOLE),
        ("failure_mode", MAYBE_TEXT),
        (
            "fps",
            Type {
                kinds: Kinds::MAP,
                shape: Some(&FPS),
            },
        ),
        ("fps_reasons", Type::of(Kinds::ARRAY)),
        ("kind", Type::TEXT),
        ("locality", Type::TEXT),
        ("open_run", MAYBE_TEXT),
        ("outage_cost_per_hour", FLOAT),
        ("part", MAYBE_TEXT),
        (
            "redundancy",
            Type {
                kinds: MAYBE_MAP,
                shape: Some(&REDUNDANCY),
            },
        ),
        (
            "remaining_life_hours",
            Type {
                kinds: MAYBE_MAP,
                shape: Some(&REMAINING_LIFE),
            },
        ),
        ("spare_capacity", MAYBE_FLOAT),
        ("stand_in_operational", Type::BOOL),
        ("stand_in_possible", Type::BOOL),
        ("state", Type::TEXT),
        ("utilisation", MAYBE_FLOAT),
    ],
};

static FPS: Shape = Shape {
    what: "fact `fps`",
    fields: &[("1d", FLOAT), ("7d", FLOAT), ("30d", FLOAT)],
};

static REDUNDANCY: Shape = Shape {
    what: "fact `redundancy`",
    fields: &[("group", Type::TEXT), ("serving", WHOLE), ("needed", WHOLE)],
};

static REMAINING_LIFE: Shape = Shape {
    what: "fact `remaining_life_hours`",
    fields: &[("p05", FLOAT), ("p50", FLOAT), ("p95", FLOAT)],
};

const FLOAT: Type = Type::of(Kinds::FLOAT);
const WHOLE: Type = Type::of(Kinds::INT);
const MAYBE_FLOAT: Type = Type::of(Kinds::FLOAT.or(Kinds::UNIT));
const MAYBE_TEXT: Type = Type::of(Kinds::TEXT.or(Kinds::UNIT));
const MAYBE_MAP: Kinds = Kinds::MAP.or(Kinds::UNIT);

impl Shape {
    /// The type of a field, or what to say if there is none of its name.
    pub(super) fn field(&self, name: &str) -> Result<Type, String> {
        if let Some((_, type_)) = self.fields.iter().find(|(field, _)| *field == name) {
            return Ok(*type_);
        }
        Err(match self.what {
            "facts" => format!("there is no fact `{name}`"),
            what => format!(
                "{what} has no `{name}`, only {}",
                self.names().collect::<Vec<_>>().join(", ")
            ),
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use rhai::{Dynamic, Map};

    use super::*;
    use crate::{
        model::Timestamp,
        policy::{Facts, RedundancyFacts, RemainingLifeFacts},
        script::check::types::of_constant,
    };

    fn fits(shape: &Shape, value: &Dynamic, unknown: bool) {
        let map = value.read_lock::<Map>().expect("a map");
        let names: Vec<&str> = map.keys().map(|k| k.as_str()).collect();
        let mut listed: Vec<&str> = shape.names().collect();
        listed.sort_unstable();
        assert_eq!(names, listed, "{}", shape.what);
        for (name, field) in map.iter() {
            let type_ = shape.field(name).expect("listed");
            assert!(type_.kinds.meets(of_constant(field).kinds), "{name}");
            assert_eq!(
                unknown && field.is_unit(),
                unknown && type_.may_be_unit(),
                "{name}"
            );
            if let Some(shape) = type_.shape.filter(|_| field.is_map()) {
                fits(shape, field, false);
            }
        }
    }

    #[test]
    fn the_types_are_those_of_the_facts() {
        let mut facts = Facts::about("fan-1", "fan_tray", Timestamp(0));
        facts.fps = ["1d", "7d", "30d"].map(|h| (h.to_owned(), 0.5)).into();
        fits(&SHAPE, &facts.to_dynamic(), true);
        facts.redundancy = Some(RedundancyFacts {
            group: "a".into(),
            serving: 1,
            needed: 1,
        });
        facts.remaining_life_hours = Some(RemainingLifeFacts {
            p05: 1.0,
            p50: 2.0,
            p95: 3.0,
        });
        facts.anomaly = Some(0.5);
        facts.part = Some("a".into());
        fits(&SHAPE, &facts.to_dynamic(), false);
    }
}
