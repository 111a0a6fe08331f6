//! Short runs at a steady rate, alone and beside runs that use up whatever they are given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde_json::{Value, json};
use server::store::begin;
use server::store::runs::{self, NewRun};
use server::store::scripts::Scripts;
use tokio::task::JoinSet;
use workflows::script::Script;

use super::{Bench, ended};

const FIVE_STEPS: &str = r#"fn run(event) {
    for n in 0..5 { step("noop", n); }
    "done"
}"#;

/// Bombs of one kind begin no closer together: some are stopped at once, and a flood of runs is another matter.
const APART: Duration = Duration::from_millis(250);

/// How long it may take, when nothing is measured any more, until one of each kind was stopped: the dear ones take turns.
const WAIT: Duration = Duration::from_secs(180);

/// A script that wants too much, and what stops it.
struct Bomb {
    name: &'static str,
    source: String,
    /// The code its run fails with; where the machine is slow its processor time may be used up before.
    code: &'static str,
}

const USED_UP: &str = "limit.deadline";

/// Those of the second half make each operation as dear as they can, so that the count of operations does not help.
fn bombs() -> Vec<Bomb> {
    let bomb = |name, body: &str, code| Bomb {
        name,
        source: format!("fn run(event) {{ {body} }} fn deep(n) {{ deep(n + 1) }}"),
        code,
    };
    let long = format!("let n = 0; {} loop {{ }}", "n += 1; ".repeat(30_000));
    vec![
        bomb("endless", "loop { }", "limit.operations"),
        bomb("recursion", "deep(0)", "limit.depth"),
        bomb(
            "doubling_text",
            "let s = \"x\"; loop { s += s; }",
            "limit.size",
        ),
        bomb(
            "nested_arrays",
            "let a = []; loop { a = [a, a]; }",
            "limit.size",
        ),
        bomb(
            "growing_map",
            "let m = #{}; let n = 0; loop { m[`${n}`] = n; n += 1; }",
            "limit.size",
        ),
        bomb(
            "many_starts",
            "for n in 0..1_000_000 { start(\"noop\", n); }",
            "journal_full",
        ),
        bomb("long_text", &long, "limit.operations"),
        bomb(
            "copied_text",
            "let s = \"\"; s.pad(1_000_000, \"x\"); loop { let t = s + \"y\"; }",
            USED_UP,
        ),
        bomb(
            "compared_arrays",
            "let a = []; a.pad(9_000, 1); while a == a { }",
            USED_UP,
        ),
        bomb(
            "copied_maps",
            "let m = #{}; for n in 0..9_000 { m[`${n}`] = n; } loop { let c = m; c[\"0\"] += 1; }",
            USED_UP,
        ),
    ]
}

/// `seconds` of short runs alone and `seconds` of them beside one bomb of each kind, or of some, so many a second.
pub(super) async fn bombs_beside(
    url: &str,
    rate: f64,
    seconds: f64,
    kinds: &[&str],
) -> anyhow::Result<Value> {
    refused_at_the_door()?;
    // As many hands as a process has.
    let hands = server::jobs::WorkerContext::HANDS;
    let bench = Arc::new(Bench::start(url, &["runs", "io"], hands, FIVE_STEPS).await?);
    short_runs(&bench, rate, 1.0).await?;
    let quiet_ms = short_runs(&bench, rate, seconds).await?;
    let over = Arc::new(AtomicBool::new(false));
    let mut bombing = JoinSet::new();
    let asked = |bomb: &Bomb| kinds.is_empty() || kinds.contains(&bomb.name);
    for bomb in bombs().into_iter().filter(asked) {
        let (bench, over) = (bench.clone(), over.clone());
        bombing.spawn(async move {
            let name = bomb.name;
            Ok::<_, anyhow::Error>((name, always(&bench, bomb, &over).await?))
        });
    }
    // By then the first of each kind is at work, or waits for its turn.
    tokio::time::sleep(4 * APART).await;
    let beside_ms = short_runs(&bench, rate, seconds).await?;
    over.store(true, Ordering::Relaxed);
    let mut stopped = BTreeMap::new();
    while let Some(told) = bombing.join_next().await {
        let (name, count) = told??;
        stopped.insert(name, count);
    }
    Ok(json!({ "quiet_ms": quiet_ms, "beside_ms": beside_ms, "stopped": stopped }))
}

