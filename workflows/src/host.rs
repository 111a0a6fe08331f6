//! Everything a step may ask of the world.
//!
//! A step runs at least once, perhaps more often, so every writing call is idempotent: what it makes belongs to the
//! step's run and position, and making it again finds it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use cad::brief::Brief;
use predict::history::UnitHistory;

use crate::model::{
    Action, ArtifactRef, Asset, Build, Design, Detected, ModelRecord, NewBuild, NewDesign,
    NewModel, NewWindow, NewWorkOrder, Part, PluginUse, PluginVerdict, Prediction, Proposal,
    Scored, Technician, Timestamp, Twin, Window, WorkOrder,
};
use crate::schedule::{Candidate, Choice};
use crate::steps::StepError;

/// What [`Host`] calls answer.
pub type Answer<T> = Result<T, StepError>;

/// A run that a step is to have done.
#[derive(Debug, Clone, PartialEq)]
pub struct NewChild {
    /// The workflow; the revision that serves is pinned.
    pub workflow: String,
    /// What its script is given; an object.
    pub event: serde_json::Value,
}

/// A run that a step had done.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Stable name; another one once it has continued as a new run.
    pub id: String,
    /// How it ended, once it has.
    pub ended: Option<ChildEnd>,
}

/// How such a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum ChildEnd {
    /// With what its script returned.
    Succeeded {
        /// What that is.
        result: serde_json::Value,
    },
    /// With a failure.
    Failed {
        /// Stable code.
        code: String,
        /// What happened.
        message: String,
    },
    /// Because somebody stopped it.
    Cancelled,
}

/// What a window costs that begins at a moment and is somebody's, or why it cannot be.
pub type PriceOf<'a> = &'a dyn Fn(Timestamp, &str) -> Result<Candidate, String>;

/// Work that somebody else may choose the window of.
#[derive(Debug)]
pub struct SlotRequest<'a> {
    /// The asset that goes offline.
    pub asset: &'a Asset,
    /// What whoever comes must be able to do.
    pub skills: &'a [String],
    /// Everybody.
    pub technicians: &'a [Technician],
    /// What an hour without the work costs once it is due.
    pub cost_per_hour_late: f64,
    /// What there is to choose from.
    pub choice: Choice,
    /// What the planner would take.
    pub own: &'a Candidate,
    /// The moment planned from.
    pub at: Timestamp,
}

/// A part that was measured against its design.
#[derive(Debug, Clone, Copy)]
pub struct Inspected<'a> {
    /// The asset it is for.
    pub asset: &'a str,
    /// Digest of the mesh that it should be.
    pub mesh: &'a str,
    /// Digest of the scan.
    pub scan: &'a str,
    /// How far a surface may be off, mm.
    pub tolerance_mm: f64,
    /// Of one measured point, one standard deviation, mm.
    pub uncertainty_mm: f64,
    /// What our own measure says.
    pub disposition: &'a str,
}

/// Whose parts are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Designing {
    /// Those of the first designer that serves and has any.
    Serving,
    /// The best of each that is only compared.
    Compared,
}

/// What a plugin that is only compared came to, beside what was taken.
#[derive(Debug)]
pub struct Compared<'a> {
    /// The plugin.
    pub plugin: &'a PluginUse,
    /// The asset it was asked about.
    pub asset: &'a str,
    /// Whose answer was taken: the digest of a plugin, or `built in`.
    pub other: &'a str,
    /// The plugin's numbers.
    pub own: BTreeMap<String, f64>,
    /// Those of what was taken.
    pub theirs: BTreeMap<String, f64>,
}

/// The world as one attempt of one step sees it.
pub trait Host {
    /// The run the step belongs to.
    fn run(&self) -> &str;
    /// The step's position in it.
    fn position(&self) -> &str;
    /// Seed for everything random in this run: the event's `seed`, else one drawn from the run's id.
    fn seed(&self) -> u64;
    /// Tells how far the attempt is, 0–1; `Break` asks it to stop (cancelled, or the lease is lost).
    fn progress(&self, share: f64, phase: &str) -> ControlFlow<()>;

    /// One asset.
    fn asset(&self, id: &str) -> Answer<Asset>;
    /// The whole graph.
    fn twin(&self) -> Answer<Twin>;
    /// Carries out an action on the twin and tells the recorded webhook; doing it again changes nothing.
    fn act(&self, action: &Action) -> Answer<()>;
    /// Records what really happened to an asset.
    fn record_outcome(&self, asset: &str, kind: &str, at: Timestamp, note: &str) -> Answer<()>;

