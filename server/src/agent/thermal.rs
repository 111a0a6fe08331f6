//! Temperatures of the thermal zones, from `/sys/class/thermal`.

use std::path::Path;

use super::{
    hwmon::plausible_celsius,
    reading::{Distinct, Reading, names_in, number_of, slug, text_of},
};

/// Reads every zone.
pub(super) fn read(root: &Path) -> Vec<Reading> {
    let mut names = Distinct::new();
    let mut readings = Vec::new();
    let zones = root.join("sys/class/thermal");
    for zone in names_in(&zones) {
        if !zone.starts_with("thermal_zone") {
            continue;
        }
        let folder = zones.join(&zone);
        let Some(celsius) = number_of(&folder.join("temp")).map(|milli| milli / 1000.0) else {
            continue;
        };
        let kind = text_of(&folder.join("type")).unwrap_or(zone);
        let metric = names.metric("temperature", &format!("zone_{}", slug(&kind)), "c");
        if plausible_celsius(celsius) {
            readings.push(Reading::of(metric, celsius));
        }
    }
    readings
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_zone_is_read() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in [
            ("thermal_zone0/type", "x86_pkg_temp\n"),
            ("thermal_zone0/temp", "51000\n"),
            ("thermal_zone1/type", "acpitz\n"),
            ("cooling_device0/type", "Processor\n"),
            ("cooling_device0/temp", "1000\n"),
        ] {
            let path = root.path().join("sys/class/thermal").join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("creates");
            fs::write(path, text).expect("writes");
        }
        let wanted = [Reading::of("temperature_zone_x86_pkg_temp_c", 51.0)];
        assert_eq!(read(root.path()), wanted);
    }
}
