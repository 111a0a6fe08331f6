//! What a process has of plugins: the engine, the compiler's child process, compiled code by digest.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ::plugins::bundle;
use ::plugins::cache::Cache;
use ::plugins::compile::{CompileError, CompileLimits, Worker};
use ::plugins::engine::{Compiler, Pace, Plugin, Runtime};
use ::plugins::grants::Grants;
use ::plugins::limits::Limits;
use ::plugins::manifest::Manifest;
use ::plugins::schema::Schemas;
use ::plugins::world::World;
use anyhow::Context;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::config;
use crate::host::{ArtifactBytes, Telemetry};
use crate::queue::Queue;
use crate::store::plugin_settings::{self, PluginSettings};
use crate::store::plugins::{self, plugin_version};
use crate::store::{Database, StoreError};

/// What could not be made ready is not tried again sooner.
const NOT_SOONER: Duration = Duration::from_secs(300);
/// A folder of the compiler that is so old was left by a crash.
const LEFT: Duration = Duration::from_secs(3_600);

/// Everything a process needs to call plugins; cheap to clone.
#[derive(Clone)]
pub struct Plugins(Arc<Inner>);

struct Inner {
    settings: config::Plugins,
    folder: PathBuf,
    worker: Worker,
    queue: Queue,
    artifacts: Arc<dyn ArtifactBytes>,
    telemetry: Arc<dyn Telemetry>,
    /// One for each pace, made when the first plugin needs it.
    engines: [OnceLock<Engine>; 2],
    making: Mutex<()>,
    ready: Mutex<HashMap<(String, Pace), Ready>>,
    /// One at a time: a compiler takes a processor and much memory.
    loading: tokio::sync::Mutex<()>,
    /// Until when nobody tries again to make ready what could not be.
    unready: Mutex<HashMap<String, (Instant, String)>>,
}

struct Engine {
    runtime: Runtime,
    cache: Cache,
}

/// A plugin that can be called, and its turns.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) plugin: Plugin,
    /// Of its manifest: what it is asked is held to them, and what it is examined with is not.
    pub(super) schemas: Arc<Schemas>,
    pub(super) turns: Arc<Semaphore>,
}

/// A version that is asked, with what there is to know before it is.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its row.
    pub row: plugin_version::Model,
    /// What it says about itself.
    pub manifest: Manifest,
    /// What operators say about it.
    pub settings: PluginSettings,
}

impl Member {
    /// What it may do.
    #[must_use]
    pub fn grants(&self) -> Grants {
        Grants::narrowed(&self.manifest.capabilities, &self.settings.granted)
    }
}

/// Why a version cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It could not be a short while ago.
    #[error("it could not be made ready a short while ago: {0}")]
    Earlier(String),
    /// This machine, its disk or its artifact store is at fault.
    #[error("failed to make the plugin ready: {0:#}")]
    Trouble(#[from] anyhow::Error),
}

impl Plugins {
    /// Nothing is loaded until a plugin is needed. `folder` is private to this user.
    #[must_use]
    pub fn new(
        settings: config::Plugins,
        folder: PathBuf,
        queue: Queue,
        artifacts: Arc<dyn ArtifactBytes>,
        telemetry: Arc<dyn Telemetry>,
    ) -> Self {
        Self(Arc::new(Inner {
            settings,
            folder,
            worker: compiler(),
            queue,
            artifacts,
            telemetry,
            engines: Default::default(),
            making: Mutex::new(()),
            ready: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            unready: Mutex::default(),
        }))
    }

    pub(super) fn settings(&self) -> &config::Plugins {
        &self.0.settings
    }

    pub(crate) fn db(&self) -> &Database {
        self.0.queue.db()
    }

