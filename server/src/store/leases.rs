//! Leases of builds: a cell's time-limited right to make one.
//!
//! Every write names the lease's fence and the cell's epoch. Before the start a lost lease offers the build again;
//! after it the build is uncertain until the cell or a person says what is on the plate.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, EntityTrait};
use serde_json::{Value as Json, json};
use workflows::build::machine::{self, BuildEffect, BuildEvent};
use workflows::model::{BuildEnd, BuildState};

use super::builds::{build, check_plate, finish, hold, requeue};
use super::database::{
    all, among, execute, for_update, notify_builds, number, one, skip_locked, to_json,
};
use super::{StoreError, audit, cells, events, new_id, rules};

table!(
    /// Leases: `held`, `lost`, or `ended`.
    lease, "lease", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    build: String,
    cell: String,
    epoch: i64,
    fence: i64,
    state: String,
    seq: i64,
    idempotency_key: Option<String>,
    claimed_at: i64,
    expires_at: i64,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    ending: Option<String>,
});

/// A lease with the build it is on.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The lease.
    pub lease: lease::Model,
    /// The build.
    pub build: build::Model,
}

/// What a cell asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The cell.
    pub cell: &'a str,
    /// The number of its present connection.
    pub epoch: i64,
    /// Printer profiles it can serve; none named means any.
    pub printers: &'a [String],
    /// Materials it has; none named means any.
    pub materials: &'a [String],
    /// The same key gets the same lease.
    pub key: Option<&'a str>,
    /// How long the lease lasts without a heartbeat.
    pub ttl_ms: i64,
}

/// The name a holder repeats with every write.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The lease.
    pub lease: &'a str,
    /// The cell, as its token says.
    pub cell: &'a str,
    /// The fence the lease was given with.
    pub fence: i64,
    /// The number of the cell's present connection.
    pub epoch: i64,
}

/// A point of priority goes before so much waiting.
const PRIORITY_MS: i64 = 600_000;

/// Leases a waiting build the cell can make, unless its rules have it wait: of those the one that waits longest, a point
/// of priority counting as much as ten minutes. To be called in a transaction.
///
/// # Errors
///
/// `Stale` for an old epoch; `lease_held` while the cell has another build in hand; `PlateUnknown` while nobody knows what
/// an earlier one left on its plate.
pub async fn claim(
    db: &impl ConnectionTrait,
    now: i64,
    ask: &Ask<'_>,
) -> Result<Option<Grant>, StoreError> {
    cells::check_epoch(db, now, ask.cell, ask.epoch).await?;
    if let Some(key) = ask.key {
        let sql = "SELECT * FROM lease WHERE cell = $1 AND idempotency_key = $2";
        if let Some(lease) = one::<lease::Model>(db, sql, values![ask.cell, key]).await? {
            let build = super::builds::get(db, &lease.build).await?;
            return Ok(Some(Grant { lease, build }));
        }
    }
    let sql = "SELECT COUNT(*) AS n FROM lease JOIN build ON build.id = lease.build \
               AND build.fence = lease.fence AND build.state <> 'ended' \
               WHERE lease.cell = $1 AND lease.state = 'held'";
    if number(db, sql, values![ask.cell]).await?.unwrap_or(0) > 0 {
        return Err(StoreError::refused(
            "lease_held",
            format_args!(
                "cell `{}` holds a lease; end it before asking for another",
                ask.cell
            ),
        ));
    }
    // After the leases: one that is lost meanwhile leaves its build uncertain in the same moment.
    check_plate(db, ask.cell).await?;
    if rules::check_claim(db, now, ask.cell).await?.is_err() {
        return Ok(None);
    }
    let Some(build) = take_waiting(db, ask).await? else {
        return Ok(None);
    };
    let lease = insert(db, now, ask, &build).await?;
    let detail = json!({ "build": build.id, "cell": ask.cell, "fence": build.fence });
    events::record(db, now, "build.leased", &build.id, &detail).await?;
    audit::record(db, now, ask.cell, "claim_lease", &lease.id, &detail).await?;
    Ok(Some(Grant { lease, build }))
}

