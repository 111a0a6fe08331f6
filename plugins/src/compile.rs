//! Compiling in a child process under limits: a compiler is much code, and what it is given comes from strangers.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use crate::engine::{Compiler, Pace};
use crate::hex;

/// Bytes of what the child says that are kept.
const MOST_SAID: usize = 16 << 10;
/// From one look at the child to the next.
const LOOK: Duration = Duration::from_millis(10);
/// The child's exit code where the component is at fault.
const INVALID: i32 = 3;

/// How much a compilation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// From its beginning to its end.
    pub seconds: u32,
    /// Memory of the child, in MiB. Python's guests need about 1,500.
    pub memory_mib: u32,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            seconds: 180,
            memory_mib: 2_560,
        }
    }
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component is not valid.
    #[error("the component is not valid: {0}")]
    Invalid(String),
    /// It took too long.
    #[error("the component was not compiled within {0} s")]
    Timeout(u32),
    /// It took too much memory, or the compiler fell over it.
    #[error("the compiler gave up ({status}); it had {memory_mib} MiB: {said}")]
    GaveUp {
        /// How it ended.
        status: ExitStatus,
        /// What it had.
        memory_mib: u32,
        /// The last it said.
        said: String,
    },
    /// The child could not be started, or its files not be written.
    #[error("failed to {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl CompileError {
    /// Its stable code; none where the plugin is not to blame.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Invalid(_) => Some("plugin.invalid"),
            Self::Timeout(_) => Some("plugin.compile-timeout"),
            Self::GaveUp { .. } => Some("plugin.compile-gave-up"),
            Self::Io { .. } => None,
        }
    }
}

fn io_error(doing: &'static str) -> impl FnOnce(std::io::Error) -> CompileError {
    move |source| CompileError::Io { doing, source }
}

/// The program that calls [`work`], and the arguments that lead there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The program.
    pub program: PathBuf,
    /// What comes before the arguments of [`work`].
    pub arguments: Vec<OsString>,
}

impl Worker {
    /// Compiles a component and answers its code. Blocks; `folder` is a private one for the files in between.
    ///
    /// # Errors
    ///
    /// [`CompileError`]; nothing is left behind.
    pub fn compile(
        &self,
        component: &[u8],
        pace: Pace,
        limits: CompileLimits,
        folder: &Path,
    ) -> Result<Vec<u8>, CompileError> {
        let files = Files::new(folder).map_err(io_error("write the component"))?;
        fs::write(&files.component, component).map_err(io_error("write the component"))?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args([
                pace.name(),
                &limits.seconds.to_string(),
                &limits.memory_mib.to_string(),
            ])
            .args([&files.component, &files.code])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(io_error("start the compiler"))?;
        let said = child
            .stderr
            .take()
            .map(|stderr| std::thread::spawn(move || listen(stderr)));
        let Some(status) = wait(&mut child, limits).map_err(io_error("wait for the compiler"))?
        else {
            return Err(CompileError::Timeout(limits.seconds));
        };
        if status.success() {
            return fs::read(&files.code).map_err(io_error("read the code"));
        }
        let said = said.and_then(|said| said.join().ok()).unwrap_or_default();
        match status.code() {
            Some(INVALID) => Err(CompileError::Invalid(said)),
            _ => Err(CompileError::GaveUp {
                status,
                memory_mib: limits.memory_mib,
                said,
            }),
        }
    }
}

/// The component and its code on their way; removed when this is dropped.
struct Files {
    folder: PathBuf,
    component: PathBuf,
    code: PathBuf,
}

impl Files {
    fn new(folder: &Path) -> std::io::Result<Self> {
        let folder = folder.join(hex::random_name()?);
        // What comes out of it becomes code: nobody else may write there.
        DirBuilder::new().mode(0o700).create(&folder)?;
        let (component, code) = (folder.join("component.wasm"), folder.join("code.cwasm"));
        Ok(Self {
            folder,
            component,
            code,
        })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be removed is found in the private folder by whoever clears it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The last of what the child says; all of it is read, so that it never waits for a reader.
fn listen(mut from: impl Read) -> String {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read) = from.read(&mut piece) {
        if read == 0 {
            break;
        }
        said.extend_from_slice(&piece[..read]);
        let over = said.len().saturating_sub(MOST_SAID);
        said.drain(..over);
    }
    String::from_utf8_lossy(&said).trim().to_owned()
}

/// How the child ended; none if its time was up, and then it is gone too.
fn wait(child: &mut Child, limits: CompileLimits) -> std::io::Result<Option<ExitStatus>> {
    let until = Instant::now() + Duration::from_secs(u64::from(limits.seconds));
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// What the child does: takes its limits upon itself, compiles, and answers its exit code.
///
/// `arguments` are those that [`Worker::compile`] gave: pace, seconds, MiB, the file of the component, that of the code.
#[must_use]
pub fn work(arguments: &[OsString]) -> i32 {
    let mut stderr = std::io::stderr();
    match worked(arguments) {
        Ok(()) => 0,
        Err((code, why)) => {
            // Nobody may be listening any more.
            let _ = writeln!(stderr, "{why}");
            code
        }
    }
}

fn worked(arguments: &[OsString]) -> Result<(), (i32, String)> {
    let usage = || (2, "usage: PACE SECONDS MIB COMPONENT CODE".to_owned());
    let [pace, seconds, mib, component, code] = arguments else {
        return Err(usage());
    };
    let number = |text: &OsString| text.to_str()?.parse::<u64>().ok();
    let pace = [Pace::Timed, Pace::Counted]
        .into_iter()
        .find(|one| *pace == *one.name());
    let (Some(pace), Some(seconds), Some(mib)) = (pace, number(seconds), number(mib)) else {
        return Err(usage());
    };
    let failed = |why: String| (1, why);
    confine(seconds, mib << 20).map_err(|e| failed(format!("cannot confine itself: {e}")))?;
    let bytes =
        fs::read(component).map_err(|e| failed(format!("cannot read the component: {e}")))?;
    let compiler = Compiler::new(pace).map_err(|e| failed(format!("{:#}", Chain(&e))))?;
    let made = compiler
        .compile(&bytes)
        .map_err(|e| (INVALID, format!("{:#}", Chain(&e))))?;
    fs::write(code, made).map_err(|e| failed(format!("cannot write the code: {e}")))
}

/// An error with its causes, in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(one) = cause {
            write!(f, ": {one}")?;
            cause = one.source();
        }
        Ok(())
    }
}

fn confine(seconds: u64, bytes: u64) -> rustix::io::Result<()> {
    // Nobody waits for it any more.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let most = |resource, most| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )
    };
    // Memory it writes to, not addresses it reserves.
    most(Resource::Data, bytes)?;
    // Of all its threads; for when whoever started it is gone, who looks at the clock.
    most(Resource::Cpu, seconds.max(1) * 2)?;
    most(Resource::Core, 0)?;
    most(Resource::Fsize, bytes)?;
    most(Resource::Nofile, 64)
}
