//! A small world in memory for the tests of steps: the built-in hall, and what was done to it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use cad::brief::Brief;
use predict::history::UnitHistory;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{DynStep, Outcome, StepError};
use crate::demo::Hall;
use crate::host::{
    Answer, Child, ChildEnd, Compared, Designing, Host, Inspected, NewChild, PriceOf, SlotRequest,
};
use crate::model::{
    Action, ActionKind, ArtifactRef, Asset, AssetState, Build, BuildEnd, BuildState, Design,
    Detected, ModelRecord, NewBuild, NewDesign, NewModel, NewWindow, NewWorkOrder, Part, PluginUse,
    PluginVerdict, Prediction, Proposal, Scored, Technician, Timestamp, Twin, Window, WindowState,
    WorkOrder,
};
use crate::schedule::Candidate;

type Numbers = BTreeMap<String, f64>;

pub(super) struct World {
    pub(super) at: Timestamp,
    pub(super) hall: Hall,
    pub(super) twin: RefCell<Twin>,
    pub(super) technicians: Vec<Technician>,
    pub(super) histories: Vec<UnitHistory>,
    pub(super) windows: RefCell<Vec<Window>>,
    child: RefCell<Option<ChildEnd>>,
    /// Whether the kill switch is on.
    pub stopped: Cell<bool>,
    pub(super) orders: RefCell<Vec<WorkOrder>>,
    pub(super) notes: RefCell<Vec<(String, Value)>>,
    pub(super) outcomes: RefCell<BTreeSet<(String, String, Timestamp)>>,
    pub(super) predictions: RefCell<Vec<Prediction>>,
    models: RefCell<Vec<ModelRecord>>,
    artifacts: RefCell<BTreeMap<String, Vec<u8>>>,
    designs: RefCell<Vec<Design>>,
    builds: RefCell<Vec<Build>>,
    actions: RefCell<Vec<(String, Action)>>,
    /// What plugins that serve propose, and those that do not, once.
    pub(super) proposed: RefCell<Vec<Proposal>>,
    pub(super) proposed_beside: RefCell<Vec<Proposal>>,
    /// Whose answer was taken, the numbers of the plugin that was compared, and those of what was taken.
    pub(super) compared: RefCell<Vec<(String, Numbers, Numbers)>>,
    position: Cell<usize>,
}

/// Runs a step through the same door as the engine.
pub(super) fn run(
    step: &dyn DynStep,
    input: &Value,
    world: &World,
) -> Result<Outcome<Value>, StepError> {
    step.run(input.clone(), world)
}

/// The output of a step that must finish.
pub(super) fn done(step: &dyn DynStep, input: &Value, world: &World) -> Value {
    match run(step, input, world) {
        Ok(Outcome::Done(output)) => output,
        other => panic!("{other:?}"),
    }
}

/// The error of a step that must not.
pub(super) fn failed(step: &dyn DynStep, input: &Value, world: &World) -> StepError {
    run(step, input, world).expect_err("the step must fail")
}

const POSITIONS: [&str; 4] = ["1", "2", "3", "4"];

impl World {
    pub(super) fn new() -> Self {
        let hall = Hall::built_in().expect("the built-in hall is whole");
        let mut twin = hall.twin();
        for asset in hall.assets_for("host") {
            twin.assets.insert(asset.id.clone(), asset);
        }
        Self {
            at: "2026-03-02T08:07:00Z".parse().expect("a time"),
            twin: RefCell::new(twin),
            technicians: hall.technicians.clone(),
            hall,
            histories: Vec::new(),
            windows: RefCell::default(),
            child: RefCell::default(),
            stopped: Cell::new(false),
            orders: RefCell::default(),
            notes: RefCell::default(),
            outcomes: RefCell::default(),
            predictions: RefCell::default(),
            models: RefCell::default(),
            artifacts: RefCell::default(),
            designs: RefCell::default(),
            builds: RefCell::default(),
            actions: RefCell::default(),
            proposed: RefCell::default(),
            proposed_beside: RefCell::default(),
            compared: RefCell::default(),
            position: Cell::new(0),
        }
    }

    /// Fans of the wear model: some ran to failure; `fan-r01-01` is about to, `fan-r02-01` has just begun.
    pub(super) fn with_fan_histories() -> Self {
        let mut world = Self::new();
        let mut fleet = predict::wear::fleet(1, 10, &[0.4, 0.7]);
        let worn = fleet.pop().expect("a fleet of ten");
        let mut named = |unit: &str, rows: usize| {
            let mut history = worn.cut(rows);
            history.unit = unit.to_owned();
            fleet.push(history);
        };
        named("fan-r01-01", worn.rows.len() - 24);
        named("fan-r02-01", 60);
        world.histories = fleet;
        world
    }

