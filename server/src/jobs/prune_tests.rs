//! What is kept no longer goes, and nothing else, however often it is broken off; on both databases.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use serde_json::{Value, json};

use super::prune::{Keeper, Pass, prune};
use super::workers::tests::count;
use crate::auth::Role;
use crate::config::Config;
use crate::host::ArtifactBytes;
use crate::store::archives::{self, ArchiveFilter};
use crate::store::database::execute;
use crate::store::journal::{self, NewEntry};
use crate::store::{self, Page, StoreError, audit, events, new_id, retention, runs, values};
use crate::testing::{Fresh, Kept, NOW, TestServer, on_both};

on_both!(
    what_is_open_stays_and_the_rest_is_archived_however_often_it_is_broken_off,
    without_archives_nothing_is_left_of_a_run,
    an_event_is_kept_while_an_open_run_may_wait_for_it,
    the_audit_stays_a_chain,
    what_somebody_still_reads_is_kept_whatever_its_age,
);

const DAY: i64 = 24 * 3_600_000;

fn keeper(f: &Fresh, archive: bool) -> (Keeper, Arc<Kept>) {
    let mut rules = Config::load(None, std::iter::empty()).unwrap().retention;
    rules.archive = archive;
    rules.batch_rows = 7;
    rules.pause_ms = 0;
    let artifacts = Arc::<Kept>::default();
    let keeper = Keeper {
        db: f.db.clone(),
        artifacts: artifacts.clone(),
        rules,
    };
    (keeper, artifacts)
}

async fn prune_all(keeper: &Keeper) {
    prune(keeper, NOW, Duration::from_secs(600)).await.unwrap();
}

/// Numbers that depend on a seed alone.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How often a seed's passes are broken off.
const CRASHES: u32 = 12;

/// Lets something go on until it waits for the `nth` time, whatever it waits for, and drops it there.
async fn until_wait<T>(nth: u64, doing: impl Future<Output = T>) -> Option<T> {
    let mut doing = std::pin::pin!(doing);
    let mut left = nth;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        doing.as_mut().poll(cx).map(Some)
    })
    .await
}

/// A run as a test tells it.
#[derive(Debug, Clone, Default)]
struct Told {
    id: String,
    began: i64,
    ended: Option<i64>,
    parent: Option<usize>,
    restarted_from: Option<usize>,
    is_dead_letter: bool,
    is_uncertain: bool,
    entries: usize,
}

impl Told {
    fn old(ended_days_ago: i64) -> Self {
        Self {
            began: NOW - (ended_days_ago + 1) * DAY,
            ended: Some(NOW - ended_days_ago * DAY),
            entries: 3,
            ..Self::default()
        }
    }

    async fn store(&mut self, f: &Fresh, before: &[Self]) {
        let db = &f.db.write;
        self.id = new_id(self.began);
        let id = self.id.as_str();
        let named = |n: Option<usize>| n.map(|n| before[n].id.clone());
        let state = match (self.ended, self.is_dead_letter) {
            (None, _) => "waiting",
            (_, true) => "failed",
            _ => "succeeded",
        };
        let sql = "INSERT INTO run (id, workflow, revision, state, event, asset, seed, started_at, ended_at, \
                   failed_position, parent, parent_position, restarted_from) \
                   VALUES ($1, 'w', 'r', $2, '{\"asset\":\"a\"}', 'a', 1, $3, $4, $5, $6, '1', $7)";
        let failed = self.is_dead_letter.then(|| "1".to_owned());
        let values = values![
            id,
            state,
            self.began,
            self.ended,
            failed,
            named(self.parent),
            named(self.restarted_from)
        ];
        execute(db, sql, values).await.unwrap();
        for (position, state) in [
            (
                "@",
                if self.ended.is_some() {
                    "done"
                } else {
                    "ready"
                },
            ),
            (
                "1",
                if self.is_dead_letter {
                    "failed"
                } else {
                    "done"
                },
            ),
        ] {
            let sql = "INSERT INTO step (id, run_id, position, kind, queue, run_at, state, \
                       max_attempts, backoff_ms, input, created_at) \
                       VALUES ($1, $2, $3, 'k', 'io', 0, $4, 1, 1, 'null', 0)";
            let values = values![format!("{id}{position}"), id, position, state];
            execute(db, sql, values).await.unwrap();
        }
        if self.is_uncertain {
            let sql = "INSERT INTO build (id, run_id, position, gcode, gcode_size_bytes, material, printer, \
                       design, state, created_at) VALUES ($1, $1, '1', 'g', 1, 'm', 'p', 'd', 'uncertain', 0)";
            execute(db, sql, values![id]).await.unwrap();
        }
        let positions: Vec<String> = (1..=self.entries).map(|n| n.to_string()).collect();
        let input = json!({ "of": id });
        let entries: Vec<_> = positions
            .iter()
            .map(|position| NewEntry {
                position,
                kind: "k",
                input: &input,
                input_digest: "",
                line: None,
                due: None,
                outcome: None,
                undo: false,
            })
            .collect();
        journal::append(db, 0, id, &entries).await.unwrap();
    }
}

