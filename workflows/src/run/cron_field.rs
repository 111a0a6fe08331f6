//! One field of a cron expression, read into the set of values it names; and what is wrong with it if it cannot be.

use crate::script::nearest;

/// Why a cron expression or a time zone is not one: the field, what was given, what is wrong, and the nearest fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}`{given}` {problem}{}", in_field(*field), fix_of(fix.as_deref()))]
pub struct CronError {
    /// `minute`, `hour`, `day of month`, `month`, `day of week` or `time zone`; absent where the whole is wrong.
    pub field: Option<&'static str>,
    /// The part that is wrong, as it was given.
    pub given: String,
    /// What is wrong with it.
    pub problem: String,
    /// What was probably meant.
    pub fix: Option<String>,
}

fn in_field(field: Option<&str>) -> String {
    field.map_or_else(String::new, |field| format!("field `{field}`: "))
}

fn fix_of(fix: Option<&str>) -> String {
    fix.map_or_else(String::new, |fix| format!("; did you mean `{fix}`?"))
}

impl CronError {
    pub(super) fn new(
        field: Option<&'static str>,
        given: &str,
        problem: impl Into<String>,
        fix: Option<String>,
    ) -> Self {
        Self {
            field,
            given: given.to_owned(),
            problem: problem.into(),
            fix,
        }
    }
}

/// What a field may hold.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    low: u8,
    high: u8,
    /// Names of the values, from `low` on.
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The five, in order. A week has two Sundays, 0 and 7.
pub(super) const FIELDS: [Field; 5] = [
    Field::of("minute", 0, 59, &[]),
    Field::of("hour", 0, 23, &[]),
    Field::of("day of month", 1, 31, &[]),
    Field::of("month", 1, 12, &MONTHS),
    Field::of("day of week", 0, 7, &WEEKDAYS),
];

/// The values a field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Values {
    bits: u64,
    /// Whether it was written with a `*` in front.
    pub(super) starred: bool,
}

impl Values {
    pub(super) fn has(self, value: i8) -> bool {
        self.bits >> value & 1 == 1
    }

    pub(super) fn count(self) -> u32 {
        self.bits.count_ones()
    }

    /// The first value from `from` on, below `end`.
    pub(super) fn first(self, from: i8, end: i8) -> Option<i8> {
        (from..end).find(|&value| self.has(value))
    }

    /// The same values with 7 told as 0.
    pub(super) fn with_one_sunday(self) -> Self {
        let sunday = self.bits >> 7 & 1;
        Self {
            bits: (self.bits | sunday) & 0x7f,
            ..self
        }
    }
}

impl Field {
    const fn of(name: &'static str, low: u8, high: u8, names: &'static [&'static str]) -> Self {
        Self {
            name,
            low,
            high,
            names,
        }
    }

    /// Reads `*`, `5`, `mon`, `1-5`, any of them with a step `/2`, and lists of them with commas.
    pub(super) fn read(&self, text: &str) -> Result<Values, CronError> {
        let mut bits = 0;
        for item in text.split(',') {
            bits |= self.item(item)?;
        }
        Ok(Values {
            bits,
            starred: text.starts_with('*'),
        })
    }

    fn item(&self, item: &str) -> Result<u64, CronError> {
        let (base, step) = match item.split_once('/') {
            Some((base, step)) => (base, Some(step)),
            None => (item, None),
        };
        let (from, to) = self.range(base, step.is_some())?;
        let step = match step {
            Some(step) => self.step(item, step, (from, to))?,
            None => 1,
        };
        Ok((from..=to)
            .step_by(usize::from(step))
            .fold(0, |bits, value| bits | 1 << value))
    }

    /// First and last value; a single one with a step goes on to the end.
    fn range(&self, base: &str, stepped: bool) -> Result<(u8, u8), CronError> {
        if base == "*" {
            // A week has seven days: the second Sunday is only for those who write it.
            let high = if self.high == 7 { 6 } else { self.high };
            return Ok((self.low, high));
        }
        let Some((from, to)) = base.split_once('-') else {
            let value = self.value(base)?;
            return Ok((value, if stepped { self.high.min(59) } else { value }));
        };
        let (from, to) = (self.value(from)?, self.value(to)?);
        if from > to {
            let last = if self.high == 7 { 6 } else { self.high };
            let fix = format!("{from}-{last},{}-{to}", self.low);
            return Err(self.wrong(base, "ends before it begins", Some(fix)));
        }
        Ok((from, to))
    }

    fn step(&self, item: &str, step: &str, (from, to): (u8, u8)) -> Result<u8, CronError> {
        let base = item.split('/').next().unwrap_or_default().to_owned();
        match step.parse::<u8>() {
            Ok(0) => Err(self.wrong(item, "has a step of 0", Some(base))),
            Ok(step) if step > to - from && from != to => {
                let problem =
                    format!("steps by {step}, further than the field reaches ({from} to {to})");
                Err(self.wrong(item, problem, Some(from.to_string())))
            }
            Ok(step) => Ok(step),
            Err(_) => Err(self.wrong(item, "has a step that is no whole number", Some(base))),
        }
    }

    fn value(&self, text: &str) -> Result<u8, CronError> {
        if let Some(at) = self.named(text) {
            return Ok(at);
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let value: u32 = text.parse().unwrap_or(u32::MAX);
            let within = u8::try_from(value).ok();
            return within
                .filter(|v| (self.low..=self.high).contains(v))
                .ok_or_else(|| self.beyond(text, value));
        }
        let (problem, fix) = match text {
            "" => ("holds no value", Some("*".to_owned())),
            "?" => ("is not known here", Some("*".to_owned())),
            _ => ("is neither a number nor a name", self.meant(text)),
        };
        Err(self.wrong(text, problem, fix))
    }

    fn named(&self, text: &str) -> Option<u8> {
        let at = self.names.iter().position(|n| text.eq_ignore_ascii_case(n));
        at.and_then(|at| u8::try_from(at).ok())
            .map(|at| self.low + at)
    }

    fn beyond(&self, text: &str, value: u32) -> CronError {
        let (low, high) = (self.low, self.high);
        // Who writes minute 60 or hour 24 means the first of the next.
        let wraps = self.low == 0 && value == u32::from(high) + 1;
        let fix = if wraps || value < u32::from(low) {
            low
        } else {
            high
        };
        let problem = format!("is not between {low} and {high}");
        self.wrong(text, problem, Some(fix.to_string()))
    }

    /// The name somebody probably meant; `monday` is `mon`.
    fn meant(&self, text: &str) -> Option<String> {
        let lower = text.to_ascii_lowercase();
        let begins = self.names.iter().find(|name| lower.starts_with(**name));
        let found = begins.copied();
        let found = found.or_else(|| nearest(&lower, self.names.iter().copied()));
        found.map(str::to_owned)
    }

    fn wrong(&self, given: &str, problem: impl Into<String>, fix: Option<String>) -> CronError {
        CronError::new(Some(self.name), given, problem, fix)
    }
}