async fn take_waiting(
    db: &impl ConnectionTrait,
    ask: &Ask<'_>,
) -> Result<Option<build::Model>, StoreError> {
    let mut values = values![ask.cell];
    let mut fits = String::new();
    for (column, wanted) in [("printer", ask.printers), ("material", ask.materials)] {
        if !wanted.is_empty() {
            // Names are compared without case, as in `workflows::build::fit`.
            let mut numbered = |names: Vec<String>| -> String {
                let number = |name: String| {
                    values.push(name.into());
                    format!("${}", values.len())
                };
                names.into_iter().map(number).collect::<Vec<_>>().join(", ")
            };
            let as_said = numbered(wanted.to_vec());
            let lower = numbered(
                wanted
                    .iter()
                    .map(|name| name.to_ascii_lowercase())
                    .collect(),
            );
            fits += &format!(" AND ({column} IN ({as_said}) OR LOWER({column}) IN ({lower}))");
        }
    }
    let first = format!(
        "SELECT id FROM build WHERE state = 'waiting' AND NOT cancel_requested{fits} \
         ORDER BY created_at - priority * {PRIORITY_MS}, id LIMIT 1 {}",
        skip_locked(db)
    );
    let sql = format!(
        "UPDATE build SET state = 'leased', fence = fence + 1, cell = $1 WHERE id {} RETURNING *",
        among(db, &first)
    );
    one(db, &sql, values).await
}

async fn insert(
    db: &impl ConnectionTrait,
    now: i64,
    ask: &Ask<'_>,
    build: &build::Model,
) -> Result<lease::Model, StoreError> {
    let sql = "INSERT INTO lease (id, build, cell, epoch, fence, state, idempotency_key, \
               claimed_at, expires_at) VALUES ($1, $2, $3, $4, $5, 'held', $6, $7, $8) RETURNING *";
    let values = values![
        new_id(now),
        build.id.as_str(),
        ask.cell,
        ask.epoch,
        build.fence,
        ask.key.map(str::to_owned),
        now,
        now + ask.ttl_ms
    ];
    let lease = one(db, sql, values).await?;
    lease.ok_or_else(|| StoreError::unknown("lease of build", build.id.as_str()))
}

/// One lease.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<lease::Model, StoreError> {
    let row = lease::Entity::find_by_id(id.to_owned()).one(db).await?;
    row.ok_or_else(|| StoreError::unknown("lease", id))
}

/// Until when the leases hold that cells have in hand, by build: one at most for each cell.
pub async fn held_until(db: &impl ConnectionTrait) -> Result<BTreeMap<String, i64>, StoreError> {
    let sql = "SELECT lease.* FROM lease JOIN build ON build.id = lease.build \
               AND build.fence = lease.fence AND build.state <> 'ended' WHERE lease.state = 'held'";
    let leases: Vec<lease::Model> = all(db, sql, values![]).await?;
    Ok(leases
        .into_iter()
        .map(|l| (l.build, l.expires_at))
        .collect())
}

/// The lease and build a holder may write to, held until the end of the transaction.
///
/// A lease that was lost is still good while nobody else has claimed its build: whoever made the part may say so, and
/// of an uncertain build also from a later connection.
async fn held(
    db: &impl ConnectionTrait,
    now: i64,
    holder: Holder<'_>,
) -> Result<Grant, StoreError> {
    cells::check_epoch(db, now, holder.cell, holder.epoch).await?;
    let sql = format!("SELECT * FROM lease WHERE id = $1 {}", for_update(db));
    let lease: Option<lease::Model> = one(db, &sql, values![holder.lease]).await?;
    let lease = lease.ok_or_else(|| StoreError::unknown("lease", holder.lease))?;
    let build = hold(db, &lease.build).await?;
    let epoch = lease.epoch == holder.epoch || build.state()? == BuildState::Uncertain;
    let good = epoch
        && lease.cell == holder.cell
        && lease.fence == holder.fence
        && build.fence == holder.fence;
    if good {
        Ok(Grant { lease, build })
    } else {
        Err(StoreError::stale("lease", holder.lease))
    }
}

/// How a cell's work goes.
#[derive(Debug, Clone, Copy)]
pub struct Beat<'a> {
    /// Counts up; a beat that comes late changes nothing.
    pub seq: i64,
    /// 0–1.
    pub share_done: f64,
    /// What it is at.
    pub phase: &'a str,
    /// How long the lease lasts from now.
    pub ttl_ms: i64,
}

