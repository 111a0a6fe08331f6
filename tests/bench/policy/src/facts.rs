//! Facts about assets that lead the rule to each of its ends.

use workflows::model::{AssetState, Timestamp};
use workflows::policy::Facts;

/// So many are asked about in turn.
pub(crate) const MANY: usize = 256;

/// Facts drawn from a fixed seed.
pub(crate) fn drawn() -> Vec<Facts> {
    let mut draw = Draw(0x5eed);
    (0..MANY).map(|n| one(n, &mut draw)).collect()
}

fn one(n: usize, draw: &mut Draw) -> Facts {
    let week = if draw.share() < 0.3 {
        0.02
    } else {
        draw.share()
    };
    let mut facts = Facts::about(
        &format!("fan-{n}"),
        "fan_tray",
        Timestamp(1_766_368_800_000),
    );
    facts.locality = "hall-1/row-2".to_owned();
    facts.cooling_down = draw.share() < 0.1;
    if draw.share() < 0.15 {
        facts.state = AssetState::Standby;
    }
    facts.fps = [("1d", week / 4.0), ("7d", week), ("30d", week.sqrt())]
        .map(|(horizon, fps)| (horizon.to_owned(), fps))
        .into();
    facts.anomaly = Some(draw.share());
    facts.critical_dependents = u32::from(draw.share() < 0.5);
    facts.outage_cost_per_hour = 200.0 * draw.share();
    facts.utilisation = Some(draw.share());
    facts.spare_capacity = Some(draw.share() - 0.4);
    facts.stand_in_possible = draw.share() < 0.3;
    facts.part = Some("fan_tray_bracket".to_owned());
    facts
}

/// Numbers of a linear congruential generator (Knuth's MMIX): spread enough to reach every branch.
struct Draw(u64);

impl Draw {
    /// The next number, 0 to 1.
    fn share(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
