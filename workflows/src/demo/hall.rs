//! Reads `demo/hall.toml`: racks, assets, people, parts, and how the sources map onto them.
//!
//! The reader is strict: an unknown field, a name that does not exist or a number out of range is an error that names
//! the entry.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::model::{
    Asset, AssetState, Dependency, Locality, Part, Redundancy, Technician, Timestamp, Twin,
};
use crate::schedule::{Span, hour_of_week, shifts_between};

const HALL: &str = include_str!("../../demo/hall.toml");
const BRIEF: &str = include_str!("../../demo/part.toml");

/// The hall, ready to be put into a twin.
#[derive(Debug, Clone, PartialEq)]
pub struct Hall {
    /// What people call it.
    pub name: String,
    /// IANA name of its time zone.
    pub time_zone: String,
    /// Every place.
    pub localities: Vec<Locality>,
    /// Every asset, in order of rack, then row.
    pub assets: Vec<Asset>,
    /// Everybody who does maintenance.
    pub technicians: Vec<Technician>,
    /// Every part that can be made.
    pub parts: Vec<Part>,
    /// How each source of telemetry maps onto the assets.
    pub sources: BTreeMap<String, Source>,
    /// Utilisation by hour of the week (Monday 00:00 local time first), by asset.
    utilisation: BTreeMap<String, Vec<f64>>,
}

/// How a source of telemetry maps onto assets.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `host`, `cmapss` or `csv`.
    pub name: String,
    /// The metric that carries the load of the failure mode.
    pub vibration_metric: String,
    /// What that metric reads where nothing vibrates.
    #[serde(default)]
    pub vibration_zero: f64,
    /// The metric that is the rotor's speed, where there is one.
    #[serde(default)]
    pub speed_rpm_metric: Option<String>,
}