/// Renews a lease. One that was lost after the start comes back to life, so that its cell may go on; the build stays
/// uncertain until the cell says how it ended. To be called in a transaction.
///
/// # Errors
///
/// `Stale` for an old fence or epoch, or when the build was offered again; `lease_ended` when it is over.
pub async fn heartbeat(
    db: &impl ConnectionTrait,
    now: i64,
    holder: Holder<'_>,
    beat: Beat<'_>,
) -> Result<Grant, StoreError> {
    let grant = held(db, now, holder).await?;
    match grant.build.state()? {
        BuildState::Ended => return Err(ended(holder.lease)),
        BuildState::Waiting => return Err(StoreError::stale("lease", holder.lease)),
        BuildState::Leased | BuildState::Staged | BuildState::Started | BuildState::Uncertain => {}
    }
    let sql = "UPDATE lease SET state = 'held', expires_at = $2, epoch = $3 WHERE id = $1";
    let values = values![holder.lease, now + beat.ttl_ms, holder.epoch];
    execute(db, sql, values).await?;
    if beat.seq > grant.lease.seq {
        let sql = "UPDATE lease SET seq = $2 WHERE id = $1";
        execute(db, sql, values![holder.lease, beat.seq]).await?;
        let sql = "UPDATE build SET share_done = $2, phase = $3 WHERE id = $1";
        let share = beat.share_done.clamp(0.0, 1.0);
        let values = values![grant.build.id.as_str(), share, beat.phase];
        execute(db, sql, values).await?;
    }
    reload(db, holder.lease).await
}

/// Notes that the cell verified the G-code. To be called in a transaction.
///
/// # Errors
///
/// `digest_mismatch` when the cell has other bytes; otherwise as [`heartbeat`].
pub async fn stage(
    db: &impl ConnectionTrait,
    now: i64,
    holder: Holder<'_>,
    digest: &str,
) -> Result<Grant, StoreError> {
    let grant = held(db, now, holder).await?;
    if digest != grant.build.gcode {
        return Err(StoreError::refused(
            "digest_mismatch",
            format_args!(
                "the staged G-code is {digest}, the build's is {}",
                grant.build.gcode
            ),
        ));
    }
    match grant.build.state()? {
        BuildState::Leased => {
            let (next, _) = happen(&grant.build, BuildEvent::Stage)?;
            set_state(db, &grant.build.id, next).await?;
            let detail = json!({ "lease": holder.lease });
            events::record(db, now, "build.staged", &grant.build.id, &detail).await?;
            reload(db, holder.lease).await
        }
        BuildState::Staged | BuildState::Started => Ok(grant),
        BuildState::Ended => Err(ended(holder.lease)),
        BuildState::Waiting | BuildState::Uncertain => {
            Err(StoreError::stale("lease", holder.lease))
        }
    }
}

/// Notes that matter is about to move: at most once per lease, and never for a build that is not staged. Asking again
/// gets the same answer. To be called in a transaction.
///
/// # Errors
///
/// `not_staged` before the G-code was verified, `build_cancelled` when nobody wants the part any more, `PlateUnknown` while
/// nobody knows what an earlier build left there, `NotYet` where the rules of the cell or its heat group have it wait;
/// otherwise as [`heartbeat`].
pub async fn start(
    db: &impl ConnectionTrait,
    now: i64,
    holder: Holder<'_>,
) -> Result<Grant, StoreError> {
    let grant = held(db, now, holder).await?;
    match grant.build.state()? {
        BuildState::Started if grant.lease.started_at.is_some() => return Ok(grant),
        BuildState::Staged if grant.build.cancel_requested => {
            return Err(StoreError::refused(
                "build_cancelled",
                "the run that ordered this build has ended; report it as failed",
            ));
        }
        BuildState::Staged if grant.lease.state == "held" => {}
        BuildState::Leased => {
            return Err(StoreError::refused(
                "not_staged",
                "stage the verified G-code before the start",
            ));
        }
        BuildState::Ended => return Err(ended(holder.lease)),
        _ => return Err(StoreError::stale("lease", holder.lease)),
    }
    happen(&grant.build, BuildEvent::Start)?;
    check_plate(db, holder.cell).await?;
    rules::permit_start(db, now, holder.cell).await?;
    // Whatever it was at before, from here on it heats.
    let sql = "UPDATE build SET state = 'started', started_at = $2, phase = '', \
               physical_starts = physical_starts + 1 WHERE id = $1 AND state = 'staged'";
    let started = execute(db, sql, values![grant.build.id.as_str(), now]).await?;
    let sql = "UPDATE lease SET started_at = $2 WHERE id = $1 AND started_at IS NULL";
    if started + execute(db, sql, values![holder.lease, now]).await? != 2 {
        return Err(StoreError::stale("lease", holder.lease));
    }
    let detail = json!({ "lease": holder.lease, "fence": holder.fence });
    audit::record_with_fact(
        db,
        now,
        "build.started",
        (holder.cell, "start_build"),
        &grant.build.id,
        &detail,
    )
    .await?;
    reload(db, holder.lease).await
}

