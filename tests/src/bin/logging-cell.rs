//! A cell as a process of its own that writes down what its machine does, synced, before it goes on.
//!
//! `logging-cell BASE_URL TOKEN CELL FILE SEED`. It may be killed or stopped at any moment: started again on the same
//! file it knows, as a machine would, whether matter moved. The file is what a history is checked against.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Client, Seeded, digest};

/// How long the cell waits before it repeats what nobody answered.
const PAUSE: Duration = Duration::from_millis(80);
/// A crash in the middle of a part leaves only a piece of it once in so many times.
const PIECE_ONE_OF: u64 = 4;

/// A build in hand.
#[derive(Debug, Clone)]
struct Job {
    lease: String,
    build: String,
    fence: i64,
    gcode: String,
    heartbeat_ms: u64,
    motion: Motion,
}

/// What the machine did for it so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Motion {
    None,
    Begun,
    Done,
}

/// The server refused; the cell opens a new session.
struct Refused;

struct Cell {
    api: Client,
    id: String,
    epoch: i64,
    book: File,
    chance: Seeded,
    keys: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, token, id, file, seed] = arguments.try_into().expect("five arguments");
    let mut job = last_job(Path::new(&file));
    let book = File::options().create(true).append(true).open(&file);
    let mut cell = Cell {
        api: Client::new(&base).with_token(&token),
        id,
        epoch: 0,
        book: book.expect("the book can be written"),
        chance: Seeded::new(seed.parse().expect("a number")),
        keys: 0,
    };
    loop {
        if let Err(Refused) = cell.session(&mut job).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What the book says of the job that was in hand when the process ended.
fn last_job(file: &Path) -> Option<Job> {
    let mut job: Option<Job> = None;
    let book = std::fs::read_to_string(file).unwrap_or_default();
    // Only a line that was written to its end happened: the machine waits for it.
    for line in book.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        match (text("did").as_str(), &mut job) {
            ("leased", _) => {
                job = Some(Job {
                    lease: text("lease"),
                    build: text("build"),
                    fence: line["fence"].as_i64().unwrap_or_default(),
                    gcode: text("gcode"),
                    heartbeat_ms: line["heartbeat_ms"].as_u64().unwrap_or(300),
                    motion: Motion::None,
                });
            }
            ("moving", Some(job)) => job.motion = Motion::Begun,
            ("made", Some(job)) => job.motion = Motion::Done,
            ("over", _) => job = None,
            _ => {}
        }
    }
    job
}

impl Cell {
    async fn session(&mut self, job: &mut Option<Job>) -> Result<(), Refused> {
        let path = format!("/cells/{}/epochs", self.id);
        let opened = self.insist(Method::POST, &path, &json!({})).await;
        self.epoch = opened.ok_or(Refused)?["epoch"].as_i64().ok_or(Refused)?;
        if let Some(left) = job.as_mut() {
            self.settle(left).await?;
            *job = None;
        }
        loop {
            let taken = self.ask().await?;
            let taken = job.insert(taken);
            self.work(taken).await?;
            *job = None;
        }
    }

    /// After a crash or a lost lease the machine, not the server, knows whether matter moved.
    async fn settle(&mut self, job: &mut Job) -> Result<(), Refused> {
        let path = format!("/builds/{}/resolve", job.build);
        if job.motion == Motion::None {
            let told = json!({ "on_plate": "nothing", "fence": job.fence });
            self.insist(Method::POST, &path, &told).await;
            self.write(job, "over", "empty");
            return Ok(());
        }
        if job.motion == Motion::Begun && self.chance.once_in(PIECE_ONE_OF) {
            let told = json!({ "on_plate": "partial", "fence": job.fence });
            if self.insist(Method::POST, &path, &told).await.is_some() {
                self.write(job, "over", "piece");
                return Ok(());
            }
        }
        // The machine does not stop because its controller did.
        self.finish(job).await
    }

    /// Asks until there is work; the same key until an answer comes, so that a lost one strands nothing.
    async fn ask(&mut self) -> Result<Job, Refused> {
        let path = format!("/cells/{}/leases", self.id);
        loop {
            self.keys += 1;
            let key = format!("{}-{}", self.epoch, self.keys);
            let body = json!({
                "epoch": self.epoch, "printers": ["prusa_mk4"], "materials": ["petg"],
            });
            let answer = loop {
                let request = self.api.request(Method::POST, &path).json(&body);
                let request = request
                    .header("idempotency-key", &key)
                    .header("prefer", "wait=2");
                match self.api.try_send(request).await {
                    Ok(answer) if answer.status < 500 => break answer,
                    _ => tokio::time::sleep(PAUSE).await,
                }
            };
            match answer.status {
                201 => {
                    let job = Job::of(&answer.json()).ok_or(Refused)?;
                    self.write(&job, "leased", &key);
                    return Ok(job);
                }
                204 => {}
                _ => return Err(Refused),
            }
        }
    }