/// Why a hall cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HallError {
    /// Not TOML, or not the fields of a hall.
    #[error("the hall is not readable: {message}")]
    Syntax {
        /// Where and what, from the reader.
        message: String,
    },
    /// Two entries have one name.
    #[error("{entry} is there twice")]
    Twice {
        /// Which.
        entry: String,
    },
    /// An entry names something that is not there.
    #[error("{entry} names {what} `{name}`, which is not in the hall")]
    Unknown {
        /// Which entry.
        entry: String,
        /// What sort of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A value that cannot be.
    #[error("{entry} has {field} = {value}, it must be {expected}")]
    BadValue {
        /// Which entry.
        entry: String,
        /// Which field.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A part names a brief that was not handed in.
    #[error("part `{part}` names the brief `{file}`, which is not there")]
    NoBrief {
        /// The part.
        part: String,
        /// The file.
        file: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HallFile {
    name: String,
    time_zone: String,
    profile: Vec<Profile>,
    rack: Vec<Rack>,
    #[serde(default)]
    locality: Vec<Locality>,
    kind: Vec<Kind>,
    #[serde(default)]
    slot: Vec<Slot>,
    #[serde(default)]
    asset: Vec<Single>,
    #[serde(default)]
    technician: Vec<Technician>,
    #[serde(default)]
    part: Vec<Part>,
    #[serde(default)]
    source: Vec<Source>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    name: String,
    weekday: Vec<f64>,
    weekend: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rack {
    id: String,
    name: String,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    power_limit_w: f64,
    profile: String,
    busyness: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    name: String,
    #[serde(default)]
    part: Option<String>,
    #[serde(default)]
    failure_mode: Option<String>,
    outage_cost_per_hour: f64,
    power_w: f64,
}

/// An asset every rack has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    id: String,
    name: String,
    kind: String,
    row: u32,
    #[serde(default)]
    u: Option<u32>,
    #[serde(default)]
    depends_on: Vec<Dependency>,
    #[serde(default)]
    redundancy: Option<Redundancy>,
    #[serde(default)]
    outage_cost_per_hour: Option<f64>,
    #[serde(default = "full")]
    load: f64,
}

/// An asset outside the racks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Single {
    id: String,
    name: String,
    kind: String,
    locality: String,
    row: u32,
    col: u32,
    #[serde(default)]
    state: AssetState,
}

const fn full() -> f64 {
    1.0
}

impl Hall {
    /// The hall that ships with the product.
    ///
    /// # Errors
    ///
    /// None, as a test holds it against every rule; kept so that both ways in are one.
    pub fn built_in() -> Result<Self, HallError> {
        Self::read(HALL, &[("part.toml", BRIEF)])
    }

    /// Reads a hall; `briefs` are the files its parts name.
    ///
    /// # Errors
    ///
    /// See [`HallError`].
    pub fn read(text: &str, briefs: &[(&str, &str)]) -> Result<Self, HallError> {
        let file: HallFile = toml::from_str(text).map_err(|e| HallError::Syntax {
            message: e.to_string().trim_end().to_owned(),
        })?;
        let profiles = profiles(&file.profile)?;
        let kinds: BTreeMap<&str, &Kind> = file.kind.iter().map(|k| (&*k.name, k)).collect();
        let mut hall = Self {
            name: file.name,
            time_zone: file.time_zone,
            localities: file.locality,
            assets: Vec::new(),
            technicians: file.technician,
            parts: parts(file.part, briefs)?,
            sources: BTreeMap::new(),
            utilisation: BTreeMap::new(),
        };
        for source in file.source {
            hall.sources.insert(source.name.clone(), source);
        }
        for (index, rack) in file.rack.iter().enumerate() {
            let profile = profiles
                .get(rack.profile.as_str())
                .ok_or_else(|| unknown(&format!("rack `{}`", rack.id), "profile", &rack.profile))?;
            hall.localities.push(rack.locality()?);
            let next = &file.rack[(index + 1) % file.rack.len()].id;
            for slot in &file.slot {
                let asset = slot.asset(rack, index, next, &kinds)?;
                let use_of = |u: &f64| (u * rack.busyness * slot.load).clamp(0.0, 1.0);
                hall.utilisation
                    .insert(asset.id.clone(), profile.iter().map(use_of).collect());
                hall.assets.push(asset);
            }
        }
        for single in file.asset {
            hall.assets.push(single.asset(&kinds)?);
        }
        hall.check()?;
        Ok(hall)
    }

    /// The twin the hall is before anything happens in it.
    #[must_use]
    pub fn twin(&self) -> Twin {
        Twin {
            assets: self
                .assets
                .iter()
                .map(|a| (a.id.clone(), a.clone()))
                .collect(),
            localities: self
                .localities
                .iter()
                .map(|l| (l.id.clone(), l.clone()))
                .collect(),
        }
    }

    /// The assets as a source sees them: those with a failure mode know which metric carries its load.
    #[must_use]
    pub fn assets_for(&self, source: &str) -> Vec<Asset> {
        let mut assets = self.assets.clone();
        let Some(source) = self.sources.get(source) else {
            return assets;
        };
        for asset in assets.iter_mut().filter(|a| a.failure_mode.is_some()) {
            asset.vibration_metric = Some(source.vibration_metric.clone());
            asset
                .attributes
                .insert("vibration_zero".into(), source.vibration_zero.into());
            if let Some(metric) = &source.speed_rpm_metric {
                asset
                    .attributes
                    .insert("speed_rpm_metric".into(), metric.clone().into());
            }
        }
        assets
    }

    /// The fan tray an engine or unit (1 is the first) is mapped to; there are as many as trays in the racks.
    ///
    /// Consecutive engines stand in consecutive racks, so that a few of them already spread over the hall.
    #[must_use]
    pub fn engine_asset(&self, engine: usize) -> Option<&str> {
        let trays: Vec<&Asset> = self
            .assets
            .iter()
            .filter(|a| a.kind == "fan_tray" && a.state == AssetState::InService)
            .collect();
        let racks = trays.iter().map(|a| a.col).collect::<BTreeSet<_>>().len();
        let index = engine.checked_sub(1).filter(|i| *i < trays.len())?;
        let (rack, tray) = (index % racks, index / racks);
        let col = u32::try_from(rack).ok()?;
        let found = trays.iter().filter(|a| a.col == col).nth(tray)?;
        Some(&found.id)
    }

    /// Modelled utilisation of an asset at a moment; `None` where the hall has no profile for it.
    #[must_use]
    pub fn utilisation_at(&self, asset: &str, at: Timestamp) -> Option<f64> {
        let profile = self.utilisation.get(asset)?;
        let zone = jiff::tz::TimeZone::get(&self.time_zone).ok()?;
        profile.get(hour_of_week(at, &zone)).copied()
    }

    /// Holds every name and number against the others.
    fn check(&self) -> Result<(), HallError> {
        if jiff::tz::TimeZone::get(&self.time_zone).is_err() {
            return Err(bad(
                "the hall",
                "time_zone",
                &self.time_zone,
                "an IANA name",
            ));
        }
        no_twins("locality", self.localities.iter().map(|l| &l.id))?;
        no_twins("asset", self.assets.iter().map(|a| &a.id))?;
        no_twins("technician", self.technicians.iter().map(|t| &t.id))?;
        no_twins("part", self.parts.iter().map(|p| &p.id))?;
        let twin = self.twin();
        let mut places = BTreeSet::new();
        for asset in &self.assets {
            let entry = format!("asset `{}`", asset.id);
            if !twin.localities.contains_key(&asset.locality) {
                return Err(unknown(&entry, "locality", &asset.locality));
            }
            for need in &asset.depends_on {
                if !twin.assets.contains_key(&need.asset) {
                    return Err(unknown(&entry, "asset", &need.asset));
                }
            }
            if let Some(part) = &asset.part
                && !self.parts.iter().any(|p| p.id == *part)
            {
                return Err(unknown(&entry, "part", part));
            }
            if !places.insert((asset.row, asset.col)) {
                let place = format!("{}, {}", asset.row, asset.col);
                return Err(bad(&entry, "row, col", &place, "a place of its own"));
            }
        }
        let week = Span {
            from: Timestamp(0),
            to: Timestamp(7 * 24 * 3_600_000),
        };
        for technician in &self.technicians {
            shifts_between(technician, week).map_err(|e| {
                let entry = format!("technician `{}`", technician.id);
                bad(
                    &entry,
                    "shifts",
                    &e.to_string(),
                    "shifts in a known time zone",
                )
            })?;
        }
        Ok(())
    }
}

impl Rack {
    fn locality(&self) -> Result<Locality, HallError> {
        let entry = format!("rack `{}`", self.id);
        positive(&entry, "power_limit_w", self.power_limit_w)?;
        positive(&entry, "busyness", self.busyness)?;
        Ok(Locality {
            id: self.id.clone(),
            name: self.name.clone(),
            x: self.x,
            y: self.y,
            width: self.width,
            height: self.height,
            power_limit_w: Some(self.power_limit_w),
        })
    }
}

impl Slot {
    fn asset(
        &self,
        rack: &Rack,
        col: usize,
        next: &str,
        kinds: &BTreeMap<&str, &Kind>,
    ) -> Result<Asset, HallError> {
        let fill = |text: &str| text.replace("{rack}", &rack.id).replace("{next}", next);
        let entry = format!("slot `{}`", self.id);
        let kind = kind_of(&entry, &self.kind, kinds)?;
        positive(&entry, "load", self.load)?;
        let mut asset = kind.asset(fill(&self.id), format!("{}, {}", self.name, rack.name));
        asset.locality.clone_from(&rack.id);
        asset.row = self.row;
        asset.col = u32::try_from(col).unwrap_or(u32::MAX);
        asset.u = self.u;
        asset.depends_on = self
            .depends_on
            .iter()
            .map(|d| Dependency {
                asset: fill(&d.asset),
                any_of: d.any_of.clone(),
            })
            .collect();
        asset.redundancy = self.redundancy.as_ref().map(|r| Redundancy {
            group: fill(&r.group),
            needed: r.needed,
        });
        if let Some(cost) = self.outage_cost_per_hour {
            asset.outage_cost_per_hour = cost;
        }
        positive(&entry, "outage_cost_per_hour", asset.outage_cost_per_hour)?;
        Ok(asset)
    }
}

impl Single {
    fn asset(self, kinds: &BTreeMap<&str, &Kind>) -> Result<Asset, HallError> {
        let kind = kind_of(&format!("asset `{}`", self.id), &self.kind, kinds)?;
        Ok(Asset {
            locality: self.locality,
            row: self.row,
            col: self.col,
            state: self.state,
            ..kind.asset(self.id, self.name)
        })
    }
}

impl Kind {
    fn asset(&self, id: String, name: String) -> Asset {
        Asset {
            id,
            kind: self.name.clone(),
            name,
            locality: String::new(),
            row: 0,
            col: 0,
            u: None,
            depends_on: Vec::new(),
            redundancy: None,
            state: AssetState::InService,
            part: self.part.clone(),
            failure_mode: self.failure_mode.clone(),
            vibration_metric: None,
            outage_cost_per_hour: self.outage_cost_per_hour,
            attributes: [("power_w".to_owned(), self.power_w.into())].into(),
        }
    }
}

fn kind_of<'a>(
    entry: &str,
    name: &str,
    kinds: &BTreeMap<&str, &'a Kind>,
) -> Result<&'a Kind, HallError> {
    kinds
        .get(name)
        .copied()
        .ok_or_else(|| unknown(entry, "kind", name))
}

