//! Taking back what vanished workers held.
//!
//! On Postgres the index of leases keeps the entry of a lease that is over until no transaction can see it any more. While
//! one stays open for long, they pile up, and whoever reads the whole index reads all of them. So each look reads only
//! the leases that ran out since the last one.

use std::collections::BTreeSet;
use std::time::Duration;

use sea_orm::{ConnectionTrait, FromQueryResult};
use serde_json::json;
use workflows::run::RunFailure;

use crate::store::database::{all, among, execute, notify, skip_locked};
use crate::store::runs::RunEnd;
use crate::store::steps::{self, step};
use crate::store::{StoreError, children, runs, values};

use super::finish;

/// The leases one look is for: those that ran out after a moment and up to another, milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Not this one.
    pub after: i64,
    /// This one as well.
    pub until: i64,
}

impl Span {
    /// Whatever ran out until now.
    #[must_use]
    pub fn whole(now: i64) -> Self {
        Self {
            after: i64::MIN,
            until: now,
        }
    }
}

/// What a process remembers of its looks.
///
/// Every lease runs out once, so it is enough to read on from where the last look ended, or from the first lease that
/// somebody held on to. Only a lease that began in a transaction that was committed after the lease was over, or under a
/// clock that is late by more than a lease, can be missed so; for them everything is read now and then.
#[derive(Debug)]
pub struct Looks {
    seen_until: i64,
    whole_at: i64,
}

/// How often everything is read, milliseconds.
const WHOLE_EVERY_MS: i64 = 60_000;
/// And no more of the time than one part in so many.
const WHOLE_SHARE: i64 = 100;
/// But never longer apart than this, milliseconds.
const WHOLE_WITHIN_MS: i64 = 600_000;

impl Default for Looks {
    fn default() -> Self {
        Self {
            seen_until: i64::MIN,
            whole_at: i64::MIN,
        }
    }
}

impl Looks {
    /// What to look for now.
    #[must_use]
    pub fn next(&self, now: i64) -> Span {
        let set_back = now < self.seen_until;
        if set_back || now >= self.whole_at {
            return Span::whole(now);
        }
        Span {
            after: self.seen_until,
            until: now,
        }
    }

    /// Notes a look whose reading took so long, and when the first lease ran out that it saw and had to leave.
    pub fn looked(&mut self, span: Span, took: Duration, first_left: Option<i64>) {
        self.seen_until = first_left.map_or(span.until, |left| left.saturating_sub(1));
        if span.after == i64::MIN {
            let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
            let rest = took_ms.saturating_mul(WHOLE_SHARE);
            let rest = rest.clamp(WHOLE_EVERY_MS, WHOLE_WITHIN_MS);
            self.whole_at = span.until.saturating_add(rest);
        }
    }
}

/// A step whose lease ran out.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct RanOut {
    id: String,
    lease_until: i64,
}

/// When the first lease ran out of those that were seen and not taken.
#[must_use]
pub fn first_left(seen: &[RanOut], taken: &[step::Model]) -> Option<i64> {
    let taken: BTreeSet<&str> = taken.iter().map(|step| step.id.as_str()).collect();
    let left = seen.iter().filter(|step| !taken.contains(&*step.id));
    left.map(|step| step.lease_until).min()
}

const AGAIN: &str = "attempt < max_attempts";
const EXHAUSTED: &str = "attempt >= max_attempts";
const IN_SPAN: &str = "state = 'leased' AND lease_until > $1 AND lease_until <= $2";

/// The steps of a span that may be tried again.
///
/// # Errors
///
/// When the database does not answer.
pub async fn ran_out(db: &impl ConnectionTrait, span: Span) -> Result<Vec<RanOut>, StoreError> {
    seen(db, span, AGAIN).await
}

/// The steps of a span that were tried as often as they may be.
///
/// # Errors
///
/// When the database does not answer.
pub async fn exhausted(db: &impl ConnectionTrait, span: Span) -> Result<Vec<RanOut>, StoreError> {
    seen(db, span, EXHAUSTED).await
}

async fn seen(
    db: &impl ConnectionTrait,
    span: Span,
    which: &str,
) -> Result<Vec<RanOut>, StoreError> {
    let sql = format!("SELECT id, lease_until FROM step WHERE {IN_SPAN} AND {which}");
    all(db, &sql, values![span.after, span.until]).await
}

