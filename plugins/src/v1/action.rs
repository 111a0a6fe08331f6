//! What an answer of an action has to hold to; its schema is the manifest's.

use super::judge::Judgement;

/// The longest output, in bytes; as JSON it takes some thirty times of that in memory.
const LONGEST: usize = 1 << 20;

pub(crate) fn judge(output: &str) -> Judgement {
    if output.len() > LONGEST {
        return Err(format!(
            "the output has {} bytes; {LONGEST} are the most",
            output.len()
        ));
    }
    match serde_json::from_str::<serde_json::Value>(output) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the output is no JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_json_and_not_too_long() {
        assert_eq!(judge("{\"ticket\": 7}"), Ok(()));
        for output in [
            "",
            "{",
            "{} {}",
            "1e999",
            &"[".repeat(1_000),
            &format!("\"{}\"", "x".repeat(LONGEST)),
        ] {
            assert!(
                judge(output).is_err(),
                "{}",
                output.get(..20).unwrap_or(output)
            );
        }
    }
}
