//! Traffic and errors of network interfaces, from `/proc/net/dev`.

use std::collections::BTreeMap;

use super::reading::{Reading, rate, slug};

/// Counters by name of interface.
pub(super) type Interfaces = BTreeMap<String, [u64; 4]>;

/// What the four counters are, in order.
const RATES: [&str; 4] = [
    "receive_bytes_per_s",
    "receive_errors_per_s",
    "transmit_bytes_per_s",
    "transmit_errors_per_s",
];

/// Reads `/proc/net/dev`, without the loopback.
pub(super) fn parse(text: &str) -> Interfaces {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let counts: Vec<&str> = rest.split_ascii_whitespace().collect();
        let count = |place: usize| counts.get(place)?.parse().ok();
        let name = name.trim();
        let counters = [count(0)?, count(2)?, count(8)?, count(10)?];
        (name != "lo").then(|| (name.to_owned(), counters))
    };
    text.lines().filter_map(line).collect()
}

/// The rates between two readings.
pub(super) fn readings(before: &Interfaces, now: &Interfaces, seconds: f64) -> Vec<Reading> {
    let mut readings = Vec::new();
    for (name, now) in now {
        let Some(before) = before.get(name) else {
            continue;
        };
        let name = slug(name);
        for (what, (before, now)) in RATES.iter().zip(before.iter().zip(now)) {
            if let Some(rate) = rate(*before, *now, seconds) {
                readings.push(Reading::of(format!("network_{name}_{what}"), rate));
            }
        }
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_per_second() {
        let before = "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n\
                      lo: 5 0 0 0 0 0 0 0 5 0 0 0 0 0 0 0\n\
                      eth0:1000 9 1 0 0 0 0 0 500 9 0 0 0 0 0 0\n";
        let now = "  eth0: 3000 9 2 0 0 0 0 0 400 9 0 0 0 0 0 0\nwlan0: 1 1 1\n";
        let found = readings(&parse(before), &parse(now), 2.0);
        // The bytes sent went backwards: the interface was reset, so there is no rate.
        assert_eq!(
            found,
            [
                Reading::of("network_eth0_receive_bytes_per_s", 1000.0),
                Reading::of("network_eth0_receive_errors_per_s", 0.5),
                Reading::of("network_eth0_transmit_errors_per_s", 0.0),
            ]
        );
    }
}