/// Each profile as 168 values.
fn profiles(all: &[Profile]) -> Result<BTreeMap<&str, Vec<f64>>, HallError> {
    let mut found = BTreeMap::new();
    for profile in all {
        let entry = format!("profile `{}`", profile.name);
        for (field, day) in [("weekday", &profile.weekday), ("weekend", &profile.weekend)] {
            if day.len() != 24 {
                let hours = format!("{} values", day.len());
                return Err(bad(&entry, field, &hours, "24 values, one per hour"));
            }
            if let Some(wrong) = day.iter().find(|u| !(0.0..=1.0).contains(*u)) {
                return Err(bad(&entry, field, &wrong.to_string(), "between 0 and 1"));
            }
        }
        let mut week = profile.weekday.repeat(5);
        week.extend(profile.weekend.repeat(2));
        found.insert(profile.name.as_str(), week);
    }
    Ok(found)
}

/// Puts each part's brief in the place of its file's name.
fn parts(parts: Vec<Part>, briefs: &[(&str, &str)]) -> Result<Vec<Part>, HallError> {
    parts
        .into_iter()
        .map(|mut part| {
            let brief = briefs.iter().find(|b| b.0 == part.brief);
            let Some((_, text)) = brief else {
                return Err(HallError::NoBrief {
                    part: part.id,
                    file: part.brief,
                });
            };
            (*text).clone_into(&mut part.brief);
            Ok(part)
        })
        .collect()
}

