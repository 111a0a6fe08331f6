//! The life of one version of a plugin: uploaded, compiled, checked, tried, serving, set aside. Pure.

use serde::{Deserialize, Serialize};

/// Where a version stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Kept, and nothing done with it.
    Uploaded,
    /// A child process compiles it.
    Compiling,
    /// The conformance kit runs it.
    Checking,
    /// Runs beside what serves, and is only compared.
    Shadow,
    /// Serves a share of the assets.
    Canary {
        /// 1–99.
        percent: u8,
    },
    /// Serves.
    Active,
    /// Asked nothing until an operator says so.
    Quarantined {
        /// Why.
        reason: String,
    },
    /// Gone for good; its results stay.
    Retired,
}

/// What happens to a version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// A compiler took it.
    CompilerTook,
    /// The process that had it in its hands is gone, and it begins anew.
    HandsLost,
    /// It is compiled.
    Compiled,
    /// It passed its checks.
    Passed,
    /// It cannot be compiled, or failed its checks.
    Refused {
        /// Why.
        reason: String,
    },
    /// An operator gives it a share.
    Canaried {
        /// 1–99.
        percent: u8,
    },
    /// An operator lets it serve.
    Promoted,
    /// An operator takes it back to being compared, or out of its quarantine; or another version of the plugin took its
    /// place.
    Demoted,
    /// It failed too often.
    GaveUp {
        /// Why.
        reason: String,
    },
    /// An operator retires it.
    Retired,
}

/// The event does not fit the state.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a plugin that is {state} cannot be {event}")]
pub struct Illegal {
    state: &'static str,
    event: &'static str,
}

/// What an event makes of a state.
///
/// # Errors
///
/// [`Illegal`] if the event does not fit.
pub fn apply(state: &State, event: &Event) -> Result<State, Illegal> {
    let next = match (state, event) {
        (State::Retired, _) => None,
        (_, Event::Retired) => Some(State::Retired),
        (State::Uploaded, Event::CompilerTook) => Some(State::Compiling),
        (State::Compiling | State::Checking, Event::HandsLost) => Some(State::Uploaded),
        (State::Compiling, Event::Compiled) => Some(State::Checking),
        (State::Checking, Event::Passed) => Some(State::Shadow),
        (State::Compiling | State::Checking, Event::Refused { reason }) => {
            Some(quarantined(reason))
        }
        (_, Event::GaveUp { reason }) if serves(state) => Some(quarantined(reason)),
        (_, Event::Canaried { percent }) if serves(state) && (1..100).contains(percent) => {
            Some(State::Canary { percent: *percent })
        }
        (_, Event::Promoted) if serves(state) => Some(State::Active),
        (_, Event::Demoted) if serves(state) => Some(State::Shadow),
        // What once passed may be tried again; what never did has to be compiled and checked first.
        (State::Quarantined { .. }, Event::Demoted) => Some(State::Uploaded),
        _ => None,
    };
    next.ok_or(Illegal {
        state: state.name(),
        event: event.name(),
    })
}

fn quarantined(reason: &str) -> State {
    State::Quarantined {
        reason: reason.to_owned(),
    }
}

/// Whether a version is asked anything in this state.
#[must_use]
pub fn serves(state: &State) -> bool {
    matches!(state, State::Shadow | State::Canary { .. } | State::Active)
}

impl State {
    /// Its word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Compiling => "compiling",
            Self::Checking => "checking",
            Self::Shadow => "shadow",
            Self::Canary { .. } => "canary",
            Self::Active => "active",
            Self::Quarantined { .. } => "quarantined",
            Self::Retired => "retired",
        }
    }
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Self::CompilerTook => "taken to be compiled",
            Self::HandsLost => "begun anew",
            Self::Compiled => "compiled",
            Self::Passed => "passed",
            Self::Refused { .. } => "refused",
            Self::Canaried { .. } => "given a share",
            Self::Promoted => "promoted",
            Self::Demoted => "demoted",
            Self::GaveUp { .. } => "given up",
            Self::Retired => "retired",
        }
    }
}

/// How one call went, as far as its plugin can be blamed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// It answered, or refused with good reason.
    None,
    /// It had no chance to show.
    Unknown,
    /// It trapped, ran out of a limit, or answered what it must not.
    Plugin,
}

/// How often a plugin may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CrashPolicy {
    /// Failures in a row before its quarantine.
    pub quarantine_after: u32,
    /// Tries of one call.
    pub tries: u32,
}

impl Default for CrashPolicy {
    fn default() -> Self {
        Self {
            quarantine_after: 10,
            tries: 2,
        }
    }
}

/// How a plugin has been doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Health {
    /// Failures since the last call that went well.
    pub failures_in_a_row: u32,
    /// Calls of all times.
    pub calls: u64,
    /// Failures of all times.
    pub failures: u64,
}

impl Health {
    /// Of a plugin that is to be tried again: what it did stays counted, and none of it in a row.
    #[must_use]
    pub fn forgiven(self) -> Self {
        Self {
            failures_in_a_row: 0,
            ..self
        }
    }
}

