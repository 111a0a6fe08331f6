//! What a plugin writes during one call, up to its limit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Lines that a failure is told with.
const LAST: usize = 20;
/// Fields that a line is kept with.
const MOST_FIELDS: usize = 32;
/// What a line costs beside its text, so that empty ones are not free: what it takes in memory.
const LINE_BYTES: usize = 64;
/// What a field costs beside its text.
const FIELD_BYTES: usize = 48;

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Only for who looks closely.
    Trace,
    /// For its author.
    Debug,
    /// What happened.
    Info,
    /// What should not be.
    Warn,
    /// What went wrong.
    Error,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// How loud.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// Names and values beside it.
    pub fields: Vec<(String, String)>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        write!(f, "{level} {}", self.message)?;
        for (name, value) in &self.fields {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// The log of one call.
///
/// The first half of the room is for the first lines, the second for the last ones: how it began and how it ended
/// both tell something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    first: Vec<Line>,
    last: std::collections::VecDeque<Line>,
    /// Bytes that `first` takes, and `last`.
    bytes: (usize, usize),
    /// Lines that were left out between them.
    pub left_out: u64,
}

impl Log {
    /// Adds a line, at the cost of older ones if `most_bytes` is not enough for all.
    pub fn add(&mut self, mut line: Line, most_bytes: usize) {
        let half = most_bytes / 2;
        shorten(&mut line, half);
        let bytes = size(&line);
        if self.last.is_empty() && self.bytes.0 + bytes <= half {
            self.bytes.0 += bytes;
            self.first.push(line);
            return;
        }
        self.bytes.1 += bytes;
        self.last.push_back(line);
        while self.bytes.1 > half {
            let Some(gone) = self.last.pop_front() else {
                break;
            };
            self.bytes.1 -= size(&gone);
            self.left_out += 1;
        }
    }

    /// What was kept, in its order.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.first.iter().chain(&self.last)
    }

    /// The last lines, in their order.
    #[must_use]
    pub fn tail(&self) -> Vec<Line> {
        let mut tail: Vec<Line> = self.lines().rev().take(LAST).cloned().collect();
        tail.reverse();
        tail
    }
}

fn size(line: &Line) -> usize {
    let field = |(name, value): &(String, String)| FIELD_BYTES + name.len() + value.len();
    let fields: usize = line.fields.iter().map(field).sum();
    LINE_BYTES + line.message.len() + fields
}

/// Leaves out fields, then the end of the text, until a line fits.
fn shorten(line: &mut Line, most: usize) {
    line.fields.truncate(MOST_FIELDS);
    line.fields.shrink_to_fit();
    while size(line) > most && line.fields.pop().is_some() {}
    let room = most.saturating_sub(LINE_BYTES);
    if line.message.len() > room {
        let cut = line.message.floor_char_boundary(room);
        line.message.truncate(cut);
    }
    line.message.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> Line {
        Line {
            level: Level::Info,
            message: message.to_owned(),
            fields: Vec::new(),
        }
    }

    #[test]
    fn how_it_began_and_how_it_ended_are_kept() {
        let mut log = Log::default();
        for n in 0..1_000 {
            log.add(line(&format!("{n:03}")), 670);
        }
        let kept: Vec<&str> = log.lines().map(|line| line.message.as_str()).collect();
        assert_eq!(
            kept,
            [
                "000", "001", "002", "003", "004", "995", "996", "997", "998", "999"
            ]
        );
        assert_eq!(log.left_out, 990);
        assert_eq!(log.tail().last().unwrap().message, "999");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters() {
        let mut log = Log::default();
        let fields = vec![("name".to_owned(), "x".repeat(500))];
        log.add(
            Line {
                fields,
                ..line(&"ä".repeat(200))
            },
            296,
        );
        let kept = log.lines().next().unwrap();
        assert_eq!(kept.message, "ä".repeat(42));
        assert!(kept.fields.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn a_log_never_takes_more_than_its_room(
            lines in proptest::collection::vec(("\\PC{0,80}", 0usize..60), 0..50),
            most in 64usize..2_000,
        ) {
            let mut log = Log::default();
            for (text, fields) in &lines {
                let fields = vec![(String::new(), "v".to_owned()); *fields];
                log.add(Line { fields, ..line(text) }, most);
            }
            proptest::prop_assert!(log.lines().map(size).sum::<usize>() <= most);
            proptest::prop_assert_eq!(log.lines().count() as u64 + log.left_out, lines.len() as u64);
        }
    }
}