/// Ends a build that was started, with its scan. To be called in a transaction.
///
/// # Errors
///
/// `not_started` before the start; otherwise as [`heartbeat`].
pub async fn complete(
    db: &impl ConnectionTrait,
    now: i64,
    holder: Holder<'_>,
    scan: &str,
    report: &Json,
) -> Result<Grant, StoreError> {
    let ending = BuildEnd::Completed {
        scan: scan.to_owned(),
        report: report.clone(),
    };
    conclude(db, now, holder, &ending, BuildEvent::Complete).await
}

/// Ends a build without a part. To be called in a transaction.
///
/// # Errors
///
/// As [`heartbeat`].
pub async fn fail(
    db: &impl ConnectionTrait,
    now: i64,
    holder: Holder<'_>,
    code: &str,
    message: &str,
) -> Result<Grant, StoreError> {
    let ending = BuildEnd::Failed {
        code: code.to_owned(),
        message: message.to_owned(),
    };
    conclude(db, now, holder, &ending, BuildEvent::Fail).await
}

async fn conclude(
    db: &impl ConnectionTrait,
    now: i64,
    holder: Holder<'_>,
    ending: &BuildEnd,
    event: BuildEvent,
) -> Result<Grant, StoreError> {
    let grant = held(db, now, holder).await?;
    let text = to_json("build ending", ending)?;
    let state = grant.build.state()?;
    if state == BuildState::Ended {
        // The reply to the first report may have been lost; another report is refused.
        let same = grant.lease.ending.as_deref() == Some(&text);
        return if same {
            Ok(grant)
        } else {
            Err(ended(holder.lease))
        };
    }
    if state == BuildState::Waiting {
        return Err(StoreError::stale("lease", holder.lease));
    }
    happen(&grant.build, event)?;
    end(db, now, holder.cell, &grant, ending).await?;
    if state == BuildState::Uncertain {
        // Its cell may wait to make another.
        notify_builds(db).await?;
    }
    reload(db, holder.lease).await
}

/// Ends an uncertain build with the scan that somebody else than its cell has made, as the cell would have with
/// [`complete`] and nothing to report. To be called in a transaction that holds the build.
pub(super) async fn complete_by_hand(
    db: &impl ConnectionTrait,
    now: i64,
    build: &build::Model,
    actor: &str,
    scan: &str,
) -> Result<(), StoreError> {
    let sql = "SELECT * FROM lease WHERE build = $1 AND fence = $2";
    let lease: Option<lease::Model> = one(db, sql, values![build.id.as_str(), build.fence]).await?;
    let lease = lease.ok_or_else(|| StoreError::unknown("lease of build", build.id.as_str()))?;
    let ending = BuildEnd::Completed {
        scan: scan.to_owned(),
        report: json!({}),
    };
    happen(build, BuildEvent::Complete)?;
    end(
        db,
        now,
        actor,
        &Grant {
            lease,
            build: build.clone(),
        },
        &ending,
    )
    .await
}

/// Writes down how a build ended, and that its lease is over.
async fn end(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    Grant { lease, build }: &Grant,
    ending: &BuildEnd,
) -> Result<(), StoreError> {
    finish(db, now, build, ending).await?;
    let sql = "UPDATE lease SET state = 'ended', ending = $2, ended_at = $3 WHERE id = $1";
    let text = to_json("build ending", ending)?;
    execute(db, sql, values![lease.id.as_str(), text, now]).await?;
    let detail = json!({ "lease": lease.id, "ending": ending });
    audit::record_with_fact(
        db,
        now,
        "build.ended",
        (actor, "end_build"),
        &build.id,
        &detail,
    )
    .await
}

/// Takes back the leases that ran out; says how many. To be called in a transaction.
pub async fn expire(db: &impl ConnectionTrait, now: i64) -> Result<usize, StoreError> {
    let sql = format!(
        "SELECT * FROM lease WHERE state = 'held' AND expires_at <= $1 {}",
        skip_locked(db)
    );
    let leases: Vec<lease::Model> = all(db, &sql, values![now]).await?;
    lose(db, now, &leases).await
}

/// Takes back what a cell holds, because it opened a new connection.
pub(super) async fn lose_all_of_cell(
    db: &impl ConnectionTrait,
    now: i64,
    cell: &str,
) -> Result<(), StoreError> {
    let sql = "SELECT * FROM lease WHERE state = 'held' AND cell = $1";
    let leases: Vec<lease::Model> = all(db, sql, values![cell]).await?;
    lose(db, now, &leases).await?;
    Ok(())
}

