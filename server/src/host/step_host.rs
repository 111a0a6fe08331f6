//! The host of one attempt of one step. It blocks: steps run on threads that may.
//!
//! Every write is one transaction that first makes sure the step is still the attempt's: a worker that lost its
//! lease leaves nothing behind.

use std::ops::ControlFlow;
use std::sync::Arc;

use ::plugins::v1::types::ArtifactRef as Told;
use bytes::Bytes;
use cad::brief::Brief;
use cad::slice::printer::Printer;
use predict::failure::FailureModel;
use predict::history::UnitHistory;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tracing::warn;
use workflows::host::{
    Answer, Child, Compared, Designing, Host, Inspected, NewChild, PriceOf, SlotRequest,
};
use workflows::model::{
    Action, ArtifactRef, Asset, Build, Design, Detected, ModelRecord, NewBuild, NewDesign,
    NewModel, NewWindow, NewWorkOrder, Part, PluginUse, PluginVerdict, Prediction, Proposal,
    Scored, Technician, Timestamp, Twin, Window, WindowState, WorkOrder,
};
use workflows::schedule::Candidate;
use workflows::steps::{MODEL_KIND, StepError};

use super::action::{Deed, act};
use super::designer::{Designers, task};
use super::detector::Detectors;
use super::history::{UTILISATION, life_histories, means, unit_history};
use super::lives::{installed, lives, present_since};
use super::predictor::{About, Champion, Predictors, Subject};
use super::scheduler::Schedulers;
use super::verifier::{Scan, Verifiers};
use super::{ArtifactBytes, Telemetry};
use crate::plugins::Plugins;
use crate::queue::{Claimed, Held, Queue, hold};
use crate::store::artifacts::provenance;
use crate::store::outcomes::NewOutcome;
use crate::store::plugin_differences::{self, Difference};
use crate::store::runs::run;
use crate::store::{self, Database, DatabaseTransaction, StoreError};

/// What every step of a process shares.
#[derive(Clone)]
pub struct World {
    /// The queue, and behind it the database and the clock.
    pub queue: Queue,
    /// Where artifacts lie.
    pub artifacts: Arc<dyn ArtifactBytes>,
    /// Where samples lie.
    pub telemetry: Arc<dyn Telemetry>,
    /// Who else may be asked.
    pub plugins: Plugins,
}

/// The world as one attempt sees it.
pub struct StepHost {
    world: World,
    run: run::Model,
    claimed: Claimed,
    held: Arc<Held>,
    handle: Handle,
}

impl StepHost {
    /// A host for a claimed step of a run; to be made on the runtime and used on a thread that may block.
    #[must_use]
    pub fn new(world: World, run: run::Model, claimed: Claimed, held: Arc<Held>) -> Self {
        Self {
            world,
            run,
            claimed,
            held,
            handle: Handle::current(),
        }
    }

    fn db(&self) -> &Database {
        self.world.queue.db()
    }

    fn now(&self) -> i64 {
        self.world.queue.now()
    }

    /// The run and position what is written belongs to.
    fn at(&self) -> (&str, &str) {
        (&self.run.id, &self.claimed.0.position)
    }

    fn read<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Answer<T> {
        self.handle.block_on(asked).map_err(|error| refusal(&error))
    }

    /// One fenced transaction.
    fn write<T>(
        &self,
        work: impl AsyncFnOnce(&DatabaseTransaction) -> Result<T, StoreError>,
    ) -> Answer<T> {
        let written = self.handle.block_on(async {
            let tx = store::begin(&self.db().write).await?;
            hold(&tx, &self.claimed).await?;
            let made = work(&tx).await?;
            tx.commit().await?;
            Ok(made)
        });
        self.world.queue.notify_local();
        written.map_err(|error| refusal(&error))
    }

    fn samples(
        &self,
        asset: &str,
        from: i64,
        to: i64,
    ) -> Answer<std::collections::BTreeMap<String, predict::series::Samples>> {
        self.handle
            .block_on(self.world.telemetry.samples(asset, from, to))
            .map_err(|trouble| unavailable("telemetry", &trouble))
    }
}

