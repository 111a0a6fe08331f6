//! What guards remember: the kill switch, policies on a dry run, and which run stands for which cause.

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult};
use serde_json::json;
use workflows::model::Timestamp;
use workflows::policy::{KillSwitch, StandsFor};

use super::database::{all, among, execute, for_update, from_json, notify, one, to_json};
use super::{StoreError, audit, events, settings, steps};

const KILL_SWITCH: &str = "kill_switch";
/// The code of what is refused while it is on.
const STOPPED: &str = "kill_switch_on";
/// [`Wait::KillSwitch`](workflows::steps::Wait::KillSwitch) as it is stored.
const HELD_BACK: &str = r#"{"for":"kill_switch"}"#;

/// The kill switch, if it is on.
pub async fn kill_switch(db: &impl ConnectionTrait) -> Result<Option<KillSwitch>, StoreError> {
    let stored = settings::get(db, KILL_SWITCH).await?;
    let stored = stored.map(|text| from_json("kill switch", &text));
    Ok(stored.transpose()?.flatten())
}

/// Refuses to begin a run, or to take one up again that came to nothing, while the kill switch is on. Whatever does
/// either asks here, in the transaction in which it does so.
///
/// # Errors
///
/// `kill_switch_on`, with who turned it on and why.
pub async fn may_start(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    let Some(on) = kill_switch(db).await? else {
        return Ok(());
    };
    let message = format!("{}; an operator turns the kill switch off", on.said());
    Err(StoreError::refused(STOPPED, message))
}

/// Whether [`may_start`] refuses, for what then waits instead.
pub async fn is_stopped(db: &impl ConnectionTrait) -> Result<bool, StoreError> {
    match may_start(db).await {
        Err(StoreError::Refused { code: STOPPED, .. }) => Ok(true),
        answer => answer.map(|()| false),
    }
}

/// Whether [`may_start`] refuses, and will until the end of the transaction.
///
/// So whoever turns the switch off finds what was left to wait for that. It comes first in its transaction: the switch is taken before what it lets go on.
pub async fn stays_stopped(db: &impl ConnectionTrait) -> Result<bool, StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        let sql = "SELECT 1 AS n FROM setting WHERE name = $1 FOR SHARE";
        execute(db, sql, values![KILL_SWITCH]).await?;
    }
    is_stopped(db).await
}

/// Leaves the advancement of a run, parked in this transaction, until the kill switch is turned off.
pub async fn hold_back(db: &impl ConnectionTrait, run: &str) -> Result<(), StoreError> {
    let sql = "UPDATE step SET waiting_for = $2 WHERE run_id = $1 AND position = '@'";
    execute(db, sql, values![run, HELD_BACK]).await?;
    Ok(())
}

#[derive(FromQueryResult)]
struct HeldBack {
    run_id: String,
    position: String,
}

/// Lets go on what waits for the kill switch to be turned off.
async fn let_go_on(db: &impl ConnectionTrait, now: i64) -> Result<(), StoreError> {
    // The text is spelled out, since only so the index of what is held back is used.
    let waiting = format!(
        "SELECT id FROM step WHERE waiting_for = '{HELD_BACK}' ORDER BY id {}",
        for_update(db)
    );
    let sql = format!(
        "UPDATE step SET wakes = wakes + 1, waiting_for = NULL, \
         run_at = CASE WHEN state = 'ready' AND run_at > $1 THEN $1 ELSE run_at END \
         WHERE id {} AND state IN ('ready', 'leased') RETURNING run_id, position",
        among(db, &waiting)
    );
    let held: Vec<HeldBack> = all(db, &sql, values![now]).await?;
    let runs = held.iter().filter(|held| held.position == steps::ADVANCE);
    steps::wake_runs(db, now, &runs.map(|held| held.run_id.as_str()).collect()).await?;
    notify(db).await
}

/// Turns the kill switch on, with a reason, or off. To be called in a transaction.
pub async fn set_kill_switch(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    reason: Option<&str>,
) -> Result<Option<KillSwitch>, StoreError> {
    let switch = reason.map(|reason| KillSwitch {
        reason: reason.to_owned(),
        by: actor.to_owned(),
        since: Timestamp(now),
    });
    settings::put(db, KILL_SWITCH, &to_json("kill switch", &switch)?).await?;
    if switch.is_none() {
        let_go_on(db, now).await?;
    }
    let detail = json!({ "on": switch.is_some(), "reason": reason });
    audit::record_with_fact(
        db,
        now,
        "fleet.kill_switch",
        (actor, "set_kill_switch"),
        "fleet",
        &detail,
    )
    .await?;
    Ok(switch)
}

/// Whether what a policy decides is only recorded.
pub async fn dry_run(db: &impl ConnectionTrait, policy: &str) -> Result<bool, StoreError> {
    let stored = settings::get(db, &dry_run_of(policy)).await?;
    Ok(stored.as_deref() == Some("on"))
}

/// Puts a policy on a dry run, or takes it off. To be called in a transaction.
pub async fn set_dry_run(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    policy: &str,
    on: bool,
) -> Result<(), StoreError> {
    let value = if on { "on" } else { "off" };
    settings::put(db, &dry_run_of(policy), value).await?;
    let detail = json!({ "on": on });
    audit::record_with_fact(
        db,
        now,
        "policy.dry_run",
        (actor, "set_dry_run"),
        policy,
        &detail,
    )
    .await
}

fn dry_run_of(policy: &str) -> String {
    format!("dry_run:{policy}")
}

#[derive(FromQueryResult)]
struct Standing {
    run_id: String,
    until: i64,
}