    async fn work(&mut self, job: &mut Job) -> Result<(), Refused> {
        let path = format!("/artifacts/{}", job.gcode);
        loop {
            let request = self.api.request(Method::GET, &path);
            match self.api.try_send(request).await {
                Ok(answer) if answer.status == 200 && digest(&answer.bytes) == job.gcode => break,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        let staged = json!({ "digest": job.gcode });
        for (verb, body) in [("staged", staged), ("start", json!({}))] {
            if self.tell(job, verb, body).await.is_none() {
                // A start that was granted, and whose answer was lost until the lease was, leaves the build in doubt: only
                // this cell knows that nothing moved.
                return self.settle(job).await;
            }
        }
        self.write(job, "moving", "");
        job.motion = Motion::Begun;
        self.finish(job).await
    }

    /// Lets the machine come to its end, and says so.
    async fn finish(&mut self, job: &mut Job) -> Result<(), Refused> {
        if job.motion == Motion::Begun {
            self.beat_while_moving(job).await;
            self.write(job, "made", "");
            job.motion = Motion::Done;
        }
        let scan = format!("a scan of {} made under {}", job.build, job.fence);
        let named = digest(scan.as_bytes());
        let path = format!("/artifacts/{named}");
        loop {
            let request = self.api.request(Method::PUT, &path).body(scan.clone());
            match self.api.try_send(request).await {
                Ok(answer) if answer.status < 300 => break,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        let body = json!({ "scan": named, "report": { "fence": job.fence } });
        let told = self.tell(job, "complete", body).await;
        let how = if told.is_some() {
            "accepted"
        } else {
            "refused"
        };
        self.write(job, "over", how);
        Ok(())
    }

    /// A refused heartbeat does not stop a machine that moves: what it made is told at the end.
    async fn beat_while_moving(&mut self, job: &Job) {
        let mut left = self.chance.between(20, 500);
        let (path, mut seq) = (format!("/leases/{}", job.lease), 0);
        while left > 0 {
            let pause = left.min(job.heartbeat_ms);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            left -= pause;
            seq += 1;
            let body = json!({
                "fence": job.fence, "epoch": self.epoch, "seq": seq, "percent": 50.0, "phase": "moving",
            });
            let _ = self
                .api
                .try_send(self.api.request(Method::PUT, &path).json(&body))
                .await;
        }
    }

    async fn tell(&self, job: &Job, verb: &str, mut body: Value) -> Option<Value> {
        body["fence"] = job.fence.into();
        body["epoch"] = self.epoch.into();
        let path = format!("/leases/{}/{verb}", job.lease);
        self.insist(Method::POST, &path, &body).await
    }

    /// Repeats a call until it is answered; nothing if the answer is a refusal.
    async fn insist(&self, method: Method, path: &str, body: &Value) -> Option<Value> {
        loop {
            let request = self.api.request(method.clone(), path).json(body);
            match self.api.try_send(request).await {
                Ok(answer) if answer.status < 300 => return Some(answer.json()),
                Ok(Answer { status, .. }) if (400..500).contains(&status) => return None,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn write(&mut self, job: &Job, did: &str, note: &str) {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        let line = json!({
            "at": u64::try_from(now.as_millis()).expect("before the year 500,000,000"),
            "cell": self.id, "did": did, "note": note, "build": job.build, "lease": job.lease,
            "fence": job.fence, "gcode": job.gcode, "heartbeat_ms": job.heartbeat_ms,
        });
        // One write, so that a kill leaves a whole line or a piece that is no line.
        let line = format!("\n{line}\n");
        self.book.write_all(line.as_bytes()).expect("the book");
        self.book.sync_data().expect("the book");
    }
}

impl Job {
    fn of(view: &Value) -> Option<Self> {
        Some(Self {
            lease: view["id"].as_str()?.to_owned(),
            build: view["build"].as_str()?.to_owned(),
            fence: view["fence"].as_i64()?,
            gcode: view["gcode"]["digest"].as_str()?.to_owned(),
            heartbeat_ms: view["heartbeat_after_ms"].as_u64()?,
            motion: Motion::None,
        })
    }
}
