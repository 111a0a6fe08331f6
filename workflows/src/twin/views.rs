//! Heatmaps of the hall: what each cell says, how old that is and how far to believe it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{Asset, AssetState, Timestamp, Twin, WindowState};

/// Values older than this are shown, but as doubtful.
const FRESH_MS: i64 = 2 * 3_600_000;
const HOUR_MS: i64 = 3_600_000;

/// What a heatmap shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// How much is used.
    Utilisation,
    /// How likely it fails within seven days.
    FailureRisk,
    /// When it is worked on.
    Maintenance,
}

/// The latest that is known of one asset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Utilisation 0–1, and of when.
    pub utilisation: Option<(f64, Timestamp)>,
    /// Probability of failing within seven days, and of when.
    pub failure_risk: Option<(f64, Timestamp)>,
    /// The next window, if one is planned.
    pub window: Option<WindowFact>,
}

/// A planned window, as far as a heatmap cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowFact {
    /// First moment.
    pub from: Timestamp,
    /// First moment after.
    pub to: Timestamp,
    /// Where it stands.
    pub state: WindowState,
}

/// One layer of the hall at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heatmap {
    /// What is shown.
    pub layer: Layer,
    /// The moment it speaks of.
    pub now: Timestamp,
    /// Unit of the values.
    pub unit: String,
    /// What the levels mean, lowest first.
    pub legend: Vec<Legend>,
    /// The titles of the columns, by column.
    pub columns: BTreeMap<u32, String>,
    /// One cell per asset, by column, then row.
    pub cells: Vec<Cell>,
}

/// What a level means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Legend {
    /// 0–4.
    pub level: u8,
    /// In words.
    pub text: String,
}

/// One asset in a heatmap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The asset.
    pub asset: String,
    /// What sort of asset.
    pub kind: String,
    /// Row, from the top.
    pub row: u32,
    /// Column, from the left.
    pub col: u32,
    /// The value; `None` where nothing is known or planned.
    pub value: Option<f64>,
    /// The value as people read it.
    pub text: String,
    /// 0–4, so that colour is never needed to tell.
    pub level: u8,
    /// How old the value is, seconds.
    pub age_s: Option<i64>,
    /// How far to believe it.
    pub confidence: Confidence,
}

/// How far to believe a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Fresh, or agreed.
    High,
    /// Old, or only proposed.
    Low,
    /// Nothing is known.
    None,
}

impl Layer {
    /// Its title, as people read it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Utilisation => "Utilisation",
            Self::FailureRisk => "Failure risk",
            Self::Maintenance => "Maintenance",
        }
    }

    /// What its values are.
    #[must_use]
    pub const fn subtitle(self) -> &'static str {
        match self {
            Self::Utilisation => "share of capacity in use",
            Self::FailureRisk => "calibrated probability of failing within 7 days",
            Self::Maintenance => "hours until the next maintenance window",
        }
    }

    /// The lower edges of levels 1 to 4 on a scale that rises with the level, and the end of level 4.
    const fn edges(self) -> [f64; 5] {
        match self {
            Self::Utilisation => [0.2, 0.4, 0.6, 0.8, 1.0],
            Self::FailureRisk => [0.01, 0.05, 0.2, 0.5, 1.0],
            // Hours until the window, negated: later is lower.
            Self::Maintenance => [-14.0 * 24.0, -7.0 * 24.0, -24.0, 0.0, 0.0],
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Utilisation => "share",
            Self::FailureRisk => "probability within 7d",
            Self::Maintenance => "hours",
        }
    }

    const fn legend(self) -> [&'static str; 5] {
        match self {
            Self::Utilisation => [
                "below 20 %",
                "20-40 %",
                "40-60 %",
                "60-80 %",
                "80 % and more",
            ],
            Self::FailureRisk => ["below 1 %", "1-5 %", "5-20 %", "20-50 %", "50 % and more"],
            Self::Maintenance => [
                "nothing planned",
                "within 14 days",
                "within 7 days",
                "within 24 hours",
                "under way or overdue",
            ],
        }
    }

    fn level(self, value: f64) -> u8 {
        let value = self.rising(value);
        let reached = self.edges()[..4].iter().filter(|e| value >= **e).count();
        u8::try_from(reached).unwrap_or(4)
    }

    /// Where a value lies between the lowest and the highest, 0–1, each level taking a fifth.
    pub(super) fn position(self, value: f64) -> f64 {
        let level = usize::from(self.level(value));
        let edges = self.edges();
        let low = if level == 0 { 0.0 } else { edges[level - 1] };
        let within = match self {
            Self::Maintenance => 0.5,
            _ => (value - low) / (edges[level] - low),
        };
        (level as f64 + within.clamp(0.0, 1.0)) / 5.0
    }

    fn rising(self, value: f64) -> f64 {
        match self {
            Self::Maintenance => -value,
            _ => value,
        }
    }
}

