//! A server of one's own: the real binary on a free port with a fresh data folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::{Client, FakeCell, binary, eventually};

/// How long a story waits for what should happen at once.
const SOON: Duration = Duration::from_secs(120);

/// A running server; it is killed with the value, and its folder removed.
#[derive(Debug)]
pub struct Server {
    /// Speaks without a token.
    pub anonymous: Client,
    /// Speaks as the operator of the first start.
    pub operator: Client,
    /// The data folder.
    pub data: PathBuf,
    /// Ready this long after it was started.
    pub ready_after: Duration,
    token: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Child,
    _folder: Option<TempDir>,
}

/// A build that waits for a cell, and the run that ordered it.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// The run.
    pub run: String,
    /// The build.
    pub build: String,
    /// The G-code.
    pub gcode: String,
    /// Digest of the G-code.
    pub digest: String,
}

/// The digest of some bytes, as artifacts are named.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hex: Vec<String> = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{}", hex.concat())
}

/// A port of the loopback nobody listens on at the moment.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

impl Server {
    /// `forewright up` on SQLite.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// `forewright up` on SQLite, with settings of its own.
    pub async fn with(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let mut server = Self::run(&["up", "--data"], &data, environment, None).await;
        server._folder = Some(folder);
        server
    }

    /// `forewright up` on a data folder that is there already, whose operator token is known.
    pub async fn on(data: &Path, environment: &[(&str, &str)], token: &str) -> Self {
        Self::run(&["up", "--data"], data, environment, Some(token)).await
    }

    /// `forewright serve` over the `DATABASE_URL` of the environment.
    pub async fn serve(environment: &[(&str, &str)], token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let mut server = Self::run(&["serve"], &data, environment, token).await;
        server._folder = Some(folder);
        server
    }

    async fn run(
        command: &[&str],
        data: &Path,
        environment: &[(&str, &str)],
        token: Option<&str>,
    ) -> Self {
        let mut arguments: Vec<String> = command.iter().map(|a| (*a).to_owned()).collect();
        if arguments.last().is_some_and(|a| a == "--data") {
            arguments.push(data.display().to_string());
        }
        arguments.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
        let mut environment: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        environment.push(("FOREWRIGHT_SERVER_DATA".into(), data.display().to_string()));
        // Stories ask for their ticks themselves.
        environment.push(("FOREWRIGHT_FLEET_TICK_S".into(), "0".into()));
        std::fs::create_dir_all(data).expect("a data folder");
        let started = launch(&arguments, &environment, data).await;
        let token = token.map(str::to_owned).or(started.token);
        let token = token.expect("the first start prints the operator token");
        let anonymous = Client::new(&started.base);
        Self {
            operator: anonymous.with_token(&token),
            anonymous,
            data: data.to_owned(),
            ready_after: started.ready_after,
            token,
            arguments,
            environment,
            child: started.child,
            _folder: None,
        }
    }

    /// Ends the process as a power cut would, and starts it again on the same data.
    ///
    /// # Panics
    ///
    /// When it cannot be killed or does not come back.
    pub async fn kill_and_restart(&mut self) {
        self.child.kill().await.expect("SIGKILL reaches the server");
        let started = launch(&self.arguments, &self.environment, &self.data).await;
        assert_eq!(started.token, None, "the operator token is made once");
        self.child = started.child;
        self.anonymous = Client::new(&started.base);
        self.operator = self.anonymous.with_token(&self.token);
    }

