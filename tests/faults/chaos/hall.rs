//! The processes that are tormented: servers, workers and cells over one database.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tempfile::TempDir;
use tests::{Client, Cluster, Proxy, Rows, binary, eventually, free_port};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::history::recovery::{Killed, Outages};
use crate::history::witness;

/// How long a lease lasts, of steps and of builds; its holder renews it six times meanwhile.
pub(super) const LEASE_MS: i64 = 1_800;
const HEARTBEAT_MS: i64 = 300;
/// How long a process may take until it answers, on a machine with other work.
const START: Duration = Duration::from_secs(60);

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Worker,
    Cell,
}

/// A process that is started again whenever it was killed.
pub(super) struct Tormented {
    pub(super) role: Role,
    pub(super) name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    /// It is stopped, as a zombie.
    pub(super) asleep: bool,
    started_at: i64,
}

/// All of them.
pub(super) struct Hall {
    pub(super) all: Vec<Tormented>,
    pub(super) rows: Rows,
    pub(super) cluster: Option<Cluster>,
    pub(super) proxy: Proxy,
    pub(super) servers: Vec<Client>,
    pub(super) killed: Vec<Killed>,
    pub(super) outages: Outages,
    /// What should not have been.
    pub(super) found: Vec<String>,
    pub(super) folder: TempDir,
}

/// The present moment, ms since the epoch.
pub(super) fn now() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the year 292,000,000")
}

impl Tormented {
    fn start(&mut self, stdout: Stdio) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log);
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env_remove("DATABASE_URL")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(log.expect("a log file"))
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.expect("it can be started"));
        self.asleep = false;
        self.started_at = now();
    }

    fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Kills it and starts it again at once.
    pub(super) async fn kill(&mut self) -> Killed {
        let killed = Killed {
            pid: self.pid().unwrap_or(0),
            at: now(),
        };
        let mut child = self.child.take().expect("it was started");
        child.kill().await.expect("SIGKILL reaches it");
        self.start(Stdio::null());
        killed
    }

    /// Stops it as it stands, or lets it go on as if nothing had been.
    pub(super) fn signal(&mut self, asleep: bool) {
        let signal = if asleep { "-STOP" } else { "-CONT" };
        let pid = self.pid().expect("it runs").to_string();
        let told = std::process::Command::new("kill")
            .args([signal, &pid])
            .status();
        assert!(told.expect("kill can be started").success());
        self.asleep = asleep;
    }
}

impl Hall {
    /// Two servers, three workers and two cells on a Postgres cluster of their own.
    pub(super) async fn postgres(seed: u64) -> Self {
        let cluster = Cluster::start();
        let url = cluster.database("chaos");
        // What a stopped process has begun must not hold up the others for longer than a lease.
        let rows = Rows::Postgres(url.clone());
        let ports = [free_port(), free_port()];
        let mut hall = Self::new(rows, Some(cluster), &ports, seed).await;
        for (index, port) in ports.iter().enumerate() {
            let listen = format!("127.0.0.1:{port}");
            hall.add(Role::Server, index, &["serve", "--listen", &listen], &url);
        }
        for index in 0..3 {
            let arguments = ["work", "--queues", "runs,io"];
            hall.add(Role::Worker, index, &arguments, &url);
        }
        hall.begin(seed).await
    }

