//! The checker of leases, turned on other queues: it has to find what is known to be wrong with them, so that its silence
//! about Forewright means something.
//!
//! It needs them installed: `FOREWRIGHT_CHAOS_PEERS` names the folder that `scripts/install.sh queue-peers` fills, as
//! `make chaos` does; without it this says so and ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::{Cluster, Rows, Seeded};

use crate::history::leases;
use crate::history::witness::{self, Watched};

const JOBS: usize = 240;
const WORKERS: usize = 3;
const KILLS: usize = 12;
const ZOMBIES: usize = 3;
/// How long what a killed worker held may stay where it is; more than Forewright's lease and two seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A queue, how to have it work, and what its rows are called.
struct Peer {
    name: &'static str,
    enqueue: Vec<String>,
    /// `NAME` stands for the worker's own.
    work: Vec<String>,
    watched: Watched,
}

const APALIS: Watched = Watched {
    table: "apalis.jobs",
    columns: [
        "ROW.id",
        "CASE ROW.status WHEN 'Pending' THEN 'ready' WHEN 'Done' THEN 'done' WHEN 'Killed' THEN 'failed' \
         WHEN 'Failed' THEN CASE WHEN ROW.attempts < ROW.max_attempts THEN 'ready' ELSE 'failed' END \
         ELSE 'leased' END",
        "NULL",
        "ROW.attempts",
        "ROW.max_attempts",
        // It is queued for nobody yet when it leaves the line.
        "COALESCE(ROW.lock_by, 'nobody')",
        "NULL",
    ],
};

const PG_BOSS: Watched = Watched {
    table: "pgboss.job",
    columns: [
        "ROW.id::text",
        "CASE ROW.state::text WHEN 'created' THEN 'ready' WHEN 'retry' THEN 'ready' WHEN 'active' THEN 'leased' \
         WHEN 'completed' THEN 'done' ELSE ROW.state::text END",
        "NULL",
        "ROW.retry_count",
        "ROW.retry_limit",
        // It does not say who.
        "'somebody'",
        "NULL",
    ],
};

fn peers(folder: &Path, url: &str) -> [Peer; 2] {
    let rust = folder.join("rust/release/bench-queue-peers");
    let node = folder.join("node/node_modules/node/bin/node");
    let boss = folder.join("node/pgboss_work.mjs");
    let words = |words: &[&dyn AsRef<Path>]| {
        let words = words.iter().map(|word| word.as_ref().display().to_string());
        words.collect::<Vec<_>>()
    };
    let count = JOBS.to_string();
    [
        Peer {
            name: "apalis-postgres as it comes",
            enqueue: words(&[&rust, &"apalis_postgres", &"enqueue", &url, &count]),
            work: words(&[&rust, &"apalis_postgres", &"work", &url, &"NAME"]),
            watched: APALIS,
        },
        Peer {
            name: "pg-boss as it comes",
            enqueue: words(&[&node, &boss, &"enqueue", &url, &count]),
            work: words(&[&node, &boss, &"work", &url]),
            watched: PG_BOSS,
        },
    ]
}

#[test]
#[ignore = "needs Postgres"]
fn the_checker_finds_what_is_wrong_with_other_queues() {
    let Ok(folder) = std::env::var("FOREWRIGHT_CHAOS_PEERS") else {
        eprintln!(
            "skipped: FOREWRIGHT_CHAOS_PEERS names no folder of other queues; `make chaos` has one"
        );
        return;
    };
    let folder = PathBuf::from(folder);
    let cluster = Cluster::start();
    for number in 0..2 {
        let url = cluster.database(&format!("peer_{number}"));
        let peer = peers(&folder, &url).into_iter().nth(number).expect("two");
        let found = torment(&peer, &Rows::Postgres(url), number as u64 + 1);
        let mut kinds = BTreeMap::<&str, usize>::new();
        for fault in &found {
            let kind = ["lost", "over the maximum", "became", "ended"];
            let kind = kind.into_iter().find(|kind| fault.contains(kind));
            *kinds.entry(kind.unwrap_or("other")).or_default() += 1;
        }
        println!("{}: {} faults, {kinds:?}", peer.name, found.len());
        for fault in found.iter().take(3) {
            println!("  {fault}");
        }
        assert!(
            !found.is_empty(),
            "nothing is found wrong with {}",
            peer.name
        );
    }
}

/// Kills and stops its workers while they work, waits, and gives what the checker says.
fn torment(peer: &Peer, rows: &Rows, seed: u64) -> Vec<String> {
    // The tables have to be there before they can be watched, and the jobs are not to be there before.
    let mut nothing = peer.enqueue.clone();
    *nothing.last_mut().expect("the count") = "0".into();
    assert!(
        run(&nothing).status().expect("it starts").success(),
        "{}",
        peer.name
    );
    witness::watch(rows, std::slice::from_ref(&peer.watched));
    assert!(
        run(&peer.enqueue).status().expect("it starts").success(),
        "{}",
        peer.name
    );
    let mut chance = Seeded::new(seed);
    let mut workers: Vec<Worker> = (0..WORKERS).map(|n| Worker::start(peer, n)).collect();
    std::thread::sleep(Duration::from_secs(2));
    let mut acts: Vec<bool> = (0..KILLS + ZOMBIES).map(|n| n < KILLS).collect();
    chance.shuffle(&mut acts);
    for kills in acts {
        std::thread::sleep(Duration::from_millis(chance.between(200, 700)));
        let victim = usize::try_from(chance.between(0, WORKERS as u64 - 1)).expect("small");
        if kills {
            workers[victim] = Worker::start(peer, workers[victim].number + WORKERS);
        } else {
            workers[victim].signal("-STOP");
            std::thread::sleep(Duration::from_millis(3_500));
            workers[victim].signal("-CONT");
        }
    }
    let calm = Instant::now();
    while calm.elapsed() < PATIENCE {
        let lives = witness::lives(rows, peer.watched.table);
        let open = lives.values().filter_map(|life| life.last());
        if open
            .filter(|seen| ["ready", "leased"].contains(&&*seen.state))
            .count()
            == 0
        {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    drop(workers);
    leases::faults(&witness::lives(rows, peer.watched.table)).0
}

fn run(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A worker, killed with the value.
struct Worker {
    child: Child,
    number: usize,
}

impl Worker {
    fn start(peer: &Peer, number: usize) -> Self {
        let name = format!("worker-{number}");
        let words = peer.work.iter().map(|word| match word.as_str() {
            "NAME" => name.clone(),
            word => word.to_owned(),
        });
        let child = run(&words.collect::<Vec<_>>()).spawn().expect("it starts");
        Self { child, number }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args([signal, &pid]).status();
        assert!(told.is_ok(), "kill can be started");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
