//! Utilisation of the processor, as a whole and per core, from `/proc/stat`.

use std::collections::BTreeMap;

use super::reading::Reading;

/// Time counted since the start of the machine, by `cpu`, `cpu0`, `cpu1`, ….
pub(super) type Ticks = BTreeMap<String, CpuTicks>;

/// Time of one core, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuTicks {
    busy: u64,
    idle: u64,
}

/// Reads `/proc/stat`; lines that are no counters of a core are passed over.
pub(super) fn parse(text: &str) -> Ticks {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(String, CpuTicks)> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next()?;
    let core = name.strip_prefix("cpu")?;
    if !core.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // user nice system idle iowait irq softirq steal; guest time is part of user already.
    let counts: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
    let idle = counts.get(3)?.checked_add(*counts.get(4).unwrap_or(&0))?;
    let all = counts
        .iter()
        .try_fold(0u64, |sum, count| sum.checked_add(*count))?;
    let busy = all - idle;
    Some((name.to_owned(), CpuTicks { busy, idle }))
}

/// The busy share between two readings; a core that came, went or was reset has none.
pub(super) fn readings(before: &Ticks, now: &Ticks) -> Vec<Reading> {
    let utilisation = |(name, now): (&String, &CpuTicks)| {
        let before = before.get(name)?;
        let busy = now.busy.checked_sub(before.busy)? as f64;
        // The kernel now and then counts a little idle time back.
        let idle = now.idle.saturating_sub(before.idle) as f64;
        let percent = 100.0 * busy / (busy + idle);
        let metric = format!("{name}_utilisation_percent");
        percent.is_finite().then(|| Reading::of(metric, percent))
    };
    now.iter().filter_map(utilisation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 50 0 50 350 50 0 0 0 0 0\n\
                          cpu1 50 0 50 350 50 0 0 0 0 0\nintr 5 6 7\nctxt 9\ncpufreq 1 2 3 4 5\n";
    const NOW: &str = "cpu  150 0 100 750 100 0 0 0 50 0\ncpu0 100 0 50 350 50 0 0 0 0 0\n\
                       cpu1 50 0 50 400 50 0 0 0 0 0\ncpu2 1 1 1 1\nbtime 7\n";

    #[test]
    fn utilisation_is_the_busy_share_of_the_difference() {
        let found = readings(&parse(BEFORE), &parse(NOW));
        assert_eq!(
            found,
            [
                Reading::of("cpu_utilisation_percent", 50.0),
                Reading::of("cpu0_utilisation_percent", 100.0),
                Reading::of("cpu1_utilisation_percent", 0.0),
            ]
        );
    }

    #[test]
    fn no_time_or_a_reset_gives_no_reading() {
        assert_eq!(readings(&parse(BEFORE), &parse(BEFORE)), []);
        let reset = readings(&parse(NOW), &parse(BEFORE));
        assert!(
            reset
                .iter()
                .all(|reading| reading.metric != "cpu0_utilisation_percent")
        );
        assert!(parse("cpu\ncpu0 x\ncpu1 1 2 3\n\u{0}").is_empty());
    }
}
