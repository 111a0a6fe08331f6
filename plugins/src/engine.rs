//! Runs plugins: one engine, a clock that ticks while somebody is called, and a fresh store for each call.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::component::Component;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, UpdateDeadline,
};

use crate::call::{Context, Outcome, Request};
use crate::doors::Doors;
use crate::grants::Grants;
use crate::limits::{GREATEST, Limits, PARTS};
use crate::schema::Schemas;
use crate::v1::{self, Budget, Guest};
use crate::world::World;

/// From one look at the deadline to the next; half of what a guest may go beyond it.
const TICK: Duration = Duration::from_millis(10);
/// Instances at the same time, over all plugins.
const PLACES: u32 = 64;
/// Memory of all guests together, in MiB, unless a runtime is told otherwise.
const ALL_MEMORY_MIB: u32 = 2_048;
/// The guest's own stack, in bytes.
const STACK: usize = 512 << 10;

/// What stops a guest that does not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// The clock. For serving.
    Timed,
    /// The number of its instructions, and the clock behind it. The same call stops at the same place each time.
    Counted,
}

impl Pace {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Timed => "timed",
            Self::Counted => "counted",
        }
    }
}

/// The engine cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing}")]
pub struct EngineError {
    doing: String,
    #[source]
    source: wasmtime::Error,
}

fn failed(doing: impl Into<String>) -> impl FnOnce(wasmtime::Error) -> EngineError {
    let doing = doing.into();
    move |source| EngineError { doing, source }
}

/// Compiles plugins for a [`Runtime`] of the same pace, without a pool of its own.
pub struct Compiler(Engine);

impl Compiler {
    /// A new one.
    ///
    /// # Errors
    ///
    /// If there is no compiler for this machine.
    pub fn new(pace: Pace) -> Result<Self, EngineError> {
        Engine::new(&code(pace))
            .map(Self)
            .map_err(failed("make a compiler"))
    }

    /// Compiles a component into what [`Runtime::load`] takes. May take seconds, and hundreds of MiB.
    ///
    /// # Errors
    ///
    /// If it is no valid component.
    pub fn compile(&self, component: &[u8]) -> Result<Vec<u8>, EngineError> {
        let code = self.0.precompile_component(component);
        code.map_err(failed("compile the component"))
    }

    /// Names everything that decides what the code looks like: the compiler, its settings, the processor.
    #[must_use]
    pub fn kind(&self) -> String {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hash = DefaultHasher::new();
        self.0.precompile_compatibility_hash().hash(&mut hash);
        format!("{:016x}", hash.finish())
    }
}

/// Runs plugins; cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    engine: Engine,
    pace: Pace,
    memory: Arc<Budget>,
    ticker: Arc<Ticker>,
}

impl Runtime {
    /// A new one, with a pool of memory that is reserved and not used yet.
    ///
    /// # Errors
    ///
    /// If this machine cannot run WebAssembly this way, such as for want of address space.
    pub fn new(pace: Pace) -> Result<Self, EngineError> {
        let mut config = code(pace);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        let engine = Engine::new(&config).map_err(failed("make an engine"))?;
        let ticker = Ticker::start(&engine)?;
        Ok(Self {
            engine,
            pace,
            memory: Arc::new(Budget::new((ALL_MEMORY_MIB as usize) << 20)),
            ticker,
        })
    }

    /// The same runtime with so much memory for all its guests together, those that are under way left out.
    #[must_use]
    pub fn with_memory_mib(self, mib: u32) -> Self {
        let memory = Arc::new(Budget::new((mib as usize) << 20));
        Self { memory, ..self }
    }

    /// What stops its guests.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Takes over what [`Compiler::compile`] made and somebody kept in a file.
    ///
    /// # Safety
    ///
    /// The file becomes native code of this process: it must be what `compile` made, byte for byte, and nobody may
    /// change it while the plugin lives.
    ///
    /// # Errors
    ///
    /// If it was made by another version or for another processor, or does not fit its world.
    #[expect(
        unsafe_code,
        reason = "compiled code is code; the caller vouches for the file"
    )]
    pub unsafe fn load(
        &self,
        file: &Path,
        world: World,
        grants: Grants,
        limits: &Limits,
    ) -> Result<Plugin, EngineError> {
        // SAFETY: the caller vouches for the file.
        let component = unsafe { Component::deserialize_file(&self.engine, file) };
        let component = component.map_err(failed(format!("load `{}`", file.display())))?;
        self.bind(&component, world, grants, limits)
    }

    /// Compiles a component and binds it at once; for tests and tools.
    ///
    /// # Errors
    ///
    /// If it is no valid component, or does not fit its world.
    pub fn prepare(
        &self,
        component: &[u8],
        world: World,
        grants: Grants,
        limits: &Limits,
    ) -> Result<Plugin, EngineError> {
        let component =
            Component::new(&self.engine, component).map_err(failed("compile the component"))?;
        self.bind(&component, world, grants, limits)
    }

    fn bind(
        &self,
        component: &Component,
        world: World,
        grants: Grants,
        limits: &Limits,
    ) -> Result<Plugin, EngineError> {
        let bound = v1::Bound::new(&self.engine, component, world, &grants);
        let bound = bound.map_err(failed(format!("bind the component to the world `{world}`")))?;
        Ok(Plugin {
            bound,
            world,
            grants: Arc::new(grants),
            schemas: Arc::default(),
            limits: limits.clone(),
            running: Arc::default(),
            runtime: self.clone(),
        })
    }
}

/// What decides how code looks.
fn code(pace: Pace) -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .consume_fuel(pace == Pace::Counted)
        // The same answer on every engine and each time: NaNs and relaxed SIMD are what the standard leaves open.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        .max_wasm_stack(STACK);
    config
}

