//! Guards between a decision and the run it starts: what may stop it, why, and until when.

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// What stopped a run from being started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// An operator has stopped all new runs.
    KillSwitch,
    /// Decisions are recorded and start nothing.
    DryRun,
    /// A run is dealing with the asset already.
    OpenRun,
    /// Something was done for the asset a short while ago.
    CoolDown,
    /// A run stands for the same cause already.
    Deduplication,
    /// Too many assets are being worked on, or offline, at once.
    BlastRadius,
}

impl Guard {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillSwitch => "kill_switch",
            Self::DryRun => "dry_run",
            Self::OpenRun => "open_run",
            Self::CoolDown => "cool_down",
            Self::Deduplication => "deduplication",
            Self::BlastRadius => "blast_radius",
        }
    }
}

/// Why a decision started nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// What stopped it.
    pub guard: Guard,
    /// In words.
    pub reason: String,
    /// When it would no longer, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// How far decisions may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardSettings {
    /// How long an asset is left alone after something was done for it, ms.
    pub cool_down_ms: i64,
    /// How many assets may be worked on or offline at once; 0 for any number.
    pub max_assets: u32,
}

/// The switch that stops all new runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitch {
    /// Why it was turned on.
    pub reason: String,
    /// Who turned it on.
    pub by: String,
    /// When.
    pub since: Timestamp,
}

impl KillSwitch {
    /// Who stopped what, when and why, in words.
    #[must_use]
    pub fn said(&self) -> String {
        format!(
            "{} stopped all new runs at {}: {}",
            self.by, self.since, self.reason
        )
    }
}

/// A run that stands for a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandsFor {
    /// The key of the cause.
    pub key: String,
    /// The run.
    pub run: String,
    /// Until when it does.
    pub until: Timestamp,
}

/// The assets one asset is counted among: its locality's, its kind's, or all.
#[derive(Debug, Clone, PartialEq)]
pub struct Crowd {
    /// Who they are, e.g. ``kind `fan` ``.
    pub of: String,
    /// How many there are.
    pub assets: u32,
    /// How many of them, the asset itself left out, are worked on by a run or offline.
    pub touched: u32,
    /// How many of them may be, percent.
    pub max_percent: f64,
}

/// What the guards look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation {
    /// Now.
    pub now: Timestamp,
    /// The switch, if it is on.
    pub kill_switch: Option<KillSwitch>,
    /// Who is not to start anything, e.g. ``policy `allocation` ``, if decisions are only recorded.
    pub dry_run: Option<String>,
    /// The run that deals with the asset.
    pub open_run: Option<String>,
    /// When a run that a decision started was last at work on the asset.
    pub acted_at: Option<Timestamp>,
    /// The run that stands for the decision's cause.
    pub same_cause: Option<StandsFor>,
    /// Whom the asset is counted among.
    pub crowds: Vec<Crowd>,
}

impl Crowd {
    /// How many of them may be touched: their share rounded down, but always one, or a small fleet could never be helped.
    #[must_use]
    pub fn allowed(&self) -> u32 {
        let share = (f64::from(self.assets) * self.max_percent / 100.0).floor();
        (share.max(0.0) as u32).max(1)
    }
}

/// What stops a run now, if anything does; the most general first.
#[must_use]
pub fn stopped_by(settings: &GuardSettings, situation: &Situation) -> Option<Stopped> {
    let guards = [
        kill_switch,
        dry_run,
        open_run,
        cool_down,
        deduplication,
        blast_radius,
    ];
    guards
        .into_iter()
        .find_map(|guard| guard(settings, situation))
}

fn stop(guard: Guard, reason: String, until: Option<Timestamp>) -> Option<Stopped> {
    Some(Stopped {
        guard,
        reason,
        until,
    })
}

fn kill_switch(_: &GuardSettings, situation: &Situation) -> Option<Stopped> {
    let switch = situation.kill_switch.as_ref()?;
    stop(Guard::KillSwitch, switch.said(), None)
}

fn dry_run(_: &GuardSettings, situation: &Situation) -> Option<Stopped> {
    let who = situation.dry_run.as_ref()?;
    let reason = format!("{who} is on a dry run: what is decided is recorded and starts nothing");
    stop(Guard::DryRun, reason, None)
}

fn open_run(_: &GuardSettings, situation: &Situation) -> Option<Stopped> {
    let run = situation.open_run.as_ref()?;
    stop(
        Guard::OpenRun,
        format!("run {run} is dealing with it"),
        None,
    )
}

fn cool_down(settings: &GuardSettings, situation: &Situation) -> Option<Stopped> {
    let until = situation.acted_at?.0.saturating_add(settings.cool_down_ms);
    if until <= situation.now.0 {
        return None;
    }
    let reason = format!(
        "a run was at work on it within the last {} hours",
        settings.cool_down_ms as f64 / 3_600_000.0
    );
    stop(Guard::CoolDown, reason, Some(Timestamp(until)))
}

