//! The step that does nothing, and the world it does not touch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use predict::series::Samples;
use serde_json::Value;
use server::config::Config;
use server::host::{ArtifactBytes, Telemetry, Trouble, World};
use server::plugins::Plugins;
use server::queue::Queue;
use workflows::host::Host;
use workflows::steps::{Outcome, Step, StepError};

/// How many steps were worked on.
pub(crate) static DONE: AtomicUsize = AtomicUsize::new(0);
/// How long each step that says when it was queued waited, milliseconds.
pub(crate) static PICKED_UP: Mutex<Vec<f64>> = Mutex::new(Vec::new());

/// Whether steps take longer than anybody waits, as in a process that is to be killed.
pub(crate) static ENDLESS: AtomicBool = AtomicBool::new(false);

/// A step that does nothing.
pub(crate) struct Noop;

impl Step for Noop {
    const KIND: &'static str = "noop";
    type Input = Value;
    type Output = Value;

    fn run(&self, input: Value, _: &dyn Host) -> Result<Outcome<Value>, StepError> {
        if let Some(at) = input.get("at").and_then(Value::as_i64)
            && let Ok(mut picked_up) = PICKED_UP.lock()
        {
            picked_up.push((now_us() - at) as f64 / 1_000.0);
        }
        DONE.fetch_add(1, Ordering::Relaxed);
        if ENDLESS.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(600));
        }
        Ok(Outcome::Done(Value::Null))
    }
}

/// The present moment, microseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "a benchmark lives in real time")]
pub(crate) fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// A world with nothing in it but the queue.
pub(crate) fn world(queue: Queue) -> World {
    let settings = Config::load(None, std::iter::empty()).expect("the defaults hold together");
    let (folder, nothing) = ("nowhere".into(), Arc::new(Nothing));
    World {
        plugins: Plugins::new(
            settings.plugins,
            folder,
            queue.clone(),
            nothing.clone(),
            nothing,
        ),
        queue,
        artifacts: Arc::new(Nothing),
        telemetry: Arc::new(Nothing),
    }
}

struct Nothing;

impl ArtifactBytes for Nothing {
    fn put<'a>(&'a self, _: &'a str, _: Bytes) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async { Ok(()) })
    }

    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Trouble>> {
        Box::pin(async { Ok(None) })
    }
}

impl Telemetry for Nothing {
    fn samples<'a>(
        &'a self,
        _: &'a str,
        _: i64,
        _: i64,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Samples>, Trouble>> {
        Box::pin(async { Ok(BTreeMap::new()) })
    }
}
