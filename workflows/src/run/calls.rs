//! What a run asks of the world: steps, sleeps, events and approvals.

use rhai::{Dynamic, Map};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Position, Rate};
use crate::{
    model::Timestamp,
    script::{duration, nearest},
};

/// A call whose entry is new; whoever replays stores the entry and sees to the call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// Run a step.
    Step {
        /// Its position.
        position: Position,
        /// What sort of step.
        kind: String,
        /// What it gets.
        input: Value,
        /// How to run it.
        options: StepOptions,
    },
    /// Answer `null` at a time.
    Sleep {
        /// Its position.
        position: Position,
        /// When.
        until: Timestamp,
    },
    /// Answer with the payload of an event, or with `timeout`.
    WaitEvent {
        /// Its position.
        position: Position,
        /// Name of the event.
        name: String,
        /// Key of the event.
        key: String,
        /// When to give up.
        until: Timestamp,
    },
    /// Answer with `{answer, by, comment}` once somebody has decided, or with `timeout`.
    Approval {
        /// Its position.
        position: Position,
        /// Who may decide.
        role: String,
        /// About what.
        subject: Value,
        /// When to give up.
        until: Timestamp,
    },
}

impl Call {
    /// The call's position.
    #[must_use]
    pub const fn position(&self) -> &Position {
        match self {
            Self::Step { position, .. }
            | Self::Sleep { position, .. }
            | Self::WaitEvent { position, .. }
            | Self::Approval { position, .. } => position,
        }
    }
}

/// How a step is to be run; what is absent is the server's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepOptions {
    /// Attempts after the first.
    pub retry: Option<u32>,
    /// Pause before the first of them; doubles from one to the next.
    pub backoff_ms: Option<i64>,
    /// Time the step has, all attempts together.
    pub timeout_ms: Option<i64>,
    /// Queue it is claimed under, instead of its kind's own.
    pub queue: Option<String>,
    /// Each point is worth a minute of waiting: the higher is claimed first, and the lower not last for ever.
    pub priority: i32,
    /// Of steps with the same key, over all runs, only so many are worked on at a time.
    pub concurrency_key: Option<String>,
    /// How many; one unless it is told.
    pub concurrency_limit: Option<u32>,
    /// How many steps of the key below are started in a time, over all runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What the rate counts; the step's kind unless it is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_key: Option<String>,
    /// Names the effect to the outside, so that it happens once over all runs.
    pub idempotency_key: Option<String>,
}

/// An open call a suspended run waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitingFor {
    /// A step's kind, or `sleep`, `wait_event`, `approval`.
    pub kind: String,
    /// The call.
    pub position: Position,
    /// Its input.
    pub what: Value,
}

/// The queues steps are claimed under.
pub const QUEUES: [&str; 4] = ["runs", "io", "cad", "vision"];

/// The roles an approval can be asked of.
pub const ROLES: [&str; 6] = [
    "operator",
    "technician",
    "engineer",
    "developer",
    "agent",
    "cell",
];

/// The options a step takes.
pub(crate) const STEP_OPTIONS: [&str; 9] = [
    "retry",
    "backoff",
    "timeout",
    "queue",
    "priority",
    "concurrency_key",
    "rate",
    "rate_key",
    "idempotency_key",
];

/// Reads the options a script hands to `step` or `start`.
pub(super) fn options_of(map: &Map) -> Result<StepOptions, String> {
    let mut options = StepOptions::default();
    for (name, value) in map {
        let text = || {
            value
                .clone()
                .into_string()
                .map_err(|kind| format!("option `{name}` is a {kind}, not a text"))
        };
        let int = || {
            value
                .as_int()
                .map_err(|kind| format!("option `{name}` is a {kind}, not a whole number"))
        };
        let range = |_| format!("option `{name}` is out of range");
        let ms = || duration::parse_ms(&text()?).map_err(|e| format!("option `{name}`: {e}"));
        match name.as_str() {
            "retry" => options.retry = Some(u32::try_from(int()?).map_err(range)?),
            "backoff" => options.backoff_ms = Some(ms()?),
            "timeout" => options.timeout_ms = Some(ms()?),
            "queue" => options.queue = Some(text()?),
            "priority" => options.priority = i32::try_from(int()?).map_err(range)?,
            "concurrency_key" => {
                let (key, limit) = concurrency_of(value)?;
                options.concurrency_key = Some(key);
                options.concurrency_limit = limit;
            }
            "rate" => {
                let rate = text()?.parse().map_err(|e| format!("option `rate`: {e}"))?;
                options.rate = Some(rate);
            }
            "rate_key" => options.rate_key = Some(text()?),
            "idempotency_key" => options.idempotency_key = Some(text()?),
            unknown => {
                let meant = nearest(unknown, STEP_OPTIONS)
                    .map(|name| format!("; did you mean `{name}`?"))
                    .unwrap_or_default();
                return Err(format!("`{unknown}` is not an option of a step{meant}"));
            }
        }
    }
    if options.rate_key.is_some() && options.rate.is_none() {
        return Err("option `rate_key` says what `rate` counts; give both".to_owned());
    }
    Ok(options)
}