/// Draws up one layer of the hall; retired assets are left out.
#[must_use]
pub fn heatmap(
    twin: &Twin,
    facts: &BTreeMap<String, Facts>,
    layer: Layer,
    now: Timestamp,
) -> Heatmap {
    let nothing = Facts::default();
    let mut taken = BTreeSet::new();
    let mut columns: BTreeMap<u32, String> = BTreeMap::new();
    let shown = twin
        .assets
        .values()
        .filter(|a| a.state != AssetState::Retired);
    // What stands there has its place before what only stands in.
    let (virtual_ones, real): (Vec<_>, Vec<_>) = shown.partition(|a| is_virtual(a));
    let mut cells: Vec<Cell> = real
        .into_iter()
        .chain(virtual_ones)
        .map(|asset| {
            let col = column(twin, asset);
            columns
                .entry(col)
                .or_insert_with(|| column_title(twin, asset));
            // Two assets never hide each other: the later one moves down.
            let row = (asset.row..)
                .find(|row| taken.insert((col, *row)))
                .unwrap_or(asset.row);
            let facts = facts.get(&asset.id).unwrap_or(&nothing);
            cell(asset, (row, col), facts, layer, now)
        })
        .collect();
    cells.sort_by_key(|c| (c.col, c.row));
    Heatmap {
        layer,
        now,
        unit: layer.unit().to_owned(),
        legend: (0..)
            .zip(layer.legend())
            .map(|(level, text)| Legend {
                level,
                text: text.to_owned(),
            })
            .collect(),
        columns,
        cells,
    }
}

fn is_virtual(asset: &Asset) -> bool {
    asset.attributes.contains_key("stands_in_for")
}

/// A stand-in is shown in the column of the place it is in, not in that of the asset it stands in for.
fn column(twin: &Twin, asset: &Asset) -> u32 {
    if !is_virtual(asset) {
        return asset.col;
    }
    let beside = |a: &&Asset| a.locality == asset.locality && !is_virtual(a);
    twin.assets
        .values()
        .find(beside)
        .map_or(asset.col, |a| a.col)
}

fn column_title(twin: &Twin, asset: &Asset) -> String {
    twin.localities
        .get(&asset.locality)
        .map_or_else(|| asset.locality.clone(), |l| l.name.clone())
}

fn cell(
    asset: &Asset,
    (row, col): (u32, u32),
    facts: &Facts,
    layer: Layer,
    now: Timestamp,
) -> Cell {
    let reading = match layer {
        Layer::Utilisation => facts.utilisation.map(|(v, at)| read(v, at, now)),
        Layer::FailureRisk => facts.failure_risk.map(|(v, at)| read(v, at, now)),
        Layer::Maintenance => Some(planned(facts.window.as_ref(), now)),
    };
    let (value, text, age_s, confidence) = reading.unwrap_or_else(|| {
        let text = "unknown".to_owned();
        (None, text, None, Confidence::None)
    });
    Cell {
        asset: asset.id.clone(),
        kind: asset.kind.clone(),
        row,
        col,
        value,
        text,
        level: value.map_or(0, |v| layer.level(v)),
        age_s,
        confidence,
    }
}

type Reading = (Option<f64>, String, Option<i64>, Confidence);

fn read(value: f64, at: Timestamp, now: Timestamp) -> Reading {
    let age_ms = now.since(at).max(0);
    let confidence = if age_ms <= FRESH_MS {
        Confidence::High
    } else {
        Confidence::Low
    };
    (Some(value), percent(value), Some(age_ms / 1000), confidence)
}

fn planned(window: Option<&WindowFact>, now: Timestamp) -> Reading {
    let open = window.filter(|w| matches!(w.state, WindowState::Proposed | WindowState::Accepted));
    let Some(window) = open else {
        return (None, "none".to_owned(), Some(0), Confidence::High);
    };
    let hours = window.from.since(now) as f64 / HOUR_MS as f64;
    let (text, confidence) = match window.state {
        WindowState::Accepted => (until(window, now), Confidence::High),
        // Nobody has agreed yet.
        _ => (format!("{}?", until(window, now)), Confidence::Low),
    };
    (Some(hours), text, Some(0), confidence)
}