/// What a call makes of a plugin's health, and whether that puts it into quarantine.
#[must_use]
pub fn after_call(health: Health, blame: Blame, policy: CrashPolicy) -> (Health, Option<Event>) {
    let mut health = Health {
        calls: health.calls + 1,
        ..health
    };
    match blame {
        Blame::None => health.failures_in_a_row = 0,
        Blame::Unknown => {}
        Blame::Plugin => {
            health.failures += 1;
            health.failures_in_a_row = health.failures_in_a_row.saturating_add(1);
        }
    }
    // Calls that were under way when it was set aside say so again; the event does not fit its state then.
    let quarantine =
        blame == Blame::Plugin && health.failures_in_a_row >= policy.quarantine_after.max(1);
    let reason = format!("{} calls in a row failed", health.failures_in_a_row);
    (health, quarantine.then_some(Event::GaveUp { reason }))
}

/// Whether a canary serves an asset: a stable share of all assets, which only grows with the percentage.
///
/// The asset's place is told by the first eight bytes of `sha256(name, 0, asset)` as a fraction.
#[must_use]
pub fn in_share(plugin: &str, asset: &str, percent: u8) -> bool {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    hash.update(plugin.as_bytes());
    hash.update([0]);
    hash.update(asset.as_bytes());
    let place = hash
        .finalize()
        .iter()
        .take(8)
        .fold(0u64, |all, &byte| all << 8 | u64::from(byte));
    // Of 2^64 places, percent hundredths.
    u128::from(place) * 100 < u128::from(percent) << 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason() -> String {
        "it loops".to_owned()
    }

    fn states() -> Vec<State> {
        vec![
            State::Uploaded,
            State::Compiling,
            State::Checking,
            State::Shadow,
            State::Canary { percent: 5 },
            State::Active,
            State::Quarantined { reason: reason() },
            State::Retired,
        ]
    }

    fn events() -> Vec<Event> {
        vec![
            Event::CompilerTook,
            Event::HandsLost,
            Event::Compiled,
            Event::Passed,
            Event::Refused { reason: reason() },
            Event::Canaried { percent: 5 },
            Event::Promoted,
            Event::Demoted,
            Event::GaveUp { reason: reason() },
            Event::Retired,
        ]
    }

    #[test]
    fn a_version_lives() {
        let mut state = State::Uploaded;
        let life = [
            (Event::CompilerTook, "compiling"),
            (Event::HandsLost, "uploaded"),
            (Event::CompilerTook, "compiling"),
            (Event::Compiled, "checking"),
            (Event::Passed, "shadow"),
            (Event::Canaried { percent: 10 }, "canary"),
            (Event::Canaried { percent: 50 }, "canary"),
            (Event::Promoted, "active"),
            (Event::GaveUp { reason: reason() }, "quarantined"),
            (Event::Demoted, "uploaded"),
            (Event::Retired, "retired"),
        ];
        for (event, expected) in life {
            state = apply(&state, &event).unwrap();
            assert_eq!(state.name(), expected);
        }
    }

    #[test]
    fn nothing_serves_that_was_not_checked() {
        for state in states() {
            for event in events() {
                let Ok(next) = apply(&state, &event) else {
                    continue;
                };
                if serves(&next) {
                    assert!(
                        serves(&state) || state == State::Checking,
                        "{state:?} {event:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn nobody_comes_back_from_retirement() {
        for event in events() {
            assert!(apply(&State::Retired, &event).is_err());
        }
        let error = apply(&State::Uploaded, &Event::Promoted).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a plugin that is uploaded cannot be promoted"
        );
    }

    #[test]
    fn a_share_is_between_none_and_all() {
        for percent in [0, 100, 255] {
            assert!(apply(&State::Shadow, &Event::Canaried { percent }).is_err());
        }
    }

    #[test]
    fn failures_in_a_row_set_a_plugin_aside() {
        let policy = CrashPolicy {
            quarantine_after: 3,
            tries: 1,
        };
        let mut health = Health::default();
        let mut fell = Vec::new();
        let (good, bad, unknown) = (Blame::None, Blame::Plugin, Blame::Unknown);
        for (at, blame) in [bad, bad, good, bad, unknown, bad, bad, unknown, bad]
            .into_iter()
            .enumerate()
        {
            let (next, event) = after_call(health, blame, policy);
            health = next;
            if event.is_some() {
                fell.push(at);
            }
        }
        assert_eq!(
            fell,
            [6, 8],
            "a call without a verdict neither adds to the row nor ends it"
        );
        assert_eq!(
            (health.calls, health.failures, health.failures_in_a_row),
            (9, 6, 4)
        );
        let (_, event) = after_call(health.forgiven(), bad, policy);
        assert_eq!(event, None);
    }

    proptest! {
        #[test]
        fn a_share_only_grows(asset in "[a-z]{1,8}", less in 0u8..=100, more in 0u8..=100) {
            let (less, more) = (less.min(more), less.max(more));
            prop_assert!(!in_share("p", &asset, less) || in_share("p", &asset, more));
        }
    }

    #[test]
    fn a_share_is_about_as_large_as_it_says() {
        let count = (0..10_000)
            .filter(|n| in_share("fan-wear", &format!("fan-{n}"), 20))
            .count();
        assert!((1_800..2_200).contains(&count), "{count}");
        assert!((0..1_000).all(|n| in_share("fan-wear", &format!("fan-{n}"), 100)));
        assert!(!(0..1_000).any(|n| in_share("fan-wear", &format!("fan-{n}"), 0)));
    }
}
