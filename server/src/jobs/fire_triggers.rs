//! Starts the workflows whose time has come: a tick, what becomes of it and its run are one transaction.

use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tracing::info;
use workflows::model::Timestamp;
use workflows::run::trigger::{self, Missed, Overlap, PassedOver, Patience, Schedule};
use workflows::run::{CronError, zone_named};

use crate::store::runs::{self, NewRun};
use crate::store::scripts::Scripts;
use crate::store::triggers::{self, cron_trigger, trigger_tick};
use crate::store::{self, Database, StoreError, events, guards};

/// How far triggers look back, and how much they may queue.
#[derive(Debug, Clone, Copy)]
pub struct TriggerLimits {
    /// What was missed, and how much of it is made up for.
    pub patience: Patience,
    /// How many ticks of one trigger may wait for its run to end.
    pub queued: i64,
}

/// How many ticks one look deals with, so that a long absence does not keep the chore from its next look.
const MOST_PER_LOOK: usize = 200;

/// Why triggers could not be fired.
#[derive(Debug, thiserror::Error)]
pub enum FireError {
    /// The database failed; the next look tries again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored trigger does not read as what was accepted.
    #[error("the stored trigger `{name}` cannot be read")]
    Corrupt {
        /// Its name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: CronError,
    },
}

/// Looks once and fires what is due; says how many runs it started. Any number of processes may look at once.
///
/// # Errors
///
/// See [`FireError`].
pub async fn fire_triggers(
    db: &Database,
    now: i64,
    limits: &TriggerLimits,
) -> Result<usize, FireError> {
    let mut started = 0;
    if !triggers::anything_to_do(&db.read, now).await? {
        return Ok(started);
    }
    for _ in 0..MOST_PER_LOOK {
        let tx = store::begin(&db.write).await?;
        let Some(became) = next(&tx, now, limits).await? else {
            break;
        };
        tx.commit().await.map_err(StoreError::from)?;
        if let Became::Started { run } = became {
            info!(run.id = %run, "a trigger started run {run}");
            started += 1;
        }
    }
    Ok(started)
}

/// What became of a tick.
enum Became {
    Started {
        run: String,
    },
    Queued,
    NotFired {
        state: &'static str,
        reason: String,
    },
    /// That is known already.
    Known,
}

/// Deals with one tick: the oldest of the trigger that is due for longest, or else one that was queued.
async fn next(
    tx: &impl ConnectionTrait,
    now: i64,
    limits: &TriggerLimits,
) -> Result<Option<Became>, FireError> {
    if let Some(trigger) = triggers::take_due(tx, now).await? {
        return fire(tx, now, &trigger, limits).await.map(Some);
    }
    let Some((trigger, mut tick)) = triggers::take_queued(tx).await? else {
        return Ok(None);
    };
    let became = start(tx, now, &trigger, tick.tick).await?;
    became.write_to(&mut tick, now);
    triggers::dequeue(tx, &tick).await?;
    if let Became::NotFired { state, reason } = &became {
        tell(tx, now, &tick, state, reason).await?;
    }
    Ok(Some(became))
}

async fn fire(
    tx: &impl ConnectionTrait,
    now: i64,
    trigger: &cron_trigger::Model,
    limits: &TriggerLimits,
) -> Result<Became, FireError> {
    let schedule = match schedule(trigger) {
        Ok(schedule) => schedule,
        Err(error) => return give_up(tx, now, trigger, &error).await,
    };
    let tick = Timestamp(trigger.next_tick.unwrap_or(now));
    let plan = trigger::plan(&schedule, &limits.patience, tick, Timestamp(now));
    let next = plan.next.map(|next| next.0);
    let due = next.map(|next| next + schedule.late_by_ms);
    triggers::move_on(tx, &trigger.name, next, due).await?;
    if let Some(over) = plan.passed_over {
        pass_over(tx, now, trigger, over).await?;
    }
    let Some(tick) = plan.fire else {
        let reason = "nobody was there to fire it".to_owned();
        return Ok(Became::NotFired {
            state: "missed",
            reason,
        });
    };
    if triggers::has_tick(tx, &trigger.name, tick.0).await? {
        return Ok(Became::Known);
    }
    let became = decide(tx, now, trigger, tick.0, limits).await?;
    let mut row = new_tick(trigger, tick.0);
    became.write_to(&mut row, now);
    if !triggers::record_tick(tx, row.clone()).await? {
        // Whoever holds the trigger is alone with it, so this cannot be; if it were, nothing would have happened twice.
        return Err(StoreError::stale("tick", format!("{}@{tick}", trigger.name)).into());
    }
    if let Became::NotFired { state, reason } = &became {
        tell(tx, now, &row, state, reason).await?;
    }
    Ok(became)
}