    /// The process id.
    ///
    /// # Panics
    ///
    /// When the process has ended.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// Memory the process has in use (`VmRSS`), or the most it ever had (`VmHWM`), bytes.
    ///
    /// # Panics
    ///
    /// When the kernel does not tell.
    #[must_use]
    pub fn memory_bytes(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("the kernel tells");
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        });
        kib.expect("a number of KiB") * 1024
    }

    /// Whether the process still runs.
    pub fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The operator's token, for commands.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A client with a token of this role.
    pub async fn client_of(&self, role: &str) -> Client {
        let body = json!({ "role": role, "name": format!("the-{role}") });
        let issued = self.operator.post("/tokens", &body).await.expect(201);
        self.anonymous.with_token(text(&issued["token"]))
    }

    /// A cell that enrolled, was approved and is connected.
    pub async fn cell(&self, name: &str) -> FakeCell {
        FakeCell::enrol(self, name).await
    }

    /// Stores bytes; answers their digest.
    pub async fn upload(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let path = format!("/artifacts/{digest}");
        self.operator.put_bytes(&path, bytes).await.expect(201);
        digest
    }

    /// Stores a workflow under a name.
    pub async fn workflow(&self, name: &str, source: &str) {
        let body = json!({ "name": name, "source": source });
        self.operator.post("/workflows", &body).await.expect(201);
    }

    /// Starts a run; answers its id.
    pub async fn start_run(&self, workflow: &str, event: Value) -> String {
        let body = json!({ "workflow": workflow, "event": event });
        let run = self.operator.post("/runs", &body).await.expect(201);
        text(&run["id"]).to_owned()
    }

    /// A run as it stands.
    pub async fn see_run(&self, id: &str) -> Value {
        self.operator.get(&format!("/runs/{id}")).await.expect(200)
    }

    /// A run once it has ended, in whatever way.
    pub async fn ended_run(&self, id: &str) -> Value {
        eventually("the run to end", SOON, || async {
            let run = self.see_run(id).await;
            run["ended_at"].is_string().then_some(run)
        })
        .await
    }

    /// The result of a run that must succeed.
    ///
    /// # Panics
    ///
    /// When it ends otherwise.
    pub async fn result_of(&self, id: &str) -> Value {
        let run = self.ended_run(id).await;
        assert_eq!(run["state"], "succeeded", "{run:#}");
        run["result"].clone()
    }

    /// A run that waits, which is not the same as one that is about to.
    pub async fn waiting_run(&self, id: &str) -> Value {
        eventually("the run to wait", SOON, || async {
            let run = self.see_run(id).await;
            (run["state"] == "waiting").then_some(run)
        })
        .await
    }

    /// A build as it stands.
    pub async fn see_build(&self, id: &str) -> Value {
        self.operator
            .get(&format!("/builds/{id}"))
            .await
            .expect(200)
    }

    /// A build once it is in this state.
    pub async fn build_in(&self, id: &str, state: &str) -> Value {
        eventually(&format!("the build to be {state}"), SOON, || async {
            let build = self.see_build(id).await;
            (build["state"] == state).then_some(build)
        })
        .await
    }

    /// The reference cell with a simulated machine, approved; it stops with the value.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub async fn reference_cell(&self, name: &str) -> Child {
        let cell = self.start_reference_cell(name);
        let code = eventually("the cell to enrol", SOON, || async {
            let asked = self.operator.get("/enrolments").await.expect(200);
            let all = asked["enrolments"].as_array().cloned().unwrap_or_default();
            let own = all.into_iter().find(|asked| asked["name"] == name)?;
            Some(text(&own["code"]).to_owned())
        })
        .await;
        let path = format!("/enrolments/{code}/approve");
        self.operator.post(&path, &json!({})).await.expect(200);
        cell
    }

    /// The reference cell on what it remembers of before, if it was there before.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start_reference_cell(&self, name: &str) -> Child {
        let state = self.data.with_file_name(name);
        let mut command = Command::new(binary::forewright());
        command
            .args(["cell", "--driver", "simulated", "--name", name])
            .args(["--printers", "prusa_mk4", "--server", self.anonymous.base()])
            .arg("--state")
            .arg(&state)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command.spawn().expect("forewright can be started")
    }

    /// The reference cell played by hand, once it is connected.
    pub async fn hand_of_reference_cell(&self, name: &str) -> FakeCell {
        let file = self.data.with_file_name(name).join("cell.json");
        let token = eventually("the cell to be connected", SOON, || async {
            let cell = self.operator.get(&format!("/cells/{name}")).await;
            let connected = cell.status == 200 && cell.json()["epoch"] == 1;
            let state = std::fs::read(&file).ok().filter(|_| connected)?;
            let state: Value = serde_json::from_slice(&state).ok()?;
            state["token"].as_str().map(str::to_owned)
        })
        .await;
        FakeCell {
            id: name.to_owned(),
            client: self.anonymous.with_token(&token),
            epoch: 1,
        }
    }

    /// Orders one build of some G-code, by a workflow that does nothing else.
    pub async fn order_build(&self) -> Ordered {
        let gcode = "; made by hand\nG28\nG1 X10 Y10 Z0.2 F3000\nG1 X40 Y10 E1.5\nM84\n";
        self.order_build_of(gcode).await
    }

    /// Orders one build of this G-code.
    pub async fn order_build_of(&self, gcode: &str) -> Ordered {
        const SOURCE: &str = r#"
fn run(event) {
    let built = step("make", #{
        design: "by-hand", gcode: event.gcode, gcode_size_bytes: event.size,
        material: "petg", printer: "prusa_mk4"
    });
    #{ build: built.build, scan: built.scan }
}
"#;
        let digest = self.upload(gcode.as_bytes()).await;
        self.workflow("one_build", SOURCE).await;
        let event = json!({ "gcode": digest, "size": gcode.len() });
        let run = self.start_run("one_build", event).await;
        let build = eventually("the build to be ordered", SOON, || async {
            let builds = self.operator.get("/builds").await.expect(200);
            let all = builds["builds"].as_array().cloned().unwrap_or_default();
            all.into_iter().find(|b| b["run"] == *run)
        })
        .await;
        Ordered {
            build: text(&build["id"]).to_owned(),
            run,
            gcode: gcode.to_owned(),
            digest,
        }
    }

    /// Every fact so far, in order.
    pub async fn events(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let path = format!("/events?after={after}&limit=500");
            let page = self.operator.get(&path).await.expect(200);
            let events = page["events"].as_array().cloned().unwrap_or_default();
            if events.is_empty() {
                return all;
            }
            after = page["next"].as_i64().unwrap_or(i64::MAX);
            all.extend(events);
        }
    }

    /// The facts of one name, in order.
    pub async fn events_named(&self, name: &str) -> Vec<Value> {
        let all = self.events().await.into_iter();
        all.filter(|event| event["name"] == name).collect()
    }
}

struct Started {
    child: Child,
    base: String,
    token: Option<String>,
    ready_after: Duration,
}

/// Starts a process and waits for the line that says where it is.
async fn launch(arguments: &[String], environment: &[(String, String)], data: &Path) -> Started {
    let log = data.with_extension("log");
    let stderr = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&log);
    let begun = std::time::Instant::now();
    let mut command = Command::new(binary::forewright());
    command
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr.expect("a log file"))
        .kill_on_drop(true);
    if !environment.iter().any(|(name, _)| name == "DATABASE_URL") {
        command.env_remove("DATABASE_URL");
    }
    let mut child = command.spawn().expect("forewright can be started");
    let mut lines = BufReader::new(child.stdout.take().expect("its stdout is a pipe")).lines();
    let mut token = None;
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((_, secret)) = line.split_once("shown this once: ") {
            token = Some(secret.trim().to_owned());
        }
        if let Some(base) = line.strip_prefix("ready on ") {
            let base = base.trim().to_owned();
            let ready_after = begun.elapsed();
            // Whatever else it prints must not fill the pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Started {
                child,
                base,
                token,
                ready_after,
            };
        }
    }
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    panic!("forewright {arguments:?} ended before it was ready:\n{said}");
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