    /// Ends the run of every step that has one.
    pub(super) fn end_child(&self, end: ChildEnd) {
        *self.child.borrow_mut() = Some(end);
    }

    /// From now on steps run at the next position.
    pub(super) fn next_position(&self) {
        self.position.set(self.position.get() + 1);
    }

    pub(super) fn acted(&self) -> Vec<Action> {
        self.actions
            .borrow()
            .iter()
            .map(|(_, a)| a.clone())
            .collect()
    }

    pub(super) fn end_build(&self, id: &str, end: &BuildEnd) {
        for build in self.builds.borrow_mut().iter_mut().filter(|b| b.id == id) {
            build.state = BuildState::Ended;
            build.ended = Some(end.clone());
        }
    }

    pub(super) fn open_build(&self) -> String {
        self.order("elsewhere")
    }

    pub(super) fn completed_build(&self) -> String {
        let id = self.order("before");
        let end = BuildEnd::Completed {
            scan: "sha256:5c".into(),
            report: Value::Null,
        };
        self.end_build(&id, &end);
        id
    }

    fn order(&self, position: &str) -> String {
        let mut builds = self.builds.borrow_mut();
        if let Some(known) = builds.iter().find(|b| b.position == position) {
            return known.id.clone();
        }
        let id = format!("build-{}", builds.len() + 1);
        builds.push(Build {
            id: id.clone(),
            run: "run-1".into(),
            position: position.to_owned(),
            order: NewBuild {
                gcode: "sha256:00".into(),
                gcode_size_bytes: 1,
                material: "petg".into(),
                printer: "prusa_mk4".into(),
                design: "d1".into(),
            },
            state: BuildState::Waiting,
            fence: 0,
            cell: None,
            started_at: None,
            ended: None,
            share_done: 0.0,
        });
        id
    }

    pub(super) fn accepted_window(&self, asset: &str) -> String {
        let id = format!("window-{}", self.windows.borrow().len() + 1);
        self.windows.borrow_mut().push(Window {
            id: id.clone(),
            state: WindowState::Accepted,
            proposal: NewWindow {
                asset: asset.to_owned(),
                from: self.at.plus_ms(3_600_000),
                to: self.at.plus_ms(7_200_000),
                technician: Some("lena".into()),
                reasons: Value::Null,
                alternatives: vec![],
            },
            run: "run-0".into(),
            position: "1".into(),
        });
        id
    }

    pub(super) fn set_window(&self, id: &str, state: WindowState) {
        for window in self.windows.borrow_mut().iter_mut().filter(|w| w.id == id) {
            window.state = state;
        }
    }

    /// Does to the twin what the server does.
    fn apply(&self, kind: &ActionKind) {
        let assets = &mut self.twin.borrow_mut().assets;
        let attribute = |value: &str| Value::String(value.to_owned());
        match kind {
            ActionKind::CreateStandIn {
                asset,
                stand_in,
                locality,
            } => {
                let mut copy = assets[asset].clone();
                copy.id.clone_from(stand_in);
                copy.locality.clone_from(locality);
                copy.state = AssetState::Standby;
                copy.attributes
                    .insert("stands_in_for".into(), attribute(asset));
                assets.insert(stand_in.clone(), copy);
            }
            ActionKind::RemoveStandIn { stand_in } => {
                assets.remove(stand_in);
            }
            ActionKind::SwapTo { from, to } => {
                if let Some(to) = assets.get_mut(to) {
                    to.state = AssetState::InService;
                }
                if let Some(from) = assets.get_mut(from) {
                    from.state = AssetState::StoodIn;
                }
            }
            ActionKind::AdjustBandwidth { asset, share } => {
                let asset = assets.get_mut(asset).expect("a known asset");
                asset
                    .attributes
                    .insert("bandwidth_share".into(), (*share).into());
            }
            ActionKind::SwapPart { asset, build, .. } => {
                let asset = assets.get_mut(asset).expect("a known asset");
                asset.state = AssetState::InService;
                asset
                    .attributes
                    .insert("part_build".into(), attribute(build));
            }
        }
    }
}

fn missing(what: &str, id: &str) -> StepError {
    StepError::failed(
        format!("unknown_{what}"),
        format_args!("{what} `{id}` is unknown"),
    )
}

impl Host for World {
    fn run(&self) -> &str {
        "run-1"
    }

    fn position(&self) -> &str {
        POSITIONS[self.position.get()]
    }

    fn seed(&self) -> u64 {
        7
    }