/// A key, alone or as `#{ key, limit }`.
fn concurrency_of(value: &Dynamic) -> Result<(String, Option<u32>), String> {
    const WANTED: &str = "option `concurrency_key` is a text, or `#{ key, limit }` with a text and a whole number from 1";
    if let Ok(key) = value.clone().into_string() {
        return Ok((key, None));
    }
    let map = value.clone().try_cast::<Map>().ok_or(WANTED)?;
    if let Some(name) = map
        .keys()
        .find(|name| !["key", "limit"].contains(&name.as_str()))
    {
        return Err(format!("{WANTED}; it has `{name}`"));
    }
    let key = map
        .get("key")
        .and_then(|key| key.clone().into_string().ok());
    let limit = match map.get("limit") {
        None => None,
        Some(limit) => {
            let limit = limit.as_int().ok().and_then(|n| u32::try_from(n).ok());
            Some(limit.filter(|n| *n > 0).ok_or(WANTED)?)
        }
    };
    Ok((key.ok_or(WANTED)?, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concurrency_key_may_say_how_many() {
        let read = |value: Dynamic| {
            let options = options_of(&Map::from([("concurrency_key".into(), value)]))?;
            Ok::<_, String>((options.concurrency_key, options.concurrency_limit))
        };
        assert_eq!(read("press".into()), Ok((Some("press".into()), None)));
        let map = |limit: i64| {
            let map = [
                ("key".into(), "press".into()),
                ("limit".into(), limit.into()),
            ];
            Dynamic::from_map(map.into_iter().collect())
        };
        assert_eq!(read(map(3)), Ok((Some("press".into()), Some(3))));
        for wrong in [map(0), map(-1), 7_i64.into(), Dynamic::from_map(Map::new())] {
            let error = read(wrong).expect_err("refused");
            assert!(error.contains("#{ key, limit }"), "{error}");
        }
    }

    #[test]
    fn a_rate_counts_a_key_or_the_kind() {
        let read = |pairs: &[(&str, &str)]| {
            let map = pairs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()));
            options_of(&map.collect()).map(|options| (options.rate, options.rate_key))
        };
        let rate = Rate {
            limit: 10,
            period_ms: 60_000,
        };
        assert_eq!(read(&[("rate", "10/1m")]), Ok((Some(rate), None)));
        let keyed = [("rate", "10/1m"), ("rate_key", "mail")];
        assert_eq!(read(&keyed), Ok((Some(rate), Some("mail".to_owned()))));
        for wrong in [&[("rate", "10 a minute")][..], &[("rate_key", "mail")]] {
            let error = read(wrong).expect_err("refused");
            assert!(error.contains("rate"), "{error}");
        }
    }

    #[test]
    fn options_are_read_and_unknown_ones_refused_with_the_nearest() {
        let mut map = Map::new();
        map.insert("retry".into(), 2_i64.into());
        map.insert("timeout".into(), "2h".into());
        let options = options_of(&map).expect("known options");
        assert_eq!(
            (options.retry, options.timeout_ms),
            (Some(2), Some(7_200_000))
        );
        map.insert("timout".into(), "2h".into());
        let error = options_of(&map).expect_err("unknown");
        assert!(error.contains("did you mean `timeout`"), "{error}");
    }
}
