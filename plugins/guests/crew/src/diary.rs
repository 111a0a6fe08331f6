//! What of somebody's time is taken.

use plugin_sdk::schedule::Instant;

/// From one moment to another, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Its first moment.
    pub start: Instant,
    /// The first one after it.
    pub end: Instant,
}

/// Spans in the order of their starts.
#[derive(Debug, Clone, Default)]
pub struct Diary(Vec<Span>);

impl Diary {
    /// Enters a span.
    pub fn take(&mut self, span: Span) {
        let at = self.0.partition_point(|other| other.start <= span.start);
        self.0.insert(at, span);
    }

    /// The first moment from `start` on from which so much time is free.
    #[must_use]
    pub fn first(&self, mut start: Instant, duration: f64) -> Instant {
        for taken in &self.0 {
            if taken.start >= start + duration {
                break;
            }
            if taken.end > start {
                start = taken.end;
            }
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_found_between_what_is_taken() {
        let mut diary = Diary::default();
        assert_eq!(diary.first(3.0, 5.0), 3.0);
        for (start, end) in [(10.0, 20.0), (0.0, 4.0), (22.0, 30.0)] {
            diary.take(Span { start, end });
        }
        assert_eq!(diary.first(0.0, 6.0), 4.0);
        assert_eq!(diary.first(0.0, 7.0), 30.0);
        assert_eq!(diary.first(12.0, 2.0), 20.0);
        assert_eq!(diary.first(40.0, 2.0), 40.0);
    }
}