/// Families of runs, one begun after the other.
async fn some_runs(f: &Fresh, chance: &mut Chance) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    for n in 0..40_usize {
        let ended_days_ago = 60 + chance.below(60) as i64;
        let mut run = Told::old(ended_days_ago);
        // In the order they begin, as what comes of a run begins after it.
        run.began = NOW - 200 * DAY + n as i64 * DAY;
        run.ended = (!chance.is(20)).then_some(NOW - ended_days_ago * DAY);
        run.entries = [0, 1, 3, 40][chance.below(4) as usize];
        run.is_uncertain = chance.is(10);
        run.is_dead_letter = run.ended.is_some() && chance.is(25);
        run.entries += usize::from(run.is_dead_letter);
        if n > 0 && chance.is(40) {
            run.parent = Some(chance.below(n as u64) as usize);
        }
        let failed = (0..n)
            .find(|&o| told[o].is_dead_letter && told.iter().all(|t| t.restarted_from != Some(o)));
        if chance.is(50) {
            run.restarted_from = failed;
        }
        run.store(f, &told).await;
        told.push(run);
    }
    told
}

/// Which of them may go, said once more and otherwise than in SQL.
fn may_go(told: &[Told], cut: i64) -> BTreeSet<usize> {
    let mut gone = BTreeSet::new();
    for (n, run) in told.iter().enumerate() {
        let is_old = run.ended.is_some_and(|at| at < cut);
        let open_parent = run.parent.is_some_and(|p| told[p].ended.is_none());
        let open_child = told
            .iter()
            .any(|c| c.parent == Some(n) && c.ended.is_none());
        let dealt_with = told.iter().any(|a| a.restarted_from == Some(n));
        let is_held = open_parent
            || open_child
            || (run.is_dead_letter && !dealt_with)
            || run.is_uncertain
            || run.restarted_from.is_some_and(|o| !gone.contains(&o));
        if is_old && !is_held {
            gone.insert(n);
        }
    }
    gone
}

async fn is_whole(f: &Fresh, run: &Told) -> bool {
    let entries = count(f, &format!("journal WHERE run_id = '{}'", run.id)).await;
    let steps = count(f, &format!("step WHERE run_id = '{}'", run.id)).await;
    entries == run.entries as i64 && steps == 2 && runs::get(&f.db.read, &run.id).await.is_ok()
}

