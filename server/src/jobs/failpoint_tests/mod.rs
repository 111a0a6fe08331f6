//! A process dies right before and right after every commit in the life of what the server keeps, or is stopped there
//! until its transaction is ended: what follows goes on, and nothing is lost or done twice, on both databases.

mod decided;
mod hall;
mod moved;
mod old;
mod places;
mod plugged;
mod ticking;
mod whole;

use std::collections::BTreeSet;
use std::time::Duration;

use decided::Decided;
use hall::{Client, Hall};
use moved::Moved;
use old::Old;
use plugged::Plugged;
use ticking::Ticking;
use whole::Whole;

use crate::store::audit;
use crate::store::database::all;
use crate::store::failpoints::{Fate, Place, Point, Side};
use crate::store::values;
use crate::testing::Fresh;

/// Something that goes on in a hall from its start to its end, whatever becomes of the processes.
trait Life: Sized {
    /// Stores what it needs.
    async fn prepare(hall: &Hall) -> Self;

    /// Everything somebody outside has to do for it, and what has to come of it.
    async fn live(&self, client: &mut Client<'_>, key: &str);
}

#[derive(Debug, sea_orm::FromQueryResult)]
struct Wrong {
    what: String,
    n: i64,
}

/// What must be of no row whatever happened; each gives what has to be 1 of every row. A step whose answer a restart took
/// over has the name of its run in its own, and was not done again.
const NEVER: [(&str, &str); 10] = [
    (
        "a run does not end once",
        "SELECT r.id AS what, (SELECT COUNT(*) FROM event e WHERE e.subject = r.id AND e.name = 'run.ended') AS n FROM run r",
    ),
    (
        "a run does not begin once",
        "SELECT r.id AS what, (SELECT COUNT(*) FROM event e WHERE e.subject = r.id AND e.name = 'run.started') AS n FROM run r",
    ),
    (
        "a step is not done once",
        "SELECT s.id AS what, (SELECT COUNT(*) FROM event e WHERE e.subject = s.id AND e.name = 'step.done') AS n FROM step s \
         WHERE s.state = 'done' AND s.position <> '@' AND s.id NOT LIKE '%:%'",
    ),
    (
        "a step does not fail once",
        "SELECT s.id AS what, (SELECT COUNT(*) FROM event e WHERE e.subject = s.id AND e.name = 'step.failed') AS n FROM step s \
         WHERE s.state = 'failed' AND s.position <> '@' AND s.id NOT LIKE '%:%'",
    ),
    (
        "a step has not ended",
        "SELECT id || ' ' || state AS what, CAST(0 AS BIGINT) AS n FROM step WHERE state IN ('ready', 'leased')",
    ),
    (
        "a step is tried too often",
        "SELECT id AS what, CAST(0 AS BIGINT) AS n FROM step WHERE attempt > max_attempts",
    ),
    (
        "a call has no answer",
        "SELECT run_id || ' ' || position AS what, CAST(0 AS BIGINT) AS n FROM journal JOIN run ON run.id = run_id \
         WHERE outcome IS NULL AND run.state <> 'cancelled'",
    ),
    (
        "a step orders more builds than one, or one that does not end once",
        "SELECT b.id AS what, (SELECT COUNT(*) FROM event e WHERE e.subject = b.id AND e.name = 'build.ended') AS n FROM build b",
    ),
    (
        "a build is started otherwise than once for each empty plate and the part",
        "SELECT b.id AS what, b.physical_starts \
         - (SELECT COUNT(*) FROM event e WHERE e.subject = b.id AND e.name = 'build.resolved') AS n FROM build b",
    ),
    (
        "a start is not told once",
        "SELECT b.id AS what, 1 + b.physical_starts \
         - (SELECT COUNT(*) FROM event e WHERE e.subject = b.id AND e.name = 'build.started') AS n FROM build b",
    ),
];

impl Hall {
    /// What is wrong with what is recorded.
    async fn wrong(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (what, sql) in NEVER {
            let sql = format!("SELECT what, n FROM ({sql}) AS rows WHERE n <> 1");
            let rows: Vec<Wrong> = all(&self.f.db.write, &sql, values![]).await.unwrap();
            found.extend(
                rows.iter()
                    .map(|row| format!("{what}: {} ({})", row.what, row.n)),
            );
        }
        found
    }

