//! How many steps of a key are started in a time: the option `rate` of a step.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::script::duration;

/// So many starts in so long, whichever moment it is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Starts, 1 to 10,000.
    pub limit: u32,
    /// The time, ms, 1 s to a day.
    pub period_ms: i64,
}

/// Each start is remembered for the period, so that no span of it has one too many.
const MOST: u32 = 10_000;
const LONGEST_MS: i64 = 24 * 3_600_000;

/// Why a text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a rate: {why}; write it like \"10/1m\"")]
pub struct RateError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let fail = |why| RateError {
            text: text.to_owned(),
            why,
        };
        let (limit, period) = text
            .split_once('/')
            .ok_or_else(|| fail("a number of starts and a duration were expected"))?;
        let limit = limit.trim().parse().ok();
        let limit = limit.filter(|limit| (1..=MOST).contains(limit));
        let period = duration::parse_ms(period).ok();
        let period = period.filter(|ms| (1_000..=LONGEST_MS).contains(ms));
        Ok(Self {
            limit: limit.ok_or_else(|| fail("the starts are a whole number from 1 to 10,000"))?,
            period_ms: period.ok_or_else(|| fail("the time is a duration from 1s to 24h"))?,
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, period_ms } = self;
        let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        let whole = units.into_iter().find(|(ms, _)| period_ms % ms == 0);
        let (ms, unit) = whole.unwrap_or((1, "ms"));
        write!(f, "{limit}/{}{unit}", period_ms / ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_and_written() {
        for (text, limit, period_ms, written) in [
            ("10/1m", 10, 60_000, "10/1m"),
            ("1/1s", 1, 1_000, "1/1s"),
            (" 10000 / 24h", 10_000, 86_400_000, "10000/24h"),
            ("3/1m30s", 3, 90_000, "3/90s"),
            ("2/1500ms", 2, 1_500, "2/1500ms"),
        ] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!((rate.limit, rate.period_ms), (limit, period_ms), "{text}");
            assert_eq!(rate.to_string(), written);
            assert_eq!(written.parse(), Ok(rate));
        }
        for (text, why) in [
            ("10", "were expected"),
            ("0/1m", "1 to 10,000"),
            ("10001/1m", "1 to 10,000"),
            ("-1/1m", "1 to 10,000"),
            ("ten/1m", "1 to 10,000"),
            ("1/999ms", "1s to 24h"),
            ("1/25h", "1s to 24h"),
            ("1/minute", "1s to 24h"),
            ("1/1m/2", "1s to 24h"),
        ] {
            let error = text.parse::<Rate>().expect_err(text).to_string();
            assert!(error.contains(why) && error.contains("10/1m"), "{error}");
        }
    }
}
