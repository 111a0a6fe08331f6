//! Where the demonstration's telemetry comes from, mapped onto the hall.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::predict::backtest::cmapss;
use ::predict::history::UnitHistory;
use ::predict::wear;
use ::workflows::demo::Hall;
use ::workflows::model::{Asset, AssetState, Dependency, Origin, Timestamp};
use anyhow::{Context, bail};

use crate::agent::Collector;
use crate::clock::Clock;
use crate::ingest::csv::CsvSource;
use crate::telemetry::Sample;

const HOUR_MS: i64 = 3_600_000;
/// The data set has no times. It was published for a challenge in 2008; the replay ends on a Monday morning of then.
const CMAPSS_ENDS: Timestamp = Timestamp(1_223_280_000_000);
/// How many fans of the past the wear model lets run to failure.
const PAST_FANS: usize = 40;
/// Everything modelled about the past is the same in every demonstration.
const WEAR_SEED: u64 = 0;
/// The metric that says how busy an asset is, 0–1.
const UTILISATION: &str = "utilisation";
/// How much modelled utilisation the hall gets.
const UTILISATION_HOURS: i64 = 14 * 24;

/// Telemetry and what it is about.
pub(super) struct Source {
    /// `host`, `cmapss` or `csv`.
    pub kind: &'static str,
    /// In words.
    pub title: String,
    /// Where the telemetry of the fan trays comes from.
    pub origin: Origin,
    /// The moment of the last sample: the demonstration's clock starts here.
    pub ends: Timestamp,
    /// The hall it plays in, with the assets that only have a past.
    pub hall: Hall,
    /// Assets of the hall and of the past.
    pub assets: Vec<Asset>,
    /// The telemetry.
    pub samples: Vec<Sample>,
    /// Utilisation by the hall's profile: always modelled.
    pub utilisation: Vec<Sample>,
    /// Who failed, and when.
    pub failures: Vec<(String, Timestamp)>,
    /// What was read off this machine just now.
    pub live: Vec<Sample>,
}

impl Source {
    /// Reads `host`, `cmapss:DIR` or `csv:FILE?…`.
    pub(super) async fn read(spec: &str) -> anyhow::Result<Self> {
        let hall = Hall::built_in()?;
        let source = match spec.split_once(':') {
            None if spec == "host" => Self::host(hall).await?,
            Some(("cmapss", folder)) => Self::cmapss(hall, Path::new(folder))?,
            Some(("csv", _)) => Self::csv(hall, spec)?,
            _ => {
                bail!("`{spec}` is no source; write `host`, `cmapss:DIR` or `csv:FILE?time=COL&…`")
            }
        };
        Ok(source)
    }

    /// This machine, live; the wear of its fans is modelled.
    async fn host(hall: Hall) -> anyhow::Result<Self> {
        let now = Clock::default().now();
        let ends = Timestamp(now.0 / HOUR_MS * HOUR_MS);
        let live = read_this_host(now).await?;
        let profile = week_of(&hall, "fan-r01-01", ends);
        let mut source = Self::empty("host", hall, ends, Origin::Modelled);
        source.title = "this machine, live, and modelled fan wear".into();
        let past = wear::fleet(WEAR_SEED, PAST_FANS, &profile);
        for (number, unit) in past.iter().enumerate() {
            source.add_past(&format!("fan-past-{:03}", number + 1), unit);
        }
        let trays = source.trays();
        let mut present = wear::current(WEAR_SEED, trays.len(), &profile);
        // The first tray cools this machine: how busy it is now is measured.
        if let (Some(busy), Some(first)) = (utilisation(&live), present.first_mut()) {
            set_last(first, UTILISATION, busy);
        }
        for (tray, unit) in trays.iter().zip(&present) {
            source.add_present(tray, unit);
        }
        // The wear model's fans have a utilisation of their own.
        source
            .utilisation
            .retain(|s| !trays.iter().any(|tray| **tray == *s.asset));
        source.add_host(&live);
        source.live = live;
        Ok(source)
    }

