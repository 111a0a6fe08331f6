//! Memory in use, from `/proc/meminfo`.

use std::collections::HashMap;

use super::reading::Reading;

/// Reads `/proc/meminfo`; what this kernel does not state is absent.
pub(super) fn parse(text: &str) -> Vec<Reading> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some((name.to_owned(), kib as f64 * 1024.0))
    };
    let bytes: HashMap<String, f64> = text.lines().filter_map(line).collect();
    let mut readings = Vec::new();
    if let (Some(&total), Some(&available)) = (bytes.get("MemTotal"), bytes.get("MemAvailable"))
        && total > 0.0
    {
        let used = (total - available).max(0.0);
        readings.push(Reading::of("memory_total_bytes", total));
        readings.push(Reading::of("memory_used_bytes", used));
        readings.push(Reading::of(
            "memory_utilisation_percent",
            100.0 * used / total,
        ));
    }
    if let (Some(&total), Some(&free)) = (bytes.get("SwapTotal"), bytes.get("SwapFree"))
        && total > 0.0
    {
        readings.push(Reading::of("swap_used_bytes", (total - free).max(0.0)));
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_is_what_is_not_available() {
        let text = "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     250 kB\n\
                    SwapTotal: 0 kB\nSwapFree: 0 kB\nHugePages_Total:       0\n";
        assert_eq!(
            parse(text),
            [
                Reading::of("memory_total_bytes", 1_024_000.0),
                Reading::of("memory_used_bytes", 768_000.0),
                Reading::of("memory_utilisation_percent", 75.0),
            ]
        );
        let swap = "SwapTotal: 8 kB\nSwapFree: 2 kB\nMemTotal: oops kB\n";
        assert_eq!(parse(swap), [Reading::of("swap_used_bytes", 6144.0)]);
        assert_eq!(parse(""), []);
    }
}