async fn lose(
    db: &impl ConnectionTrait,
    now: i64,
    leases: &[lease::Model],
) -> Result<usize, StoreError> {
    for lease in leases {
        let sql = "UPDATE lease SET state = 'lost' WHERE id = $1";
        execute(db, sql, values![lease.id.as_str()]).await?;
        let build = hold(db, &lease.build).await?;
        if build.fence != lease.fence {
            continue;
        }
        let (next, effect) = happen(&build, BuildEvent::LeaseLost)?;
        match effect {
            BuildEffect::Requeue => requeue(db, &build.id).await?,
            BuildEffect::Nothing => continue,
            _ => set_state(db, &build.id, next).await?,
        }
        let detail = json!({ "lease": lease.id, "cell": lease.cell, "was": build.state });
        events::record(db, now, "build.lease_lost", &build.id, &detail).await?;
    }
    Ok(leases.len())
}

/// What the build's state machine says to an event.
fn happen(
    build: &build::Model,
    event: BuildEvent,
) -> Result<(BuildState, BuildEffect), StoreError> {
    machine::apply(build.state()?, event).map_err(|illegal| {
        let code = match event {
            BuildEvent::Complete => "not_started",
            _ => "build_state",
        };
        StoreError::refused(code, format_args!("build `{}`: {illegal}", build.id))
    })
}

async fn set_state(
    db: &impl ConnectionTrait,
    build: &str,
    state: BuildState,
) -> Result<(), StoreError> {
    let sql = "UPDATE build SET state = $2 WHERE id = $1";
    execute(db, sql, values![build, super::builds::word(state)]).await?;
    Ok(())
}

async fn reload(db: &impl ConnectionTrait, id: &str) -> Result<Grant, StoreError> {
    let lease = get(db, id).await?;
    let build = super::builds::get(db, &lease.build).await?;
    Ok(Grant { lease, build })
}