    /// NASA's turbofan engines: those of the test set stand in the hall, those of the training set have failed.
    fn cmapss(hall: Hall, folder: &Path) -> anyhow::Result<Self> {
        let data = cmapss::load(folder)
            .with_context(|| format!("failed to read C-MAPSS from `{}`", folder.display()))?;
        let mut source = Self::empty("cmapss", hall, CMAPSS_ENDS, Origin::Recorded);
        source.title = "NASA C-MAPSS FD001, one cycle an hour".into();
        for (number, unit) in data.train.iter().enumerate() {
            let unit = unit.select(&cmapss::C1_SENSORS)?;
            source.add_past(&format!("engine-{:03}", number + 1), &unit);
        }
        for (number, unit) in data.test.iter().enumerate() {
            let tray = source.hall.engine_asset(number + 1).map(str::to_owned);
            let tray =
                tray.with_context(|| format!("the hall has no tray for engine {}", number + 1))?;
            source.add_present(&tray, &unit.select(&cmapss::C1_SENSORS)?);
        }
        Ok(source)
    }

    /// A file: assets of the hall are in service, all others ran until they failed.
    fn csv(hall: Hall, spec: &str) -> anyhow::Result<Self> {
        let file: CsvSource = spec.parse()?;
        let bytes = std::fs::read(&file.path)
            .with_context(|| format!("failed to read `{}`", file.path.display()))?;
        let samples = file
            .mapping
            .read(&bytes)
            .with_context(|| format!("failed to read `{}`", file.path.display()))?;
        let Some(ends) = samples.iter().map(|s| s.time_ms).max() else {
            bail!("`{}` has no samples", file.path.display());
        };
        let mut source = Self::empty("csv", hall, Timestamp(ends), Origin::Recorded);
        source.title = format!("{}", file.path.display());
        let names: BTreeSet<Arc<str>> = samples.iter().map(|s| s.asset.clone()).collect();
        for name in names {
            if source.assets.iter().any(|a| a.id == *name) {
                continue;
            }
            let own = samples
                .iter()
                .filter(|s| s.asset == name)
                .map(|s| s.time_ms);
            let last = Timestamp(own.max().unwrap_or(ends));
            source.assets.push(retired(&name));
            source
                .failures
                .push((name.to_string(), last.plus_ms(HOUR_MS)));
        }
        source.samples = samples;
        Ok(source)
    }

    fn empty(kind: &'static str, hall: Hall, ends: Timestamp, origin: Origin) -> Self {
        let assets = hall.assets_for(kind);
        let mut source = Self {
            kind,
            title: String::new(),
            origin,
            ends,
            hall,
            assets,
            samples: Vec::new(),
            utilisation: Vec::new(),
            failures: Vec::new(),
            live: Vec::new(),
        };
        source.model_utilisation();
        source
    }

    /// The hall's trays that serve, in the order engines are mapped to them.
    fn trays(&self) -> Vec<String> {
        (1..)
            .map_while(|n| self.hall.engine_asset(n).map(str::to_owned))
            .collect()
    }

    /// A unit that ran to failure the day before.
    fn add_past(&mut self, name: &str, unit: &UnitHistory) {
        let last = self.ends.plus_ms(-24 * HOUR_MS);
        self.assets.push(retired(name));
        self.add_rows(name, unit, last);
        self.failures.push((name.to_owned(), last.plus_ms(HOUR_MS)));
    }

    /// A unit in service: its last row is the present.
    fn add_present(&mut self, name: &str, unit: &UnitHistory) {
        self.add_rows(name, unit, self.ends);
    }

