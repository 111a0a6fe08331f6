//! Power of processor packages from their energy counters, in `/sys/class/powercap`.

use std::{collections::BTreeMap, path::Path};

use super::reading::{Distinct, Reading, names_in, slug, text_of};

/// Counters by zone, such as `intel-rapl:0`.
pub(super) type Zones = BTreeMap<String, Energy>;

/// The energy one zone has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Energy {
    /// The zone's name, with its parent's before it.
    name: String,
    /// Since the counter last wrapped.
    microjoules: u64,
    /// Where it wraps.
    range: u64,
}

/// Reads every zone this process may read; kernels allow it to root only.
pub(super) fn read(root: &Path) -> Zones {
    let folder = root.join("sys/class/powercap");
    let zone = |zone: String| {
        let number = |file: &str| text_of(&folder.join(&zone).join(file))?.trim().parse().ok();
        let own = text_of(&folder.join(&zone).join("name"))?;
        let parent = zone.rsplit_once(':').map_or("", |parts| parts.0);
        let parent = text_of(&folder.join(parent).join("name"));
        let parent = parent
            .filter(|_| zone.matches(':').count() > 1)
            .unwrap_or_default();
        let energy = Energy {
            name: slug(&format!("{parent} {own}")),
            microjoules: number("energy_uj")?,
            range: number("max_energy_range_uj").unwrap_or(0),
        };
        Some((zone, energy))
    };
    names_in(&folder).into_iter().filter_map(zone).collect()
}

/// The power between two readings.
pub(super) fn readings(before: &Zones, now: &Zones, seconds: f64) -> Vec<Reading> {
    let mut names = Distinct::new();
    let mut readings = Vec::new();
    for (zone, now) in now {
        let metric = names.metric("power", &now.name, "w");
        let Some(before) = before.get(zone) else {
            continue;
        };
        let wrapped = now.microjoules < before.microjoules;
        let now_total = now.microjoules + if wrapped { now.range } else { 0 };
        if let Some(used) = now_total.checked_sub(before.microjoules)
            && seconds > 0.0
        {
            readings.push(Reading::of(metric, used as f64 / 1e6 / seconds));
        }
    }
    readings
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn zones(root: &Path, package: &str, core: &str) -> Zones {
        for (path, text) in [
            ("intel-rapl/enabled", "1"),
            ("intel-rapl:0/name", "package-0\n"),
            ("intel-rapl:0/energy_uj", package),
            ("intel-rapl:0/max_energy_range_uj", "1000000\n"),
            ("intel-rapl:0:0/name", "core\n"),
            ("intel-rapl:0:0/energy_uj", core),
            ("intel-rapl:1/name", "psys\n"),
        ] {
            let path = root.join("sys/class/powercap").join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("creates");
            fs::write(path, text).expect("writes");
        }
        read(root)
    }

    #[test]
    fn power_is_energy_per_time_even_when_the_counter_wraps() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let before = zones(root.path(), "900000\n", "5000000\n");
        let now = zones(root.path(), "100000\n", "9000000\n");
        assert_eq!(
            readings(&before, &now, 2.0),
            [
                Reading::of("power_package_0_w", 0.1),
                Reading::of("power_package_0_core_w", 2.0),
            ]
        );
        let reset = zones(root.path(), "100000\n", "1\n");
        assert_eq!(
            readings(&now, &reset, 2.0),
            [Reading::of("power_package_0_w", 0.0)]
        );
    }
}