impl StepHost {
    /// An asset as plugins are asked about it.
    fn subject(&self, asset: &Asset, until: Timestamp) -> Answer<(Subject, About)> {
        let outcomes = self.read(store::outcomes::list(&self.db().read, Some(&asset.id)))?;
        let since = present_since(&outcomes, until.0);
        let subject = Subject {
            asset: asset.clone(),
            installed_ms: installed(&outcomes, until.0),
            samples: Arc::new(self.samples(&asset.id, since, until.0)?),
        };
        let about = About {
            model: self.told_champion(&asset.kind)?,
            now_ms: until.0,
            seed: self.run.seed as u32,
        };
        Ok((subject, about))
    }

    /// An artifact as plugins are told of it.
    fn told_artifact(&self, digest: &str, name: &str) -> Answer<Told> {
        let row = self.read(store::artifacts::get(&self.db().read, digest))?;
        let too_large = |_| {
            let why = format!("artifact `{digest}` is too large for plugins");
            StepError::failed("too_large", why)
        };
        Ok(Told {
            digest: row.digest,
            media_type: row.media,
            size: u32::try_from(row.size_bytes).map_err(too_large)?,
            name: name.to_owned(),
        })
    }

    /// The model that serves a kind of asset, as plugins are told of it.
    fn told_champion(&self, asset_kind: &str) -> Answer<Option<Champion>> {
        let Some(row) = self.champion(MODEL_KIND, asset_kind)? else {
            return Ok(None);
        };
        let bytes = self.artifact(&row.digest)?;
        let model = FailureModel::from_bytes(&bytes)
            .map_err(|error| StepError::failed("bad_model", error))?;
        Ok(Some(Champion::new(&model, &row.digest, bytes.len())))
    }
}

impl Host for StepHost {
    fn run(&self) -> &str {
        &self.run.id
    }

    fn position(&self) -> &str {
        &self.claimed.0.position
    }

    fn seed(&self) -> u64 {
        self.run.seed.cast_unsigned()
    }

