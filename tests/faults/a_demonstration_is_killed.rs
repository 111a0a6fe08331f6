//! A demonstration is killed again and again, and finishes as if it had not been.
//!
//! `FOREWRIGHT_KILLS` says how often over both databases (5; `make chaos` asks for 50), `FOREWRIGHT_SEED` when.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::postgres::Postgres;
use tests::{Demo, Seeded, Server, cmapss, files_of};

use crate::checker;

/// Kills of one demonstration at most.
const KILLS_EACH: usize = 3;
/// The first kill comes no sooner after a start, s.
const FIRST_KILL: f64 = 0.5;
/// The last one comes before this share of the time that a demonstration takes which nobody disturbs.
const LAST_KILL: f64 = 0.9;
/// How long a demonstration that is left alone may take.
const PATIENCE: Duration = Duration::from_secs(400);

/// What comes out must not depend on how often it was begun.
const RESULTS: [&str; 9] = [
    "part.stl",
    "part.3mf",
    "part.gcode",
    "certificate.json",
    "scan_1.ply",
    "scan.ply",
    "verdict_1.json",
    "verdict.json",
    "window.json",
];

/// When the kills come.
struct Moments {
    chance: Seeded,
    last: f64,
}

impl Moments {
    /// A demonstration was over after this time: the first one may have had a busier machine.
    fn over_after(&mut self, seconds: f64) {
        self.last = self.last.min(LAST_KILL * seconds).max(FIRST_KILL);
    }

    fn next(&mut self) -> Duration {
        Duration::from_secs_f64(FIRST_KILL + self.chance.share() * (self.last - FIRST_KILL))
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect("a whole number"))
}

#[test]
fn on_sqlite_it_finishes_as_if_it_had_not_been_killed() {
    let kills = number("FOREWRIGHT_KILLS", 5).div_ceil(2);
    kill_demonstrations(kills, number("FOREWRIGHT_SEED", 1), || None);
}

#[test]
#[ignore = "needs Postgres"]
fn on_postgres_it_finishes_as_if_it_had_not_been_killed() {
    let kills = number("FOREWRIGHT_KILLS", 5) / 2;
    let seed = number("FOREWRIGHT_SEED", 1) ^ 0xff;
    kill_demonstrations(kills, seed, || Some(Postgres::fresh()));
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

/// A demonstration nobody disturbed: its results, and how many seconds it took.
static UNDISTURBED: LazyLock<Option<(BTreeMap<String, String>, f64)>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let demo = Demo::of_engines(&cmapss()?, &folder.path().join("out"));
    let begun = Instant::now();
    block_on(demo.run());
    Some((files_of(&demo.out), begun.elapsed().as_secs_f64()))
});

fn kill_demonstrations(kills: u64, seed: u64, database: impl Fn() -> Option<Postgres>) {
    let (Some(engines), Some((expected, seconds))) = (cmapss(), UNDISTURBED.as_ref()) else {
        return;
    };
    let mut moments = Moments {
        chance: Seeded::new(seed),
        last: LAST_KILL * seconds,
    };
    let (mut done, mut number) = (0, 0);
    while done < kills {
        number += 1;
        let wanted = KILLS_EACH.min(usize::try_from(kills - done).expect("few"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = database();
        let mut demo = Demo::of_engines(&engines, &folder.path().join("out"));
        if let Some(database) = &database {
            demo = demo.over(&database.url);
        }
        let times = block_on(async {
            let times = kill_and_finish(&demo, wanted, &mut moments).await;
            eprintln!("demonstration {number}: killed after {times:.1?} s");
            look_at(&demo, database.as_ref(), &folder).await;
            times
        });
        let files = files_of(&demo.out);
        for file in RESULTS {
            assert_eq!(files[file], expected[file], "{file} after {times:.1?} s");
        }
        done += times.len() as u64;
        // A demonstration that was over before its first kill must not make this go on for ever.
        assert!(
            number <= kills + 3,
            "only {done} of {kills} kills found their mark"
        );
    }
}

/// Kills a demonstration up to so many times, then lets it finish; answers when the kills came.
async fn kill_and_finish(demo: &Demo, kills: usize, moments: &mut Moments) -> Vec<f64> {
    let mut times = Vec::new();
    while times.len() < kills {
        let moment = moments.next();
        let begun = Instant::now();
        let mut child = demo.spawn();
        match tokio::time::timeout(moment, child.wait()).await {
            Ok(ended) => {
                let ended = ended.expect("it ends");
                assert!(ended.success(), "killed after {times:?} s: {}", demo.said());
                // One that was killed before had less to do.
                if times.is_empty() {
                    moments.over_after(begun.elapsed().as_secs_f64());
                }
                return times;
            }
            Err(_) => {
                child.kill().await.expect("SIGKILL reaches it");
                times.push(begun.elapsed().as_secs_f64());
            }
        }
    }
    let mut child = demo.spawn();
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    let ended = ended.unwrap_or_else(|_| panic!("stuck after {times:?} s: {}", demo.said()));
    assert!(
        ended.expect("it ends").success(),
        "killed after {times:?} s: {}",
        demo.said()
    );
    times
}

/// Opens what the demonstration left with a server of its own and checks all of it.
async fn look_at(demo: &Demo, database: Option<&Postgres>, folder: &TempDir) {
    let (data, token) = (demo.out.join("data"), demo.token());
    let mut environment = Vec::new();
    if let Some(database) = database {
        environment.push(("DATABASE_URL", database.url.as_str()));
    }
    let server = Server::on(&data, &environment, &token).await;
    let found = checker::faults(&server, &demo.out.join("cell")).await;
    if !found.is_empty() {
        let kept = folder.path().with_extension("kept");
        let _ = std::fs::rename(folder.path(), &kept);
        panic!(
            "{}\nkept in {}: {}",
            found.join("\n"),
            kept.display(),
            demo.said()
        );
    }
}