/// Pauses a trigger that can no longer be read, say because its time zone is known no more: it is the first in line, and
/// would keep all others from their ticks.
async fn give_up(
    tx: &impl ConnectionTrait,
    now: i64,
    trigger: &cron_trigger::Model,
    error: &FireError,
) -> Result<Became, FireError> {
    triggers::pause(tx, now, &trigger.name).await?;
    let (state, reason) = ("refused", format!("the trigger is paused: {error}"));
    let mut row = new_tick(trigger, trigger.next_tick.unwrap_or(now));
    let became = Became::NotFired {
        state,
        reason: reason.clone(),
    };
    became.write_to(&mut row, now);
    if triggers::record_tick(tx, row.clone()).await? {
        tell(tx, now, &row, state, &reason).await?;
    }
    Ok(became)
}

/// What becomes of a tick whose time has come.
async fn decide(
    tx: &impl ConnectionTrait,
    now: i64,
    trigger: &cron_trigger::Model,
    tick: i64,
    limits: &TriggerLimits,
) -> Result<Became, StoreError> {
    let overlap = read_overlap(&trigger.overlap);
    let busy = match overlap {
        Overlap::Allow => None,
        Overlap::Skip | Overlap::Queue => triggers::open_run(tx, &trigger.name).await?,
    };
    let queued = match overlap {
        Overlap::Queue => triggers::count_queued(tx, &trigger.name).await?,
        Overlap::Skip | Overlap::Allow => 0,
    };
    match busy {
        None if queued == 0 => start(tx, now, trigger, tick).await,
        Some(run) if overlap == Overlap::Skip => Ok(Became::NotFired {
            state: "skipped",
            reason: format!("run `{run}` of an earlier tick goes on"),
        }),
        _ if queued >= limits.queued => Ok(Became::NotFired {
            state: "skipped",
            reason: format!("{queued} earlier ticks are queued, and no more may be"),
        }),
        _ => Ok(Became::Queued),
    }
}

/// Starts the workflow's serving revision.
async fn start(
    tx: &impl ConnectionTrait,
    now: i64,
    trigger: &cron_trigger::Model,
    tick: i64,
) -> Result<Became, StoreError> {
    let serving = match guards::may_start(tx).await {
        Ok(()) => Scripts::Workflows.active(tx, &trigger.workflow).await,
        Err(stopped) => Err(stopped),
    };
    let revision = match serving {
        Ok(revision) => revision,
        Err(error @ (StoreError::Unknown { .. } | StoreError::Refused { .. })) => {
            let reason = error.to_string();
            return Ok(Became::NotFired {
                state: "refused",
                reason,
            });
        }
        Err(error) => return Err(error),
    };
    let event = event_of(trigger, tick)?;
    let actor = format!("trigger:{}", trigger.name);
    let new = NewRun {
        workflow: &trigger.workflow,
        revision: &revision.digest,
        event: &event,
        seed: None,
        decision: None,
        actor: &actor,
    };
    let run = runs::create(tx, now, &new).await?;
    Ok(Became::Started { run: run.id })
}

/// The trigger's event, with the tick, which is also its `at` unless it has one.
fn event_of(trigger: &cron_trigger::Model, tick: i64) -> Result<Value, StoreError> {
    let mut event: Value = store::database::from_json("trigger's event", &trigger.event)?;
    let tick = Timestamp(tick).to_string();
    if let Some(fields) = event.as_object_mut() {
        fields.entry("at").or_insert_with(|| tick.clone().into());
        fields.insert(
            "trigger".into(),
            json!({ "name": trigger.name, "tick": tick }),
        );
    }
    Ok(event)
}

async fn pass_over(
    tx: &impl ConnectionTrait,
    now: i64,
    trigger: &cron_trigger::Model,
    over: PassedOver,
) -> Result<(), StoreError> {
    let mut row = new_tick(trigger, over.last.0);
    row.state = "missed".into();
    row.passed_over = i64::try_from(over.count).unwrap_or(i64::MAX);
    row.at = now;
    let reason = format!(
        "{} missed, as nobody was there; its `missed` is `{}`",
        over.count, trigger.missed
    );
    row.reason = Some(reason.clone());
    triggers::record_tick(tx, row.clone()).await?;
    tell(tx, now, &row, "missed", &reason).await
}

