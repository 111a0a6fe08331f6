//! The stand of a demonstration: a server and a cell in this process, and what it remembers of itself.

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::cad::slice::printer::Printer;
use ::workflows::model::Timestamp;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::source::Source;
use super::{Demo, field};
use crate::app::App;
use crate::auth;
use crate::cell::{CellOptions, Simulated};
use crate::client::Client;
use crate::clock::Clock;
use crate::config::Config;
use crate::first_token::admit_operator;
use crate::process::{self, Process};
use crate::store::{self, Database};

/// The name of the demonstration's cell.
const CELL: &str = "demo-cell";

/// Where in its folder that cell remembers.
const CELL_STATE: &str = "cell";

/// What a demonstration remembers, so that it can go on after it was killed.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Memory {
    identity: Value,
    clock_offset_ms: i64,
    operator_token: Option<String>,
    finished: bool,
}

/// A server and a cell, running.
pub(super) struct Stand {
    /// Speaks as the operator.
    pub operator: Client,
    /// Speaks as a technician.
    pub technician: Client,
    /// Where the dashboard is, with the way in.
    pub dashboard: String,
    /// Whether an earlier demonstration goes on.
    pub resumed: bool,
    /// When this database's clock started.
    pub starts: Timestamp,
    process: Process,
    cell: JoinHandle<anyhow::Result<()>>,
    file: PathBuf,
    memory: RefCell<Memory>,
    clock: Clock,
}

impl Stand {
    /// Starts the server and the cell, or starts them again where a demonstration was cut off.
    pub(super) async fn set_up(
        demo: &Demo,
        config: Option<PathBuf>,
        source: &Source,
    ) -> anyhow::Result<Self> {
        let file = demo.out.join("demo.json");
        let earlier =
            remember(&file).filter(|memory| !memory.finished && memory.identity == demo.identity());
        let resumed = earlier.is_some();
        let mut config = Config::load(config.as_deref(), std::env::vars())?;
        if !resumed {
            let named = &config.server.database_url;
            if !named.is_empty() {
                refuse_a_used(&Database::open(named).await?).await?;
            }
            clear(&demo.out)?;
        }
        config.server.data = demo.out.join("data");
        // Only what is kept needs an address a person can find again.
        if !demo.keep {
            config.server.listen = ([127, 0, 0, 1], 0).into();
        }
        // The demonstration asks for its one tick itself.
        config.fleet.tick_s = 0;
        config.fleet.seed = demo.seed;

        let system = Clock::default().now();
        let mut memory = earlier.unwrap_or_else(|| Memory {
            identity: demo.identity(),
            clock_offset_ms: source.ends.since(system),
            operator_token: None,
            finished: false,
        });
        let clock = Clock::default();
        clock.advance(memory.clock_offset_ms);
        let app = App::open(config, clock.clone()).await?;
        if !resumed {
            refuse_a_used(&app.db).await?;
        }
        // Kept before the server knows it: a kill in between must not lock the demonstration out.
        let token = memory.operator_token.get_or_insert_with(auth::new_token);
        let token = token.clone();
        memory.save(&file)?;
        admit_operator(&app, &token).await?;
        let process = Process::start(app, &process::ALL_QUEUES, true).await?;
        let address = process.address.context("the server listens nowhere")?;
        let base = format!("http://{address}");
        let operator = Client::new(&base, Some(token.clone()))?;
        let issued: Value = operator
            .post(
                "/tokens",
                &json!({ "role": "technician", "name": "demo-technician" }),
            )
            .await?;
        let technician = operator.with_token(field(&issued, "token")?);
        let cell = tokio::spawn(crate::cell::run(cell_options(demo, &base)));
        approve_cell(&operator, &demo.out.join(CELL_STATE)).await?;
        Ok(Self {
            operator,
            technician,
            dashboard: format!("{base}/#token={token}"),
            resumed,
            starts: source.ends,
            process,
            cell,
            file,
            memory: RefCell::new(memory),
            clock,
        })
    }

    /// Nobody waits hours for a window: when the run sleeps or waits for its window to come, the demonstration's clock
    /// goes on to the end of that.
    pub(super) fn sleep_away(&self, run: &Value) -> anyhow::Result<()> {
        let asleep = run["waiting_for"].as_array().into_iter().flatten();
        let until = asleep
            .filter(|call| call["kind"] == "sleep" || call["input"]["name"] == "window.rejected")
            .filter_map(|call| call["due"].as_str()?.parse::<Timestamp>().ok())
            .min();
        let Some(left) = until.map(|until| until.since(self.clock.now())) else {
            return Ok(());
        };
        if left > 0 {
            let mut memory = self.memory.borrow_mut();
            memory.clock_offset_ms += left;
            // Kept first: a demonstration that goes on after a kill must not go back in time.
            memory.save(&self.file)?;
            self.clock.advance(left);
        }
        Ok(())
    }