/// The run of a workflow that stands for a cause at this moment.
pub async fn same_cause(
    db: &impl ConnectionTrait,
    now: i64,
    workflow: &str,
    key: &str,
) -> Result<Option<StandsFor>, StoreError> {
    let sql = "SELECT run_id, until FROM dedup WHERE workflow = $1 AND key = $2 AND until > $3";
    let found: Option<Standing> = one(db, sql, values![workflow, key, now]).await?;
    Ok(found.map(|row| StandsFor {
        key: key.to_owned(),
        run: row.run_id,
        until: Timestamp(row.until),
    }))
}

/// Claims a cause for a run that is about to be created; `false` if another run stands for it. To be called in the
/// transaction that creates the run, and followed by [`stand_for`].
pub async fn claim_cause(
    db: &impl ConnectionTrait,
    now: i64,
    (workflow, key): (&str, &str),
    until: i64,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO dedup (workflow, key, run_id, until) VALUES ($1, $2, '', $3) \
               ON CONFLICT (workflow, key) DO UPDATE SET run_id = '', until = EXCLUDED.until, \
               suppressed = 0 WHERE dedup.until <= $4";
    Ok(execute(db, sql, values![workflow, key, until, now]).await? == 1)
}

/// Lets a run stand for the cause that was claimed for it.
pub async fn stand_for(
    db: &impl ConnectionTrait,
    (workflow, key): (&str, &str),
    run: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE dedup SET run_id = $3 WHERE workflow = $1 AND key = $2";
    execute(db, sql, values![workflow, key, run]).await?;
    Ok(())
}

/// Counts a start that the run standing for its cause made needless; the first one is told as an event.
pub async fn suppress(
    db: &impl ConnectionTrait,
    now: i64,
    workflow: &str,
    cause: &StandsFor,
) -> Result<(), StoreError> {
    let sql = "UPDATE dedup SET suppressed = suppressed + 1 WHERE workflow = $1 AND key = $2";
    execute(db, sql, values![workflow, cause.key.as_str()]).await?;
    let count = suppressed(db, workflow, &cause.key).await?;
    if count == 1 {
        let detail = json!({ "workflow": workflow, "dedup_key": cause.key, "until": cause.until });
        events::record(db, now, "run.deduplicated", &cause.run, &detail).await?;
    }
    Ok(())
}

/// How many starts the run that stands for a cause has made needless so far.
pub async fn suppressed(
    db: &impl ConnectionTrait,
    workflow: &str,
    key: &str,
) -> Result<i64, StoreError> {
    let sql = "SELECT suppressed AS n FROM dedup WHERE workflow = $1 AND key = $2";
    let count = super::database::number(db, sql, values![workflow, key]).await?;
    Ok(count.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fresh, NOW, on_both};

    on_both!(
        one_run_stands_for_a_cause_until_its_time_is_up,
        the_kill_switch_is_told_audited_and_refuses,
    );

    fn cause(run: &str, until: i64) -> StandsFor {
        StandsFor {
            key: "cooling".into(),
            run: run.into(),
            until: Timestamp(until),
        }
    }

    async fn one_run_stands_for_a_cause_until_its_time_is_up(fresh: Fresh) {
        let db = &fresh.db.write;
        let stands = async |now, run, until| {
            let claimed = claim_cause(db, now, ("w", "cooling"), until).await;
            let claimed = claimed.expect("asked");
            if claimed {
                stand_for(db, ("w", "cooling"), run).await.expect("named");
            }
            claimed
        };
        assert!(stands(NOW, "r1", NOW + 60).await);
        assert!(!stands(NOW + 59, "r2", NOW + 120).await);
        let same = async |now| same_cause(db, now, "w", "cooling").await.expect("asked");
        assert_eq!(same(NOW + 59).await, Some(cause("r1", NOW + 60)));
        assert_eq!(same(NOW + 60).await, None);
        for n in 1..=3 {
            suppress(db, NOW, "w", &cause("r1", NOW + 60))
                .await
                .expect("counted");
            assert_eq!(suppressed(db, "w", "cooling").await.expect("asked"), n);
        }
        let told = events::after(db, 0, 10).await.expect("events");
        assert_eq!(told.len(), 1, "the first one only");
        assert!(stands(NOW + 60, "r3", NOW + 120).await);
        assert_eq!(suppressed(db, "w", "cooling").await.expect("asked"), 0);
        let other = claim_cause(db, NOW, ("other", "cooling"), NOW + 60).await;
        assert!(other.expect("asked"), "causes are of a workflow");
    }

    async fn the_kill_switch_is_told_audited_and_refuses(fresh: Fresh) {
        let db = &fresh.db.write;
        may_start(db).await.expect("it is off");
        let stored = to_json("wait", &workflows::steps::Wait::KillSwitch);
        assert_eq!(stored.expect("text"), HELD_BACK);
        set_kill_switch(db, NOW, "olga", Some("a fire"))
            .await
            .expect("set");
        let refused = may_start(db).await.expect_err("it is on").to_string();
        assert!(
            refused.contains("olga") && refused.contains("a fire"),
            "{refused}"
        );
        set_kill_switch(db, NOW, "olga", None).await.expect("set");
        may_start(db).await.expect("it is off again");
        assert_eq!(events::after(db, 0, 10).await.expect("events").len(), 2);
        assert_eq!(audit::first_broken(db).await.expect("a chain"), None);
        assert!(!dry_run(db, "p").await.expect("asked"));
        set_dry_run(db, NOW, "olga", "p", true).await.expect("set");
        assert!(dry_run(db, "p").await.expect("asked"));
    }
}