    fn progress(&self, _share: f64, _phase: &str) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn asset(&self, id: &str) -> Answer<Asset> {
        let found = self.twin.borrow().assets.get(id).cloned();
        found.ok_or_else(|| missing("asset", id))
    }

    fn twin(&self) -> Answer<Twin> {
        Ok(self.twin.borrow().clone())
    }

    fn act(&self, action: &Action) -> Answer<()> {
        let key = format!("{}/{}", self.position(), action.key);
        if self.actions.borrow().iter().any(|(k, _)| *k == key) {
            return Ok(());
        }
        self.apply(&action.kind);
        self.actions.borrow_mut().push((key, action.clone()));
        Ok(())
    }

    fn record_outcome(&self, asset: &str, kind: &str, at: Timestamp, _note: &str) -> Answer<()> {
        self.asset(asset)?;
        self.outcomes
            .borrow_mut()
            .insert((asset.to_owned(), kind.to_owned(), at));
        Ok(())
    }

    fn history(&self, asset: &str, _until: Timestamp, step_ms: i64) -> Answer<UnitHistory> {
        let asked = |h: &&UnitHistory| h.unit == asset && h.step_ms == step_ms;
        let found = self.histories.iter().find(asked).cloned();
        found.ok_or_else(|| missing("history", asset))
    }

    fn histories(&self, _asset_kind: &str) -> Answer<Vec<UnitHistory>> {
        Ok(self.histories.clone())
    }

