//! Why a run is where it is: what it waits for, since when, until when, and who or what can let it go on.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Position, Rate};
use crate::build::fit::{Capabilities, Needs, fits};
use crate::build::machine::OnPlate;
use crate::model::{BuildState, Timestamp};
use crate::policy::KillSwitch;

/// A call of a run that has no answer.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenCall {
    /// The call.
    pub position: Position,
    /// A step's kind, or `sleep`, `wait_event`, `approval`.
    pub kind: String,
    /// Its input.
    pub input: Value,
    /// When it was asked.
    pub since: Timestamp,
    /// When it is answered whatever happens.
    pub until: Option<Timestamp>,
    /// The step it stands for, if it is one.
    pub step: Option<StepNow>,
}

/// How a step stands.
#[derive(Debug, Clone, PartialEq)]
pub struct StepNow {
    /// Where.
    pub standing: Standing,
    /// The queue it is claimed under.
    pub queue: String,
    /// How often it was tried.
    pub attempt: i64,
    /// How often it may be.
    pub max_attempts: i64,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Ready for a worker.
    Ready {
        /// Steps of its queue that workers are at.
        at_work: i64,
        /// Ready steps of its queue that come before it.
        ahead: i64,
    },
    /// As many of its key were started as its rate lets start.
    Rated {
        /// What the rate counts.
        key: String,
        /// The rate.
        rate: Rate,
        /// When its turn comes, if nothing overtakes it.
        until: Timestamp,
    },
    /// As many steps of its key are worked on as may be.
    Keyed {
        /// The key.
        key: String,
        /// How many may be.
        limit: i64,
        /// Those that are: run and position of each.
        holders: Vec<(String, String)>,
    },
    /// To be tried again.
    Later {
        /// When.
        at: Timestamp,
    },
    /// A worker is at it.
    Working {
        /// Which.
        worker: String,
        /// Share done, 0–1.
        progress: f64,
        /// What it is doing.
        phase: String,
    },
    /// It waits for a build.
    Build(BuildNow),
    /// It waits for a run that it had done.
    Child {
        /// The run.
        run: String,
        /// Its state.
        state: String,
    },
    /// It would begin a run, and this switch lets nothing begin.
    KillSwitch(KillSwitch),
}

/// How a build stands.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildNow {
    /// The build.
    pub id: String,
    /// Its state.
    pub state: BuildState,
    /// What it needs.
    pub needs: Needs,
    /// The cell that has it.
    pub cell: Option<String>,
    /// Every enrolled cell.
    pub cells: Vec<CellNow>,
    /// What somebody found on the plate, where the build stays uncertain all the same.
    pub on_plate: Option<OnPlate>,
}

/// A cell that may take a build.
#[derive(Debug, Clone, PartialEq)]
pub struct CellNow {
    /// The cell.
    pub id: String,
    /// What it enrolled with.
    pub capabilities: Capabilities,
    /// When it was last heard of.
    pub seen_at: Option<Timestamp>,
    /// The build of which nobody knows what it left on the plate; until somebody says so it takes no other.
    pub left_uncertain: Option<String>,
}

/// Why one call has no answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The call.
    pub position: Position,
    /// A step's kind, or `sleep`, `wait_event`, `approval`.
    pub kind: String,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// The thing itself: a role, an event's name, a queue, a build, a run.
    pub what: Option<String>,
    /// The same in words, and who can let it go on.
    pub reason: String,
    /// Who or what can let it go on, by name: a role, cells, a worker.
    pub released_by: Vec<String>,
    /// Since when.
    pub since: Timestamp,
    /// Until when at most; then it goes on by itself.
    pub until: Option<Timestamp>,
}

