//! How long it takes to replay a journal of 10,000 entries; prints `journal_replay_10k_s VALUE s`, the median of nine.
//!
//! `cargo run --release -p workflows --example journal_replay`

use std::time::Instant;

use serde_json::{Value, json};
use workflows::{
    model::Timestamp,
    run::{CallOutcome, Entry, Journal, Position, Progress, ReplayContext, replay},
    script::{Limits, Script, value::digest},
};

/// Entries of the journal: as many as a run may have.
const ENTRIES: u32 = 10_000;

fn main() {
    let source = "fn run(event) { let sum = 0; for i in 0..10_000 { sum += step(\"predict\", #{ i: i }).n; } sum }";
    let script = Script::compile("replay", source).expect("it compiles");
    let limits = Limits::workflow();
    let journal = told(&script, &limits);
    let mut seconds: Vec<f64> = (0..9).map(|_| timed(&script, &limits, &journal)).collect();
    seconds.sort_by(f64::total_cmp);
    println!("journal_replay_10k_s {:.4} s", seconds[seconds.len() / 2]);
}

fn context(limits: &Limits) -> ReplayContext<'_> {
    ReplayContext {
        run: "r",
        now: Timestamp(0),
        seed: 1,
        cancelled: false,
        limits,
    }
}

/// The whole journal. The first entry is asked of the script itself, which gives the form of the others.
fn told(script: &Script, limits: &Limits) -> Journal {
    let Progress::Suspended { new, .. } =
        replay(script, &Value::Null, &Journal::default(), &context(limits))
    else {
        panic!("the script asks for its first step");
    };
    let entry = |i: u32| {
        let input = json!({ "i": i });
        Entry {
            position: Position::top(i + 1),
            input_digest: digest(&input),
            input,
            outcome: Some(CallOutcome::Ok(
                json!({ "n": 1, "fps": { "1d": 0.1, "7d": 0.2, "30d": 0.4 } }),
            )),
            ..new[0].clone()
        }
    };
    (0..ENTRIES).map(entry).collect()
}

fn timed(script: &Script, limits: &Limits, journal: &Journal) -> f64 {
    let began = Instant::now();
    let progress = replay(script, &Value::Null, journal, &context(limits));
    let seconds = began.elapsed().as_secs_f64();
    assert!(
        matches!(progress, Progress::Ended { ref new, .. } if new.is_empty()),
        "{progress:?}"
    );
    seconds
}