    fn progress(&self, share: f64, phase: &str) -> ControlFlow<()> {
        self.held.progress(share, phase);
        if self.held.should_stop() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn asset(&self, id: &str) -> Answer<Asset> {
        self.read(store::assets::get(&self.db().read, id))
    }

    fn twin(&self) -> Answer<Twin> {
        self.read(store::assets::twin(&self.db().read))
    }

    fn act(&self, action: &Action) -> Answer<()> {
        let (now, at) = (self.now(), self.at());
        self.write(async |tx| {
            store::actions::carry_out(tx, now, at, action).await?;
            Ok(())
        })
    }

    fn record_outcome(&self, asset: &str, kind: &str, at: Timestamp, note: &str) -> Answer<()> {
        let (now, step) = (self.now(), self.at());
        let new = NewOutcome {
            asset,
            kind,
            at: at.0,
            note,
            step: Some(step),
        };
        self.write(async |tx| {
            if store::outcomes::insert(tx, now, new).await? {
                let detail = json!({ "kind": kind, "at": at, "run": step.0 });
                store::events::record(tx, now, "outcome.recorded", asset, &detail).await?;
            }
            Ok(())
        })
    }

    fn history(&self, asset: &str, until: Timestamp, step_ms: i64) -> Answer<UnitHistory> {
        let outcomes = self.read(store::outcomes::list(&self.db().read, Some(asset)))?;
        let since = present_since(&outcomes, until.0);
        let samples = self.samples(asset, since, until.0)?;
        unit_history(asset, &samples, step_ms, false).map_err(|e| StepError::failed("telemetry", e))
    }

    fn histories(&self, asset_kind: &str) -> Answer<Vec<UnitHistory>> {
        let assets = self.read(store::assets::of_kind(&self.db().read, asset_kind))?;
        let outcomes = self.read(store::outcomes::list(&self.db().read, None))?;
        let mut histories = Vec::with_capacity(assets.len());
        for asset in assets {
            let told = outcomes.iter().filter(|outcome| outcome.asset == asset.id);
            let lives = lives(told, self.now());
            let Some(last) = lives.last() else { continue };
            let samples = self.samples(&asset.id, 0, last.until_ms)?;
            let lived = life_histories(&asset.id, &samples, &lives)
                .map_err(|e| StepError::failed("telemetry", e))?;
            histories.extend(lived);
        }
        Ok(histories)
    }

    fn utilisation(
        &self,
        asset: &str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> Answer<Vec<Option<f64>>> {
        let mut samples = self.samples(asset, from.0 - 3 * step_ms, to.0)?;
        let samples = samples.remove(UTILISATION).unwrap_or_default();
        means(&samples, from.0, to.0, step_ms).map_err(|e| StepError::failed("telemetry", e))
    }

    fn plugin_score(&self, asset: &Asset, until: Timestamp) -> Answer<Option<Scored>> {
        let predictors = self.read(Predictors::now(&self.world.plugins))?;
        if !predictors.serve(&asset.kind) {
            return Ok(None);
        }
        let (subject, about) = self.subject(asset, until)?;
        let subjects = [subject];
        let asked = predictors.score(&asset.kind, &subjects, &about);
        Ok(self.handle.block_on(asked).pop().flatten())
    }

    fn plugin_anomaly(&self, asset: &Asset, until: Timestamp) -> Answer<Option<Detected>> {
        let detectors = self.read(Detectors::now(&self.world.plugins))?;
        if !detectors.serve(&asset.kind) {
            return Ok(None);
        }
        let (subject, about) = self.subject(asset, until)?;
        Ok(self.handle.block_on(detectors.detect(&subject, &about)))
    }

    fn plugin_verdicts(&self, inspected: &Inspected<'_>) -> Answer<Vec<PluginVerdict>> {
        let verifiers = self.read(Verifiers::now(&self.world.plugins))?;
        let asset = self.asset(inspected.asset)?;
        if !verifiers.know(&asset.kind) {
            return Ok(Vec::new());
        }
        let scan = Scan {
            inspected,
            kind: &asset.kind,
            mesh: self.told_artifact(inspected.mesh, "part.stl")?,
            scan: self.told_artifact(inspected.scan, "scan.ply")?,
        };
        let about = About {
            model: None,
            now_ms: self.now(),
            seed: self.run.seed as u32,
        };
        let verdicts = self.handle.block_on(verifiers.inspect(&scan, &about));
        verdicts.map_err(|error| StepError::unavailable("plugin_not_ready", error))
    }

    fn plugin_designs(
        &self,
        asset: &Asset,
        brief: &Brief,
        whose: Designing,
    ) -> Answer<Vec<Proposal>> {
        let designers = self.read(Designers::now(&self.world.plugins))?;
        if !designers.know(&asset.kind) {
            return Ok(Vec::new());
        }
        let printer = match Printer::named(&brief.printer) {
            Ok(printer) => printer,
            Err(error) => {
                // Ours needs none for the shape; slicing says it again to whoever gets that far.
                warn!("no designer is asked: {error}");
                return Ok(Vec::new());
            }
        };
        let about = About {
            model: None,
            now_ms: self.now(),
            seed: self.run.seed as u32,
        };
        let task = task(asset, brief, &printer);
        Ok(self.handle.block_on(async {
            match whose {
                Designing::Serving => designers.serving(asset, &task, &about).await,
                Designing::Compared => designers.compared(asset, &task, &about).await,
            }
        }))
    }

    fn plugin_compared(&self, compared: &Compared<'_>) -> Answer<()> {
        let by = compared.plugin;
        let difference = Difference {
            asset: compared.asset.to_owned(),
            at: self.now(),
            other: compared.other.to_owned(),
            own: compared.own.clone(),
            theirs: compared.theirs.clone(),
        };
        let kept = self.write(async |tx| {
            let version = store::plugins::get(tx, &by.name, &by.version).await?;
            plugin_differences::put(tx, &version.id, &difference).await
        });
        kept.inspect_err(|error| warn!(plugin = %by.name, "a comparison was not kept: {error}"))
    }

    fn plugin_slot(
        &self,
        ask: &SlotRequest<'_>,
        price: PriceOf<'_>,
    ) -> Answer<Option<(Candidate, PluginUse)>> {
        let schedulers = self.read(Schedulers::now(&self.world.plugins))?;
        self.read(schedulers.choose(ask, price, self.run.seed as u32))
    }

    fn plugin_act(&self, plugin: &str, input: &Value) -> Answer<(Value, PluginUse)> {
        let (run, position) = self.at();
        let deed = Deed {
            plugin,
            input,
            run,
            position,
            now_ms: self.now(),
            seed: self.run.seed as u32,
        };
        self.handle.block_on(act(&self.world.plugins, &deed))
    }

    fn champion(&self, kind: &str, asset_kind: &str) -> Answer<Option<ModelRecord>> {
        let db = &self.db().read;
        let row = self.read(store::models::champion(db, kind, asset_kind))?;
        row.map(|row| row.record().map_err(|error| refusal(&error)))
            .transpose()
    }

    fn store_model(&self, model: &NewModel) -> Answer<ModelRecord> {
        let (now, at) = (self.now(), self.at());
        self.write(async |tx| {
            let row = store::models::insert(tx, now, at, model).await?;
            let champion = store::models::champion(tx, &row.kind, &row.asset_kind).await?;
            let serves = match &champion {
                Some(champion) => beats(&row.evaluation, &champion.evaluation),
                None => true,
            };
            if serves {
                store::models::crown(tx, &row).await?;
            }
            let detail = json!({ "asset_kind": row.asset_kind, "serves": serves });
            store::events::record(tx, now, "model.trained", &row.id, &detail).await?;
            row.record()
        })
    }

    fn store_prediction(&self, prediction: &Prediction) -> Answer<()> {
        let now = self.now();
        self.write(async |tx| {
            store::predictions::put(tx, now, prediction).await?;
            let detail = json!({ "at": prediction.at });
            let asset = &prediction.asset;
            store::events::record(tx, now, "prediction.made", asset, &detail).await?;
            Ok(())
        })
    }

    fn put_artifact(&self, name: &str, media: &str, bytes: &[u8]) -> Answer<ArtifactRef> {
        let artifact = ArtifactRef {
            digest: format!("sha256:{}", store::sha256_hex(bytes)),
            size_bytes: bytes.len() as u64,
            media: media.to_owned(),
        };
        let bytes = Bytes::copy_from_slice(bytes);
        // The bytes come first: a row never names what is not there.
        self.handle
            .block_on(self.world.artifacts.put(&artifact.digest, bytes))
            .map_err(|trouble| unavailable("artifacts", &trouble))?;
        let now = self.now();
        let row = provenance::Model {
            digest: artifact.digest.clone(),
            run_id: self.run.id.clone(),
            position: self.claimed.0.position.clone(),
            name: name.to_owned(),
            kind: self.claimed.0.kind.clone(),
            revision: self.run.revision.clone(),
            recorded_at: now,
        };
        self.write(async |tx| {
            store::artifacts::put(tx, now, &artifact).await?;
            store::artifacts::put_provenance(tx, &row).await
        })?;
        Ok(artifact)
    }

    fn artifact(&self, digest: &str) -> Answer<Vec<u8>> {
        let bytes = self
            .handle
            .block_on(self.world.artifacts.get(digest))
            .map_err(|trouble| unavailable("artifacts", &trouble))?;
        match bytes {
            Some(bytes) => Ok(bytes.to_vec()),
            None => Err(StepError::failed(
                "unknown_artifact",
                format_args!("there is no artifact `{digest}`"),
            )),
        }
    }

    fn part(&self, id: &str) -> Answer<Part> {
        self.read(store::parts::get(&self.db().read, id))
    }

    fn design_of_this_step(&self) -> Answer<Option<Design>> {
        self.read(store::designs::of_step(&self.db().read, self.at()))
    }

    fn store_design(&self, design: &NewDesign) -> Answer<Design> {
        let (now, at) = (self.now(), self.at());
        self.write(async |tx| store::designs::insert(tx, now, at, design).await)
    }

    fn design(&self, id: &str) -> Answer<Design> {
        self.read(store::designs::get(&self.db().read, id))
    }

    fn build_of_this_step(&self, order: &NewBuild) -> Answer<Build> {
        let (now, at) = (self.now(), self.at());
        self.write(async |tx| store::builds::of_step(tx, now, at, order).await)
    }

    fn child_of_this_step(&self, order: &NewChild) -> Answer<Option<Child>> {
        let (now, (_, position)) = (self.now(), self.at());
        self.write(async |tx| store::children::of_step(tx, now, &self.run, position, order).await)
    }

    fn build(&self, id: &str) -> Answer<Build> {
        self.read(async { store::builds::get(&self.db().read, id).await?.try_into() })
    }

    fn technicians(&self) -> Answer<Vec<Technician>> {
        self.read(store::technicians::list(&self.db().read))
    }

    fn windows(&self, from: Timestamp, to: Timestamp) -> Answer<Vec<Window>> {
        let db = &self.db().read;
        self.read(store::windows::overlapping(db, from.0, to.0))
    }

    fn store_window(&self, window: &NewWindow) -> Answer<Window> {
        let (now, at) = (self.now(), self.at());
        self.write(async |tx| store::windows::insert(tx, now, at, window).await)
    }

    fn window(&self, id: &str) -> Answer<Window> {
        self.read(store::windows::get(&self.db().read, id))
    }

    fn finish_window(&self, id: &str) -> Answer<()> {
        let now = self.now();
        self.write(async |tx| {
            store::windows::set_state(tx, now, "server", id, WindowState::Done).await?;
            Ok(())
        })
    }

    fn store_work_order(&self, order: &NewWorkOrder) -> Answer<WorkOrder> {
        let (now, at) = (self.now(), self.at());
        self.write(async |tx| store::work_orders::insert(tx, now, at, order).await)
    }

    fn notify(&self, subject: &str, payload: &Value) -> Answer<()> {
        let (now, (run, position)) = (self.now(), self.at());
        let id = format!("{run}/{position}/{subject}");
        self.write(async |tx| {
            store::outbox::put(tx, now, &id, subject, payload).await?;
            store::events::record(tx, now, "notice.sent", subject, payload).await?;
            Ok(())
        })
    }
}

/// A challenger serves if it is strictly better on what neither had seen.
fn beats(challenger: &str, champion: &str) -> bool {
    let error = |evaluation: &str| {
        let evaluation: Value = serde_json::from_str(evaluation).ok()?;
        evaluation.get("rmse_capped")?.as_f64()
    };
    match (error(challenger), error(champion)) {
        (Some(challenger), Some(champion)) => challenger < champion,
        (challenger, _) => challenger.is_some(),
    }
}

/// What a step is told when storage says no: what is out of reach may come back, what is refused will not.
fn refusal(error: &StoreError) -> StepError {
    match error {
        StoreError::Database(source) => unavailable("storage", source),
        StoreError::Connect(source) => unavailable("storage", source),
        StoreError::Stale { .. } => StepError::Cancelled,
        StoreError::Unknown { what, .. } => {
            StepError::failed(format!("unknown_{}", what.replace(' ', "_")), error)
        }
        StoreError::NotYet { .. } => unavailable("storage", error),
        StoreError::Refused { code, .. } => StepError::failed(*code, error),
        StoreError::PlateUnknown { .. } => StepError::failed("plate_unknown", error),
        StoreError::Corrupt { .. } => StepError::failed("corrupt", error),
        StoreError::Archived(_) => StepError::failed("run_archived", error),
    }
}

fn unavailable(code: &str, error: &(impl std::fmt::Display + ?Sized)) -> StepError {
    StepError::unavailable(code, error)
}