/// Takes back steps of a span that may be tried again, but for those that somebody holds on to. It waits for nobody.
///
/// # Errors
///
/// When the database does not answer.
pub async fn take_back(
    db: &impl ConnectionTrait,
    span: Span,
) -> Result<Vec<step::Model>, StoreError> {
    let ran_out = format!(
        "SELECT id FROM step WHERE {IN_SPAN} AND {AGAIN} {}",
        skip_locked(db)
    );
    // Held since they were chosen, they are leased. Asked once more for that, Postgres goes through the leases and asks the
    // query for each of them: few as they seem, they were minutes.
    let sql = format!(
        "UPDATE step SET state = 'ready', run_at = $2, lease_owner = NULL, lease_until = NULL \
         WHERE id {} RETURNING *",
        among(db, &ran_out)
    );
    let again: Vec<step::Model> = all(db, &sql, values![span.after, span.until]).await?;
    let places = again.iter().map(|step| (&*step.queue, step.place()));
    steps::tell_ready(db, span.until, places).await?;
    if !again.is_empty() {
        notify(db).await?;
    }
    Ok(again)
}

/// Ends steps of a span that were tried as often as they may be, but for those that somebody holds on to. As it records
/// facts, it waits for those who do. To be called in a transaction.
///
/// # Errors
///
/// When the database does not answer.
pub async fn give_up_exhausted(
    db: &impl ConnectionTrait,
    span: Span,
) -> Result<Vec<step::Model>, StoreError> {
    let sql = format!(
        "SELECT * FROM step WHERE {IN_SPAN} AND {EXHAUSTED} ORDER BY id {}",
        skip_locked(db)
    );
    let exhausted: Vec<step::Model> = all(db, &sql, values![span.after, span.until]).await?;
    for step in &exhausted {
        give_up(db, span.until, step).await?;
    }
    Ok(exhausted)
}

/// Everything that ran out, in one transaction: how many are tried again, and how many are not.
#[cfg(test)]
pub async fn expire(db: &impl ConnectionTrait, now: i64) -> Result<(usize, usize), StoreError> {
    let span = Span::whole(now);
    let again = take_back(db, span).await?.len();
    Ok((again, give_up_exhausted(db, span).await?.len()))
}