fn until(window: &WindowFact, now: Timestamp) -> String {
    let minutes = window.from.since(now) / 60_000;
    if window.to <= now {
        "overdue".to_owned()
    } else if minutes <= 0 {
        "now".to_owned()
    } else if minutes < 60 {
        format!("in {minutes} min")
    } else if minutes < 48 * 60 {
        format!("in {} h", minutes / 60)
    } else {
        format!("in {} d", minutes / (24 * 60))
    }
}

/// Small probabilities keep a digit: 0.4 % and 0 % are different news.
fn percent(value: f64) -> String {
    let percent = value * 100.0;
    if percent > 0.0 && percent < 0.1 {
        "<0.1 %".to_owned()
    } else if percent < 10.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::twin;
    use super::*;

    const NOW: Timestamp = Timestamp(1_772_442_420_000);

    fn of(layer: Layer, facts: Facts) -> Cell {
        let twin = twin(&["fan"]);
        let facts = [("fan".to_owned(), facts)].into();
        heatmap(&twin, &facts, layer, NOW).cells.remove(0)
    }

    #[test]
    fn a_cell_says_its_value_its_age_and_how_far_to_believe_it() {
        let at = NOW.plus_ms(-60_000);
        let cases = [
            (0.0, "0.0 %", 0),
            (0.0004, "<0.1 %", 0),
            (0.034, "3.4 %", 1),
            (0.19, "19 %", 2),
            (0.2, "20 %", 3),
            (0.97, "97 %", 4),
        ];
        for (p, text, level) in cases {
            let cell = of(
                Layer::FailureRisk,
                Facts {
                    failure_risk: Some((p, at)),
                    ..Facts::default()
                },
            );
            assert_eq!((cell.text.as_str(), cell.level), (text, level));
            assert_eq!((cell.age_s, cell.confidence), (Some(60), Confidence::High));
        }
    }

    #[test]
    fn old_and_unknown_values_look_different_from_fresh_ones() {
        let old = Facts {
            utilisation: Some((0.5, NOW.plus_ms(-5 * HOUR_MS))),
            ..Facts::default()
        };
        assert_eq!(of(Layer::Utilisation, old).confidence, Confidence::Low);
        let unknown = of(Layer::Utilisation, Facts::default());
        assert_eq!(unknown.confidence, Confidence::None);
        assert_eq!((unknown.value, unknown.text.as_str()), (None, "unknown"));
    }

    #[test]
    fn maintenance_rises_as_the_window_comes_near() {
        let window = |from_min: i64, state| Facts {
            window: Some(WindowFact {
                from: NOW.plus_ms(from_min * 60_000),
                to: NOW.plus_ms((from_min + 45) * 60_000),
                state,
            }),
            ..Facts::default()
        };
        let cases = [
            (-60, WindowState::Accepted, "overdue", 4),
            (-5, WindowState::Accepted, "now", 4),
            (30, WindowState::Accepted, "in 30 min", 3),
            (14 * 60, WindowState::Proposed, "in 14 h?", 3),
            (3 * 24 * 60, WindowState::Accepted, "in 3 d", 2),
            (10 * 24 * 60, WindowState::Accepted, "in 10 d", 1),
            (60, WindowState::Done, "none", 0),
        ];
        for (minutes, state, text, level) in cases {
            let cell = of(Layer::Maintenance, window(minutes, state));
            assert_eq!((cell.text.as_str(), cell.level), (text, level), "{minutes}");
        }
    }

    #[test]
    fn a_stand_in_is_shown_where_it_is() {
        let mut twin = twin(&["fan-1", "fan-1-stand-in", "fan-2", "fan-3"]);
        for (id, locality, col) in [("fan-2", "rack-02", 1), ("fan-3", "rack-02", 1)] {
            let fan = twin.assets.get_mut(id).unwrap();
            (fan.locality, fan.col) = (locality.into(), col);
        }
        let stand_in = twin.assets.get_mut("fan-1-stand-in").unwrap();
        stand_in.locality = "rack-02".into();
        stand_in
            .attributes
            .insert("stands_in_for".into(), "fan-1".into());
        let map = heatmap(&twin, &BTreeMap::new(), Layer::Utilisation, NOW);
        let shown = map.cells.iter().find(|c| c.asset == "fan-1-stand-in");
        assert_eq!(shown.map(|c| (c.row, c.col)), Some((2, 1)));
    }

    #[test]
    fn no_asset_hides_another() {
        let twin = twin(&["fan", "fan2", "srv"]);
        let map = heatmap(&twin, &BTreeMap::new(), Layer::Utilisation, NOW);
        let rows: Vec<u32> = map.cells.iter().map(|c| c.row).collect();
        assert_eq!(rows, [0, 1, 2]);
    }
}
