//! Collections waiting to be sent: bounded, oldest first, oldest lost first.

use std::collections::VecDeque;

use serde::Serialize;

use super::reading::Reading;

/// The most samples of one request.
const SAMPLES_PER_REQUEST: usize = 5_000;

/// All readings of one instant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Collection {
    pub(super) time: jiff::Timestamp,
    pub(super) readings: Vec<Reading>,
}

/// What is still to be sent.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<Collection>,
    samples: usize,
    capacity: usize,
    lost: usize,
}

impl Outbox {
    /// An outbox for at most `capacity` samples.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            samples: 0,
            capacity,
            lost: 0,
        }
    }

    /// Adds a collection; where there is no room the oldest go.
    pub(super) fn push(&mut self, collection: Collection) {
        self.samples += collection.readings.len();
        self.waiting.push_back(collection);
        while self.samples > self.capacity && self.waiting.len() > 1 {
            if let Some(oldest) = self.waiting.pop_front() {
                self.samples -= oldest.readings.len();
                self.lost += oldest.readings.len();
            }
        }
    }

    /// How many samples were given up since this was last asked.
    pub(super) fn take_lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    /// The oldest collections that fit one request, and how many they are; none if none wait.
    pub(super) fn request(&self, asset: &str) -> Option<(usize, Request)> {
        let mut samples = Vec::new();
        let mut count = 0;
        for collection in &self.waiting {
            if count > 0 && samples.len() + collection.readings.len() > SAMPLES_PER_REQUEST {
                break;
            }
            let time = format!("{:.3}", collection.time);
            samples.extend(collection.readings.iter().map(|reading| RequestSample {
                asset: asset.to_owned(),
                metric: reading.metric.clone(),
                time: time.clone(),
                value: reading.value,
            }));
            count += 1;
        }
        (count > 0).then_some((count, Request { samples }))
    }

    /// Forgets the oldest `count` collections: they arrived, or never will.
    pub(super) fn remove(&mut self, count: usize) {
        for collection in self.waiting.drain(..count.min(self.waiting.len())) {
            self.samples -= collection.readings.len();
        }
    }

    /// How many samples wait.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }
}

/// The body of `POST /api/v1/telemetry`.
#[derive(Debug, Serialize)]
pub(super) struct Request {
    samples: Vec<RequestSample>,
}

#[derive(Debug, Serialize)]
struct RequestSample {
    asset: String,
    metric: String,
    time: String,
    value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(second: i64, readings: usize) -> Collection {
        Collection {
            time: jiff::Timestamp::from_second(second).expect("a time"),
            readings: vec![Reading::of("rpm", 1.0); readings],
        }
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let mut outbox = Outbox::new(10);
        for second in 0..5 {
            outbox.push(collection(second, 4));
        }
        assert_eq!(
            (outbox.samples(), outbox.take_lost(), outbox.take_lost()),
            (8, 12, 0)
        );
        let (count, request) = outbox.request("host").expect("something waits");
        assert_eq!((count, request.samples.len()), (2, 8));
        assert_eq!(request.samples[0].time, "1970-01-01T00:00:03.000Z");
        outbox.remove(count);
        assert_eq!(outbox.samples(), 0);
        assert!(outbox.request("host").is_none());
    }

    #[test]
    fn a_request_is_bounded_unless_one_collection_is_larger() {
        let mut outbox = Outbox::new(100_000);
        outbox.push(collection(0, SAMPLES_PER_REQUEST + 1));
        outbox.push(collection(1, SAMPLES_PER_REQUEST));
        outbox.push(collection(2, 1));
        for (wanted, size) in [
            (1, SAMPLES_PER_REQUEST + 1),
            (1, SAMPLES_PER_REQUEST),
            (1, 1),
        ] {
            let (count, request) = outbox.request("host").expect("something waits");
            assert_eq!((count, request.samples.len()), (wanted, size));
            outbox.remove(count);
        }
    }
}