fn deduplication(_: &GuardSettings, situation: &Situation) -> Option<Stopped> {
    let same = situation.same_cause.as_ref()?;
    if same.until <= situation.now {
        return None;
    }
    let reason = format!("run {} stands for `{}` already", same.run, same.key);
    stop(Guard::Deduplication, reason, Some(same.until))
}

fn blast_radius(settings: &GuardSettings, situation: &Situation) -> Option<Stopped> {
    let full = |crowd: &&Crowd| crowd.touched >= crowd.allowed();
    if let Some(crowd) = situation.crowds.iter().find(full) {
        let reason = format!(
            "{} of the {} assets of {} are worked on or offline, and {} may be at once",
            crowd.touched,
            crowd.assets,
            crowd.of,
            crowd.allowed()
        );
        return stop(Guard::BlastRadius, reason, None);
    }
    let touched = situation.crowds.iter().map(|c| c.touched).max()?;
    if settings.max_assets == 0 || touched < settings.max_assets {
        return None;
    }
    let reason = format!(
        "{touched} assets are worked on or offline, and {} may be at once",
        settings.max_assets
    );
    stop(Guard::BlastRadius, reason, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: GuardSettings = GuardSettings {
        cool_down_ms: 1_000,
        max_assets: 8,
    };

    fn quiet() -> Situation {
        Situation {
            now: Timestamp(10_000),
            kill_switch: None,
            dry_run: None,
            open_run: None,
            acted_at: None,
            same_cause: None,
            crowds: vec![crowd(100, 0, 20.0)],
        }
    }

    fn crowd(assets: u32, touched: u32, max_percent: f64) -> Crowd {
        Crowd {
            of: "the fleet".into(),
            assets,
            touched,
            max_percent,
        }
    }

    fn guard(situation: &Situation) -> Option<Guard> {
        stopped_by(&SETTINGS, situation).map(|s| s.guard)
    }

    #[test]
    fn each_guard_stops_what_it_is_there_for_and_nothing_else() {
        assert_eq!(guard(&quiet()), None);
        let switch = KillSwitch {
            reason: "a fire".into(),
            by: "olga".into(),
            since: Timestamp(0),
        };
        let same = |until| {
            Some(StandsFor {
                key: "cooling".into(),
                run: "r1".into(),
                until: Timestamp(until),
            })
        };
        let cases = [
            (
                Guard::KillSwitch,
                Situation {
                    kill_switch: Some(switch),
                    ..quiet()
                },
            ),
            (
                Guard::DryRun,
                Situation {
                    dry_run: Some("every policy".into()),
                    ..quiet()
                },
            ),
            (
                Guard::OpenRun,
                Situation {
                    open_run: Some("r1".into()),
                    ..quiet()
                },
            ),
            (
                Guard::CoolDown,
                Situation {
                    acted_at: Some(Timestamp(9_001)),
                    ..quiet()
                },
            ),
            (
                Guard::Deduplication,
                Situation {
                    same_cause: same(10_001),
                    ..quiet()
                },
            ),
            (
                Guard::BlastRadius,
                Situation {
                    crowds: vec![crowd(100, 0, 20.0), crowd(10, 2, 20.0)],
                    ..quiet()
                },
            ),
        ];
        for (wanted, situation) in &cases {
            let stopped = stopped_by(&SETTINGS, situation).expect("stopped");
            assert_eq!(stopped.guard, *wanted);
            assert!(!stopped.reason.is_empty());
            let json = serde_json::to_value(&stopped).expect("JSON");
            assert_eq!(json["guard"], wanted.name());
        }
        for passed in [
            Situation {
                acted_at: Some(Timestamp(9_000)),
                ..quiet()
            },
            Situation {
                same_cause: same(10_000),
                ..quiet()
            },
        ] {
            assert_eq!(guard(&passed), None);
        }
    }

    #[test]
    fn a_cap_is_a_share_rounded_down_or_one_and_a_number_for_all() {
        for (assets, touched, max_percent, stops) in [
            (1, 0, 1.0, false),
            (1, 1, 1.0, true),
            (10, 1, 20.0, false),
            (10, 2, 20.0, true),
            (9, 1, 20.0, true),
            (0, 0, 0.0, false),
            (1_000, 7, 100.0, false),
            (1_000, 8, 100.0, true),
        ] {
            let situation = Situation {
                crowds: vec![crowd(assets, touched, max_percent)],
                ..quiet()
            };
            assert_eq!(guard(&situation).is_some(), stops, "{touched} of {assets}");
        }
    }

    #[test]
    fn the_end_of_a_cool_down_is_told() {
        let situation = Situation {
            acted_at: Some(Timestamp(9_500)),
            ..quiet()
        };
        let stopped = stopped_by(&SETTINGS, &situation).expect("stopped");
        assert_eq!(stopped.until, Some(Timestamp(10_500)));
    }
}