/// 1 MB of source is no run's: it is refused before it is stored.
fn refused_at_the_door() -> anyhow::Result<()> {
    let source = format!("fn run(event) {{ {} }}", "let x = 1; ".repeat(95_000));
    match Script::compile("large", &source) {
        Err(error) if error.code == "limit.source" => Ok(()),
        other => bail!("1 MB of source was not refused: {other:?}"),
    }
}

/// Starts five-step runs at a rate and tells how long each took from before its start to its recorded end.
async fn short_runs(bench: &Arc<Bench>, rate: f64, seconds: f64) -> anyhow::Result<Vec<f64>> {
    let began = tokio::time::Instant::now();
    let (mut n, mut at_work) = (0_u32, JoinSet::new());
    while f64::from(n) < rate * seconds {
        tokio::time::sleep_until(began + Duration::from_secs_f64(f64::from(n) / rate)).await;
        let bench = bench.clone();
        at_work.spawn(async move {
            let began = Instant::now();
            let run = start(&bench, "bench", &bench.revision).await?;
            let state = ended(&bench, &run).await?;
            match &*state {
                "succeeded" => Ok(began.elapsed().as_secs_f64() * 1_000.0),
                _ => bail!("a short run came to {state}"),
            }
        });
        n += 1;
    }
    let mut took_ms = Vec::new();
    while let Some(took) = at_work.join_next().await {
        took_ms.push(took??);
    }
    Ok(took_ms)
}

/// Keeps a bomb of one kind at work until it is over and one was stopped; how many were, all by their limit.
async fn always(bench: &Bench, bomb: Bomb, over: &AtomicBool) -> anyhow::Result<usize> {
    let mut stopped = 0;
    loop {
        let next = tokio::time::Instant::now() + APART;
        // Another text each time, so that nothing of it is known from the last.
        let source = format!("{}\n// {stopped}", bomb.source);
        let db = &bench.queue.db().write;
        let revision = Scripts::Workflows
            .activate(db, bench.queue.now(), bomb.name, &source)
            .await?;
        let run = start(bench, bomb.name, &revision.digest).await?;
        let patience = match stopped {
            0 => WAIT,
            _ => Duration::ZERO,
        };
        let state = tokio::select! {
            state = stopped_at_last(bench, &run) => state?,
            () = long_after(over, patience) => {
                ensure!(stopped > 0, "no bomb `{}` was stopped", bomb.name);
                return Ok(stopped);
            }
        };
        let failure = runs::get(&bench.queue.db().read, &run).await?.failure;
        let failure: Value = serde_json::from_str(failure.as_deref().unwrap_or("null"))?;
        let limit = failure["code"] == bomb.code || failure["code"] == USED_UP;
        ensure!(
            state == "failed" && limit,
            "bomb `{}` came to {state}: {failure}",
            bomb.name
        );
        stopped += 1;
        if over.load(Ordering::Relaxed) {
            return Ok(stopped);
        }
        tokio::time::sleep_until(next).await;
    }
}

/// Waits for the recorded end of a bomb, by looking now and then: to be woken by every move would be work of ours.
async fn stopped_at_last(bench: &Bench, id: &str) -> anyhow::Result<String> {
    loop {
        tokio::time::sleep(APART / 2).await;
        let run = runs::get(&bench.queue.db().read, id).await?;
        if run.ended_at.is_some() {
            return Ok(run.state);
        }
    }
}

async fn long_after(over: &AtomicBool, patience: Duration) {
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(patience).await;
}

async fn start(bench: &Bench, workflow: &str, revision: &str) -> anyhow::Result<String> {
    let tx = begin(&bench.queue.db().write).await?;
    let new = NewRun {
        workflow,
        revision,
        event: &Value::Null,
        seed: None,
        decision: None,
        actor: "bench",
    };
    let run = runs::create(&tx, bench.queue.now(), &new).await?;
    tx.commit().await?;
    bench.queue.notify_local();
    Ok(run.id)
}
