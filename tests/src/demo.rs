//! Demonstrations: started, killed, started again, and what they leave behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{binary, digest};

/// How long a demonstration may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);

/// A demonstration's command line.
#[derive(Debug, Clone)]
pub struct Demo {
    /// Where its results go.
    pub out: PathBuf,
    arguments: Vec<String>,
    database_url: Option<String>,
}

/// NASA's turbofan set beside the checkout; without it a line on stderr says what is left out.
#[must_use]
pub fn cmapss() -> Option<PathBuf> {
    let folder = Path::new("../../shared/data/cmapss");
    if folder.join("train_FD001.txt").exists() {
        return folder.canonicalize().ok();
    }
    eprintln!("skipped: `{}` is not there", folder.display());
    None
}

impl Demo {
    /// `forewright demo --source SOURCE --out OUT`.
    #[must_use]
    pub fn new(source: &str, out: &Path) -> Self {
        let demo = Self {
            out: out.to_owned(),
            arguments: vec!["demo".into()],
            database_url: None,
        };
        let out = out.display().to_string();
        demo.with("--source", source).with("--out", &out)
    }

    /// The same on recorded engines.
    #[must_use]
    pub fn of_engines(cmapss: &Path, out: &Path) -> Self {
        Self::new(&format!("cmapss:{}", cmapss.display()), out)
    }

    /// The same with one more option.
    #[must_use]
    pub fn with(mut self, option: &str, value: &str) -> Self {
        self.arguments.extend([option.to_owned(), value.to_owned()]);
        self
    }

    /// The same over another database.
    #[must_use]
    pub fn over(mut self, database_url: &str) -> Self {
        self.database_url = Some(database_url.to_owned());
        self
    }

    /// Starts it; it is killed with the value.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(&self) -> Child {
        std::fs::create_dir_all(&self.out).expect("a folder for the results");
        let mut log = std::fs::File::options();
        let log = log.create(true).append(true).open(self.log());
        let mut command = Command::new(binary::forewright());
        command
            .args(&self.arguments)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .kill_on_drop(true);
        if let Some(url) = &self.database_url {
            command.env("DATABASE_URL", url);
        }
        command.spawn().expect("forewright can be started")
    }

    /// Runs it to its end and reads its report.
    ///
    /// # Panics
    ///
    /// When it does not exit 0.
    pub async fn run(&self) -> Value {
        let mut child = self.spawn();
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("it goes on for ever: {}", self.said()));
        assert!(ended.expect("it ends").success(), "{}", self.said());
        self.report()
    }

    /// `report.json`.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn report(&self) -> Value {
        let bytes = std::fs::read(self.out.join("report.json")).expect("a report");
        serde_json::from_slice(&bytes).expect("a report in JSON")
    }

    /// What it said on stderr so far.
    #[must_use]
    pub fn said(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        format!("{self:?}\n{text}")
    }

    /// The operator token of its server.
    ///
    /// # Panics
    ///
    /// When it has kept none.
    #[must_use]
    pub fn token(&self) -> String {
        let bytes = std::fs::read(self.out.join("demo.json")).expect("demo.json");
        let memory: Value = serde_json::from_slice(&bytes).expect("demo.json is JSON");
        memory["operator_token"]
            .as_str()
            .expect("an operator token")
            .to_owned()
    }

    fn log(&self) -> PathBuf {
        self.out.with_extension("log")
    }
}

/// The digest of every file in a folder, by name.
///
/// # Panics
///
/// When the folder cannot be read.
#[must_use]
pub fn files_of(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let files = entries.map(|entry| entry.expect("an entry").path());
    files
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            (
                name.into_owned(),
                digest(&std::fs::read(&path).expect("a file")),
            )
        })
        .collect()
}