async fn give_up(
    db: &impl ConnectionTrait,
    now: i64,
    step: &step::Model,
) -> Result<(), StoreError> {
    let message = format!(
        "whoever worked on it vanished {} times; it is not tried again",
        step.attempt
    );
    if step.position != steps::ADVANCE {
        return finish::end_failed(db, now, step, "attempts_exhausted", &message, false).await;
    }
    let run = runs::get(db, &step.run_id).await?;
    children::wake_parent(db, now, &run).await?;
    runs::withdraw(db, now, &step.run_id).await?;
    children::cancel(db, now, &step.run_id, None).await?;
    let sql = "UPDATE step SET state = 'failed', error = $3, lease_owner = NULL, \
               lease_until = NULL, ended_at = $4 WHERE id = $1 AND fence = $2 AND state = 'leased'";
    let values = values![step.id.as_str(), step.fence, message.as_str(), now];
    execute(db, sql, values).await?;
    let message = format!("{message}, and nothing it did was undone");
    let failure = json!(RunFailure::of_run("attempts_exhausted", &message, None));
    runs::end(db, now, &step.run_id, &RunEnd::Failed(failure)).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::queue::{Heartbeat, claim};
    use crate::store::begin;
    use crate::store::database::for_update;
    use crate::store::steps::NewStep;
    use crate::testing::{Fresh, on_both};

    on_both!(a_renewed_lease_runs_out_later);

    const QUICK: Duration = Duration::from_millis(3);

    #[test]
    fn a_clock_that_was_set_back_has_everything_read() {
        let mut looks = Looks::default();
        looks.looked(looks.next(100_000), QUICK, None);
        let next = Span {
            after: 100_000,
            until: 100_500,
        };
        assert_eq!(looks.next(100_500), next);
        assert_eq!(looks.next(99_999), Span::whole(99_999));
    }

    #[test]
    fn reading_everything_takes_a_small_share_of_the_time() {
        let mut looks = Looks::default();
        let mut whole_looks = 0;
        for now in (0..3_600_000).step_by(500) {
            let span = looks.next(now);
            let whole = span == Span::whole(now);
            whole_looks += i32::from(whole);
            let took = if whole { Duration::from_secs(6) } else { QUICK };
            looks.looked(span, took, None);
        }
        assert_eq!(whole_looks, 6);
    }

    #[derive(Debug, Clone)]
    enum Act {
        /// A lease begins, or is renewed, that lasts so long.
        Lease(u8, i64),
        /// Its holder is stopped in the middle of a transaction, or is heard of again.
        Hold(u8, bool),
        Finish(u8),
        Look,
        Wait(i64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..6_u8, 1..3_000_i64).prop_map(|(step, ms)| Act::Lease(step, ms)),
            (0..6_u8, any::<bool>()).prop_map(|(step, yes)| Act::Hold(step, yes)),
            (0..6_u8).prop_map(Act::Finish),
            Just(Act::Look),
            (1..2_000_i64).prop_map(Act::Wait),
        ]
    }

    proptest! {
        /// Against a table of leases: a look takes whatever ran out and nobody holds on to, though it reads so few.
        #[test]
        fn every_look_takes_all_that_ran_out(acts in prop::collection::vec(act(), 1..200)) {
            let (mut looks, mut now) = (Looks::default(), 1_000_000);
            let (mut leases, mut held) = (BTreeMap::new(), BTreeSet::new());
            for act in acts {
                match act {
                    Act::Lease(step, ms) => drop(leases.insert(step, now + ms)),
                    Act::Hold(step, true) => drop(held.insert(step)),
                    Act::Hold(step, false) => drop(held.remove(&step)),
                    Act::Finish(step) => drop(leases.remove(&step)),
                    Act::Wait(ms) => now += ms,
                    Act::Look => {
                        let span = looks.next(now);
                        let seen: BTreeMap<u8, i64> = leases.iter()
                            .filter(|(_, until)| (span.after + 1..=span.until).contains(*until))
                            .map(|(step, until)| (*step, *until))
                            .collect();
                        let left = seen.iter().filter(|(step, _)| held.contains(*step)).map(|(_, until)| *until);
                        looks.looked(span, QUICK, left.min());
                        leases.retain(|step, _| held.contains(step) || !seen.contains_key(step));
                        let missed = leases.iter().find(|(step, until)| **until <= now && !held.contains(*step));
                        prop_assert_eq!(missed, None);
                    }
                }
            }
        }
    }

    async fn three_steps(f: &Fresh) -> String {
        let run = f.start("fn run(event) { 1 }", json!(null)).await;
        for position in ["1", "2", "3"] {
            let step = NewStep::plain(&run, position);
            steps::insert(&f.db.write, f.now(), &step).await.unwrap();
        }
        run
    }

    /// A look as the process makes it; how many it took.
    async fn look(f: &Fresh, looks: &mut Looks) -> usize {
        let span = looks.next(f.now());
        let seen = ran_out(&f.db.read, span).await.unwrap();
        let tx = begin(&f.db.write).await.unwrap();
        let taken = take_back(&tx, span).await.unwrap();
        tx.commit().await.unwrap();
        looks.looked(span, QUICK, first_left(&seen, &taken));
        taken.len()
    }

    // SQLite has one writer, who is the one that looks.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs Postgres"]
    async fn a_step_that_somebody_holds_on_to_is_taken_back_once_it_is_let_go() {
        let f = Fresh::postgres().await;
        three_steps(&f).await;
        let mut looks = Looks::default();
        assert_eq!(look(&f, &mut looks).await, 0);
        let claimed = claim(&f.db.write, f.now(), "w", "io", 1_000, 3).await;
        let claimed = claimed.unwrap();
        let stopped = begin(&f.db.write).await.unwrap();
        let sql = format!("SELECT * FROM step WHERE id = $1 {}", for_update(&stopped));
        let rows: Vec<step::Model> = all(&stopped, &sql, values![claimed[1].0.id.as_str()])
            .await
            .unwrap();
        assert_eq!(rows.len(), 1);
        f.advance(1_000);
        assert_eq!(look(&f, &mut looks).await, 2);
        f.advance(5_000);
        assert_eq!(look(&f, &mut looks).await, 0);
        stopped.rollback().await.unwrap();
        f.advance(500);
        assert_eq!(look(&f, &mut looks).await, 1);
    }

    async fn a_renewed_lease_runs_out_later(f: Fresh) {
        three_steps(&f).await;
        let mut looks = Looks::default();
        let queue = f.queue();
        let lease = queue.settings().step_lease_ms;
        let claimed = claim(&f.db.write, f.now(), "w", "io", lease, 1)
            .await
            .unwrap();
        let heartbeat = Heartbeat::new(f.db.clone(), queue.clock(), queue.settings());
        let held = heartbeat.hold(&claimed[0]);
        for _ in 0..4 {
            f.advance(lease - 1);
            heartbeat.beat().await.unwrap();
            assert_eq!(look(&f, &mut looks).await, 0);
        }
        drop(held);
        f.advance(lease - 1);
        assert_eq!(look(&f, &mut looks).await, 0);
        f.advance(1);
        assert_eq!(look(&f, &mut looks).await, 1);
    }
}
