//! What an answer of an action has to hold to; its schema is the manifest's.

use super::judge::Judgement;
use crate::schema::Schemas;

/// The longest output, in bytes; as JSON it takes some thirty times of that in memory.
const LONGEST: usize = 1 << 20;

pub(crate) fn judge(output: &str, schemas: &Schemas) -> Judgement {
    if output.len() > LONGEST {
        return Err(format!(
            "the output has {} bytes; {LONGEST} are the most",
            output.len()
        ));
    }
    match serde_json::from_str::<serde_json::Value>(output) {
        Ok(_) => schemas.check_output(output),
        Err(error) => Err(format!("the output is no JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    #[test]
    fn an_output_is_json_and_not_too_long() {
        let none = Schemas::default();
        assert_eq!(judge("{\"ticket\": 7}", &none), Ok(()));
        let text = Schemas {
            output: Some(Schema::of(&serde_json::json!({ "type": "string" })).unwrap()),
            ..Schemas::default()
        };
        let why = judge("{\"ticket\": 7}", &text).unwrap_err();
        assert!(why.contains("does not fit the schema"), "{why}");
        for output in [
            "",
            "{",
            "{} {}",
            "1e999",
            &"[".repeat(1_000),
            &format!("\"{}\"", "x".repeat(LONGEST)),
        ] {
            assert!(
                judge(output, &none).is_err(),
                "{}",
                output.get(..20).unwrap_or(output)
            );
        }
    }
}