/// Where instances live.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // Every place has all a component may have: no guest can take another's.
    pool.total_component_instances(PLACES)
        .total_core_instances(PLACES * PARTS.instances)
        .total_memories(PLACES * PARTS.memories)
        .total_tables(PLACES * PARTS.tables)
        .max_core_instances_per_component(PARTS.instances)
        .max_memories_per_component(PARTS.memories)
        .max_tables_per_component(PARTS.tables)
        .max_tables_per_module(PARTS.tables)
        .max_memories_per_module(PARTS.memories)
        .table_elements(GREATEST.table_elements as usize)
        .max_memory_size(GREATEST.memory_bytes())
        .max_unused_warm_slots(PLACES)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10);
    pool
}

/// A component that is ready to be called, any number of times and from any number of threads.
#[derive(Clone)]
pub struct Plugin {
    bound: v1::Bound,
    world: World,
    grants: Arc<Grants>,
    schemas: Arc<Schemas>,
    limits: Limits,
    /// Calls that are under way.
    running: Arc<AtomicU32>,
    runtime: Runtime,
}

impl Plugin {
    /// What it is for.
    #[must_use]
    pub fn world(&self) -> World {
        self.world
    }

    /// The same plugin within other limits.
    #[must_use]
    pub fn within(&self, limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            ..self.clone()
        }
    }

    /// The same plugin with another reach.
    #[must_use]
    pub fn reaching(&self, grants: &Grants) -> Self {
        Self {
            grants: Arc::new(grants.clone()),
            ..self.clone()
        }
    }

    /// The same plugin, with what it is given and answers held to the schemas of its manifest.
    #[must_use]
    pub fn held_to(&self, schemas: &Arc<Schemas>) -> Self {
        Self {
            schemas: schemas.clone(),
            ..self.clone()
        }
    }

    /// Calls it once, in a store of its own; blocks until it answered, failed or was stopped.
    ///
    /// Whatever happens to the guest is an [`Outcome`]; nothing it does outlives the call.
    #[must_use]
    pub fn call(&self, request: &Request, context: &Context, doors: Arc<dyn Doors>) -> Outcome {
        let began = Instant::now();
        let given = v1::given(request);
        let held = (self.grants.clone(), self.schemas.clone());
        let memory = self.runtime.memory.clone();
        let guest = Guest::new(doors, held, context.clone(), &self.limits, given, memory);
        if let Err(why) = v1::check(request, &context.config, &self.schemas) {
            return v1::refused(request, guest, why);
        }
        let Some(_turn) = Turn::take(&self.running, self.limits.concurrency) else {
            return v1::busy(request, guest);
        };
        let _ticking = self.runtime.ticker.hold();
        let mut store = self.store(guest);
        let called = self.bound.call(&mut store, request);
        let fuel = match self.runtime.pace {
            Pace::Timed => None,
            Pace::Counted => store
                .get_fuel()
                .ok()
                .map(|left| self.limits.fuel().saturating_sub(left)),
        };
        let mut outcome = v1::ended(request, called, store.into_data());
        outcome.used.fuel = fuel;
        outcome.used.wall_ms = began.elapsed().as_secs_f64() * 1_000.0;
        outcome
    }

    fn store(&self, guest: Guest) -> Store<Guest> {
        let mut store = Store::new(&self.runtime.engine, guest);
        store.limiter(|guest| &mut guest.meter);
        store.set_hostcall_fuel(self.limits.answer_bytes());
        store.set_max_component_handles(self.limits.handles as usize);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().may_go_on()?;
            Ok(UpdateDeadline::Continue(1))
        });
        if self.runtime.pace == Pace::Counted {
            store
                .set_fuel(self.limits.fuel())
                .expect("the engine counts");
        }
        store
    }
}

/// One of a plugin's calls at the same time.
struct Turn(Arc<AtomicU32>);

impl Turn {
    fn take(running: &Arc<AtomicU32>, most: u32) -> Option<Self> {
        let more = |now: u32| (now < most).then_some(now + 1);
        let taken = running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Self(running.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Raises the engine's epoch every [`TICK`], but only while somebody is called: an idle server has no ticks.
struct Ticker {
    calls: Mutex<u64>,
    begun: Condvar,
}

impl Ticker {
    fn start(engine: &Engine) -> Result<Arc<Self>, EngineError> {
        let ticker = Arc::new(Self {
            calls: Mutex::new(0),
            begun: Condvar::new(),
        });
        let (weak, engine) = (Arc::downgrade(&ticker), engine.weak());
        std::thread::Builder::new()
            .name("plugin ticks".to_owned())
            .spawn(move || {
                while Self::wait(&weak) {
                    std::thread::sleep(TICK);
                    match engine.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => return,
                    }
                }
            })
            .map_err(|source| failed("start the thread that ticks")(source.into()))?;
        Ok(ticker)
    }

    /// Until a call is under way; false once there can be none any more.
    fn wait(ticker: &Weak<Self>) -> bool {
        loop {
            let Some(ticker) = ticker.upgrade() else {
                return false;
            };
            let calls = ticker.calls.lock().unwrap_or_else(PoisonError::into_inner);
            if *calls > 0 {
                return true;
            }
            // Woken now and then, to see whether the runtime is gone.
            let waited = ticker.begun.wait_timeout(calls, Duration::from_secs(1));
            drop(waited);
        }
    }

    fn hold(self: &Arc<Self>) -> Ticking {
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.begun.notify_one();
        Ticking(self.clone())
    }
}

/// While this lives, the clock ticks.
struct Ticking(Arc<Ticker>);

impl Drop for Ticking {
    fn drop(&mut self) {
        *self.0.calls.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}
