//! Binds a component to its world: which functions it may import, and which one is called.

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

use super::bindings::{self, artifacts, host, http, state, telemetry, types};
use super::guest::Guest;
use super::wasi;
use crate::call::{Answer, Request};
use crate::grants::Grants;
use crate::world::{Capability, World};
use types::PluginError;

/// A component with everything it imports, ready to be instantiated.
#[derive(Clone)]
pub(crate) enum Bound {
    Predictor(bindings::predictor::PredictorPre<Guest>),
    Detector(bindings::detector::DetectorPre<Guest>),
    Designer(bindings::designer::DesignerPre<Guest>),
    Verifier(bindings::verifier::VerifierPre<Guest>),
    Scheduler(bindings::scheduler::SchedulerPre<Guest>),
    Action(bindings::action::ActionPre<Guest>),
}

impl Bound {
    /// Binds a component; only what is granted can be imported.
    pub(crate) fn new(
        engine: &Engine,
        component: &Component,
        world: World,
        grants: &Grants,
    ) -> wasmtime::Result<Self> {
        let mut linker = linker(engine, grants)?;
        wasi::add(engine, &mut linker, component)?;
        let pre = linker.instantiate_pre(component)?;
        Ok(match world {
            World::Predictor => Self::Predictor(bindings::predictor::PredictorPre::new(pre)?),
            World::Detector => Self::Detector(bindings::detector::DetectorPre::new(pre)?),
            World::Designer => Self::Designer(bindings::designer::DesignerPre::new(pre)?),
            World::Verifier => Self::Verifier(bindings::verifier::VerifierPre::new(pre)?),
            World::Scheduler => Self::Scheduler(bindings::scheduler::SchedulerPre::new(pre)?),
            World::Action => Self::Action(bindings::action::ActionPre::new(pre)?),
        })
    }

    /// Makes an instance in a fresh store and calls it once. A request of another world is none of its business.
    pub(crate) fn call(
        &self,
        store: &mut Store<Guest>,
        request: &Request,
    ) -> wasmtime::Result<Result<Answer, PluginError>> {
        let answer = match (self, request) {
            (Self::Predictor(pre), Request::Predict(request)) => {
                let guest = pre.instantiate(&mut *store)?;
                guest
                    .forewright_plugin_predict()
                    .call_predict(store, request)?
                    .map(Answer::Predict)
            }
            (Self::Detector(pre), Request::Detect(request)) => {
                let guest = pre.instantiate(&mut *store)?;
                guest
                    .forewright_plugin_detect()
                    .call_detect(store, request)?
                    .map(Answer::Detect)
            }
            (Self::Designer(pre), Request::Design { task, most }) => {
                let guest = pre.instantiate(&mut *store)?;
                guest
                    .forewright_plugin_design()
                    .call_generate(store, task, *most)?
                    .map(Answer::Design)
            }
            (Self::Verifier(pre), Request::Verify(request)) => {
                let guest = pre.instantiate(&mut *store)?;
                guest
                    .forewright_plugin_verify()
                    .call_inspect(store, request)?
                    .map(Answer::Verify)
            }
            (Self::Scheduler(pre), Request::Schedule(request)) => {
                let guest = pre.instantiate(&mut *store)?;
                guest
                    .forewright_plugin_schedule()
                    .call_arrange(store, request)?
                    .map(Answer::Schedule)
            }
            (Self::Action(pre), Request::Act { input, key }) => {
                let guest = pre.instantiate(&mut *store)?;
                guest
                    .forewright_plugin_act()
                    .call_run(store, input, key)?
                    .map(Answer::Act)
            }
            (_, request) => {
                let why = format!(
                    "a plugin of another world cannot be asked as a {}",
                    request.world()
                );
                Err(PluginError::InvalidInput(why))
            }
        };
        Ok(answer)
    }
}

fn linker(engine: &Engine, grants: &Grants) -> wasmtime::Result<Linker<Guest>> {
    type Own = HasSelf<Guest>;
    let mut linker = Linker::new(engine);
    types::add_to_linker::<_, Own>(&mut linker, |guest| guest)?;
    host::add_to_linker::<_, Own>(&mut linker, |guest| guest)?;
    for capability in grants.named() {
        match capability {
            Capability::Artifacts => {
                artifacts::add_to_linker::<_, Own>(&mut linker, |guest| guest)?
            }
            Capability::Telemetry => {
                telemetry::add_to_linker::<_, Own>(&mut linker, |guest| guest)?
            }
            Capability::State => state::add_to_linker::<_, Own>(&mut linker, |guest| guest)?,
            Capability::Http => http::add_to_linker::<_, Own>(&mut linker, |guest| guest)?,
        }
    }
    Ok(linker)
}
