//! The work that goes on meanwhile: many small runs, each asked for until somebody answers, and counted once.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Rows, Seeded, digest};
use tokio::sync::watch;

/// Steps abreast and one after the other, a sleep, a step that is tried once, and now and then a build.
const SOURCE: &str = r#"
fn run(event) {
    let again = #{ retry: 12, backoff: "40ms" };
    let handles = [];
    for n in 0..event.abreast {
        handles.push(start("notify", #{ subject: "chaos", payload: #{ token: `${event.token}/a${n}` } }, again));
    }
    wait_all(handles);
    sleep("30ms");
    for n in 0..event.in_turn {
        step("notify", #{ subject: "chaos", payload: #{ token: `${event.token}/t${n}` } }, again);
    }
    let spared = true;
    try {
        step("notify", #{ subject: "chaos", payload: #{ token: `${event.token}/once` } }, #{ retry: 0 });
    } catch (e) { spared = false; }
    let built = ();
    if event.make {
        for attempt in 1..=9 {
            try {
                built = step("make", #{
                    design: "chaos", gcode: event.gcode, gcode_size_bytes: event.size,
                    material: "petg", printer: "prusa_mk4"
                }, again);
                break;
            } catch (e) { if e.code != "partial_print" { throw e; } }
        }
        if built == () { fail("nine pieces and no part"); }
    }
    #{ spared: spared, built: built }
}
"#;

const GCODE: &str = "; made by hand\nG28\nG1 X10 Y10 Z0.2 F3000\nG1 X40 Y10 E1.5\nM84\n";

/// Runs that are open at the same time.
const OPEN: i64 = 24;
/// Steps of one run, its builds not counted.
pub(super) const STEPS_EACH: u64 = 8;

/// Stores what the runs need.
pub(super) async fn prepare(server: &Client) {
    let body = json!({ "name": "chaos", "source": SOURCE });
    server.post("/workflows", &body).await.expect(201);
    let path = format!("/artifacts/{}", digest(GCODE.as_bytes()));
    server.put_bytes(&path, GCODE.as_bytes()).await.expect(201);
}

/// Starts runs until it is told that it is enough; answers the ids of all that were started.
pub(super) async fn keep_asking(
    servers: Vec<Client>,
    rows: Rows,
    seed: u64,
    mut asked: watch::Sender<u64>,
    enough: watch::Receiver<bool>,
) -> BTreeSet<String> {
    let mut chance = Seeded::new(seed);
    let mut ids = BTreeSet::new();
    let mut open = OPEN;
    for number in 0_u64.. {
        while !*enough.borrow() && open >= OPEN {
            tokio::time::sleep(Duration::from_millis(120)).await;
            open = open_runs(&rows).await.unwrap_or(open);
        }
        if *enough.borrow() {
            break;
        }
        let abreast = chance.between(1, STEPS_EACH - 2);
        let event = json!({
            "token": format!("{seed}/{number}"), "abreast": abreast,
            "in_turn": STEPS_EACH - 1 - abreast, "make": chance.once_in(6),
            "gcode": digest(GCODE.as_bytes()), "size": GCODE.len(),
        });
        ids.insert(start_run(&servers, number, event).await);
        open += 1;
        tell(&mut asked, number + 1);
    }
    ids
}

fn tell(asked: &mut watch::Sender<u64>, number: u64) {
    let _ = asked.send(number);
}

/// Asks the servers in turn, with one key, until one of them says that the run is started.
async fn start_run(servers: &[Client], number: u64, event: Value) -> String {
    let key = event["token"].as_str().expect("a token").to_owned();
    let body = json!({ "workflow": "chaos", "event": event });
    let patience = Duration::from_secs(5);
    for turn in number.. {
        let server = &servers[usize::try_from(turn).expect("small") % servers.len()];
        let request = server.request(Method::POST, "/runs").json(&body);
        let request = request.header("idempotency-key", &key).timeout(patience);
        match server.try_send(request).await {
            Ok(answer) if answer.status == 201 || answer.status == 200 => {
                let run = answer.json();
                return run["id"].as_str().expect("an id").to_owned();
            }
            Ok(answer) if answer.status < 500 => panic!("a run is refused: {}", answer.text()),
            _ => tokio::time::sleep(Duration::from_millis(60)).await,
        }
    }
    unreachable!("numbers do not end")
}

/// How many runs have not ended, if the database is there to say so.
pub(super) async fn open_runs(rows: &Rows) -> Option<i64> {
    let rows = rows.clone();
    let sql = "SELECT COUNT(*) AS n FROM run WHERE ended_at IS NULL";
    let counted = tokio::task::spawn_blocking(move || rows.query(sql)).await;
    counted.expect("no panic").ok()?.first()?["n"].as_i64()
}