    /// Now, in milliseconds since the epoch.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.0.queue.now()
    }

    pub(super) fn artifacts(&self) -> &Arc<dyn ArtifactBytes> {
        &self.0.artifacts
    }

    pub(super) fn telemetry(&self) -> &Arc<dyn Telemetry> {
        &self.0.telemetry
    }

    /// Everybody who is asked in a world, in the order in which they are; one whose manifest this server no longer
    /// understands is left out and logged.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn members(&self, world: World) -> Result<Vec<Member>, StoreError> {
        let db = &self.db().read;
        let mut members = Vec::new();
        for row in plugins::serving(db, world).await? {
            match row.manifest() {
                Ok(manifest) => {
                    let settings = plugin_settings::get(db, &row.plugin).await?;
                    members.push(Member {
                        row,
                        manifest,
                        settings,
                    });
                }
                Err(error) => tracing::warn!(plugin = %row.plugin, "{error}; it is not asked"),
            }
        }
        Ok(members)
    }

    /// The plugin's code, from memory, from the private folder, or compiled now.
    ///
    /// # Errors
    ///
    /// [`NotReady`].
    pub(super) async fn ready(
        &self,
        digest: &str,
        manifest: &Manifest,
        pace: Pace,
    ) -> Result<Ready, NotReady> {
        let name = (digest.to_owned(), pace);
        if let Some(ready) = self.kept().get(&name) {
            return Ok(ready.clone());
        }
        // What is compiled already does not wait behind what is being compiled.
        if let Some(ready) = self.compiled_before(&name, manifest).await? {
            return Ok(ready);
        }
        let _alone = self.0.loading.lock().await;
        if let Some(ready) = self.kept().get(&name) {
            return Ok(ready.clone());
        }
        if let Some((until, why)) = self.unready().get(digest)
            && Instant::now() < *until
        {
            return Err(NotReady::Earlier(why.clone()));
        }
        let file = self.file(digest).await?;
        let (plugins, manifest) = (self.clone(), manifest.clone());
        let made = tokio::task::spawn_blocking(move || {
            let path = plugins.compiled(&name.0, &file, pace)?;
            plugins.load(name, &path, &manifest)
        });
        let made = made.await.context("compiling a plugin panicked")?;
        // A disk that was full or a store that did not answer may be well again at once.
        if let Err(error @ NotReady::Compile(_)) = &made {
            let until = Instant::now() + NOT_SOONER;
            self.unready()
                .insert(digest.to_owned(), (until, error.to_string()));
        }
        made
    }

    fn unready(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, String)>> {
        self.0
            .unready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Pace), Ready>> {
        self.0.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the code of what is not called any more.
    pub fn forget(&self, digest: &str) {
        self.kept().retain(|(known, _), _| known != digest);
        self.unready().remove(digest);
    }

    /// A plugin's file.
    pub(super) async fn file(&self, digest: &str) -> anyhow::Result<Bytes> {
        let found = self.0.artifacts.get(digest).await;
        let found = found.map_err(|e| anyhow::anyhow!(e).context("failed to read the plugin"))?;
        found.with_context(|| format!("the plugin's file `{digest}` is gone"))
    }

    /// A plugin whose compiled code lies in the private folder.
    async fn compiled_before(
        &self,
        name: &(String, Pace),
        manifest: &Manifest,
    ) -> Result<Option<Ready>, NotReady> {
        let (plugins, name, manifest) = (self.clone(), name.clone(), manifest.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            let engine = plugins.engine(name.1)?;
            let known = engine.cache.get(&name.0).context("the compiled plugins")?;
            known
                .map(|path| plugins.load(name, &path, &manifest))
                .transpose()
        });
        loaded.await.context("loading a plugin panicked")?
    }

    /// Where a plugin's compiled code lies now.
    fn compiled(&self, digest: &str, file: &[u8], pace: Pace) -> Result<PathBuf, NotReady> {
        let cache = &self.engine(pace)?.cache;
        if let Some(path) = cache.get(digest).context("the compiled plugins")? {
            return Ok(path);
        }
        let (bundle, _) = bundle::open(file).context("the plugin's file")?;
        let code = self.compile(bundle.component, pace)?;
        let kept = cache.put(digest, &code).context("the compiled plugins")?;
        Ok(kept)
    }

    fn load(
        &self,
        name: (String, Pace),
        path: &Path,
        manifest: &Manifest,
    ) -> Result<Ready, NotReady> {
        // Which grants there are is told with each call; here only what there is to be granted.
        let (grants, limits) = (Grants::all(&manifest.capabilities), &manifest.limits);
        let runtime = &self.engine(name.1)?.runtime;
        let plugin =
            load(runtime, path, manifest.world, grants, limits).context("the compiled plugin")?;
        let schemas = Schemas::of(manifest).map_err(anyhow::Error::msg);
        let ready = Ready {
            plugin,
            schemas: Arc::new(schemas.context("the schemas of the manifest")?),
            turns: Arc::new(Semaphore::new(limits.concurrency as usize)),
        };
        Ok(self.kept().entry(name).or_insert(ready).clone())
    }

    fn compile(&self, component: &[u8], pace: Pace) -> Result<Vec<u8>, CompileError> {
        let settings = &self.0.settings;
        let limits = CompileLimits {
            seconds: settings.compile_s,
            memory_mib: settings.compile_mib,
        };
        self.0
            .worker
            .compile(component, pace, limits, &self.0.folder)
    }

    fn engine(&self, pace: Pace) -> anyhow::Result<&Engine> {
        let place = &self.0.engines[usize::from(pace == Pace::Counted)];
        // One at a time: each reserves the addresses of all guests there may be.
        let _making = self.0.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = place.get() {
            return Ok(engine);
        }
        let engine = self.make_engine(pace)?;
        Ok(place.get_or_init(|| engine))
    }

    fn make_engine(&self, pace: Pace) -> anyhow::Result<Engine> {
        let (folder, settings) = (&self.0.folder, &self.0.settings);
        let kind = Compiler::new(pace)?.kind();
        let key = key(&folder.with_extension("key"))?;
        let most_bytes = u64::from(settings.cache_mib) << 20;
        let cache = Cache::new(folder, &kind, &key, most_bytes)?;
        clear_leftovers(folder)?;
        let runtime = Runtime::new(pace)?.with_memory_mib(settings.memory_mib);
        Ok(Engine { runtime, cache })
    }
}