    /// A life with this fate; says whether it was met, and what a process without one came to.
    async fn one_life(
        &self,
        life: &impl Life,
        key: &str,
        fate: Option<(Point, Fate)>,
    ) -> (bool, Vec<Point>) {
        let mut client = Client::new(self, fate);
        life.live(&mut client, key).await;
        let first = client.first.take().unwrap();
        let points = first.points();
        drop(client);
        let wrong = self.wrong().await;
        assert_eq!(wrong, [""; 0], "{fate:?}");
        (first.met_fate(), points)
    }

    /// A life for each point of one, in which a process dies there; gives the lines somebody died at.
    async fn every_death<L: Life>(f: Fresh) -> BTreeSet<Place> {
        let hall = Self::new(f, 1_000).await;
        let life = L::prepare(&hall).await;
        let (_, points) = hall.one_life(&life, "first", None).await;
        let of_many = |point: &Point| MANY.iter().any(|file| point.place.file.ends_with(file));
        let often = points
            .iter()
            .filter(|point| point.nth <= if of_many(point) { TIMES } else { 1 });
        let mut died_at = BTreeSet::new();
        for (n, point) in often.enumerate() {
            let fate = Some((*point, Fate::Dies));
            // Which way is taken hangs on who is quicker at times, so it may take more than one life to come there.
            for turn in 0..TURNS {
                let key = format!("life {n} {turn}");
                let (dead, _) = hall.one_life(&life, &key, fate).await;
                died_at.extend(dead.then_some(point.place));
                if dead {
                    break;
                }
            }
        }
        let broken = audit::first_broken(&hall.f.db.read).await.unwrap();
        assert_eq!(broken, None);
        died_at
    }
}

/// How often a point is died at where what passes is of many kinds; elsewhere once.
const TIMES: u32 = 3;
/// How many lives are lived until one comes to a point.
const TURNS: u32 = 4;
const MANY: [&str; 3] = ["step_host.rs", "advance_run.rs", "finisher.rs"];

async fn whenever_a_process_dies_the_next_goes_on(fresh: impl AsyncFn() -> Fresh) {
    let mut died_at = Hall::every_death::<Whole>(fresh().await).await;
    died_at.extend(Hall::every_death::<Moved>(fresh().await).await);
    died_at.extend(Hall::every_death::<Ticking>(fresh().await).await);
    died_at.extend(Hall::every_death::<Decided>(fresh().await).await);
    died_at.extend(Hall::every_death::<Old>(fresh().await).await);
    died_at.extend(Hall::every_death::<Plugged>(fresh().await).await);
    assert_eq!(places::passed_over(&died_at), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_a_process_dies_the_next_goes_on_on_sqlite() {
    whenever_a_process_dies_the_next_goes_on(Fresh::sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres"]
async fn whenever_a_process_dies_the_next_goes_on_on_postgres() {
    whenever_a_process_dies_the_next_goes_on(Fresh::postgres).await;
}

/// On SQLite one process has one writer: whoever is stopped is stopped with everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres"]
async fn a_process_stopped_in_a_transaction_goes_on_without_it() {
    let f = Fresh::postgres().await;
    let hall = Hall::new(f, 100).await;
    let whole = Whole::prepare(&hall).await;
    let (_, points) = hall.one_life(&whole, "first", None).await;
    let stops = Fate::Stops(Duration::from_millis(400));
    let mut met = 0;
    let once = |point: &&Point| point.nth == 1 && point.side == Side::Before;
    for point in points.iter().filter(once) {
        let fate = Some((*point, stops));
        let (stopped, _) = hall.one_life(&whole, &format!("{point:?}"), fate).await;
        met += u32::from(stopped);
    }
    assert!(met >= 15, "only {met} were stopped");
    assert_eq!(audit::first_broken(&hall.f.db.read).await.unwrap(), None);
}
