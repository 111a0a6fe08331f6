//! All collectors as one; it remembers the counters of the last collection.

use std::{path::PathBuf, time::Instant};

use super::{
    cpu, disk, hwmon, memory, network, rapl,
    reading::{Reading, text_of},
    thermal,
};

/// Reads a host; the first collection has no rates, since a rate needs two.
#[derive(Debug)]
pub struct Collector {
    root: PathBuf,
    last: Option<Counters>,
}

#[derive(Debug)]
struct Counters {
    at: Instant,
    cpu: cpu::Ticks,
    disks: disk::Disks,
    interfaces: network::Interfaces,
    energy: rapl::Zones,
}

impl Collector {
    /// A collector of the host whose `proc` and `sys` are below `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root, last: None }
    }

    /// Reads everything this kernel offers.
    pub fn collect(&mut self) -> Vec<Reading> {
        let now = self.counters();
        let mut readings = Vec::new();
        if let Some(before) = &self.last {
            let seconds = now.at.duration_since(before.at).as_secs_f64();
            readings.extend(cpu::readings(&before.cpu, &now.cpu));
            readings.extend(disk::readings(&before.disks, &now.disks, seconds));
            readings.extend(network::readings(
                &before.interfaces,
                &now.interfaces,
                seconds,
            ));
            readings.extend(rapl::readings(&before.energy, &now.energy, seconds));
        }
        readings.extend(memory::parse(&self.text("proc/meminfo")));
        readings.extend(hwmon::read(&self.root));
        readings.extend(thermal::read(&self.root));
        readings.retain(|reading| reading.value.is_finite());
        self.last = Some(now);
        readings
    }

    /// The name this host has given itself.
    pub fn host_name(&self) -> Option<String> {
        let name = text_of(&self.root.join("proc/sys/kernel/hostname"))?;
        let name = name.trim();
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn counters(&self) -> Counters {
        let mut disks = disk::parse(&self.text("proc/diskstats"));
        let whole = self.root.join("sys/block");
        disks.retain(|name, _| disk::is_disk(name) && whole.join(name).exists());
        Counters {
            at: Instant::now(),
            cpu: cpu::parse(&self.text("proc/stat")),
            disks,
            interfaces: network::parse(&self.text("proc/net/dev")),
            energy: rapl::read(&self.root),
        }
    }

    fn text(&self, path: &str) -> String {
        text_of(&self.root.join(path)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_offers_at_least_its_memory_and_cores() {
        let mut collector = Collector::new("/".into());
        let first = collector.collect();
        assert!(
            first
                .iter()
                .any(|reading| reading.metric == "memory_used_bytes")
        );
        assert!(
            !first
                .iter()
                .any(|reading| reading.metric.starts_with("cpu"))
        );
        // Counters move with the clock of the kernel, every hundredth of a second.
        let started = Instant::now();
        let found = std::iter::repeat_with(|| collector.collect())
            .take_while(|_| started.elapsed().as_secs() < 5)
            .find(|readings| {
                readings
                    .iter()
                    .any(|r| r.metric == "cpu0_utilisation_percent")
            })
            .expect("a core was busy or idle within five seconds");
        let share = |r: &&Reading| r.metric.ends_with("_percent");
        assert!(
            found
                .iter()
                .filter(share)
                .all(|r| (0.0..=100.0).contains(&r.value))
        );
        assert!(collector.host_name().is_some());
    }

    #[test]
    fn a_host_that_offers_nothing_has_no_readings() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let mut collector = Collector::new(root.path().to_owned());
        collector.collect();
        assert_eq!(collector.collect(), []);
        assert_eq!(collector.host_name(), None);
    }
}
