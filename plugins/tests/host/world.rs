//! Guests written as text, and a world in memory for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use plugins::call::{Answer, Context, Outcome, Request};
use plugins::componentize::componentize;
use plugins::doors::{Doors, Kept, NewArtifact, Query};
use plugins::engine::{Pace, Plugin, Runtime};
use plugins::failure::Failure;
use plugins::grants::{Artifacts, Capabilities, Grants, Http, State, Telemetry};
use plugins::limits::Limits;
use plugins::v1::http::{Request as HttpRequest, Response as HttpResponse};
use plugins::v1::types::{ArtifactRef, CapabilityError, Series};
use plugins::world::World;

const PRELUDE: &str = include_str!("prelude.wat");

/// One engine of each pace for all tests of a file: its pool is reserved once.
pub(crate) static TIMED: LazyLock<Runtime> = LazyLock::new(|| Runtime::new(Pace::Timed).unwrap());
pub(crate) static COUNTED: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new(Pace::Counted).unwrap());

/// The core module of an action, from its text without the prelude.
///
/// `imports` stand before everything else, `run` is the body of the function (`$in`, `$in_len`, `$key`, `$key_len`).
pub(crate) fn module(imports: &str, body: &str, run: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
{imports}
{PRELUDE}
{body}
  (func $run (export "forewright:plugin/act@1.0.0#run")
    (param $in i32) (param $in_len i32) (param $key i32) (param $key_len i32) (result i32)
    {run}))"#
    );
    wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The component of such an action.
pub(crate) fn action(imports: &str, body: &str, run: &str, asked: &Capabilities) -> Vec<u8> {
    componentize(&module(imports, body, run), World::Action, &asked.named()).unwrap()
}

/// A component of any world that does the same whatever it is asked.
pub(crate) fn guest(
    world: World,
    function: &str,
    imports: &str,
    signature: &str,
    run: &str,
) -> Vec<u8> {
    let name = function.replace('#', "@1.0.0#");
    let text = format!(
        r#"(module
{imports}
{PRELUDE}
  (func $run (export "forewright:plugin/{name}") {signature} (result i32)
    {run}))"#
    );
    let module = wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let asked = if imports.is_empty() {
        Vec::new()
    } else {
        everything().named()
    };
    componentize(&module, world, &asked).unwrap()
}

/// An action without imports, bound on the timed engine.
pub(crate) fn plain(body: &str, run: &str, limits: &Limits) -> Plugin {
    bound(&TIMED, "", body, run, &Capabilities::default(), limits)
}

/// An action that is granted all it asks for.
pub(crate) fn bound(
    runtime: &Runtime,
    imports: &str,
    body: &str,
    run: &str,
    asked: &Capabilities,
    limits: &Limits,
) -> Plugin {
    let component = action(imports, body, run, asked);
    runtime
        .prepare(&component, World::Action, Grants::all(asked), limits)
        .unwrap()
}

pub(crate) fn context() -> Context {
    Context {
        config: "{\"a\":1}".to_owned(),
        now_ms: 1_700_000_000_000.0,
        seed: 7,
    }
}

pub(crate) fn request(input: &str) -> Request {
    Request::Act {
        input: input.to_owned(),
        key: "k".to_owned(),
    }
}

/// Calls an action in a world of its own.
pub(crate) fn run(plugin: &Plugin, input: &str) -> Outcome {
    plugin.call(&request(input), &context(), Arc::new(Memory::default()))
}

/// What an action answered.
pub(crate) fn told(outcome: &Outcome) -> String {
    match &outcome.result {
        Ok(Answer::Act(text)) => text.clone(),
        other => panic!("{other:?}"),
    }
}

/// Why it did not.
pub(crate) fn failure(outcome: &Outcome) -> Failure {
    *outcome.result.clone().unwrap_err()
}

/// Everything, as far as it goes.
pub(crate) fn everything() -> Capabilities {
    Capabilities {
        artifacts: Some(Artifacts {
            media: vec!["text/*".to_owned()],
            write_mib: 1,
        }),
        telemetry: Some(Telemetry {
            metrics: vec!["vib*".to_owned()],
        }),
        state: Some(State { kib: 1 }),
        http: Some(Http {
            origins: vec!["https://a.example".to_owned()],
            response_kib: 1,
        }),
    }
}

/// A world in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) artifacts: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    pub(crate) state: BTreeMap<String, Kept>,
    pub(crate) response: Vec<u8>,
    /// How long a request takes.
    pub(crate) takes: Duration,
    pub(crate) cancelled: AtomicBool,
    pub(crate) sent: Mutex<Vec<HttpRequest>>,
}

impl Memory {
    /// With one artifact in it.
    pub(crate) fn with(bytes: &[u8], media_type: &str) -> (Self, ArtifactRef) {
        let memory = Self::default();
        let digest = plugins::bundle::digest(bytes);
        memory
            .artifacts
            .lock()
            .unwrap()
            .insert(digest.clone(), bytes.to_vec());
        let size = u32::try_from(bytes.len()).unwrap();
        (
            memory,
            ArtifactRef {
                digest,
                media_type: media_type.to_owned(),
                size,
                name: "given".to_owned(),
            },
        )
    }
}

impl Doors for Memory {
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn read_artifact(
        &self,
        digest: &str,
        offset: u32,
        most: u32,
    ) -> Result<Vec<u8>, CapabilityError> {
        let artifacts = self.artifacts.lock().unwrap();
        let bytes = artifacts.get(digest).ok_or(CapabilityError::NotFound)?;
        let from = (offset as usize).min(bytes.len());
        Ok(bytes[from..bytes.len().min(from + most as usize)].to_vec())
    }

    fn new_artifact(&self) -> Result<Box<dyn NewArtifact>, CapabilityError> {
        Ok(Box::new(Growing {
            bytes: Vec::new(),
            artifacts: self.artifacts.clone(),
        }))
    }

    fn query(&self, query: &Query) -> Result<Series, CapabilityError> {
        let times = vec![query.start, query.end - 1.0];
        Ok(Series {
            metric: query.metric.clone(),
            unit: String::new(),
            times,
            values: vec![1.5, f64::NAN],
        })
    }

    fn state(&self, key: &str) -> Result<Option<Kept>, CapabilityError> {
        Ok(self.state.get(key).cloned())
    }

    fn state_bytes(&self) -> Result<u64, CapabilityError> {
        let bytes = |(key, kept): (&String, &Kept)| {
            kept.value
                .as_ref()
                .map_or(0, |value| key.len() + value.len())
        };
        Ok(self.state.iter().map(bytes).sum::<usize>() as u64)
    }

    fn send(&self, request: &HttpRequest, _: f64, _: u64) -> Result<HttpResponse, CapabilityError> {
        std::thread::sleep(self.takes);
        self.sent.lock().unwrap().push(request.clone());
        Ok(HttpResponse {
            status: 200,
            headers: Vec::new(),
            body: self.response.clone(),
        })
    }
}

struct Growing {
    bytes: Vec<u8>,
    artifacts: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl NewArtifact for Growing {
    fn append(&mut self, chunk: &[u8]) -> Result<(), CapabilityError> {
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn finish(
        self: Box<Self>,
        name: &str,
        media_type: &str,
    ) -> Result<ArtifactRef, CapabilityError> {
        let digest = plugins::bundle::digest(&self.bytes);
        let size = u32::try_from(self.bytes.len()).unwrap();
        self.artifacts
            .lock()
            .unwrap()
            .insert(digest.clone(), self.bytes);
        Ok(ArtifactRef {
            digest,
            media_type: media_type.to_owned(),
            size,
            name: name.to_owned(),
        })
    }
}
