//! Chaos: servers, workers, cells and the database are killed, stopped and cut off at seeded moments, over many runs.
//!
//! The short form runs with every `cargo test`; `make chaos` asks for the long one by `FOREWRIGHT_CHAOS_KILLS`,
//! `…_ZOMBIES`, `…_RESTARTS`, `…_TERMINATIONS`, `…_STEPS` and `…_EPISODES`. `FOREWRIGHT_SEED` is the first episode's
//! seed, each later one has the next; a failing episode says how to have it again. The seed fixes what is done to whom
//! and when; what the processes were at in that moment is theirs.

mod hall;
mod load;
mod plan;
mod tally;

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::history::forewright::History;
use crate::history::recovery::Recovery;
use crate::history::tampered;
use hall::{Hall, LEASE_MS};
pub(crate) use plan::Quota;
use tally::Tally;

/// How long everything may take to end once nobody is tormented any more.
const QUIET: Duration = Duration::from_secs(240);

fn variable(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().expect("a whole number"))
}

/// The quota of all episodes together: what is asked for, else the short form's.
fn quota(short: Quota) -> Quota {
    Quota {
        kills: variable("FOREWRIGHT_CHAOS_KILLS", short.kills),
        zombies: variable("FOREWRIGHT_CHAOS_ZOMBIES", short.zombies),
        restarts: variable("FOREWRIGHT_CHAOS_RESTARTS", short.restarts),
        terminations: variable("FOREWRIGHT_CHAOS_TERMINATIONS", short.terminations),
        steps: variable("FOREWRIGHT_CHAOS_STEPS", short.steps),
    }
}

#[test]
#[ignore = "needs Postgres"]
fn nothing_is_lost_or_done_twice_on_postgres() {
    let short = Quota {
        kills: 14,
        zombies: 3,
        restarts: 1,
        terminations: 5,
        steps: 300,
    };
    let episodes = variable("FOREWRIGHT_CHAOS_EPISODES", 1);
    torment_all("postgres", quota(short), episodes);
}

#[test]
fn nothing_is_lost_or_done_twice_on_sqlite() {
    let short = Quota {
        kills: 6,
        zombies: 1,
        steps: 100,
        ..Quota::default()
    };
    // What is asked for is asked of Postgres; one process on one file has its share of it.
    let all = quota(short);
    let quota = Quota {
        kills: all.kills.div_ceil(20).max(short.kills),
        zombies: all.zombies.div_ceil(20).max(short.zombies),
        steps: all.steps.div_ceil(100).max(short.steps),
        ..short
    };
    torment_all("sqlite", quota, 1);
}

fn torment_all(database: &str, all: Quota, episodes: u64) {
    let first = variable("FOREWRIGHT_SEED", 1);
    let mut tally = Tally::new(database, first);
    for episode in 0..episodes {
        let share = |of: u64| (of * (episode + 1)) / episodes - (of * episode) / episodes;
        let quota = Quota {
            kills: share(all.kills),
            zombies: share(all.zombies),
            restarts: share(all.restarts),
            terminations: share(all.terminations),
            steps: share(all.steps),
        };
        let seed = first + episode;
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let told = runtime.block_on(one_episode(database, quota, seed, &mut tally));
        if let Err(found) = told {
            panic!(
                "seed {seed} of {database} with {quota:?}:\n{found}\n{}",
                again(seed, quota)
            );
        }
    }
    tally.report(variable("FOREWRIGHT_RECOVERY_MS", 15_000));
}

fn again(seed: u64, quota: Quota) -> String {
    format!(
        "again: FOREWRIGHT_SEED={seed} FOREWRIGHT_CHAOS_KILLS={} FOREWRIGHT_CHAOS_ZOMBIES={} \
         FOREWRIGHT_CHAOS_RESTARTS={} FOREWRIGHT_CHAOS_TERMINATIONS={} FOREWRIGHT_CHAOS_STEPS={} \
         cargo test --locked -p tests --test faults nothing_is_lost -- --include-ignored --nocapture",
        quota.kills, quota.zombies, quota.restarts, quota.terminations, quota.steps
    )
}

/// One hall from its first process to the judgement of what it left.
async fn one_episode(
    database: &str,
    quota: Quota,
    seed: u64,
    tally: &mut Tally,
) -> Result<(), String> {
    let begun = Instant::now();
    let mut hall = match database {
        "postgres" => Hall::postgres(seed).await,
        _ => Hall::sqlite(seed).await,
    };
    load::prepare(&hall.servers[0]).await;
    let (enough, told) = watch::channel(false);
    let (telling, asked) = watch::channel(0_u64);
    let asking = tokio::spawn(load::keep_asking(
        hall.servers.clone(),
        hall.rows.clone(),
        seed,
        telling,
        told,
    ));
    plan::torment(&mut hall, quota, seed).await;
    while *asked.borrow() * load::STEPS_EACH < quota.steps && !asking.is_finished() {
        hall.look_after();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let _ = enough.send(true);
    hall.proxy.calm();
    let asked = asking.await.map_err(|error| error.to_string())?;
    let calm = Instant::now();
    while load::open_runs(&hall.rows).await != Some(0) && calm.elapsed() < QUIET {
        hall.look_after();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A cell that is told its build has ended still has a line to write.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let books = hall.books();
    hall.all.clear();
    let history = History::read(&hall.rows, &books, asked);
    let (mut found, counts) = history.faults();
    found.append(&mut hall.found);
    if found.is_empty() {
        let unnoticed = tampered::unnoticed(&history);
        assert_eq!(unnoticed, [""; 0], "spoilt histories found without fault");
    }
    let mut recovery = Recovery::of(&history.steps, &hall.killed, &hall.outages);
    recovery.add(Recovery::of(&history.leases, &[], &hall.outages));
    let cuts = hall.proxy.cuts();
    tally.add(quota, &history, counts, recovery, cuts, found.len());
    tally.write();
    eprintln!(
        "{database} seed {seed}: {} steps, {} faults, {:.1} s",
        counts.queued,
        found.len(),
        begun.elapsed().as_secs_f64()
    );
    if found.is_empty() {
        return Ok(());
    }
    let kept = hall.folder.keep();
    found.truncate(40);
    Err(format!("{}\nkept in {}", found.join("\n"), kept.display()))
}