    fn utilisation(
        &self,
        asset: &str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> Answer<Vec<Option<f64>>> {
        let step = usize::try_from(step_ms).expect("a positive step");
        let times = (from.0..to.0).step_by(step);
        Ok(times
            .map(|t| self.hall.utilisation_at(asset, Timestamp(t)))
            .collect())
    }

    fn plugin_score(&self, _: &Asset, _: Timestamp) -> Answer<Option<Scored>> {
        Ok(None)
    }

    fn plugin_anomaly(&self, _: &Asset, _: Timestamp) -> Answer<Option<Detected>> {
        Ok(None)
    }

    fn plugin_verdicts(&self, _: &Inspected<'_>) -> Answer<Vec<PluginVerdict>> {
        Ok(Vec::new())
    }

    fn plugin_designs(&self, _: &Asset, _: &Brief, whose: Designing) -> Answer<Vec<Proposal>> {
        Ok(match whose {
            Designing::Serving => self.proposed.take(),
            Designing::Compared => self.proposed_beside.take(),
        })
    }

    fn plugin_compared(&self, compared: &Compared<'_>) -> Answer<()> {
        let told = (
            compared.other.to_owned(),
            compared.own.clone(),
            compared.theirs.clone(),
        );
        self.compared.borrow_mut().push(told);
        Ok(())
    }

    fn plugin_slot(
        &self,
        _: &SlotRequest<'_>,
        _: PriceOf<'_>,
    ) -> Answer<Option<(Candidate, PluginUse)>> {
        Ok(None)
    }

    /// One action, `tickets`, which says what it was given and under which key.
    fn plugin_act(&self, plugin: &str, input: &Value) -> Answer<(Value, PluginUse)> {
        if plugin != "tickets" {
            return Err(StepError::unavailable("no_plugin", "nobody serves"));
        }
        let mut output = input.clone();
        output["key"] = format!("{}/{}", self.run(), self.position()).into();
        let by = PluginUse {
            name: plugin.to_owned(),
            version: "1.0.0".to_owned(),
            digest: "sha256:0".to_owned(),
            interface: "forewright:plugin@1.0.0".to_owned(),
            call: "call-1".to_owned(),
            fuel: None,
            grants: Vec::new(),
        };
        Ok((output, by))
    }

    fn champion(&self, kind: &str, asset_kind: &str) -> Answer<Option<ModelRecord>> {
        let models = self.models.borrow();
        let fits = |m: &&ModelRecord| m.kind == kind && m.asset_kind == asset_kind;
        Ok(models.iter().rev().find(fits).cloned())
    }

    fn store_model(&self, model: &NewModel) -> Answer<ModelRecord> {
        let mut models = self.models.borrow_mut();
        if let Some(known) = models.iter().find(|m| m.digest == model.digest) {
            return Ok(known.clone());
        }
        let record = ModelRecord {
            id: format!("model-{}", models.len() + 1),
            kind: model.kind.clone(),
            asset_kind: model.asset_kind.clone(),
            digest: model.digest.clone(),
            evaluation: model.evaluation.clone(),
            trained_at: self.at,
        };
        models.push(record.clone());
        Ok(record)
    }

    fn store_prediction(&self, prediction: &Prediction) -> Answer<()> {
        let mut all = self.predictions.borrow_mut();
        all.retain(|p| p.asset != prediction.asset || p.at != prediction.at);
        all.push(prediction.clone());
        Ok(())
    }

    fn put_artifact(&self, _name: &str, media: &str, bytes: &[u8]) -> Answer<ArtifactRef> {
        let hex: String = Sha256::digest(bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let digest = format!("sha256:{hex}");
        self.artifacts
            .borrow_mut()
            .insert(digest.clone(), bytes.to_vec());
        Ok(ArtifactRef {
            digest,
            size_bytes: bytes.len() as u64,
            media: media.to_owned(),
        })
    }

    fn artifact(&self, digest: &str) -> Answer<Vec<u8>> {
        let found = self.artifacts.borrow().get(digest).cloned();
        found.ok_or_else(|| missing("artifact", digest))
    }

    fn part(&self, id: &str) -> Answer<Part> {
        let found = self.hall.parts.iter().find(|p| p.id == id).cloned();
        found.ok_or_else(|| missing("part", id))
    }

    fn design_of_this_step(&self) -> Answer<Option<Design>> {
        let id = format!("design-{}", self.position());
        Ok(self.design(&id).ok())
    }

    fn store_design(&self, new: &NewDesign) -> Answer<Design> {
        let design = Design {
            id: format!("design-{}", self.position()),
            part: new.part.clone(),
            asset: new.asset.clone(),
            run: self.run().to_owned(),
            created_at: self.at,
            artifacts: new.artifacts.clone(),
            certificate: new.certificate.clone(),
        };
        if let Ok(first) = self.design(&design.id) {
            return Ok(first);
        }
        self.designs.borrow_mut().push(design.clone());
        Ok(design)
    }

    fn design(&self, id: &str) -> Answer<Design> {
        let designs = self.designs.borrow();
        let found = designs.iter().find(|design| design.id == id).cloned();
        found.ok_or_else(|| missing("design", id))
    }

    fn build_of_this_step(&self, order: &NewBuild) -> Answer<Build> {
        let id = self.order(self.position());
        let mut build = self.build(&id)?;
        build.order = order.clone();
        Ok(build)
    }

    fn child_of_this_step(&self, order: &NewChild) -> Answer<Option<Child>> {
        assert!(order.event.is_object());
        let child = || Child {
            id: format!("run-1.{}", self.position()),
            ended: self.child.borrow().clone(),
        };
        Ok((!self.stopped.get()).then(child))
    }

    fn build(&self, id: &str) -> Answer<Build> {
        let found = self.builds.borrow().iter().find(|b| b.id == id).cloned();
        found.ok_or_else(|| missing("build", id))
    }

    fn technicians(&self) -> Answer<Vec<Technician>> {
        Ok(self.technicians.clone())
    }

    fn windows(&self, from: Timestamp, to: Timestamp) -> Answer<Vec<Window>> {
        let windows = self.windows.borrow();
        let overlaps = |w: &&Window| w.proposal.from < to && from < w.proposal.to;
        Ok(windows.iter().filter(overlaps).cloned().collect())
    }

    fn store_window(&self, window: &NewWindow) -> Answer<Window> {
        let mut windows = self.windows.borrow_mut();
        let own = |w: &&Window| w.run == "run-1" && w.position == self.position();
        if let Some(known) = windows.iter().find(own) {
            return Ok(known.clone());
        }
        let stored = Window {
            id: format!("window-{}", windows.len() + 1),
            state: WindowState::Proposed,
            proposal: window.clone(),
            run: "run-1".into(),
            position: self.position().to_owned(),
        };
        windows.push(stored.clone());
        Ok(stored)
    }

    fn window(&self, id: &str) -> Answer<Window> {
        let found = self.windows.borrow().iter().find(|w| w.id == id).cloned();
        found.ok_or_else(|| missing("window", id))
    }

    fn finish_window(&self, id: &str) -> Answer<()> {
        self.set_window(id, WindowState::Done);
        Ok(())
    }

    fn store_work_order(&self, order: &NewWorkOrder) -> Answer<WorkOrder> {
        let mut orders = self.orders.borrow_mut();
        if let Some(known) = orders.iter().find(|o| o.order.window == order.window) {
            return Ok(known.clone());
        }
        let stored = WorkOrder {
            id: format!("order-{}", orders.len() + 1),
            order: order.clone(),
            created_at: self.at,
            run: "run-1".into(),
        };
        orders.push(stored.clone());
        Ok(stored)
    }

    fn notify(&self, subject: &str, payload: &Value) -> Answer<()> {
        let message = (subject.to_owned(), payload.clone());
        let mut notes = self.notes.borrow_mut();
        if !notes.contains(&message) {
            notes.push(message);
        }
        Ok(())
    }
}