/// Records that a tick did not fire.
async fn tell(
    tx: &impl ConnectionTrait,
    now: i64,
    row: &trigger_tick::Model,
    state: &str,
    reason: &str,
) -> Result<(), StoreError> {
    let payload = json!({ "tick": Timestamp(row.tick), "state": state, "reason": reason });
    events::record(tx, now, "trigger.not_fired", &row.trigger_name, &payload).await?;
    Ok(())
}

fn new_tick(trigger: &cron_trigger::Model, tick: i64) -> trigger_tick::Model {
    trigger_tick::Model {
        trigger_name: trigger.name.clone(),
        tick,
        state: String::new(),
        passed_over: 0,
        reason: None,
        run_id: None,
        is_open: false,
        at: tick,
    }
}

impl Became {
    fn write_to(&self, row: &mut trigger_tick::Model, now: i64) {
        let (state, reason, run) = match self {
            Self::Started { run } => ("started", None, Some(run.clone())),
            Self::Queued => ("queued", None, None),
            Self::NotFired { state, reason } => (*state, Some(reason.clone()), None),
            Self::Known => return,
        };
        row.is_open = !matches!(self, Self::NotFired { .. });
        row.state = state.into();
        row.reason = reason;
        row.run_id = run;
        row.at = now;
    }
}

/// When a stored trigger fires.
///
/// # Errors
///
/// [`FireError::Corrupt`] when somebody wrote into the table by hand.
pub fn schedule(trigger: &cron_trigger::Model) -> Result<Schedule, FireError> {
    let corrupt = |source| FireError::Corrupt {
        name: trigger.name.clone(),
        source,
    };
    let jitter_s = u32::try_from(trigger.jitter_s).unwrap_or(0);
    Ok(Schedule {
        cron: trigger.cron.parse().map_err(corrupt)?,
        zone: zone_named(&trigger.time_zone).map_err(corrupt)?,
        late_by_ms: trigger::late_by_ms(&trigger.name, jitter_s),
        missed: read_missed(&trigger.missed),
    })
}

fn read_missed(text: &str) -> Missed {
    match text {
        "all" => Missed::All,
        "once" => Missed::Once,
        _ => Missed::Skip,
    }
}

