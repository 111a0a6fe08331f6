//! Temperatures, power and fan speeds of the sensor chips, from `/sys/class/hwmon`.

use std::path::Path;

use super::reading::{Distinct, Reading, names_in, number_of, slug, text_of};

/// Reads every sensor of every chip; a sensor that fails now is absent now.
pub(super) fn read(root: &Path) -> Vec<Reading> {
    let mut names = Distinct::new();
    let mut readings = Vec::new();
    let chips = root.join("sys/class/hwmon");
    for chip in names_in(&chips) {
        let folder = chips.join(&chip);
        let chip = text_of(&folder.join("name")).unwrap_or(chip);
        for file in names_in(&folder) {
            let Some(sensor) = parse_name(&file) else {
                continue;
            };
            let Some(raw) = number_of(&folder.join(&file)) else {
                continue;
            };
            let label = text_of(&folder.join(format!("{}_label", sensor.channel)));
            let name = format!("{} {}", chip.trim(), label.unwrap_or(sensor.channel).trim());
            let metric = names.metric(sensor.kind.prefix, &slug(&name), sensor.kind.unit);
            let value = raw / sensor.kind.divisor;
            if (sensor.kind.plausible)(value) {
                readings.push(Reading::of(metric, value));
            }
        }
    }
    readings
}

/// One kind of sensor the kernel knows.
struct Kind {
    /// How its files begin.
    stem: &'static str,
    /// How its metrics begin.
    prefix: &'static str,
    /// How they end.
    unit: &'static str,
    /// From the kernel's unit to ours.
    divisor: f64,
    /// Chips answer nonsense where nothing is connected.
    plausible: fn(f64) -> bool,
}

const KINDS: [Kind; 3] = [
    Kind {
        stem: "temp",
        prefix: "temperature",
        unit: "c",
        divisor: 1e3,
        plausible: plausible_celsius,
    },
    Kind {
        stem: "power",
        prefix: "power",
        unit: "w",
        divisor: 1e6,
        plausible: |watt| watt >= 0.0,
    },
    Kind {
        stem: "fan",
        prefix: "fan",
        unit: "rpm",
        divisor: 1.0,
        plausible: |rpm| rpm >= 0.0,
    },
];

/// Whether a temperature can be one of a machine that answers.
pub(super) fn plausible_celsius(celsius: f64) -> bool {
    (-100.0..=250.0).contains(&celsius)
}

struct Sensor {
    kind: &'static Kind,
    /// Such as `temp1`.
    channel: String,
}

/// `temp1_input`, `power1_input` or `power1_average`, `fan2_input`.
fn parse_name(file: &str) -> Option<Sensor> {
    let (channel, what) = file.split_once('_')?;
    let kind = KINDS.iter().find(|kind| {
        let number = channel.strip_prefix(kind.stem);
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    })?;
    let wanted = what == "input" || (what == "average" && kind.stem == "power");
    wanted.then(|| Sensor {
        kind,
        channel: channel.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_sensor_of_every_chip_is_read() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let files = [
            ("hwmon0/name", "coretemp\n"),
            ("hwmon0/temp1_input", "45500\n"),
            ("hwmon0/temp1_label", "Package id 0\n"),
            ("hwmon0/temp1_max", "100000\n"),
            ("hwmon0/temp2_input", "-128000\n"),
            ("hwmon0/temp3_input", "no data\n"),
            ("hwmon1/name", "nvme\n"),
            ("hwmon1/temp1_input", "30000\n"),
            ("hwmon2/name", "nvme\n"),
            ("hwmon2/temp1_input", "31000\n"),
            ("hwmon3/power1_average", "12500000\n"),
            ("hwmon3/fan2_input", "1200\n"),
            ("hwmon3/tempx_input", "1\n"),
        ];
        for (path, text) in files {
            let path = root.path().join("sys/class/hwmon").join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("creates");
            fs::write(path, text).expect("writes");
        }
        assert_eq!(
            read(root.path()),
            [
                Reading::of("temperature_coretemp_package_id_0_c", 45.5),
                Reading::of("temperature_nvme_temp1_c", 30.0),
                Reading::of("temperature_nvme_temp1_2_c", 31.0),
                Reading::of("fan_hwmon3_fan2_rpm", 1200.0),
                Reading::of("power_hwmon3_power1_w", 12.5),
            ]
        );
        assert_eq!(read(&root.path().join("elsewhere")), []);
    }
}
