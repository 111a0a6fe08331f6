//! Traffic of whole disks, from `/proc/diskstats`.

use std::collections::BTreeMap;

use super::reading::{Reading, rate, slug};

/// Counters by name of device.
pub(super) type Disks = BTreeMap<String, DiskCounters>;

/// What one device has done since the start of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DiskCounters {
    read_sectors: u64,
    written_sectors: u64,
    busy_ms: u64,
}

/// The kernel counts in these, whatever the disk's own sectors are.
const SECTOR_BYTES: f64 = 512.0;

/// Reads `/proc/diskstats`, partitions and all.
pub(super) fn parse(text: &str) -> Disks {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let count = |place: usize| words.get(place)?.parse().ok();
        let counters = DiskCounters {
            read_sectors: count(5)?,
            written_sectors: count(9)?,
            busy_ms: count(12)?,
        };
        Some(((*words.get(2)?).to_owned(), counters))
    };
    text.lines().filter_map(line).collect()
}

/// Whether a block device is a disk rather than memory or a file in disguise.
pub(super) fn is_disk(name: &str) -> bool {
    !["loop", "ram", "zram", "fd", "sr"].iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(char::is_numeric))
    })
}

/// The rates between two readings.
pub(super) fn readings(before: &Disks, now: &Disks, seconds: f64) -> Vec<Reading> {
    let mut readings = Vec::new();
    for (name, now) in now {
        let Some(before) = before.get(name) else {
            continue;
        };
        let name = slug(name);
        let rates = [
            (
                "read_bytes_per_s",
                before.read_sectors,
                now.read_sectors,
                SECTOR_BYTES,
            ),
            (
                "write_bytes_per_s",
                before.written_sectors,
                now.written_sectors,
                SECTOR_BYTES,
            ),
            // Milliseconds per second are a tenth of a percent each.
            ("busy_percent", before.busy_ms, now.busy_ms, 0.1),
        ];
        for (what, before, now, factor) in rates {
            if let Some(rate) = rate(before, now, seconds) {
                let value = rate * factor;
                // The two clocks differ a little, so a saturated disk may seem to exceed itself.
                let value = if what == "busy_percent" {
                    value.min(100.0)
                } else {
                    value
                };
                readings.push(Reading::of(format!("disk_{name}_{what}"), value));
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
        let before =
            "   8       0 sda 10 0 100 5 20 0 200 5 0 1000 10 0 0 0 0 0 0\n   8 1 sda1 7\n";
        let now = " 8 0 sda 10 0 140 5 20 0 200 5 0 2000 10\n 9 0 md0 1 1 1 1 1 1 1 1 1 1 1\n";
        let found = readings(&parse(before), &parse(now), 2.0);
        assert_eq!(
            found,
            [
                Reading::of("disk_sda_read_bytes_per_s", 10_240.0),
                Reading::of("disk_sda_write_bytes_per_s", 0.0),
                Reading::of("disk_sda_busy_percent", 50.0),
            ]
        );
        assert_eq!(parse("garbage\n8 0 sda x"), Disks::new());
    }

    #[test]
    fn memory_and_files_are_no_disks() {
        let disks = ["sda", "nvme0n1", "vda", "md0", "srx"].map(is_disk);
        assert_eq!(disks, [true; 5]);
        let others = ["loop0", "ram1", "zram0", "sr0"].map(is_disk);
        assert_eq!(others, [false; 4]);
    }
}