fn read_overlap(text: &str) -> Overlap {
    match text {
        "allow" => Overlap::Allow,
        "queue" => Overlap::Queue,
        _ => Overlap::Skip,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::{Page, audit, runs::RunEnd};
    use crate::testing::{Fresh, on_both};

    on_both!(
        three_missed_ticks_end_as_each_policy_says,
        one_that_cannot_be_read_is_paused_and_stops_no_other,
        a_tick_fires_once_over_any_number_of_processes,
        a_tick_whose_run_goes_on_is_skipped_queued_or_fires,
        a_queue_has_an_end,
        a_workflow_that_is_gone_is_told_and_the_next_tick_comes,
        a_tick_that_was_dealt_with_never_fires_again,
        the_kill_switch_stops_triggers_too,
    );

    const HOUR_MS: i64 = 3_600_000;
    const LIMITS: TriggerLimits = TriggerLimits {
        patience: Patience {
            missed_after_ms: 60_000,
            catch_up: 100,
        },
        queued: 2,
    };

    /// An hourly trigger of a workflow that ends when the test says so.
    async fn hourly(f: &Fresh, name: &str, missed: &str, overlap: &str) {
        let db = &f.db.write;
        let put = Scripts::Workflows.activate(db, f.now(), "w", "fn run(event) { event }");
        put.await.unwrap();
        let row = cron_trigger::Model {
            name: name.into(),
            cron: "@hourly".into(),
            time_zone: "Europe/Berlin".into(),
            workflow: "w".into(),
            event: r#"{"asset":"fan-1"}"#.into(),
            missed: missed.into(),
            overlap: overlap.into(),
            jitter_s: 0,
            paused: false,
            next_tick: Some(f.now() + HOUR_MS),
            due: Some(f.now() + HOUR_MS),
            created_at: f.now(),
            updated_at: f.now(),
        };
        triggers::put(db, row).await.unwrap();
    }

    async fn look(f: &Fresh) -> usize {
        fire_triggers(&f.db, f.now(), &LIMITS).await.unwrap()
    }

    /// State and count of every tick, oldest first.
    async fn ticks(f: &Fresh, name: &str) -> Vec<(i64, String, i64)> {
        let rows = triggers::ticks(&f.db.read, name, None, 500).await.unwrap();
        let hour = |at: i64| (at - crate::testing::NOW) / HOUR_MS;
        let told = rows.into_iter().rev();
        told.map(|row| (hour(row.tick), row.state, row.passed_over))
            .collect()
    }

    fn started(hours: &[i64]) -> Vec<(i64, String, i64)> {
        hours
            .iter()
            .map(|&hour| (hour, "started".to_owned(), 0))
            .collect()
    }

    async fn all_runs(f: &Fresh) -> Vec<runs::run::Model> {
        let sql = "SELECT * FROM run ORDER BY id";
        store::database::all(&f.db.read, sql, vec![]).await.unwrap()
    }

    async fn end_all(f: &Fresh) {
        for run in all_runs(f).await {
            runs::end(
                &f.db.write,
                f.now(),
                &run.id,
                &RunEnd::Cancelled(Value::Null),
            )
            .await
            .unwrap();
        }
    }

    async fn three_missed_ticks_end_as_each_policy_says(f: Fresh) {
        for missed in ["skip", "once", "all"] {
            hourly(&f, missed, missed, "allow").await;
        }
        // The server is down over three ticks, and up again half an hour after the last.
        f.advance(3 * HOUR_MS + HOUR_MS / 2);
        assert_eq!(look(&f).await, 1 + 3);
        assert_eq!(ticks(&f, "skip").await, [(3, "missed".to_owned(), 3)]);
        let once = [(2, "missed".to_owned(), 2), (3, "started".to_owned(), 0)];
        assert_eq!(ticks(&f, "once").await, once);
        assert_eq!(ticks(&f, "all").await, started(&[1, 2, 3]));
        // What was missed is told, and looking again changes nothing.
        assert_eq!(look(&f).await, 0);
        let told = events::after(&f.db.read, 0, 500).await.unwrap();
        let told: Vec<_> = told
            .iter()
            .filter(|e| e.name == "trigger.not_fired")
            .collect();
        assert_eq!(told.len(), 2);
        // Each run knows its tick.
        let runs = all_runs(&f).await;
        let ticks: BTreeSet<String> = runs
            .iter()
            .map(|run| {
                assert_eq!(run.asset.as_deref(), Some("fan-1"));
                let event: Value = serde_json::from_str(&run.event).unwrap();
                assert_eq!(event["at"], event["trigger"]["tick"]);
                format!(
                    "{} {}",
                    event["trigger"]["name"].as_str().unwrap(),
                    event["at"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(ticks.len(), 4, "{ticks:?}");
        // And when the next hour comes, each fires on time.
        f.advance(HOUR_MS / 2);
        assert_eq!(look(&f).await, 3);
        assert_eq!(audit::first_broken(&f.db.read).await.unwrap(), None);
    }

    async fn one_that_cannot_be_read_is_paused_and_stops_no_other(f: Fresh) {
        hourly(&f, "bad", "all", "allow").await;
        hourly(&f, "good", "all", "allow").await;
        let sql = "UPDATE cron_trigger SET time_zone = 'Atlantis/Capital' WHERE name = 'bad'";
        store::database::execute(&f.db.write, sql, crate::store::values![])
            .await
            .unwrap();
        f.advance(HOUR_MS);
        assert_eq!(look(&f).await, 1);
        assert_eq!(ticks(&f, "good").await, started(&[1]));
        assert_eq!(ticks(&f, "bad").await, [(1, "refused".to_owned(), 0)]);
        assert!(triggers::get(&f.db.read, "bad").await.unwrap().paused);
        f.advance(HOUR_MS);
        assert_eq!(look(&f).await, 1);
    }

    async fn a_tick_fires_once_over_any_number_of_processes(f: Fresh) {
        for n in 0..5 {
            hourly(&f, &format!("t{n}"), "all", "allow").await;
        }
        f.advance(4 * HOUR_MS);
        let looks = (0..4).map(|_| look(&f));
        let started: usize = futures::future::join_all(looks).await.into_iter().sum();
        assert_eq!((started, all_runs(&f).await.len()), (20, 20));
        for n in 0..5 {
            let ticks = ticks(&f, &format!("t{n}")).await;
            assert_eq!(ticks, self::started(&[1, 2, 3, 4]));
        }
    }

    async fn a_tick_whose_run_goes_on_is_skipped_queued_or_fires(f: Fresh) {
        for overlap in ["skip", "queue", "allow"] {
            hourly(&f, overlap, "skip", overlap).await;
        }
        for _ in 0..2 {
            f.advance(HOUR_MS);
            look(&f).await;
        }
        let second = |state: &str| [(1, "started".to_owned(), 0), (2, state.to_owned(), 0)];
        assert_eq!(ticks(&f, "skip").await, second("skipped"));
        assert_eq!(ticks(&f, "queue").await, second("queued"));
        assert_eq!(ticks(&f, "allow").await, second("started"));
        // Once the runs are over, the queued tick starts at the next look, the skipped one never.
        end_all(&f).await;
        assert_eq!(look(&f).await, 1);
        assert_eq!(ticks(&f, "queue").await, second("started"));
        assert_eq!(ticks(&f, "skip").await, second("skipped"));
    }

    async fn a_queue_has_an_end(f: Fresh) {
        hourly(&f, "q", "skip", "queue").await;
        for _ in 0..4 {
            f.advance(HOUR_MS);
            look(&f).await;
        }
        let states: Vec<String> = ticks(&f, "q").await.into_iter().map(|t| t.1).collect();
        assert_eq!(states, ["started", "queued", "queued", "skipped"]);
        for left in [2, 1] {
            end_all(&f).await;
            assert_eq!(triggers::count_queued(&f.db.read, "q").await.unwrap(), left);
            assert_eq!(look(&f).await, 1, "in order, one at a time");
        }
        // A trigger that is gone starts nothing any more.
        f.advance(HOUR_MS);
        look(&f).await;
        assert!(triggers::delete(&f.db.write, f.now(), "q").await.unwrap());
        end_all(&f).await;
        assert_eq!(look(&f).await, 0);
        assert!(
            triggers::list(&f.db.read, Page::ALL)
                .await
                .unwrap()
                .is_empty()
        );
    }

    async fn a_workflow_that_is_gone_is_told_and_the_next_tick_comes(f: Fresh) {
        hourly(&f, "t", "skip", "skip").await;
        let sql = "DELETE FROM workflow_revision";
        store::database::execute(&f.db.write, sql, vec![])
            .await
            .unwrap();
        f.advance(HOUR_MS);
        assert_eq!(look(&f).await, 0);
        assert_eq!(ticks(&f, "t").await, [(1, "refused".to_owned(), 0)]);
        let row = &triggers::ticks(&f.db.read, "t", None, 1).await.unwrap()[0];
        assert_eq!(row.reason.as_deref(), Some("there is no workflow `w`"));
        let next = triggers::get(&f.db.read, "t").await.unwrap().next_tick;
        assert_eq!(next, Some(f.now() + HOUR_MS));
    }

    async fn a_tick_that_was_dealt_with_never_fires_again(f: Fresh) {
        hourly(&f, "t", "all", "allow").await;
        f.advance(HOUR_MS);
        assert_eq!(look(&f).await, 1);
        // Stored anew by somebody whose clock is behind, it would come to the same tick.
        let db = &f.db.write;
        let mut trigger = triggers::get(db, "t").await.unwrap();
        trigger.next_tick = Some(f.now());
        trigger.due = Some(f.now());
        let tick = new_tick(&trigger, f.now());
        assert!(!triggers::record_tick(db, tick).await.unwrap());
        triggers::put(db, trigger).await.unwrap();
        assert_eq!(look(&f).await, 0);
        assert_eq!(ticks(&f, "t").await, started(&[1]));
        let next = triggers::get(db, "t").await.unwrap().next_tick;
        assert_eq!(next, Some(f.now() + HOUR_MS), "and it goes on");
    }

    async fn the_kill_switch_stops_triggers_too(f: Fresh) {
        hourly(&f, "t", "skip", "skip").await;
        let db = &f.db.write;
        let switch = async |why| guards::set_kill_switch(db, f.now(), "olga", why).await;
        switch(Some("a fire")).await.unwrap();
        f.advance(HOUR_MS);
        assert_eq!(look(&f).await, 0);
        let row = &triggers::ticks(db, "t", None, 1).await.unwrap()[0];
        let reason = row.reason.as_deref().unwrap();
        assert_eq!(row.state, "refused");
        assert!(reason.starts_with("olga stopped all new runs"), "{reason}");
        switch(None).await.unwrap();
        f.advance(HOUR_MS);
        assert_eq!(look(&f).await, 1);
    }
}