/// What a call may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// A moment.
    Time,
    /// A fact from outside.
    Event,
    /// A person's answer.
    Approval,
    /// A worker that claims its step.
    Worker,
    /// The rate of its step.
    Rate,
    /// Steps that have its key.
    Key,
    /// The next attempt of its step.
    Retry,
    /// A worker that is at its step.
    Work,
    /// A cell that takes its build.
    Cell,
    /// A cell that is at its build.
    Build,
    /// A person who says what lies on a plate.
    Plate,
    /// Another run.
    Run,
    /// An operator who turns the kill switch off.
    KillSwitch,
}

/// Says why a call has no answer. `now` decides nothing but how long a cell has been silent.
#[must_use]
pub fn why(call: &OpenCall, now: Timestamp) -> Why {
    let text = |name: &str| call.input[name].as_str().unwrap_or_default().to_owned();
    let found = match (&call.step, call.kind.as_str()) {
        (Some(step), _) => of_step(step, now),
        (None, "sleep") => Found::new(WaitsFor::Time, "it sleeps; only time lets it go on"),
        (None, "wait_event") => {
            let (name, key) = (text("name"), text("key"));
            let reason = format!(
                "it waits for the event `{name}` with the key `{key}`; `POST /api/v1/events` tells it"
            );
            Found::new(WaitsFor::Event, reason).about(&name)
        }
        (None, "approval") => {
            let role = text("role");
            let reason = format!(
                "it waits for a yes or no of the role `{role}`; an operator may answer too"
            );
            let mut found = Found::new(WaitsFor::Approval, reason).about(&role);
            found.released_by = vec![role, "operator".to_owned()];
            found.released_by.dedup();
            found
        }
        (None, kind) => {
            let reason = format!("step `{kind}` is about to be queued");
            Found::new(WaitsFor::Worker, reason)
        }
    };
    Why {
        position: call.position.clone(),
        kind: call.kind.clone(),
        waits_for: found.waits_for,
        what: found.what,
        reason: found.reason,
        released_by: found.released_by,
        since: call.since,
        until: call.until.or(found.until),
    }
}

struct Found {
    waits_for: WaitsFor,
    what: Option<String>,
    reason: String,
    released_by: Vec<String>,
    until: Option<Timestamp>,
}

impl Found {
    fn new(waits_for: WaitsFor, reason: impl Into<String>) -> Self {
        Self {
            waits_for,
            what: None,
            reason: reason.into(),
            released_by: Vec::new(),
            until: None,
        }
    }

    fn about(mut self, what: &str) -> Self {
        self.what = Some(what.to_owned());
        self
    }
}

fn of_step(step: &StepNow, now: Timestamp) -> Found {
    let queue = &step.queue;
    match &step.standing {
        Standing::Ready { at_work: 0, .. } => Found::new(
            WaitsFor::Worker,
            format!(
                "no worker is at anything of the queue `{queue}`: is a process running that serves it \
                 (`forewright work --queues {queue}`)?"
            ),
        )
        .about(queue),
        Standing::Ready { at_work, ahead } => Found::new(
            WaitsFor::Worker,
            format!("workers of the queue `{queue}` are at {at_work} other steps; {ahead} come before it"),
        )
        .about(queue),
        Standing::Rated { key, rate, until } => {
            let reason = format!(
                "its rate is {rate}, and that many steps of `{key}` were started; its turn comes at {until}"
            );
            let mut found = Found::new(WaitsFor::Rate, reason).about(key);
            found.until = Some(*until);
            found
        }
        Standing::Keyed {
            key,
            limit,
            holders,
        } => {
            let named: Vec<String> = (holders.iter())
                .map(|(run, position)| format!("step {position} of run `{run}`"))
                .collect();
            let reason = format!(
                "of the steps with the key `{key}` at most {limit} may be worked on, and {} is",
                named.join(", ")
            );
            let mut found = Found::new(WaitsFor::Key, reason).about(key);
            found.released_by = holders.iter().map(|(run, _)| run.clone()).collect();
            found.released_by.dedup();
            found
        }
        Standing::Later { at } => {
            let error = step.error.as_deref().unwrap_or("it was not said why");
            let reason = format!(
                "attempt {} of {} failed ({error}); it is tried again at {at}",
                step.attempt, step.max_attempts
            );
            let mut found = Found::new(WaitsFor::Retry, reason).about(queue);
            found.until = Some(*at);
            found
        }
        Standing::Working {
            worker,
            progress,
            phase,
        } => {
            let share = progress * 100.0;
            let doing = if phase.is_empty() { "at work" } else { phase };
            let reason = format!("`{worker}` is at it: {doing}, {share:.0} % done");
            let mut found = Found::new(WaitsFor::Work, reason).about(queue);
            found.released_by = vec![worker.clone()];
            found
        }
        Standing::Build(build) => of_build(build, now),
        Standing::Child { run, state } => {
            let more = match state.as_str() {
                "diverged" => "; an operator pins a revision or cancels it",
                _ => "; `GET /api/v1/runs/{id}/why` says what that waits for",
            };
            let reason = format!("it waits for run `{run}`, which is {state}{more}");
            Found::new(WaitsFor::Run, reason).about(run)
        }
        Standing::KillSwitch(on) => {
            let reason = format!("{}; it begins once an operator turns the kill switch off", on.said());
            let mut found = Found::new(WaitsFor::KillSwitch, reason);
            found.released_by = vec!["operator".to_owned()];
            found
        }
    }
}