    /// Stops the cell, then the server.
    pub(super) async fn take_down(self) -> anyhow::Result<()> {
        self.cell.abort();
        self.process.stop().await
    }

    /// Notes that the next demonstration is a new one.
    pub(super) fn mark_finished(&self) -> anyhow::Result<()> {
        let mut memory = self.memory.borrow_mut();
        memory.finished = true;
        memory.save(&self.file)
    }

    /// Stops everything, and only then notes that the next demonstration is a new one: killed any sooner, this one
    /// goes on.
    pub(super) async fn finish(self) -> anyhow::Result<()> {
        let (file, mut memory) = (self.file.clone(), self.memory.borrow().clone());
        self.take_down().await?;
        memory.finished = true;
        memory.save(&file)
    }
}

impl Memory {
    /// Kept readable by its owner alone: it holds a token.
    fn save(&self, file: &Path) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            let folder = file.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let mut new = tempfile::NamedTempFile::new_in(folder)?;
            new.write_all(&serde_json::to_vec_pretty(self)?)?;
            new.as_file().sync_all()?;
            new.persist(file)?;
            Ok(())
        };
        write().with_context(|| format!("failed to write `{}`", file.display()))
    }
}

fn remember(file: &Path) -> Option<Memory> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// A demonstration fills a database of its own; it must not move into somebody's, and what another one left there
/// would be told as its own.
async fn refuse_a_used(db: &Database) -> anyhow::Result<()> {
    if store::assets::list(&db.read).await?.is_empty() {
        return Ok(());
    }
    bail!("the database is in use; name an empty one in DATABASE_URL, or none")
}

/// What a demonstration leaves in its folder; what is about a build may carry its number.
const RESULTS: [&str; 12] = [
    "report.json",
    "part.stl",
    "part.3mf",
    "part.step",
    "part.gcode",
    "part.png",
    "certificate.json",
    "scan.ply",
    "verdict.json",
    "deviation.png",
    "window.json",
    "heatmap.png",
];

/// Whether a file is a demonstration's: `scan.ply`, and `scan_1.ply`, but nobody's `scan_notes.txt`.
fn is_result(name: &str) -> bool {
    let Some((stem, ending)) = name.rsplit_once('.') else {
        return false;
    };
    let stem = match stem.rsplit_once('_') {
        Some((stem, number)) if number.parse::<u32>().is_ok() => stem,
        _ => stem,
    };
    RESULTS.contains(&format!("{stem}.{ending}").as_str())
}

/// Removes what an earlier demonstration left in the folder, and nothing else.
fn clear(out: &Path) -> anyhow::Result<()> {
    if !out.join("demo.json").exists() {
        return Ok(());
    }
    let clear = || -> std::io::Result<()> {
        for entry in std::fs::read_dir(out)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                if ["data", CELL_STATE].contains(&&*name) {
                    std::fs::remove_dir_all(entry.path())?;
                }
            } else if is_result(&name) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    clear().context("failed to clear the folder of an earlier demonstration")
}

fn cell_options(demo: &Demo, base: &str) -> CellOptions {
    CellOptions {
        server: base.into(),
        name: CELL.into(),
        state: demo.out.join(CELL_STATE),
        printers: Printer::names().map(str::to_owned).collect(),
        materials: ["pla", "petg", "abs"].map(str::to_owned).into(),
        machine: Simulated {
            seed: demo.seed,
            defect: demo.defect.defect(),
            defective_builds: 1,
            sigma_mm: 0.05,
        },
    }
}

/// Only a demonstration approves its own cell: until it has its token, since one that was killed may enrol again.
async fn approve_cell(operator: &Client, state: &Path) -> anyhow::Result<()> {
    while !crate::cell::is_enrolled(state)? {
        let asked: Value = operator.get("/enrolments").await?;
        let pending = asked["enrolments"].as_array().into_iter().flatten();
        for enrolment in pending.filter(|e| e["state"] == "pending" && e["name"] == CELL) {
            let path = format!("/enrolments/{}/approve", field(enrolment, "code")?);
            operator.post::<Value>(&path, &json!({})).await?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