    /// The telemetry of the part now in the asset up to `until`, all metrics on one regular grid of steps of `step_ms`.
    fn history(&self, asset: &str, until: Timestamp, step_ms: i64) -> Answer<UnitHistory>;
    /// The histories of all assets of a kind, with their outcomes, for training.
    fn histories(&self, asset_kind: &str) -> Answer<Vec<UnitHistory>>;
    /// Mean utilisation (0–1) of the asset in each step of `[from, to)`; `None` where nothing was measured.
    fn utilisation(
        &self,
        asset: &str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> Answer<Vec<Option<f64>>>;

    /// How a plugin that serves the asset's kind scores what was measured of it up to `until`; none where none serves it,
    /// or none has an answer, and then the model is asked.
    fn plugin_score(&self, asset: &Asset, until: Timestamp) -> Answer<Option<Scored>>;
    /// How unusual the asset's present is in the eyes of a plugin that serves its kind; none where none serves it, or none
    /// has an answer.
    fn plugin_anomaly(&self, asset: &Asset, until: Timestamp) -> Answer<Option<Detected>>;
    /// What plugins that serve the asset's kind say of a part that was measured; what none of them has an answer for is
    /// left to our own measure.
    fn plugin_verdicts(&self, inspected: &Inspected<'_>) -> Answer<Vec<PluginVerdict>>;
    /// The parts that plugins propose for a brief, best first; none where nobody has any. Nothing that they say of them is
    /// known to be true.
    fn plugin_designs(
        &self,
        asset: &Asset,
        brief: &Brief,
        whose: Designing,
    ) -> Answer<Vec<Proposal>>;
    /// Keeps what one that is only compared came to.
    fn plugin_compared(&self, compared: &Compared<'_>) -> Answer<()>;
    /// The window that a plugin chooses which serves the asset's kind, priced by `price`; none where none serves it, none
    /// has an answer, or what it chose breaks a rule.
    fn plugin_slot(
        &self,
        ask: &SlotRequest<'_>,
        price: PriceOf<'_>,
    ) -> Answer<Option<(Candidate, PluginUse)>>;
    /// Has an action of this name do something under a key that is this step's own; answers what it said, and who it was.
    fn plugin_act(
        &self,
        plugin: &str,
        input: &serde_json::Value,
    ) -> Answer<(serde_json::Value, PluginUse)>;
    /// The model that serves a kind of asset.
    fn champion(&self, kind: &str, asset_kind: &str) -> Answer<Option<ModelRecord>>;
    /// Registers a trained model; it serves from now on if it beats the champion.
    fn store_model(&self, model: &NewModel) -> Answer<ModelRecord>;
    /// Keeps a prediction.
    fn store_prediction(&self, prediction: &Prediction) -> Answer<()>;

    /// Keeps bytes under their digest, with this step as their provenance.
    fn put_artifact(&self, name: &str, media: &str, bytes: &[u8]) -> Answer<ArtifactRef>;
    /// The bytes of a digest.
    fn artifact(&self, digest: &str) -> Answer<Vec<u8>>;

    /// One part.
    fn part(&self, id: &str) -> Answer<Part>;
    /// The design that an earlier attempt of this step has kept.
    fn design_of_this_step(&self) -> Answer<Option<Design>>;
    /// Keeps a design; the step's second attempt gets the first one's.
    fn store_design(&self, design: &NewDesign) -> Answer<Design>;
    /// One design.
    fn design(&self, id: &str) -> Answer<Design>;

    /// The build this step ordered; ordered now if it had not been.
    fn build_of_this_step(&self, order: &NewBuild) -> Answer<Build>;
    /// One build.
    fn build(&self, id: &str) -> Answer<Build>;

    /// The run this step had done; started now if it had not been. It ends when the step is called off. None while the
    /// kill switch lets nothing begin.
    fn child_of_this_step(&self, order: &NewChild) -> Answer<Option<Child>>;

    /// Everybody who can do maintenance.
    fn technicians(&self) -> Answer<Vec<Technician>>;
    /// Windows that overlap a span, whoever proposed them, cancelled and rejected ones left out.
    fn windows(&self, from: Timestamp, to: Timestamp) -> Answer<Vec<Window>>;
    /// Proposes a window; the step's second attempt gets the first one's.
    fn store_window(&self, window: &NewWindow) -> Answer<Window>;
    /// One window.
    fn window(&self, id: &str) -> Answer<Window>;
    /// Marks a window's work as done.
    fn finish_window(&self, id: &str) -> Answer<()>;
    /// Writes a work order; the step's second attempt gets the first one's.
    fn store_work_order(&self, order: &NewWorkOrder) -> Answer<WorkOrder>;
    /// Puts a message into the outbox of the recorded webhook.
    fn notify(&self, subject: &str, payload: &serde_json::Value) -> Answer<()>;
}