fn of_build(build: &BuildNow, now: Timestamp) -> Found {
    let id = &build.id;
    let cell = build.cell.as_deref().unwrap_or("a cell");
    let mut found = match build.state {
        BuildState::Waiting => for_a_cell(build, now),
        BuildState::Leased | BuildState::Staged | BuildState::Started => {
            let doing = match build.state {
                BuildState::Leased => "fetches what it needs",
                BuildState::Staged => "is about to start",
                _ => "makes it",
            };
            let mut found = Found::new(
                WaitsFor::Build,
                format!("`{cell}` has build `{id}` and {doing}"),
            );
            found.released_by = build.cell.iter().cloned().collect();
            found
        }
        BuildState::Uncertain if build.on_plate == Some(OnPlate::Finished) => {
            let mut found = Found::new(
                WaitsFor::Plate,
                format!(
                    "build `{id}` lies finished on the plate of `{cell}` and waits for a scan of the part; store one and tell \
                     `POST /api/v1/builds/{id}/resolve` its digest as `scan`, with the fence the build shows"
                ),
            );
            found.released_by = vec!["technician".to_owned(), "operator".to_owned()];
            found
        }
        BuildState::Uncertain => {
            let mut found = Found::new(
                WaitsFor::Plate,
                format!(
                    "`{cell}` was lost after it had started build `{id}`; somebody has to look at the plate and \
                     tell `POST /api/v1/builds/{id}/resolve`, with the fence the build shows"
                ),
            );
            found.released_by = vec!["technician".to_owned(), "operator".to_owned()];
            found
        }
        BuildState::Ended => {
            let reason = format!("build `{id}` has ended; its step is about to be told");
            Found::new(WaitsFor::Worker, reason)
        }
    };
    found.what = Some(id.clone());
    found
}

/// How long a cell may be silent before it counts as away, ms: it asks at least once a minute.
const SILENT_MS: i64 = 120_000;