async fn read_archive(kept: &Kept, digest: &str) -> Value {
    let bytes = kept
        .get(digest)
        .await
        .unwrap()
        .expect("the archive's bytes");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn what_is_open_stays_and_the_rest_is_archived_however_often_it_is_broken_off(f: Fresh) {
    let (keeper, kept) = keeper(&f, true);
    let cut = NOW - 90 * DAY;
    for seed in 0..4 {
        for table in ["journal", "step", "build", "run_archive", "run"] {
            execute(&f.db.write, &format!("DELETE FROM {table}"), vec![])
                .await
                .unwrap();
        }
        let mut chance = Chance(seed);
        let told = some_runs(&f, &mut chance).await;
        let gone = may_go(&told, cut);
        assert!(!gone.is_empty() && gone.len() < told.len(), "{seed}");
        // Broken off between two transactions or in the middle of one, again and again.
        for _ in 0..CRASHES {
            let mut pass = Pass::new(&keeper, NOW);
            for _ in 0..chance.below(3) {
                pass.advance().await.unwrap();
            }
            let _ = until_wait(chance.below(40), pass.advance()).await;
            for (n, run) in told.iter().enumerate() {
                let is_whole = is_whole(&f, run).await;
                assert!(is_whole || gone.contains(&n), "{seed}: {n} {run:?}");
            }
        }
        let mut pass = Pass::new(&keeper, NOW);
        while pass.advance().await.unwrap() {}
        for (n, run) in told.iter().enumerate() {
            if !gone.contains(&n) {
                assert!(is_whole(&f, run).await, "{seed}: {n} {run:?}");
                continue;
            }
            let Err(StoreError::Archived(row)) = runs::get(&f.db.read, &run.id).await else {
                panic!("{seed}: {n} {run:?}");
            };
            let archive = read_archive(&kept, row.digest.as_deref().unwrap()).await;
            assert_eq!(archive["run"]["id"], run.id);
            assert_eq!(archive["run"]["event"], json!({ "asset": "a" }));
            let entries = archive["journal"].as_array().unwrap();
            assert_eq!(entries.len(), run.entries);
            assert!(entries.iter().all(|e| e["input"]["of"] == run.id));
            assert_eq!(archive["steps"].as_array().unwrap().len(), 2);
        }
        let left: i64 = told.len() as i64 - gone.len() as i64;
        assert_eq!(count(&f, "run").await, left, "{seed}");
        assert_eq!(count(&f, "run_archive").await, gone.len() as i64, "{seed}");
        // Nothing is left to do.
        let old = retention::count_old_runs(&f.db.read, cut).await.unwrap();
        assert_eq!(old, 0, "{seed}");
    }
}

async fn without_archives_nothing_is_left_of_a_run(f: Fresh) {
    let (keeper, _) = keeper(&f, false);
    let mut old = Told::old(100);
    old.entries = 30;
    old.store(&f, &[]).await;
    prune_all(&keeper).await;
    let gone = runs::get(&f.db.read, &old.id).await;
    assert!(matches!(gone, Err(StoreError::Unknown { .. })), "{gone:?}");
    for table in ["run", "run_archive", "journal", "step", "artifact"] {
        assert_eq!(count(&f, table).await, 0, "{table}");
    }
}

async fn tell(f: &Fresh, days_ago: i64, key: &str) -> i64 {
    let db = &f.db.write;
    let tx = store::begin(db).await.unwrap();
    let at = NOW - days_ago * DAY;
    events::emit(&tx, at, "plate", key, &json!(days_ago))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    events::latest(db).await.unwrap()
}

async fn an_event_is_kept_while_an_open_run_may_wait_for_it(f: Fresh) {
    let (keeper, _) = keeper(&f, true);
    let db = &f.db.write;
    let unasked = tell(&f, 130, "k").await;
    // It begins after the first event and before the second, and does not wait yet.
    let mut open = Told::old(120);
    open.ended = None;
    open.store(&f, &[]).await;
    let sql = "UPDATE run SET events_after = $1 WHERE id = $2";
    execute(db, sql, values![unasked, open.id.as_str()])
        .await
        .unwrap();
    tell(&f, 110, "k").await;
    // Another had it, and is archived; whoever goes on from it must not have it again.
    let mut other = Told::old(100);
    other.store(&f, &[]).await;
    let sql = "INSERT INTO signal_taken (mailbox, seq, run_id, position) VALUES ('m', $1, $2, '1')";
    let latest = events::latest(db).await.unwrap();
    execute(db, sql, values![latest, other.id.as_str()])
        .await
        .unwrap();
    for n in 0..20 {
        let fact = events::record(db, NOW - 100 * DAY, "told", "x", &json!(n)).await;
        fact.unwrap();
    }
    let young = tell(&f, 1, "k").await;
    prune_all(&keeper).await;
    assert_eq!(retention::events_kept_after(db).await.unwrap(), young - 1);
    assert_eq!(
        count(&f, "event").await,
        2,
        "the one it may ask for, and the young"
    );
    assert_eq!(count(&f, "signal_taken").await, 1);
    let run = runs::get(db, &open.id).await.unwrap();
    journal::append(
        db,
        NOW,
        &open.id,
        &[NewEntry {
            position: "9",
            kind: "wait_event",
            input: &Value::Null,
            input_digest: "",
            line: None,
            due: None,
            outcome: None,
            undo: false,
        }],
    )
    .await
    .unwrap();
    let found = events::take_early(db, NOW, &run, ("9", "plate", "k")).await;
    assert!(found.unwrap(), "an event told before it waited is found");
    let told = journal::of_run(db, &open.id).await.unwrap().pop().unwrap();
    assert_eq!(told.outcome.as_deref(), Some(r#"{"ok":110}"#));
    // Once nobody can ask for it, it goes.
    let sql = "UPDATE run SET ended_at = $1, state = 'succeeded' WHERE id = $2";
    execute(db, sql, values![NOW, open.id.as_str()])
        .await
        .unwrap();
    prune_all(&keeper).await;
    assert_eq!(count(&f, "event").await, 1);
    assert_eq!(
        (count(&f, "signal").await, count(&f, "signal_taken").await),
        (1, 0)
    );
}

async fn the_audit_stays_a_chain(f: Fresh) {
    let (keeper, _) = keeper(&f, true);
    let db = &f.db.write;
    for n in 0..30 {
        let at = NOW - (400 - n) * DAY;
        audit::record(db, at, "ada", "did", "it", &json!(n))
            .await
            .unwrap();
    }
    let broken = async || audit::first_broken(db).await.unwrap();
    assert_eq!(broken().await, None);
    let mut shorter = keeper.clone();
    shorter.rules.audit_days = 380;
    let days = [380, 378, 377, 372, 365];
    for days in days {
        shorter.rules.audit_days = days;
        prune_all(&shorter).await;
        assert_eq!(broken().await, None, "{days}");
    }
    // All are old, and each pass that removed something said so.
    assert_eq!(count(&f, "audit").await, days.len() as i64);
    shorter.rules.audit_days = 1;
    prune(&shorter, NOW + 5 * DAY, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(broken().await, None);
    let start = retention::audit_start(db).await.unwrap();
    audit::record(db, NOW, "ada", "did", "it", &json!(1))
        .await
        .unwrap();
    assert_eq!(broken().await, None);
    // Who takes away the first that is kept is found out.
    let sql = "DELETE FROM audit WHERE seq = (SELECT MIN(seq) FROM audit)";
    execute(db, sql, vec![]).await.unwrap();
    assert!(broken().await.is_some_and(|seq| seq > start.seq));
}

async fn what_somebody_still_reads_is_kept_whatever_its_age(f: Fresh) {
    let (keeper, _) = keeper(&f, true);
    let db = &f.db.write;
    for (asset, days) in [("a", 300), ("a", 200), ("a", 100), ("b", 100), ("b", 1)] {
        let at = NOW - days * DAY;
        let sql = "INSERT INTO prediction (id, asset, at, body) VALUES ($1, $2, $3, 'null')";
        execute(db, sql, values![new_id(at), asset, at])
            .await
            .unwrap();
    }
    let decide = async |id: &str| {
        let sql = "INSERT INTO decision (id, asset, policy, revision, facts, verdict, reason, \
                   operations, duration_us, at) VALUES ($1, 'a', 'p', 'r', '{}', '{}', '', 1, 1, 0)";
        execute(db, sql, values![id]).await.unwrap();
    };
    let (followed, forgotten) = (new_id(NOW - 300 * DAY), new_id(NOW - 300 * DAY));
    decide(&followed).await;
    decide(&forgotten).await;
    let mut open = Told::old(200);
    open.ended = None;
    open.store(&f, &[]).await;
    let sql = "UPDATE run SET decision = $1 WHERE id = $2";
    execute(db, sql, values![followed.as_str(), open.id.as_str()])
        .await
        .unwrap();
    for (tick, is_open) in [(1_i64, true), (2, false)] {
        let sql = "INSERT INTO trigger_tick (trigger_name, tick, state, passed_over, is_open, at) \
                   VALUES ('t', $1, 'queued', 0, $2, 0)";
        execute(db, sql, values![tick, is_open]).await.unwrap();
    }
    for (id, state) in [
        ("waits", "waiting"),
        ("told", "delivered"),
        ("lost", "given_up"),
    ] {
        let sql = "INSERT INTO outbox (id, subject, payload, state, due, created_at) \
                   VALUES ($1, 's', '{}', $2, 0, 0)";
        execute(db, sql, values![id, state]).await.unwrap();
    }
    let sql = "INSERT INTO webhook_delivery (id, outbox_id, target, subject, payload, delivered_at) \
               VALUES ($1, 'told', 't', 's', '{}', 0)";
    execute(db, sql, values![new_id(0)]).await.unwrap();
    for n in 0..20 {
        let sql = "INSERT INTO idempotency (scope, key, request_digest, response, created_at) \
                   VALUES ('s', $1, 'd', 'r', $2)";
        execute(db, sql, values![n.to_string(), NOW - n * DAY])
            .await
            .unwrap();
    }
    prune_all(&keeper).await;
    for (what, left) in [
        ("prediction", 2),
        ("decision", 1),
        ("trigger_tick", 1),
        ("outbox", 1),
        ("webhook_delivery", 0),
        ("idempotency", 8),
        ("run", 1),
    ] {
        assert_eq!(count(&f, what).await, left, "{what}");
    }
    assert_eq!(
        count(&f, "prediction WHERE asset = 'a'").await,
        1,
        "the latest"
    );
    assert_eq!(
        count(&f, &format!("decision WHERE id = '{followed}'")).await,
        1
    );
    assert_eq!(count(&f, "outbox WHERE id = 'waits'").await, 1);
}

/// SQLite has one writer, so there nobody can be in the middle of it.
#[tokio::test]
#[ignore = "needs Postgres"]
async fn a_run_that_is_being_taken_over_is_not_archived_meanwhile() {
    let f = Fresh::postgres().await;
    let (keeper, _) = keeper(&f, true);
    let mut old = Told::old(100);
    old.store(&f, &[]).await;
    let sql = "UPDATE run SET state = 'cancelled' WHERE id = $1";
    execute(&f.db.write, sql, values![old.id.as_str()])
        .await
        .unwrap();
    let how = store::restarts::Restart {
        from: None,
        revision: None,
        actor: "ada",
    };
    let tx = store::begin(&f.db.write).await.unwrap();
    store::restarts::restart(&tx, NOW, &old.id, &how)
        .await
        .unwrap();
    let mut pass = Pass::new(&keeper, NOW);
    pass.advance().await.unwrap();
    assert_eq!(count(&f, "run_archive").await, 0);
    tx.commit().await.unwrap();
    prune_all(&keeper).await;
    assert_eq!(count(&f, "run_archive").await, 1);
}

#[tokio::test]
async fn an_archived_run_says_where_it_is() {
    let server = TestServer::with(&[]).await;
    let token = server.token(Role::Engineer, "ada").await;
    let body = r#"{"name":"w","source":"fn run(event) { 1 }"}"#;
    server.ask("POST", "/api/v1/workflows", &token, body).await;
    let body = r#"{"workflow":"w","event":{"asset":"a"}}"#;
    let run = server
        .ask("POST", "/api/v1/runs", &token, body)
        .await
        .json();
    let id = run["id"].as_str().unwrap();
    let path = format!("/api/v1/runs/{id}");
    let cancel = format!("{path}/cancel?force=true");
    server.ask("POST", &cancel, &token, "").await;

    let app = &server.app;
    let ask = async |path: &str| server.ask("GET", path, &token, "").await;
    let count_of = |told: &Value, name: &str| {
        let kept = told["kept"].as_array().unwrap();
        let found = kept.iter().find(|k| k["name"] == name).unwrap();
        found["would_remove"].as_i64().unwrap()
    };
    let told = ask("/api/v1/retention").await.json();
    assert_eq!(count_of(&told, "runs"), 0);
    app.clock.advance(91 * DAY);
    let told = ask("/api/v1/retention").await.json();
    assert_eq!((count_of(&told, "runs"), &told["last"]), (1, &Value::Null));
    assert!(count_of(&told, "events") > 1);
    assert_eq!(ask(&path).await.status, 200, "asking removes nothing");

    let keeper = Keeper {
        db: app.db.clone(),
        artifacts: Arc::new(app.artifacts.clone()),
        rules: app.config.retention.clone(),
    };
    prune(&keeper, app.now_ms(), Duration::from_secs(60))
        .await
        .unwrap();
    for path in [&path, &format!("{path}/journal"), &format!("{path}/why")] {
        let gone = ask(path).await;
        assert_eq!(gone.problem(410), "run_archived");
        assert_eq!(gone.json()["state"], "cancelled");
    }
    let restart = server
        .ask("POST", &format!("{path}/restart"), &token, "{}")
        .await;
    assert_eq!(restart.problem(410), "run_archived");
    assert_eq!(ask("/api/v1/runs").await.json()["runs"], json!([]));
    let listed = ask("/api/v1/run_archives?workflow=w&asset=a").await.json();
    let digest = listed["run_archives"][0]["digest"].as_str().unwrap();
    assert_eq!(listed["run_archives"][0]["run"], id);
    assert_eq!(ask(&path).await.json()["archive"], digest);
    let bytes = ask(&format!("/api/v1/artifacts/{digest}")).await.body;
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .unwrap();
    let archive: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(archive["run"]["state"], "cancelled");
    assert_eq!(archive["events"][0]["name"], "run.started");
    let none = ArchiveFilter {
        workflow: Some("v"),
        asset: None,
    };
    assert!(
        archives::list(&app.db.read, none, Page::ALL)
            .await
            .unwrap()
            .is_empty()
    );

    let told = ask("/api/v1/retention").await.json();
    assert_eq!(told["last"]["removed"]["runs"], 1);
    let kept_after = told["events_after"].as_i64().unwrap();
    assert!(kept_after > 1);
    let gone = ask("/api/v1/events?after=1").await;
    assert_eq!(gone.problem(410), "events_removed");
    assert_eq!(gone.json()["kept_after"], kept_after);
    for path in [
        "/api/v1/events",
        &format!("/api/v1/events?after={kept_after}"),
    ] {
        let page = ask(path).await.json();
        assert_eq!(page["events"], json!([]));
        assert_eq!(page["next"], kept_after);
    }
}
