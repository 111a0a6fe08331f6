//! The lease protocol from the cell's side: enrol, open an epoch, say what is on the plate, take work, make it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use cad::slice::DepositError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::simulated::{Made, ShareDone, Simulated, StopButton};
use super::state::{CellState, Enrolment, Job};
use super::transfer;
use crate::client::{Client, ClientError};

/// How a cell is run.
#[derive(Debug, Clone)]
pub struct CellOptions {
    /// The server.
    pub server: String,
    /// What people call the cell.
    pub name: String,
    /// Where it remembers.
    pub state: PathBuf,
    /// Printer profiles its machine understands.
    pub printers: Vec<String>,
    /// Materials it has.
    pub materials: Vec<String>,
    /// Its machine.
    pub machine: Simulated,
}

#[derive(Debug, Deserialize)]
struct LeaseView {
    id: String,
    build: String,
    fence: i64,
    gcode: GcodeView,
    heartbeat_after_ms: u64,
}

#[derive(Debug, Deserialize)]
struct GcodeView {
    digest: String,
}

/// What the answer to a heartbeat says that a cell must act on.
#[derive(Debug, Deserialize)]
struct BeatView {
    cancel_requested: bool,
}

/// How long a cell waits before it tries again what nobody answered.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// Serves builds until it is dropped, or until the server will have nothing more to do with it.
pub async fn run(options: CellOptions) -> anyhow::Result<()> {
    let mut cell = Cell::enrol(options).await?;
    loop {
        match cell.session().await {
            Ok(never) => match never {},
            // A newer epoch, a restarted server, a lost lease: begin again, with the state file as memory.
            Err(error) if is_over(&error) => return Err(error),
            Err(error) => {
                tracing::warn!("the session ended: {error:#}");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

/// Whether no new session can help: the token is no longer good.
fn is_over(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<ClientError>(),
        Some(ClientError::Refused { status, .. }) if status.as_u16() == 401 || status.as_u16() == 403
    )
}

/// Whether a refusal says that the build in hand is not for this cell to settle any more.
fn is_settled(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref().and_then(ClientError::code);
    let codes = [
        "build_not_uncertain",
        "forbidden",
        "lease_ended",
        "not_found",
        "stale",
    ];
    code.is_some_and(|code| codes.contains(&code))
}

/// Why a build failed: the machine was told to stop, or stopped by itself.
fn failure_code(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref() {
        Some(DepositError::Cancelled) => "cancelled",
        _ => "machine_stopped",
    }
}

struct Cell {
    options: CellOptions,
    state: CellState,
    id: String,
    api: Client,
    epoch: i64,
}

impl Cell {
    async fn enrol(options: CellOptions) -> anyhow::Result<Self> {
        let mut state = CellState::load(&options.state)?;
        let anonymous = Client::new(&options.server, None)?;
        if state.token.is_none() {
            let (cell, token) = loop {
                let enrolment = match state.enrolment.clone() {
                    Some(enrolment) => enrolment,
                    None => request_enrolment(&anonymous, &options, &mut state).await?,
                };
                if let Some(granted) = await_approval(&anonymous, &enrolment).await? {
                    break granted;
                }
                tracing::warn!(
                    "the server has cleared the enrolment {}; enrolling anew",
                    enrolment.code
                );
                state.enrolment = None;
                state.save(&options.state)?;
                tokio::time::sleep(PATIENCE).await;
            };
            state.cell = Some(cell);
            state.token = Some(token);
            state.enrolment = None;
            state.save(&options.state)?;
        }
        let (Some(id), Some(token)) = (state.cell.clone(), state.token.clone()) else {
            bail!(
                "cell state in `{}` has a token but no cell",
                options.state.display()
            );
        };
        let api = anonymous.with_token(&token);
        Ok(Self {
            options,
            state,
            id,
            api,
            epoch: 0,
        })
    }

    /// One epoch: say what is on the plate, then take and make builds for ever.
    async fn session(&mut self) -> anyhow::Result<std::convert::Infallible> {
        let (path, body) = (format!("/cells/{}/epochs", self.id), json!({}));
        let opened: Value = retry(|| self.api.post(&path, &body)).await?;
        self.epoch = opened["epoch"]
            .as_i64()
            .context("the server named no epoch")?;
        self.tell_what_is_on_the_plate().await?;
        loop {
            if let Some(lease) = self.acquire().await? {
                self.work(lease).await?;
            }
        }
    }

    /// After a crash the machine, not the server, knows whether matter moved.
    async fn tell_what_is_on_the_plate(&mut self) -> anyhow::Result<()> {
        let Some(job) = self.state.job.clone() else {
            return Ok(());
        };
        let told = match job.started {
            None => {
                let path = format!("/builds/{}/resolve", job.build);
                let body = json!({ "on_plate": "nothing", "fence": job.fence });
                retry(|| self.api.post::<Value>(&path, &body))
                    .await
                    .map(drop)
                    .map_err(Into::into)
            }
            // The machine does not stop because its controller did: it finishes what it began.
            Some(ordinal) => {
                let gcode = transfer::fetch(&self.api, &job.gcode).await?;
                self.make(&job, gcode, ordinal).await
            }
        };
        match told {
            // Told again in the next session: as long as nobody knows what is on the plate, there is no other work.
            Err(error) if !is_settled(&error) => Err(error),
            // Settled by somebody else, or offered again: nothing of it is ours any more.
            _ => self.forget_job(),
        }
    }

    async fn acquire(&self) -> anyhow::Result<Option<LeaseView>> {
        let key = uuid::Uuid::now_v7().to_string();
        let path = format!("/cells/{}/leases", self.id);
        let body = json!({
            "epoch": self.epoch,
            "printers": self.options.printers,
            "materials": self.options.materials,
        });
        // The same key until an answer comes: a lost reply must not strand the build it named.
        let lease = retry(|| {
            let request = self.api.request(reqwest::Method::POST, &path);
            let request = request
                .header("prefer", "wait=20")
                .header("idempotency-key", &key);
            self.api.json(request.json(&body))
        });
        match lease.await {
            // It waited for somebody to look, as long as for work.
            Err(error) if error.code() == Some("plate_unknown") => {
                tracing::warn!("no work yet: {error}");
                tokio::time::sleep(PATIENCE).await;
                Ok(None)
            }
            answer => Ok(answer?),
        }
    }

    async fn work(&mut self, lease: LeaseView) -> anyhow::Result<()> {
        let gcode = transfer::fetch(&self.api, &lease.gcode.digest).await?;
        let mut job = Job {
            lease: lease.id,
            build: lease.build,
            fence: lease.fence,
            gcode: lease.gcode.digest,
            heartbeat_after_ms: lease.heartbeat_after_ms,
            started: None,
        };
        self.remember(&job)?;
        self.tell(&job, "staged", json!({ "digest": job.gcode }))
            .await?;
        self.start(&job).await?;
        let ordinal = self.state.builds_started;
        self.state.builds_started += 1;
        job.started = Some(ordinal);
        self.remember(&job)?;
        self.make(&job, gcode, ordinal).await?;
        self.forget_job()
    }

    /// Asks for the start until it is granted: a hall starts its machines one after the other. The lease is kept meanwhile.
    async fn start(&self, job: &Job) -> Result<(), ClientError> {
        let path = format!("/leases/{}", job.lease);
        loop {
            let pause = match self.tell(job, "start", json!({})).await {
                Err(error) => error.retry_after().ok_or(error)?,
                Ok(()) => return Ok(()),
            };
            tokio::time::sleep(pause.min(Duration::from_millis(job.heartbeat_after_ms))).await;
            let body = json!({
                "fence": job.fence, "epoch": self.epoch, "seq": 0, "percent": 0.0,
                "phase": "waiting to start",
            });
            let answer: BeatView = retry(|| self.api.put(&path, &body)).await?;
            if answer.cancel_requested {
                // The next start is refused for good, and says why.
                tracing::info!("build {} is no longer wanted", job.build);
            }
        }
    }

    /// Lets the machine make a started build, renewing the lease meanwhile, and reports how it ended.
    async fn make(&self, job: &Job, gcode: Vec<u8>, ordinal: u64) -> anyhow::Result<()> {
        let (done, stop) = (ShareDone::default(), StopButton::default());
        let made = tokio::select! {
            made = self.machine_makes(gcode, ordinal, done.clone(), stop.clone()) => made,
            refusal = self.heartbeat(job, &done, &stop) => return Err(refusal.into()),
        };
        match made {
            Ok(made) => {
                let scan = transfer::upload(&self.api, "model/ply", &made.scan).await?;
                self.tell(
                    job,
                    "complete",
                    json!({ "scan": scan, "report": made.report }),
                )
                .await?;
            }
            Err(error) => {
                let message = format!("{error:#}");
                let body = json!({ "code": failure_code(&error), "message": message });
                self.tell(job, "fail", body).await?;
            }
        }
        Ok(())
    }

    /// Renews the lease until that is refused; answers the refusal.
    ///
    /// A build that is called off is stopped, and its lease kept until the machine stands still: only then is known
    /// what lies on the plate.
    async fn heartbeat(&self, job: &Job, done: &ShareDone, stop: &StopButton) -> ClientError {
        let path = format!("/leases/{}", job.lease);
        let mut seq = 0_i64;
        loop {
            tokio::time::sleep(Duration::from_millis(job.heartbeat_after_ms)).await;
            seq += 1;
            let body = json!({
                "fence": job.fence, "epoch": self.epoch, "seq": seq,
                "percent": done.get() * 100.0, "phase": "making",
            });
            match self.api.put::<BeatView>(&path, &body).await {
                Ok(answer) if answer.cancel_requested => stop.press(),
                Ok(_) => {}
                Err(error) if error.is_transient() => tracing::warn!("heartbeat: {error}"),
                Err(error) => return error,
            }
        }
    }

    async fn tell(&self, job: &Job, verb: &str, mut body: Value) -> Result<(), ClientError> {
        body["fence"] = job.fence.into();
        body["epoch"] = self.epoch.into();
        let path = format!("/leases/{}/{verb}", job.lease);
        retry(|| self.api.post::<Value>(&path, &body))
            .await
            .map(drop)
    }

    async fn machine_makes(
        &self,
        gcode: Vec<u8>,
        ordinal: u64,
        done: ShareDone,
        stop: StopButton,
    ) -> anyhow::Result<Made> {
        let machine = self.options.machine.clone();
        tokio::task::spawn_blocking(move || machine.make(&gcode, ordinal, &done, &stop)).await?
    }

    fn remember(&mut self, job: &Job) -> anyhow::Result<()> {
        self.state.job = Some(job.clone());
        self.state.save(&self.options.state)
    }

    fn forget_job(&mut self) -> anyhow::Result<()> {
        self.state.job = None;
        self.state.save(&self.options.state)
    }
}

async fn request_enrolment(
    api: &Client,
    options: &CellOptions,
    state: &mut CellState,
) -> anyhow::Result<Enrolment> {
    let body = json!({
        "name": options.name,
        "machine": { "printers": options.printers, "materials": options.materials },
    });
    let enrolment: Enrolment = retry(|| api.post("/enrolments", &body)).await?;
    tracing::info!(
        "enrolled; an operator must approve the code {}",
        enrolment.code
    );
    state.enrolment = Some(enrolment.clone());
    state.save(&options.state)?;
    Ok(enrolment)
}

/// The cell and its token once an operator approved; none where the server no longer knows the enrolment: those that
/// wait too long make room for others.
async fn await_approval(
    api: &Client,
    enrolment: &Enrolment,
) -> anyhow::Result<Option<(String, String)>> {
    #[derive(Deserialize)]
    struct Granted {
        cell: String,
        token: String,
    }
    let path = format!("/enrolments/{}/token", enrolment.code);
    let body = json!({ "claim_secret": enrolment.claim_secret });
    loop {
        match retry(|| api.post::<Granted>(&path, &body)).await {
            Ok(granted) => return Ok(Some((granted.cell, granted.token))),
            Err(error) if error.code() == Some("not_found") => return Ok(None),
            Err(error) if error.code() == Some("enrolment_pending") => {
                tokio::time::sleep(PATIENCE).await
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Repeats a call while nobody answers it.
async fn retry<T, F>(mut call: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    loop {
        match call().await {
            Err(error) if error.is_transient() => {
                tracing::debug!("trying again: {error}");
                tokio::time::sleep(PATIENCE).await;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;
    use crate::testing::TestServer;

    #[tokio::test]
    async fn a_cell_whose_enrolment_was_cleared_enrols_anew() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = TestServer::with(&[]).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = crate::router::router(server.app.clone());
        tokio::spawn(async move { axum::serve(listener, service).await });
        let folder = tempfile::tempdir().unwrap();
        let cleared = Enrolment {
            code: "AAAA-AAAA".into(),
            claim_secret: "forgotten".into(),
        };
        let state = CellState {
            enrolment: Some(cleared),
            ..CellState::default()
        };
        state.save(folder.path()).unwrap();
        let options = CellOptions {
            server: format!("http://{address}"),
            name: "c1".into(),
            state: folder.path().to_owned(),
            printers: vec!["p".into()],
            materials: vec!["petg".into()],
            machine: Simulated {
                seed: 1,
                defect: cad::slice::Defect::None,
                defective_builds: 0,
                sigma_mm: 0.0,
            },
        };
        let approving = async {
            let db = &server.app.db;
            loop {
                let asked = store::cells::enrolments(&db.read).await.unwrap();
                if let Some(asked) = asked.first() {
                    let tx = store::begin(&db.write).await.unwrap();
                    let approved = store::cells::approve(&tx, 1, "olga", &asked.code).await;
                    tx.commit().await.unwrap();
                    return approved.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let both = async { tokio::join!(Cell::enrol(options), approving) };
        let (cell, _) = tokio::time::timeout(Duration::from_secs(20), both)
            .await
            .expect("it is not stuck");
        assert_eq!(cell.unwrap().id, "c1");
        let kept = CellState::load(folder.path()).unwrap();
        assert!(kept.token.is_some() && kept.enrolment.is_none());
    }
}