fn ended(lease: &str) -> StoreError {
    StoreError::refused("lease_ended", format_args!("lease `{lease}` is over"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::builds;
    use crate::store::{DatabaseConnection, steps};
    use crate::testing::{Fresh, on_both};
    use workflows::build::machine::OnPlate;
    use workflows::model::NewBuild;

    on_both!(
        a_lost_reply_to_a_claim_gets_the_same_lease_again,
        a_lease_lost_before_the_start_is_offered_to_the_next_cell,
        a_lease_lost_after_the_start_leaves_the_build_uncertain,
        a_called_off_build_that_left_nothing_on_the_plate_ends,
        a_plate_that_nobody_has_looked_at_gets_no_other_part,
        a_finished_part_is_made_once_somebody_has_scanned_it,
        a_cell_that_comes_back_may_still_say_what_it_made,
        an_older_connection_is_shut_out,
        a_start_is_recorded_once,
        the_end_of_a_build_wakes_the_step_that_ordered_it,
        a_build_is_leased_once_among_many_who_ask,
        a_cell_that_lies_about_a_digest_is_refused,
    );

    pub(in crate::store) const TTL: i64 = 60_000;
    pub(in crate::store) const GCODE: &str = "sha256:00";

    pub(in crate::store) async fn cell(f: &Fresh, id: &str) -> i64 {
        let sql = "INSERT INTO cell (id, name, machine, created_at) VALUES ($1, $1, '{}', $2)";
        execute(&f.db.write, sql, values![id, f.now()])
            .await
            .unwrap();
        cells::open_epoch(&f.db.write, f.now(), id).await.unwrap()
    }

    pub(in crate::store) async fn order(f: &Fresh) -> String {
        order_at(f, 0).await
    }

    pub(in crate::store) async fn order_at(f: &Fresh, priority: i64) -> String {
        let db = &f.db.write;
        let new = crate::store::runs::NewRun {
            workflow: "w",
            revision: "sha256:w",
            event: &Json::Null,
            seed: None,
            decision: None,
            actor: "test",
        };
        let run = crate::store::runs::create(db, f.now(), &new).await.unwrap();
        let step = steps::NewStep {
            run: &run.id,
            position: "1",
            kind: "make",
            queue: "io",
            priority,
            max_attempts: 3,
            backoff_ms: 1_000,
            deadline: None,
            input: "null",
            concurrency_key: None,
            concurrency_limit: 1,
            idempotency_key: None,
            lease: None,
        };
        steps::insert(db, f.now(), &step).await.unwrap();
        let order = NewBuild {
            gcode: GCODE.into(),
            gcode_size_bytes: 1,
            material: "petg".into(),
            printer: "prusa_mk4".into(),
            design: "d".into(),
        };
        let at = (run.id.as_str(), "1");
        let build = builds::of_step(db, f.now(), at, &order).await.unwrap();
        let again = builds::of_step(db, f.now(), at, &order).await.unwrap();
        assert_eq!(build, again, "the step's second attempt finds its build");
        build.id
    }

    pub(in crate::store) async fn ask(
        db: &DatabaseConnection,
        now: i64,
        cell: &str,
        epoch: i64,
        key: Option<&str>,
    ) -> Result<Option<Grant>, StoreError> {
        let ask = Ask {
            cell,
            epoch,
            printers: &["prusa_mk4".to_owned()],
            materials: &["pla".to_owned(), "petg".to_owned()],
            key,
            ttl_ms: TTL,
        };
        let tx = crate::store::begin(db).await?;
        let grant = claim(&tx, now, &ask).await?;
        tx.commit().await?;
        Ok(grant)
    }

    pub(in crate::store) fn holder<'a>(grant: &'a Grant, epoch: i64) -> Holder<'a> {
        Holder {
            lease: &grant.lease.id,
            cell: &grant.lease.cell,
            fence: grant.lease.fence,
            epoch,
        }
    }

    fn empty(fence: i64) -> builds::Looked<'static> {
        builds::Looked {
            actor: "op",
            fence,
            on_plate: OnPlate::Nothing,
            scan: None,
        }
    }

    async fn started(f: &Fresh, name: &str) -> (Grant, i64) {
        order(f).await;
        let epoch = cell(f, name).await;
        let db = &f.db.write;
        let grant = ask(db, f.now(), name, epoch, None).await.unwrap().unwrap();
        let holder = holder(&grant, epoch);
        stage(db, f.now(), holder, GCODE).await.unwrap();
        (start(db, f.now(), holder).await.unwrap(), epoch)
    }

    async fn a_lost_reply_to_a_claim_gets_the_same_lease_again(f: Fresh) {
        order(&f).await;
        order(&f).await;
        let epoch = cell(&f, "c1").await;
        let db = &f.db.write;
        let first = ask(db, f.now(), "c1", epoch, Some("k")).await.unwrap();
        let again = ask(db, f.now(), "c1", epoch, Some("k")).await.unwrap();
        assert!(first.is_some());
        assert_eq!(first, again);
        let other = ask(db, f.now(), "c1", epoch, Some("l")).await;
        assert!(matches!(
            other,
            Err(StoreError::Refused {
                code: "lease_held",
                ..
            })
        ));
    }

    async fn a_lease_lost_before_the_start_is_offered_to_the_next_cell(f: Fresh) {
        let build = order(&f).await;
        let (one, two) = (cell(&f, "c1").await, cell(&f, "c2").await);
        let db = &f.db.write;
        let lost = ask(db, f.now(), "c1", one, None).await.unwrap().unwrap();
        stage(db, f.now(), holder(&lost, one), GCODE).await.unwrap();
        f.advance(TTL);
        assert_eq!(expire(db, f.now()).await.unwrap(), 1);
        let next = ask(db, f.now(), "c2", two, None).await.unwrap().unwrap();
        assert_eq!(next.build.id, build);
        assert_eq!(next.lease.fence, lost.lease.fence + 1);
        let late = start(db, f.now(), holder(&lost, one)).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
    }

    async fn a_lease_lost_after_the_start_leaves_the_build_uncertain(f: Fresh) {
        let (grant, _) = started(&f, "c1").await;
        let two = cell(&f, "c2").await;
        let db = &f.db.write;
        f.advance(TTL);
        assert_eq!(expire(db, f.now()).await.unwrap(), 1);
        let none = ask(db, f.now(), "c2", two, None).await.unwrap();
        assert_eq!(none, None);
        let build = builds::get(db, &grant.build.id).await.unwrap();
        assert_eq!(build.state, "uncertain");
        let settled = builds::resolve(db, f.now(), &build.id, empty(build.fence)).await;
        assert_eq!(settled.unwrap().state, "waiting");
        let next = ask(db, f.now(), "c2", two, None).await.unwrap().unwrap();
        assert_eq!(next.build.id, build.id);
        let holder = holder(&next, two);
        stage(db, f.now(), holder, GCODE).await.unwrap();
        start(db, f.now(), holder).await.unwrap();
        f.advance(TTL);
        assert_eq!(expire(db, f.now()).await.unwrap(), 1);
        let late = builds::resolve(db, f.now(), &build.id, empty(build.fence)).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
        let build = builds::get(db, &build.id).await.unwrap();
        assert_eq!(
            build.state, "uncertain",
            "nobody looked at this plate since"
        );
    }

    async fn a_plate_that_nobody_has_looked_at_gets_no_other_part(f: Fresh) {
        let (grant, one) = started(&f, "c1").await;
        let two = cell(&f, "c2").await;
        let db = &f.db.write;
        f.advance(TTL);
        expire(db, f.now()).await.unwrap();
        let unknown = |asked: Result<Option<Grant>, StoreError>, left: &str| match asked {
            Err(StoreError::PlateUnknown { cell, build, .. }) => {
                assert_eq!((cell.as_str(), build.as_str()), ("c1", left));
            }
            other => panic!("{other:?}"),
        };
        unknown(ask(db, f.now(), "c1", one, None).await, &grant.build.id);
        let other = order(&f).await;
        unknown(ask(db, f.now(), "c1", one, None).await, &grant.build.id);
        let row = builds::get(db, &other).await.unwrap();
        let found = crate::store::dispatch::why_waiting(db, f.now(), &row).await;
        let codes: Vec<_> = found.unwrap().into_iter().map(|o| o.code).collect();
        assert_eq!(codes, ["plate_unknown", "next"]);
        let next = ask(db, f.now(), "c2", two, None).await.unwrap().unwrap();
        assert_eq!(next.build.id, other, "another plate is not in doubt");

        // The cell itself looks, and may go on.
        let looked = builds::Looked {
            on_plate: OnPlate::Partial,
            ..empty(grant.build.fence)
        };
        builds::resolve(db, f.now(), &grant.build.id, looked)
            .await
            .unwrap();
        let third = order(&f).await;
        let held = ask(db, f.now(), "c1", one, None).await.unwrap().unwrap();
        assert_eq!(held.build.id, third);

        // Handed out before an earlier build of the cell was in doubt: it does not begin all the same.
        stage(db, f.now(), holder(&held, one), GCODE).await.unwrap();
        let sql = "UPDATE build SET state = $2, cell = 'c1' WHERE id = $1";
        execute(db, sql, values![other.as_str(), "uncertain"])
            .await
            .unwrap();
        let early = start(db, f.now(), holder(&held, one)).await;
        unknown(early.map(Some), &other);
        execute(db, sql, values![other.as_str(), "ended"])
            .await
            .unwrap();
        start(db, f.now(), holder(&held, one)).await.unwrap();
    }

    async fn a_finished_part_is_made_once_somebody_has_scanned_it(f: Fresh) {
        let (grant, epoch) = started(&f, "c1").await;
        let db = &f.db.write;
        f.advance(TTL);
        expire(db, f.now()).await.unwrap();
        let seen = builds::Looked {
            on_plate: OnPlate::Finished,
            ..empty(grant.build.fence)
        };
        let id = &grant.build.id;
        let unscanned = builds::resolve(db, f.now(), id, seen).await.unwrap();
        assert_eq!(unscanned.state, "uncertain");
        assert_eq!(unscanned.on_plate().unwrap(), Some(OnPlate::Finished));
        let before = steps::at(db, &grant.build.run_id, "1").await.unwrap();

        let scanned = builds::Looked {
            scan: Some("sha256:5"),
            ..seen
        };
        let made = builds::resolve(db, f.now(), id, scanned).await.unwrap();
        assert_eq!(made.state, "ended");
        let after = steps::at(db, &grant.build.run_id, "1").await.unwrap();
        assert_eq!(after.wakes, before.wakes + 1);
        let ended = get(db, &grant.lease.id).await.unwrap();
        assert_eq!(ended.state, "ended");
        // The cell that comes back says the same, or is told that it is over.
        let held = holder(&grant, epoch);
        let same = complete(db, f.now(), held, "sha256:5", &json!({})).await;
        assert_eq!(same.unwrap().build.state, "ended");
        let other = complete(db, f.now(), held, "sha256:6", &json!({})).await;
        assert!(matches!(
            other,
            Err(StoreError::Refused {
                code: "lease_ended",
                ..
            })
        ));
        assert_eq!(audit::first_broken(db).await.unwrap(), None);
    }

    async fn a_called_off_build_that_left_nothing_on_the_plate_ends(f: Fresh) {
        let (grant, _) = started(&f, "c1").await;
        let two = cell(&f, "c2").await;
        let db = &f.db.write;
        f.advance(TTL);
        expire(db, f.now()).await.unwrap();
        let run = &grant.build.run_id;
        builds::cancel(db, f.now(), run, None).await.unwrap();
        let build = builds::get(db, &grant.build.id).await.unwrap();
        assert_eq!(
            build.state, "uncertain",
            "nobody knows what is on the plate"
        );
        let settled = builds::resolve(db, f.now(), &build.id, empty(build.fence)).await;
        let settled = workflows::model::Build::try_from(settled.unwrap()).unwrap();
        assert_eq!(settled.state, BuildState::Ended);
        let code = match settled.ended {
            Some(BuildEnd::Failed { code, .. }) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code, "cancelled");
        assert_eq!(ask(db, f.now(), "c2", two, None).await.unwrap(), None);
    }

    async fn a_cell_that_comes_back_may_still_say_what_it_made(f: Fresh) {
        let (grant, epoch) = started(&f, "c1").await;
        let db = &f.db.write;
        f.advance(TTL);
        expire(db, f.now()).await.unwrap();
        let beat = Beat {
            seq: 1,
            share_done: 0.5,
            phase: "layer 7",
            ttl_ms: TTL,
        };
        let found = heartbeat(db, f.now(), holder(&grant, epoch), beat)
            .await
            .unwrap();
        assert_eq!(found.build.state, "uncertain");
        assert_eq!(found.lease.state, "held");
        f.advance(TTL);
        expire(db, f.now()).await.unwrap();
        let report = json!({});
        let held = holder(&grant, epoch);
        let done = complete(db, f.now(), held, "sha256:5", &report)
            .await
            .unwrap();
        assert_eq!(done.build.state, "ended");
        let again = complete(db, f.now(), held, "sha256:5", &report)
            .await
            .unwrap();
        assert_eq!(again, done, "a report may be repeated");
        let other = complete(db, f.now(), held, "sha256:6", &report).await;
        assert!(matches!(
            other,
            Err(StoreError::Refused {
                code: "lease_ended",
                ..
            })
        ));
        assert_eq!(done.build.physical_starts, 1);
        assert_eq!(audit::first_broken(db).await.unwrap(), None);
    }

    async fn an_older_connection_is_shut_out(f: Fresh) {
        let (grant, old) = started(&f, "c1").await;
        let db = &f.db.write;
        let new = cells::open_epoch(db, f.now(), "c1").await.unwrap();
        assert_eq!(new, old + 1);
        let late = complete(db, f.now(), holder(&grant, old), "sha256:5", &json!({})).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
        let build = builds::get(db, &grant.build.id).await.unwrap();
        assert_eq!(build.state, "uncertain");
        let told = complete(db, f.now(), holder(&grant, new), "sha256:5", &json!({})).await;
        assert_eq!(told.unwrap().build.state, "ended");
    }

    async fn a_start_is_recorded_once(f: Fresh) {
        let (grant, epoch) = started(&f, "c1").await;
        let db = &f.db.write;
        let again = start(db, f.now(), holder(&grant, epoch)).await.unwrap();
        assert_eq!(again.build.physical_starts, 1);
        f.advance(TTL);
        expire(db, f.now()).await.unwrap();
        let late = start(db, f.now(), holder(&grant, epoch)).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
    }

    async fn the_end_of_a_build_wakes_the_step_that_ordered_it(f: Fresh) {
        let (grant, epoch) = started(&f, "c1").await;
        let db = &f.db.write;
        let before = steps::at(db, &grant.build.run_id, "1").await.unwrap();
        let held = holder(&grant, epoch);
        fail(db, f.now(), held, "jam", "the nozzle is blocked")
            .await
            .unwrap();
        let after = steps::at(db, &grant.build.run_id, "1").await.unwrap();
        assert_eq!(after.wakes, before.wakes + 1);
    }

    async fn a_build_is_leased_once_among_many_who_ask(f: Fresh) {
        for _ in 0..3 {
            order(&f).await;
        }
        let mut asking = Vec::new();
        for n in 0..8 {
            let name = format!("c{n}");
            let epoch = cell(&f, &name).await;
            let (db, now) = (f.db.write.clone(), f.now());
            asking.push(tokio::spawn(async move {
                ask(&db, now, &name, epoch, None).await.unwrap()
            }));
        }
        let mut got = Vec::new();
        for task in asking {
            got.extend(task.await.unwrap().map(|grant| grant.build.id));
        }
        got.sort();
        got.dedup();
        assert_eq!(got.len(), 3);
    }

    async fn a_cell_that_lies_about_a_digest_is_refused(f: Fresh) {
        order(&f).await;
        let epoch = cell(&f, "c1").await;
        let db = &f.db.write;
        let grant = ask(db, f.now(), "c1", epoch, None).await.unwrap().unwrap();
        let lie = stage(db, f.now(), holder(&grant, epoch), "sha256:ff").await;
        assert!(matches!(
            lie,
            Err(StoreError::Refused {
                code: "digest_mismatch",
                ..
            })
        ));
        let early = start(db, f.now(), holder(&grant, epoch)).await;
        assert!(matches!(
            early,
            Err(StoreError::Refused {
                code: "not_staged",
                ..
            })
        ));
    }
}