fn for_a_cell(build: &BuildNow, now: Timestamp) -> Found {
    let (id, needs) = (&build.id, &build.needs);
    let fitting: Vec<&CellNow> = build
        .cells
        .iter()
        .filter(|cell| fits(needs, &cell.capabilities).is_ok())
        .collect();
    let plates: Vec<String> = fitting
        .iter()
        .filter_map(|cell| {
            Some(format!(
                "`{}` (`{}`)",
                cell.id,
                cell.left_uncertain.as_ref()?
            ))
        })
        .collect();
    if !plates.is_empty() && plates.len() == fitting.len() {
        let reason = format!(
            "build `{id}` fits {}, but nobody knows what the build in brackets left on the plate; somebody has to \
             look and tell its `POST /api/v1/builds/{{id}}/resolve`",
            plates.join(", ")
        );
        let mut found = Found::new(WaitsFor::Plate, reason);
        found.released_by = vec!["technician".to_owned(), "operator".to_owned()];
        return found;
    }
    let fitting: Vec<&CellNow> = fitting
        .into_iter()
        .filter(|cell| cell.left_uncertain.is_none())
        .collect();
    let here = |cell: &&&CellNow| cell.seen_at.is_some_and(|at| now.since(at) <= SILENT_MS);
    let present: Vec<String> = fitting.iter().filter(here).map(|c| c.id.clone()).collect();
    let names: Vec<String> = fitting.iter().map(|c| c.id.clone()).collect();
    let reason = if names.is_empty() {
        format!(
            "no enrolled cell runs `{}` with `{}`, which build `{id}` needs; enrol one that does",
            needs.printer, needs.material
        )
    } else if present.is_empty() {
        format!(
            "build `{id}` fits `{}`, but nobody has heard of them for two minutes; start a cell",
            names.join("`, `")
        )
    } else {
        format!(
            "build `{id}` waits until `{}` ask for work",
            present.join("`, `")
        )
    };
    let mut found = Found::new(WaitsFor::Cell, reason);
    found.released_by = if present.is_empty() { names } else { present };
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn asked(kind: &str, input: Value, step: Option<Standing>) -> Why {
        let call = OpenCall {
            position: Position::top(3),
            kind: kind.to_owned(),
            input,
            since: Timestamp(1_000),
            until: None,
            step: step.map(|standing| StepNow {
                standing,
                queue: "cad".to_owned(),
                attempt: 2,
                max_attempts: 8,
                error: Some("no_model: nothing serves".to_owned()),
            }),
        };
        why(&call, NOW)
    }

    fn build(state: BuildState, cells: Vec<CellNow>) -> Standing {
        Standing::Build(BuildNow {
            id: "b1".to_owned(),
            state,
            needs: Needs {
                printer: "prusa_mk4".to_owned(),
                material: "petg".to_owned(),
                size_mm: None,
            },
            cell: Some("c1".to_owned()),
            cells,
            on_plate: None,
        })
    }

    fn cell(id: &str, printer: &str, seen_at: i64) -> CellNow {
        CellNow {
            id: id.to_owned(),
            capabilities: Capabilities {
                printers: vec![printer.to_owned()],
                materials: vec!["petg".to_owned()],
                volume_mm: None,
            },
            seen_at: Some(Timestamp(seen_at)),
            left_uncertain: None,
        }
    }

    #[test]
    fn every_wait_says_for_what_and_who_can_end_it() {
        let child = Standing::Child {
            run: "r2".to_owned(),
            state: "diverged".to_owned(),
        };
        let rated = Standing::Rated {
            key: "mail".to_owned(),
            rate: Rate {
                limit: 10,
                period_ms: 60_000,
            },
            until: Timestamp(1_030_000),
        };
        let told = asked("notify", json!({}), Some(rated));
        assert_eq!(told.waits_for, WaitsFor::Rate);
        assert!(told.reason.contains("rate is 10/1m"), "{}", told.reason);
        assert_eq!(
            (told.what.as_deref(), told.until),
            (Some("mail"), Some(Timestamp(1_030_000)))
        );
        let mut finished = build(BuildState::Uncertain, vec![]);
        if let Standing::Build(now) = &mut finished {
            now.on_plate = Some(OnPlate::Finished);
        }
        let later = Standing::Later {
            at: Timestamp(2_000_000),
        };
        let keyed = Standing::Keyed {
            key: "press".to_owned(),
            limit: 1,
            holders: vec![("r1".to_owned(), "2".to_owned())],
        };
        let switch = KillSwitch {
            reason: "a fire".to_owned(),
            by: "olga".to_owned(),
            since: Timestamp(7_000),
        };
        let ready = |at_work| Standing::Ready { at_work, ahead: 4 };
        let near = || {
            vec![
                cell("near", "prusa_mk4", 990_000),
                cell("other", "voron_24", 990_000),
            ]
        };
        let in_doubt = |id: &str| CellNow {
            left_uncertain: Some("b0".to_owned()),
            ..cell(id, "prusa_mk4", 990_000)
        };
        let far = || vec![cell("far", "prusa_mk4", 1_000)];
        use WaitsFor::{Approval, Build, Cell, Event, Plate, Retry, Run, Time, Worker};
        for (kind, input, step, waits_for, said, by) in [
            ("sleep", json!({}), None, Time, "only time", vec![]),
            (
                "wait_event",
                json!({ "name": "plate", "key": "k" }),
                None,
                Event,
                "`plate` with the key `k`",
                vec![],
            ),
            (
                "approval",
                json!({ "role": "technician" }),
                None,
                Approval,
                "role `technician`",
                vec!["technician", "operator"],
            ),
            (
                "approval",
                json!({ "role": "operator" }),
                None,
                Approval,
                "role `operator`",
                vec!["operator"],
            ),
            (
                "redesign",
                json!({}),
                Some(ready(0)),
                Worker,
                "--queues cad",
                vec![],
            ),
            (
                "redesign",
                json!({}),
                Some(ready(2)),
                Worker,
                "4 come before it",
                vec![],
            ),
            (
                "redesign",
                json!({}),
                Some(later),
                Retry,
                "attempt 2 of 8 failed (no_model",
                vec![],
            ),
            (
                "make",
                json!({}),
                Some(keyed),
                WaitsFor::Key,
                "at most 1 may be worked on, and step 2 of run `r1` is",
                vec!["r1"],
            ),
            (
                "make",
                json!({}),
                Some(build(BuildState::Waiting, near())),
                Cell,
                "waits until `near`",
                vec!["near"],
            ),
            (
                "make",
                json!({}),
                Some(build(BuildState::Waiting, far())),
                Cell,
                "start a cell",
                vec!["far"],
            ),
            (
                "make",
                json!({}),
                Some(build(BuildState::Waiting, vec![in_doubt("near")])),
                Plate,
                "`near` (`b0`)",
                vec!["technician", "operator"],
            ),
            (
                "make",
                json!({}),
                Some(build(
                    BuildState::Waiting,
                    vec![in_doubt("near"), cell("next", "prusa_mk4", 990_000)],
                )),
                Cell,
                "waits until `next`",
                vec!["next"],
            ),
            (
                "make",
                json!({}),
                Some(build(BuildState::Waiting, vec![])),
                Cell,
                "no enrolled cell",
                vec![],
            ),
            (
                "make",
                json!({}),
                Some(build(BuildState::Started, vec![])),
                Build,
                "makes it",
                vec!["c1"],
            ),
            (
                "make",
                json!({}),
                Some(build(BuildState::Uncertain, vec![])),
                Plate,
                "look at the plate",
                vec!["technician", "operator"],
            ),
            (
                "make",
                json!({}),
                Some(finished),
                Plate,
                "waits for a scan of the part",
                vec!["technician", "operator"],
            ),
            (
                "run",
                json!({}),
                Some(child),
                Run,
                "pins a revision",
                vec![],
            ),
            (
                "run",
                json!({}),
                Some(Standing::KillSwitch(switch)),
                WaitsFor::KillSwitch,
                "olga stopped all new runs at 1970-01-01T00:00:07.000Z: a fire",
                vec!["operator"],
            ),
        ] {
            let why = asked(kind, input, step);
            assert_eq!(why.waits_for, waits_for, "{why:?}");
            assert!(why.reason.contains(said), "{why:?}");
            assert_eq!(why.released_by, by, "{why:?}");
            assert_eq!(why.since, Timestamp(1_000));
        }
    }
}