/// The child process that compiles plugins: this very binary, which may have been replaced on the disk meanwhile.
fn compiler() -> Worker {
    #[cfg(test)]
    let arguments = &crate::testing::COMPILE_WORKER[..];
    #[cfg(not(test))]
    let arguments = ["compile-worker"];
    Worker {
        program: "/proc/self/exe".into(),
        arguments: arguments.iter().map(Into::into).collect(),
    }
}

#[expect(
    unsafe_code,
    reason = "the cache holds only what this server compiled, sealed with its own key"
)]
fn load(
    runtime: &Runtime,
    path: &Path,
    world: World,
    grants: Grants,
    limits: &Limits,
) -> Result<Plugin, ::plugins::engine::EngineError> {
    // SAFETY: the path comes from the cache, which checked the file's seal; its folder is this user's alone.
    unsafe { runtime.load(path, world, grants, limits) }
}

/// The key that seals compiled code: made once, and never sent anywhere. Several processes may start at once.
fn key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let told = || format!("the key of the compiled plugins, `{}`", path.display());
    let read = |path: &Path| {
        let mut key = Vec::new();
        fs::File::open(path)?.read_to_end(&mut key)?;
        std::io::Result::Ok(key)
    };
    match read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        found => return found.with_context(told),
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut fresh = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .with_context(told)?;
    fresh.write_all(uuid::Uuid::new_v4().as_bytes())?;
    fresh.write_all(uuid::Uuid::new_v4().as_bytes())?;
    fresh.as_file().sync_all()?;
    match fresh.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error).with_context(told),
    }
    read(path).with_context(told)
}

/// Removes what compilers left that were killed.
fn clear_leftovers(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        // Folders of compilers have names of 32 digits; the others are those of compiled code.
        let old = entry.metadata()?.modified()?.elapsed().unwrap_or_default() > LEFT;
        if name.len() == 32 && old {
            match fs::remove_dir_all(entry.path()) {
                // Another process was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => done?,
            }
        }
    }
    Ok(())
}
