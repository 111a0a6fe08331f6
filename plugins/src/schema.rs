//! The JSON schemas of a manifest, and what is held to them: an operator's settings, and what an action is given and answers.
//! The only file that names `jsonschema`.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::manifest::Manifest;

/// How many things that are wrong are told; one mistake may show in many places.
const TOLD: usize = 3;

/// A JSON schema (draft 2020-12, unless it names another). It refers to nothing outside, and its patterns take time in
/// proportion to the text.
#[derive(Debug, Clone)]
pub struct Schema(Validator);

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    ///
    /// What is wrong with it, if it is none.
    pub fn of(schema: &Value) -> Result<Self, String> {
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
        let read = options.build(schema);
        read.map(Self)
            .map_err(|why| format!("is no JSON schema: {why}"))
    }

    /// Fine, or where a value does not fit and why.
    ///
    /// # Errors
    ///
    /// The first few places.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let mut wrong = self.0.iter_errors(value).map(|error| {
            let at = error.instance_path().to_string();
            if at.is_empty() {
                error.to_string()
            } else {
                format!("{at}: {error}")
            }
        });
        let told: Vec<String> = wrong.by_ref().take(TOLD).collect();
        match (told.is_empty(), wrong.next()) {
            (true, _) => Ok(()),
            (false, None) => Err(told.join("; ")),
            (false, Some(_)) => Err(format!("{}; and more", told.join("; "))),
        }
    }

    fn check_text(&self, text: &str) -> Result<(), String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        self.check(&value)
    }
}

/// All schemas of a manifest.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    /// Of the settings.
    pub config: Option<Schema>,
    /// Of what an action is given.
    pub input: Option<Schema>,
    /// Of what it answers.
    pub output: Option<Schema>,
}

impl Schemas {
    /// Those of a manifest, which has been read and so has none that is no schema.
    ///
    /// # Errors
    ///
    /// If it has one all the same.
    pub fn of(manifest: &Manifest) -> Result<Self, String> {
        let action = manifest.action.as_ref();
        let read = |schema: Option<&Value>| schema.map(Schema::of).transpose();
        Ok(Self {
            config: read(manifest.config_schema.as_ref())?,
            input: read(action.map(|action| &action.input))?,
            output: read(action.map(|action| &action.output))?,
        })
    }

    /// Holds an operator's settings to their schema.
    ///
    /// # Errors
    ///
    /// Why they do not fit.
    pub fn check_config(&self, config: &str) -> Result<(), String> {
        held(self.config.as_ref(), "the settings", config)
    }

    pub(crate) fn check_input(&self, input: &str) -> Result<(), String> {
        held(self.input.as_ref(), "the input", input)
    }

    pub(crate) fn check_output(&self, output: &str) -> Result<(), String> {
        held(self.output.as_ref(), "the output", output)
    }
}

fn held(schema: Option<&Schema>, what: &str, text: &str) -> Result<(), String> {
    let checked = schema.map_or(Ok(()), |schema| schema.check_text(text));
    checked.map_err(|why| format!("it does not fit the schema of {what}: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let schema = Schema::of(&json!({
            "type": "object",
            "required": ["asset"],
            "properties": { "urgency": { "type": "integer", "maximum": 3 } },
        }))
        .unwrap();
        assert_eq!(
            schema.check(&json!({ "asset": "fan-7", "urgency": 2 })),
            Ok(())
        );
        let why = schema.check(&json!({ "urgency": 7 })).unwrap_err();
        assert!(why.contains("\"asset\" is a required property"), "{why}");
        assert!(why.contains("/urgency: 7 is greater than"), "{why}");
        let why = schema.check_text("{").unwrap_err();
        assert!(why.starts_with("it is no JSON"), "{why}");
    }

    #[test]
    fn many_mistakes_are_told_in_part() {
        let schema = Schema::of(&json!({ "items": { "type": "string" } })).unwrap();
        let why = schema.check(&json!([1, 2, 3, 4])).unwrap_err();
        assert!(why.ends_with("; and more"), "{why}");
        let why = schema.check(&json!([1, 2, 3])).unwrap_err();
        assert!(!why.ends_with("; and more"), "{why}");
    }

    #[test]
    fn what_is_no_schema_or_reaches_out_is_refused() {
        for schema in [
            json!(7),
            json!({ "type": "colour" }),
            json!({ "pattern": "(" }),
            json!({ "$ref": "https://schemas.example/ticket.json" }),
            json!({ "$ref": "file:///etc/passwd" }),
        ] {
            let why = Schema::of(&schema).unwrap_err();
            assert!(why.starts_with("is no JSON schema: "), "{schema}: {why}");
        }
    }
}
