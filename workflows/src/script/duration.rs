//! Durations as scripts write them: `"30s"`, `"2h"`, `"7d"`, `"1h30m"`.

/// Longest duration a script may ask for: ten years.
const MAX_MS: i64 = 3_650 * 86_400_000;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: {why}; write it like \"30s\", \"2h\" or \"7d\"")]
pub struct DurationError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Reads a duration in milliseconds; units are `ms`, `s`, `m`, `h`, `d`, `w`, and may follow each other.
///
/// # Errors
///
/// When the text is empty, has no or an unknown unit, or is longer than ten years.
pub fn parse_ms(text: &str) -> Result<i64, DurationError> {
    let fail = |why| DurationError {
        text: text.to_owned(),
        why,
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fail("it is empty"));
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(|| fail("a unit is missing"))?;
        let number: i64 = rest[..digits]
            .parse()
            .map_err(|_| fail("a whole number was expected"))?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let unit_ms = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(fail("units are ms, s, m, h, d and w")),
        };
        rest = &rest[letters..];
        total = number
            .checked_mul(unit_ms)
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= MAX_MS)
            .ok_or_else(|| fail("it is longer than ten years"))?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2h", 7_200_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            (" 1w ", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn anything_else_says_what_is_wrong() {
        for text in [
            "",
            "2",
            "h",
            "2 h",
            "-1s",
            "1.5h",
            "2y",
            "99999999999999w",
            "é",
            "1é",
        ] {
            assert!(parse_ms(text).is_err(), "{text}");
        }
    }
}