fn no_twins<'a>(what: &str, ids: impl Iterator<Item = &'a String>) -> Result<(), HallError> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(HallError::Twice {
                entry: format!("{what} `{id}`"),
            });
        }
    }
    Ok(())
}

fn positive(entry: &str, field: &'static str, value: f64) -> Result<(), HallError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(bad(entry, field, &value.to_string(), "a positive number"))
}

fn bad(entry: &str, field: &'static str, value: &str, expected: &'static str) -> HallError {
    HallError::BadValue {
        entry: entry.to_owned(),
        field,
        value: value.to_owned(),
        expected,
    }
}

fn unknown(entry: &str, what: &'static str, name: &str) -> HallError {
    HallError::Unknown {
        entry: entry.to_owned(),
        what,
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::Graph;

    #[test]
    fn the_built_in_hall_is_whole() {
        let hall = Hall::built_in().unwrap();
        let trays = hall.assets.iter().filter(|a| a.kind == "fan_tray").count();
        assert_eq!(
            (hall.localities.len(), hall.assets.len(), trays),
            (11, 142, 102)
        );
        assert_eq!((hall.technicians.len(), hall.parts.len()), (4, 1));
        assert!(hall.parts[0].brief.contains("fan_tray_bracket"));
        for asset in hall
            .assets_for("cmapss")
            .iter()
            .filter(|a| a.kind == "fan_tray")
        {
            assert_eq!(asset.vibration_metric.as_deref(), Some("sensor_11"));
        }
    }

    #[test]
    fn some_trays_carry_servers_alone_and_some_do_not() {
        let twin = Hall::built_in().unwrap().twin();
        let graph = Graph::new(&twin);
        assert_eq!(graph.working(&BTreeSet::new()).len(), 140);
        for (tray, expected) in [
            ("fan-r01-01", vec!["srv-r01-01"]),
            ("fan-r03-04", vec!["srv-r03-02", "srv-r03-03"]),
            ("fan-r10-06", vec!["srv-r10-03"]),
            ("fan-r10-07", vec![]),
            ("fan-r05-10", vec![]),
        ] {
            let critical: Vec<_> = graph.critical_dependents(tray).into_iter().collect();
            assert_eq!(critical, expected, "{tray}");
        }
    }

    #[test]
    fn every_engine_has_a_tray_of_its_own() {
        let hall = Hall::built_in().unwrap();
        let mapped: BTreeSet<_> = (1..=100).filter_map(|n| hall.engine_asset(n)).collect();
        assert_eq!(mapped.len(), 100);
        assert_eq!(hall.engine_asset(1), Some("fan-r01-01"));
        assert_eq!(hall.engine_asset(2), Some("fan-r02-01"));
        assert_eq!((hall.engine_asset(0), hall.engine_asset(101)), (None, None));
    }

    #[test]
    fn utilisation_follows_the_local_hour() {
        let hall = Hall::built_in().unwrap();
        let at = |text: &str| {
            hall.utilisation_at("fan-r01-01", text.parse().unwrap())
                .unwrap()
        };
        // 03:00 and 19:00 in Berlin, in winter and in summer.
        assert!((at("2026-01-13T02:00:00Z") - 0.11).abs() < 1e-12);
        assert!((at("2026-07-14T17:00:00Z") - 0.85).abs() < 1e-12);
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (
                "busyness = 1.00",
                "busyness = -1.0",
                "rack `r01` has busyness = -1",
            ),
            ("profile = \"web\"", "profile = \"weeb\"", "profile `weeb`"),
            (
                "kind = \"server\"\nrow = 10",
                "kind = \"sever\"\nrow = 10",
                "kind `sever`",
            ),
            (
                "asset = \"fan-{rack}-01\"",
                "asset = \"fan-{rack}-99\"",
                "asset `srv-r01-01` names asset `fan-r01-99`",
            ),
            (
                "part = \"fan_tray_bracket\"",
                "part = \"lid\"",
                "part `lid`",
            ),
            (
                "brief = \"part.toml\"",
                "brief = \"lid.toml\"",
                "brief `lid.toml`",
            ),
            ("from = \"06:00\"", "from = \"6\"", "technician `amira`"),
            (
                "time_zone = \"Europe/Berlin\"\n\n#",
                "time_zone = \"Berlin\"\n\n#",
                "time_zone = Berlin",
            ),
            (
                "locality = \"store\"",
                "locality = \"attic\"",
                "locality `attic`",
            ),
            (
                "id = \"fan-store-02\"",
                "id = \"fan-store-01\"",
                "asset `fan-store-01` is there twice",
            ),
            (
                "row = 1\ncol = 10",
                "row = 0\ncol = 10",
                "a place of its own",
            ),
            ("busyness = 1.00", "busines = 1.00", "busines"),
            ("weekday = [0.22,", "weekday = [", "23 values"),
        ];
        for (from, to, expected) in cases {
            assert!(HALL.contains(from), "{from}");
            let text = HALL.replacen(from, to, 1);
            let error = Hall::read(&text, &[("part.toml", BRIEF)])
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