    fn add_rows(&mut self, asset: &str, unit: &UnitHistory, last: Timestamp) {
        let asset: Arc<str> = asset.into();
        let metrics: Vec<Arc<str>> = unit.metrics.iter().map(|m| m.as_str().into()).collect();
        let first = last.0 - (unit.rows.len() as i64 - 1) * HOUR_MS;
        for (hour, row) in (0_i64..).zip(&unit.rows) {
            for (metric, &value) in metrics.iter().zip(row) {
                self.samples.push(Sample {
                    asset: asset.clone(),
                    metric: metric.clone(),
                    time_ms: first + hour * HOUR_MS,
                    value,
                });
            }
        }
    }

    fn model_utilisation(&mut self) {
        let metric: Arc<str> = UTILISATION.into();
        for asset in &self.assets {
            let name: Arc<str> = asset.id.as_str().into();
            for hour in 0..UTILISATION_HOURS {
                let at = self.ends.plus_ms(-hour * HOUR_MS);
                if let Some(value) = self.hall.utilisation_at(&asset.id, at) {
                    let (asset, metric) = (name.clone(), metric.clone());
                    self.utilisation.push(Sample {
                        asset,
                        metric,
                        time_ms: at.0,
                        value,
                    });
                }
            }
        }
    }

    /// This machine as an asset of the hall, cooled by the first tray.
    fn add_host(&mut self, live: &[Sample]) {
        let Some(sample) = live.first() else { return };
        if let Some(value) = utilisation(live) {
            self.samples.push(Sample {
                asset: sample.asset.clone(),
                metric: UTILISATION.into(),
                time_ms: sample.time_ms,
                value,
            });
        }
        let Some(like) = self.assets.iter().find(|a| a.kind == "server").cloned() else {
            return;
        };
        self.assets.push(Asset {
            id: sample.asset.to_string(),
            name: format!("{} (this machine)", sample.asset),
            depends_on: self.hall.engine_asset(1).map(needs).into_iter().collect(),
            redundancy: None,
            row: like.row + 40,
            ..like
        });
    }
}

fn needs(asset: &str) -> Dependency {
    Dependency {
        asset: asset.to_owned(),
        any_of: None,
    }
}

/// How busy this machine is, 0–1.
fn utilisation(live: &[Sample]) -> Option<f64> {
    let cpu = live
        .iter()
        .find(|s| &*s.metric == "cpu_utilisation_percent")?;
    Some(cpu.value / 100.0)
}

fn set_last(unit: &mut UnitHistory, metric: &str, value: f64) {
    let column = unit.metrics.iter().position(|m| m == metric);
    if let (Some(column), Some(row)) = (column, unit.rows.last_mut()) {
        row[column] = value;
    }
}

fn retired(name: &str) -> Asset {
    Asset {
        id: name.to_owned(),
        kind: "fan_tray".into(),
        name: name.to_owned(),
        locality: "store".into(),
        row: 0,
        col: 0,
        u: None,
        depends_on: Vec::new(),
        redundancy: None,
        state: AssetState::Retired,
        part: None,
        failure_mode: None,
        vibration_metric: None,
        outage_cost_per_hour: 0.0,
        attributes: std::collections::BTreeMap::new(),
    }
}

/// The asset's utilisation hour by hour over the week before `ends`.
fn week_of(hall: &Hall, asset: &str, ends: Timestamp) -> Vec<f64> {
    let hours = (0..168).rev().map(|hour| ends.plus_ms(-hour * HOUR_MS));
    hours
        .filter_map(|at| hall.utilisation_at(asset, at))
        .collect()
}

/// Two looks at this machine, a second apart, since rates need two.
async fn read_this_host(now: Timestamp) -> anyhow::Result<Vec<Sample>> {
    let mut collector = Collector::new("/".into());
    let name = collector.host_name().unwrap_or_else(|| "localhost".into());
    let asset: Arc<str> = format!("host-{name}").into();
    collector.collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let samples = collector.collect().into_iter().map(|reading| Sample {
        asset: asset.clone(),
        metric: reading.metric.into(),
        time_ms: now.0,
        value: reading.value,
    });
    Ok(samples.collect())
}
