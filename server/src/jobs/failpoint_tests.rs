//! A process dies right before and right after every commit in the life of runs, steps and builds, or is stopped there
//! until its transaction is ended: what follows goes on, and nothing is lost or done twice, on both databases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;
use workflows::host::Host;
use workflows::steps::{Outcome, Registry, Step, StepError};

use super::workers::tests::{Build, Double};
use super::workers::{WorkerContext, all_queues, run_workers};
use crate::api::tokens;
use crate::app::App;
use crate::auth::Role;
use crate::clock::Clock;
use crate::config::Config;
use crate::store::database::{all, execute};
use crate::store::failpoints::{Fate, Mortal, Point, Side};
use crate::store::scripts::Scripts;
use crate::store::{audit, values};
use crate::testing::{Fresh, on_both};

on_both!(whenever_a_process_dies_the_next_goes_on);

const LEASE_MS: i64 = 10_000;
const BUILD_LEASE_MS: i64 = 60_000;
const SCAN: &[u8] = b"a scan";

/// Every kind of commit of a run is somewhere in it.
const WHOLE: &str = r#"fn run(event) {
    let soon = #{ backoff: "1ms" };
    let one = step("double", #{ n: 4 }, #{ backoff: "1ms", concurrency_key: "press" });
    step("unsteady", #{ key: event.key }, soon);
    let refused = "";
    try { step("double", #{ n: -1 }, soon); } catch (e) { refused = e.code; }
    let scan = step("build", (), soon);
    sleep("1m");
    let said = wait_event("plate", event.key, "24h").said;
    let yes = approval("operator", (), "24h").answer;
    let child = step("run", #{ workflow: "child", event: #{ n: 3 } }, soon).result;
    [one.n, refused, scan, said, yes, child]
}"#;
/// Goes on in a new run once.
const CHILD: &str = r#"fn run(event) {
    let n = step("double", #{ n: event.n }, #{ backoff: "1ms" }).n;
    if n < 12 { continue_as_new(#{ n: n }); }
    n
}"#;
/// Comes to nothing at first; what it did is undone.
const DOOMED: &str = r#"fn run(event) {
    on_failure(|| step("double", #{ n: 8 }, #{ backoff: "1ms" }));
    try { step("build", (), #{ backoff: "1ms" }); } catch (e) { }
    step("healing", #{ key: event.key }, #{ backoff: "1ms" })
}"#;

/// Waits for what never comes.
const CALLED_OFF: &str = r#"fn run(event) {
    on_failure(|| step("double", #{ n: 8 }, #{ backoff: "1ms" }));
    sleep("24h");
}"#;

/// What steps remember over the processes they run in.
#[derive(Clone, Default)]
struct Known(Arc<Mutex<BTreeSet<String>>>);

impl Known {
    fn add(&self, key: &str) -> bool {
        self.0.lock().unwrap().insert(key.to_owned())
    }

    fn has(&self, key: &str) -> bool {
        self.0.lock().unwrap().contains(key)
    }
}

/// Is not ready the first time.
struct Unsteady(Known);

impl Step for Unsteady {
    const KIND: &'static str = "unsteady";
    type Input = Value;
    type Output = Value;

    fn run(&self, input: Value, _: &dyn Host) -> Result<Outcome<Value>, StepError> {
        match self.0.add(input["key"].as_str().unwrap()) {
            true => Err(StepError::unavailable("unsteady", "the first time")),
            false => Ok(Outcome::Done(Value::Null)),
        }
    }
}

/// Fails for good until somebody healed it.
struct Healing(Known);

impl Step for Healing {
    const KIND: &'static str = "healing";
    type Input = Value;
    type Output = Value;

    fn run(&self, input: Value, _: &dyn Host) -> Result<Outcome<Value>, StepError> {
        let key = input["key"].as_str().unwrap();
        match self.0.has(&format!("healed {key}")) {
            true => Ok(Outcome::Done(json!("healed"))),
            false => Err(StepError::failed("sick", "nobody healed it")),
        }
    }
}

/// What outlives every process.
struct Hall {
    f: Fresh,
    folder: TempDir,
    clock: Clock,
    known: Known,
    operator: String,
    cell: String,
    idle_transaction_ms: u32,
}

/// One process: a server and its workers.
struct Process {
    mortal: Arc<Mortal>,
    runtime: Option<Runtime>,
    app: Option<App>,
    service: Router,
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Hall {
    async fn new(f: Fresh, idle_transaction_ms: u32) -> Self {
        let (clock, db) = (Clock::default(), f.db.write.clone());
        let now = clock.now_ms();
        for (name, source) in [
            ("whole", WHOLE),
            ("child", CHILD),
            ("doomed", DOOMED),
            ("called_off", CALLED_OFF),
        ] {
            let stored = Scripts::Workflows.activate(&db, now, name, source).await;
            stored.unwrap();
        }
        let sql = "INSERT INTO cell (id, name, machine, created_at) VALUES ('c1', 'c1', '{}', $1)";
        execute(&db, sql, values![now]).await.unwrap();
        let token = async |role, name| tokens::issue_in(&db, now, "test", role, name).await;
        let operator = token(Role::Operator, "olga").await.unwrap().1;
        let cell = token(Role::Cell, "c1").await.unwrap().1;
        let hall = Self {
            folder: TempDir::new().unwrap(),
            known: Known::default(),
            f,
            clock,
            operator,
            cell,
            idle_transaction_ms,
        };
        let artifacts = crate::artifacts::Artifacts::open(&hall.config()).unwrap();
        artifacts.put(SCAN.into()).await.unwrap();
        hall
    }

    fn config(&self) -> Config {
        let settings = [
            (
                "FOREWRIGHT_SERVER_DATA",
                self.folder.path().display().to_string(),
            ),
            ("DATABASE_URL", self.f.url.clone()),
            (
                "FOREWRIGHT_SERVER_IDLE_TRANSACTION_MS",
                self.idle_transaction_ms.to_string(),
            ),
            ("FOREWRIGHT_RATE_PER_S", "0".to_owned()),
            ("FOREWRIGHT_QUEUE_POLL_MS", "20".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        Config::load(None, settings.into_iter()).unwrap()
    }

    /// A process that meets its fate somewhere, or none if that was while it came up.
    async fn start(&self, fate: Option<(Point, Fate)>) -> Result<Process, Arc<Mortal>> {
        let mortal = Mortal::new(fate);
        let runtime = mortal.runtime();
        let (config, clock, known) = (self.config(), self.clock.clone(), self.known.clone());
        let opened = runtime.spawn(async move {
            let app = App::open(config, clock).await.unwrap();
            let listening = app.queue.clone();
            tokio::spawn(async move { listening.run().await });
            let registry = Registry::default()
                .register(Double)
                .register(Build)
                .register(workflows::steps::Run)
                .register(Unsteady(known.clone()))
                .register(Healing(known));
            let context = WorkerContext::new(app.world(), Arc::new(registry));
            let queues = all_queues(&context.registry);
            tokio::spawn(
                async move { run_workers(context, &queues, std::future::pending()).await },
            );
            (app.clone(), crate::router::router(app))
        });
        let opened = opened.await;
        let mut process = Process {
            mortal: mortal.clone(),
            runtime: Some(runtime),
            app: None,
            service: Router::new(),
        };
        let (app, service) = opened.map_err(|_| mortal)?;
        process.app = Some(app);
        process.service = service;
        Ok(process)
    }
}

/// Somebody who asks until an answer comes, whatever becomes of the processes.
struct Client<'a> {
    hall: &'a Hall,
    process: Option<Process>,
    fate: Option<(Point, Fate)>,
    /// The first process, whose fate it is.
    first: Option<Arc<Mortal>>,
}

impl Client<'_> {
    /// The process that is alive; where it died, the next, once the leases of the dead have run out.
    async fn alive(&mut self) -> &Process {
        loop {
            if self.process.as_ref().is_some_and(|p| p.mortal.is_dead()) {
                self.process = None;
                self.hall.clock.advance(LEASE_MS + 1);
            }
            if self.process.is_none() {
                let started = self.hall.start(self.fate.take()).await;
                let mortal = match &started {
                    Ok(process) => process.mortal.clone(),
                    Err(mortal) => mortal.clone(),
                };
                self.first.get_or_insert(mortal);
                self.process = started.ok();
            }
            if self.process.as_ref().is_some_and(|p| !p.mortal.is_dead()) {
                break;
            }
        }
        self.process.as_ref().unwrap()
    }

    async fn ask(&mut self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask_with(method, path, body, None).await
    }

    async fn ask_with(
        &mut self,
        method: &str,
        path: &str,
        body: Value,
        key: Option<&str>,
    ) -> (StatusCode, Value) {
        let of_cell = path.starts_with("/cells") || path.starts_with("/leases");
        let token = match of_cell {
            true => &self.hall.cell,
            false => &self.hall.operator,
        };
        for _ in 0..200 {
            let process = self.alive().await;
            let mut request = Request::builder()
                .method(method)
                .uri(format!("/api/v1{path}"))
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, "application/json");
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let request = request.body(Body::from(body.to_string())).unwrap();
            let (service, mortal) = (process.service.clone(), process.mortal.clone());
            let answering = process.runtime.as_ref().unwrap().spawn(async move {
                let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                (parts.status, body)
            });
            let answer = answering.await;
            match answer {
                // What a process says of itself while it dies nobody hears.
                _ if mortal.is_dead() => {}
                Ok((status, body)) if !status.is_server_error() => {
                    return (status, serde_json::from_slice(&body).unwrap_or_default());
                }
                Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => {}
                other => panic!("{method} {path}: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{method} {path} was never answered");
    }

    /// What a page says once it says it.
    async fn until<T>(&mut self, path: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        let mut last = Value::Null;
        for _ in 0..3_000 {
            let (status, page) = self.ask("GET", path, Value::Null).await;
            assert_eq!(status, 200, "{path}: {page}");
            if let Some(found) = found(&page) {
                return found;
            }
            last = page;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nothing came of it: {path}: {last:#}");
    }

    /// Lets time pass and has what ran out meanwhile taken back at once, where a process would within a second.
    async fn pass(&mut self, ms: i64) {
        self.hall.clock.advance(ms);
        let process = self.alive().await;
        let app = process.app.clone().unwrap();
        let looking = process.runtime.as_ref().unwrap().spawn(async move {
            // Whatever comes of it, it is done again every second.
            let _ = super::expire_leases(&app.queue).await;
        });
        let _ = looking.await;
    }

    async fn start_run(&mut self, workflow: &str, key: &str) -> String {
        let body = json!({ "workflow": workflow, "event": { "key": key } });
        let (status, run) = self.ask_with("POST", "/runs", body, Some(key)).await;
        assert_eq!(status, 201, "{run}");
        run["id"].as_str().unwrap().to_owned()
    }

    /// A lease of the run's build, staged and started.
    async fn started(&mut self, epoch: i64, key: &str) -> Value {
        let body = json!({ "epoch": epoch, "printers": ["p"], "materials": ["petg"] });
        let lease = loop {
            let (status, lease) = self
                .ask_with("POST", "/cells/c1/leases", body.clone(), Some(key))
                .await;
            if status == 201 {
                break lease;
            }
            assert_eq!(status, 204, "{lease}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let mut told = json!({ "epoch": epoch, "fence": lease["fence"], "digest": "sha256:00" });
        for verb in ["staged", "start"] {
            let path = format!("/leases/{}/{verb}", lease["id"].as_str().unwrap());
            let (status, answer) = self.ask("POST", &path, told.clone()).await;
            assert_eq!(status, 200, "{verb}: {answer}");
            told.as_object_mut().unwrap().remove("digest");
        }
        for (name, value) in [("seq", json!(1)), ("percent", json!(5.0))] {
            told[name] = value;
        }
        let path = format!("/leases/{}", lease["id"].as_str().unwrap());
        let (status, answer) = self.ask("PUT", &path, told).await;
        assert_eq!(status, 200, "{answer}");
        lease
    }

    /// Two runs from their start to their end, with everything somebody outside has to do for them.
    async fn live(&mut self, key: &str) {
        let id = self.start_run("whole", key).await;
        let run = format!("/runs/{id}");
        let (_, opened) = self.ask("POST", "/cells/c1/epochs", json!({})).await;
        let epoch = opened["epoch"].as_i64().unwrap();
        let lost = self.started(epoch, &format!("{key} 1")).await;
        let build = lost["build"].as_str().unwrap().to_owned();
        // Nothing is heard of the cell, and somebody has to look.
        self.pass(BUILD_LEASE_MS + 1).await;
        self.until(&format!("/builds/{build}"), |b| {
            (b["state"] == "uncertain").then_some(())
        })
        .await;
        let looked = json!({ "on_plate": "nothing", "fence": lost["fence"] });
        let resolve = format!("/builds/{build}/resolve");
        let (status, answer) = self.ask("POST", &resolve, looked).await;
        assert!(status == 200 || status == 409, "{answer}");
        let lease = self.started(epoch, &format!("{key} 2")).await;
        assert_eq!(lease["build"], *build);
        let scan = crate::artifacts::digest(SCAN);
        let made = json!({ "epoch": epoch, "fence": lease["fence"], "scan": scan });
        let complete = format!("/leases/{}/complete", lease["id"].as_str().unwrap());
        let (status, answer) = self.ask("POST", &complete, made).await;
        assert_eq!(status, 200, "{answer}");
        let waits = |kind: &'static str| {
            move |run: &Value| {
                let waits = run["waiting_for"].as_array().into_iter().flatten();
                let found = waits.clone().any(|w| w["kind"] == kind);
                found.then_some(())
            }
        };
        self.until(&run, waits("sleep")).await;
        self.hall.clock.advance(60_001);
        self.until(&run, waits("wait_event")).await;
        let event = json!({ "name": "plate", "key": key, "payload": { "said": "cold" } });
        let (status, told) = self.ask("POST", "/events", event).await;
        assert_eq!(status, 202, "{told}");
        self.until(&run, waits("approval")).await;
        let of_run = |page: &Value| {
            let asked = page["approvals"].as_array()?;
            let mine = asked.iter().find(|a| a["run"] == *id)?;
            Some(mine["id"].as_str()?.to_owned())
        };
        let asked = self.until("/approvals", of_run).await;
        let path = format!("/approvals/{asked}/answers");
        let (status, answer) = self.ask("POST", &path, json!({ "answer": true })).await;
        assert!(status == 200 || status == 409, "{answer}");
        let ended = |run: &Value| run["ended_at"].is_string().then(|| run.clone());
        let whole = self.until(&run, ended).await;
        assert_eq!(
            whole["result"],
            json!([8, "negative", scan, "cold", true, 12]),
            "{whole:#}"
        );

        let doomed = self.start_run("doomed", &format!("{key} doomed")).await;
        let lease = self.started(epoch, &format!("{key} 3")).await;
        let told = json!({
            "epoch": epoch, "fence": lease["fence"], "code": "jam", "message": "it is stuck",
        });
        let path = format!("/leases/{}/fail", lease["id"].as_str().unwrap());
        let (status, answer) = self.ask("POST", &path, told).await;
        assert_eq!(status, 200, "{answer}");
        let failed = self.until(&format!("/runs/{doomed}"), ended).await;
        assert_eq!(failed["state"], "failed");
        self.hall.known.add(&format!("healed {key} doomed"));
        let letter = |page: &Value| {
            let letters = page["dead_letters"].as_array()?;
            let mine = letters.iter().find(|l| l["run"] == *doomed)?;
            Some(mine["id"].as_str()?.to_owned())
        };
        let letter = self.until("/dead_letters", letter).await;
        let path = format!("/dead_letters/{letter}/redrive");
        let (status, again) = self.ask("POST", &path, Value::Null).await;
        assert_eq!(status, 201, "{again}");
        let again = again["id"].as_str().unwrap().to_owned();
        let healed = self.until(&format!("/runs/{again}"), ended).await;
        assert_eq!(healed["result"], "healed", "{healed:#}");

        let stopped = self
            .start_run("called_off", &format!("{key} called off"))
            .await;
        let run = format!("/runs/{stopped}");
        self.until(&run, waits("sleep")).await;
        let cancel = format!("{run}/cancel");
        let (status, answer) = self.ask("POST", &cancel, Value::Null).await;
        assert!(status == 202 || status == 409, "{answer}");
        let over = self.until(&run, ended).await;
        assert_eq!(over["state"], "cancelled", "{over:#}");
        let restart = format!("{run}/restart");
        let key = format!("{key} again");
        let (status, again) = self.ask_with("POST", &restart, json!({}), Some(&key)).await;
        assert_eq!(status, 201, "{again}");
        let again = format!("/runs/{}", again["id"].as_str().unwrap());
        self.until(&again, waits("sleep")).await;
        let force = format!("{again}/cancel?force=true");
        let (status, answer) = self.ask("POST", &force, Value::Null).await;
        assert!(status == 202 || status == 409, "{answer}");
        let over = self.until(&again, ended).await;
        assert_eq!(over["state"], "cancelled", "{over:#}");
    }
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
    async fn one_life(&self, key: &str, fate: Option<(Point, Fate)>) -> (bool, Vec<Point>) {
        let mut client = Client {
            hall: self,
            process: None,
            fate,
            first: None,
        };
        client.live(key).await;
        let first = client.first.take().unwrap();
        let points = first.points();
        drop(client);
        let wrong = self.wrong().await;
        assert_eq!(wrong, [""; 0], "{fate:?}");
        (first.met_fate(), points)
    }
}

/// How often a point is died at where what passes is of many kinds; elsewhere once.
const TIMES: u32 = 3;
const MANY: [&str; 3] = ["step_host.rs", "advance_run.rs", "finisher.rs"];

async fn whenever_a_process_dies_the_next_goes_on(f: Fresh) {
    let hall = Hall::new(f, 1_000).await;
    let (_, points) = hall.one_life("first", None).await;
    let mut met = BTreeMap::new();
    let of_many = |point: &Point| MANY.iter().any(|file| point.place.file.ends_with(file));
    let often = points
        .iter()
        .filter(|point| point.nth <= if of_many(point) { TIMES } else { 1 });
    for (n, point) in often.enumerate() {
        let fate = Some((*point, Fate::Dies));
        let (dead, _) = hall.one_life(&format!("life {n}"), fate).await;
        *met.entry(point.place).or_insert(0) += u32::from(dead);
    }
    assert_eq!(audit::first_broken(&hall.f.db.read).await.unwrap(), None);
    for (place, times) in &met {
        eprintln!("{times} deaths at {place:?}");
        assert!(*times > 0, "{place:?} was not come to again");
    }
    assert!(met.len() >= 24, "only {} places", met.len());
}

/// On SQLite one process has one writer: whoever is stopped is stopped with everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres"]
async fn a_process_stopped_in_a_transaction_goes_on_without_it() {
    let f = Fresh::postgres().await;
    let hall = Hall::new(f, 100).await;
    let (_, points) = hall.one_life("first", None).await;
    let stops = Fate::Stops(Duration::from_millis(400));
    let mut met = 0;
    let once = |point: &&Point| point.nth == 1 && point.side == Side::Before;
    for point in points.iter().filter(once) {
        let (stopped, _) = hall
            .one_life(&format!("{point:?}"), Some((*point, stops)))
            .await;
        met += u32::from(stopped);
    }
    assert!(met >= 15, "only {met} were stopped");
    assert_eq!(audit::first_broken(&hall.f.db.read).await.unwrap(), None);
}
