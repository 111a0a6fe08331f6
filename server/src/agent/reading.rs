//! One reading, and what the collectors share.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

/// The value of one metric at the time of a collection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// What was read; the unit is part of the name.
    pub metric: String,
    /// The value, always finite.
    pub value: f64,
}

impl Reading {
    /// Names a value.
    pub fn of(metric: impl Into<String>, value: f64) -> Self {
        let metric = metric.into();
        Self { metric, value }
    }
}

/// A file of the kernel as text; `None` where this kernel does not offer it or forbids it.
pub(super) fn text_of(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// A file that holds one number.
pub(super) fn number_of(path: &Path) -> Option<f64> {
    text_of(path)?.trim().parse().ok()
}

/// The names in a folder, sorted, so that every collection comes in the same order.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// A name of the kernel as part of a metric's: lower case, digits and single underscores.
pub(super) fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('_') {
            slug.push('_');
        }
    }
    slug.truncate(slug.trim_end_matches('_').len());
    slug
}

/// Makes metrics that would share a name distinct: the second is called `…_2`, before its unit.
pub(super) struct Distinct(BTreeMap<String, usize>);

impl Distinct {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// `prefix_name_unit`, with a number behind the name if that was given out before.
    pub(super) fn metric(&mut self, prefix: &str, name: &str, unit: &str) -> String {
        let count = self.0.entry(format!("{prefix}_{name}_{unit}")).or_default();
        *count += 1;
        match *count {
            1 => format!("{prefix}_{name}_{unit}"),
            count => format!("{prefix}_{name}_{count}_{unit}"),
        }
    }
}

/// How much a counter grew per second; `None` if it was reset in between.
pub(super) fn rate(before: u64, now: u64, seconds: f64) -> Option<f64> {
    let grown = now.checked_sub(before)?;
    (seconds > 0.0).then(|| grown as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_parts_of_metrics() {
        let cases = [
            ("Core 0", "core_0"),
            ("package-0", "package_0"),
            ("  T°C!", "t_c"),
            ("...", ""),
            ("NVMe", "nvme"),
        ];
        for (name, wanted) in cases {
            assert_eq!(slug(name), wanted);
        }
    }

    #[test]
    fn a_counter_that_was_reset_has_no_rate() {
        assert_eq!(rate(10, 30, 4.0), Some(5.0));
        assert_eq!(rate(30, 10, 4.0), None);
        assert_eq!(rate(10, 30, 0.0), None);
    }

    #[test]
    fn equal_names_are_told_apart() {
        let mut names = Distinct::new();
        let mut next = || names.metric("temperature", "nvme_composite", "c");
        assert_eq!(next(), "temperature_nvme_composite_c");
        assert_eq!(next(), "temperature_nvme_composite_2_c");
    }
}