    /// One process that does it all on SQLite, and two cells.
    pub(super) async fn sqlite(seed: u64) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("data/forewright.sqlite");
        let mut hall = Self::new(Rows::Sqlite(file), None, &[port], seed).await;
        hall.folder = folder;
        let listen = format!("127.0.0.1:{port}");
        let data = hall.folder.path().join("data").display().to_string();
        let arguments = ["up", "--data", &data, "--listen", &listen];
        hall.add(Role::Server, 0, &arguments, "");
        hall.begin(seed).await
    }

    async fn new(rows: Rows, cluster: Option<Cluster>, ports: &[u16], seed: u64) -> Self {
        let bases = ports.iter().map(|port| format!("http://127.0.0.1:{port}"));
        Self {
            all: Vec::new(),
            rows,
            cluster,
            proxy: Proxy::start(ports, seed).await,
            servers: bases.map(|base| Client::new(&base)).collect(),
            killed: Vec::new(),
            outages: Outages::default(),
            found: Vec::new(),
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    fn add(&mut self, role: Role, index: usize, arguments: &[&str], database: &str) {
        let name = format!("{role:?}-{index}").to_lowercase();
        let data = self.folder.path().join("data");
        std::fs::create_dir_all(&data).expect("a data folder");
        let mut environment = vec![
            ("FOREWRIGHT_SERVER_DATA", data.display().to_string()),
            ("FOREWRIGHT_FLEET_TICK_S", "0".into()),
            ("FOREWRIGHT_QUEUE_LEASE_MS", LEASE_MS.to_string()),
            ("FOREWRIGHT_QUEUE_HEARTBEAT_MS", HEARTBEAT_MS.to_string()),
            ("FOREWRIGHT_QUEUE_POLL_MS", "100".into()),
            ("FOREWRIGHT_QUEUE_CONCURRENCY", "4".into()),
            ("FOREWRIGHT_BUILDS_LEASE_MS", LEASE_MS.to_string()),
            ("FOREWRIGHT_BUILDS_HEARTBEAT_MS", HEARTBEAT_MS.to_string()),
        ];
        if !database.is_empty() {
            environment.push(("DATABASE_URL", database.to_owned()));
        }
        let environment = environment.into_iter().map(|(k, v)| (k.to_owned(), v));
        let program = binary::forewright().to_owned();
        self.push(role, name, program, arguments, environment.collect());
    }

    fn push(
        &mut self,
        role: Role,
        name: String,
        program: PathBuf,
        arguments: &[&str],
        environment: Vec<(String, String)>,
    ) {
        self.all.push(Tormented {
            role,
            log: self.folder.path().join(format!("{name}.log")),
            name,
            program,
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            environment,
            child: None,
            asleep: false,
            started_at: 0,
        });
    }

    /// Starts them, the first server before the others since it prints the token, and has the witness watch.
    async fn begin(mut self, seed: u64) -> Self {
        self.all[0].start(Stdio::piped());
        let token = first_token(self.all[0].child.as_mut().expect("started")).await;
        self.servers = self.servers.iter().map(|s| s.with_token(&token)).collect();
        witness::watch(&self.rows, &witness::FOREWRIGHT);
        for other in &mut self.all[1..] {
            other.start(Stdio::null());
        }
        for number in 0..2 {
            self.add_cell(number, seed).await;
        }
        self
    }

    async fn add_cell(&mut self, number: usize, seed: u64) {
        let name = format!("cell-{number}");
        let operator = &self.servers[0];
        let body = json!({ "name": name, "machine": { "printers": ["prusa_mk4"], "materials": ["petg"] } });
        let asked = operator.post("/enrolments", &body).await.expect(201);
        let code = asked["code"].as_str().expect("a code");
        let path = format!("/enrolments/{code}");
        let approval = format!("{path}/approve");
        operator.post(&approval, &json!({})).await.expect(200);
        let secret = json!({ "claim_secret": asked["claim_secret"] });
        let granted = operator
            .post(&format!("{path}/token"), &secret)
            .await
            .expect(200);
        let book = self.book(&name).display().to_string();
        let token = granted["token"].as_str().expect("a token");
        let seed = (seed ^ number as u64).to_string();
        let arguments = [&self.proxy.base.clone(), token, &name, &book, &seed];
        let program = Path::new(env!("CARGO_BIN_EXE_logging-cell")).to_owned();
        self.push(Role::Cell, name.clone(), program, &arguments, Vec::new());
        self.all
            .last_mut()
            .expect("just added")
            .start(Stdio::null());
    }

    fn book(&self, cell: &str) -> PathBuf {
        self.folder.path().join(format!("{cell}.book"))
    }

    /// What the cells wrote down.
    pub(super) fn books(&self) -> Vec<PathBuf> {
        let cells = self.all.iter().filter(|one| one.role == Role::Cell);
        cells.map(|cell| self.book(&cell.name)).collect()
    }

    /// Those of a role that are awake.
    pub(super) fn awake(&self, role: Role) -> Vec<usize> {
        let all = self.all.iter().enumerate();
        all.filter(|(_, one)| one.role == role && !one.asleep)
            .map(|(index, _)| index)
            .collect()
    }

    /// Nobody may end by himself, except who was just started while the database was away.
    pub(super) fn look_after(&mut self) {
        let at = now();
        for one in &mut self.all {
            let Some(Ok(Some(status))) = one.child.as_mut().map(Child::try_wait) else {
                continue;
            };
            let outages = &self.outages.0;
            let away = outages
                .iter()
                .any(|(begun, over)| *begun <= at && *over + 10_000 >= one.started_at);
            if !away || at - one.started_at > 20_000 {
                self.found.push(format!(
                    "{} ended by itself with {status}:\n{}",
                    one.name,
                    tail(&one.log)
                ));
            }
            one.start(Stdio::null());
        }
    }

    /// Waits until every server answers.
    pub(super) async fn all_answer(&self) {
        for server in &self.servers {
            eventually("a server to answer", START, || async {
                let request = server.request(reqwest::Method::GET, "/health");
                server
                    .try_send(request)
                    .await
                    .ok()
                    .filter(|a| a.status == 200)
            })
            .await;
        }
    }
}

fn tail(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = said.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

async fn first_token(child: &mut Child) -> String {
    let stdout = child.stdout.take().expect("its stdout is a pipe");
    let mut lines = BufReader::new(stdout).lines();
    let mut token = None;
    let read = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some((_, secret)) = line.split_once("shown this once: ") {
                token = Some(secret.trim().to_owned());
            }
            if line.starts_with("ready on ") {
                break;
            }
        }
        token
    };
    let token = tokio::time::timeout(START, read).await;
    token
        .expect("it is ready in time")
        .expect("the first start prints the token")
}
