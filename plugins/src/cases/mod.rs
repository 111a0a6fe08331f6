//! An author's own cases: what a plugin is asked, what it finds around it, and what it is to answer.
//!
//! A case is a TOML file, since TOML has `nan` and comments:
//!
//! ```toml
//! about = "a fan that shakes is going to fail"
//!
//! [context]                     # all of it may be left out
//! config = { limit = 3 }
//! now = 1767225600000.0         # milliseconds since 1970
//! seed = 7
//!
//! [request.act]                 # predict, detect, design, verify, schedule or act
//! input = '{"asset": "fan-7"}'
//! key = "ticket-1"
//!
//! [[telemetry]]                 # what lies behind each capability
//! asset = "fan-7"
//! metric = "vibration"
//! start = 1767222000000.0
//! step = 60000.0
//! values = [1.0, nan, 2.5]
//!
//! [state]
//! "ticket/fan-7" = "17"
//!
//! [[http]]
//! method = "POST"
//! url = "https://tickets.example/api"
//! status = 201
//! body = '{"id": 18}'
//!
//! [expect]
//! answer = { ticket = 18 }      # what is left out here may be anything
//! tolerance = 1e-9
//! # or: fails = "plugin.declared.invalid-input", says = "asset"
//! ```
//!
//! Wherever the request has an artifact, `{ file = "part.stl", media-type = "model/stl" }` stands for the file beside the
//! case.

mod desk;
mod expected;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use desk::{Desk, Made};
pub use expected::{Expected, differences};

use crate::bundle::digest;
use crate::call::{Context, Request};
use crate::engine::Plugin;
use crate::grants::matches;
use crate::v1::types::ArtifactRef;
use crate::world::World;

/// 2026-01-01T00:00:00Z: the moment of cases that name none.
const NOW_MS: f64 = 1_767_225_600_000.0;

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// That of its file.
    pub name: String,
    /// In the author's words.
    pub about: String,
    /// What the plugin is asked.
    pub request: Request,
    /// What the call is about.
    pub context: Context,
    /// What the plugin finds around it.
    pub desk: Desk,
    /// What is to come of it; nothing in a case that is only to be tried out.
    pub expected: Option<Expected>,
}

/// Why a file is no case.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// No TOML, or a key that cases do not have.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// A part that does not fit.
    #[error("`{part}`: {why}")]
    Part {
        /// Which.
        part: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A file beside it that cannot be read.
    #[error("failed to read `{file}`")]
    File {
        /// As the case names it.
        file: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn part(part: &'static str, why: impl std::fmt::Display) -> CaseError {
    let why = why.to_string().trim_end().to_owned();
    CaseError::Part { part, why }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    about: String,
    #[serde(default)]
    context: WrittenContext,
    request: Table,
    #[serde(default)]
    telemetry: Vec<desk::Measured>,
    #[serde(default)]
    state: BTreeMap<String, String>,
    #[serde(default)]
    http: Vec<desk::Exchange>,
    expect: Option<Expected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenContext {
    config: Table,
    now: f64,
    seed: u32,
}

impl Default for WrittenContext {
    fn default() -> Self {
        Self {
            config: Table::new(),
            now: NOW_MS,
            seed: 1,
        }
    }
}

impl Case {
    /// Reads a case; `read` gives the bytes of a file beside it.
    ///
    /// # Errors
    ///
    /// [`CaseError`] for what does not fit, by its place.
    pub fn parse(
        name: &str,
        text: &str,
        read: &mut dyn FnMut(&str) -> io::Result<Vec<u8>>,
    ) -> Result<Self, CaseError> {
        let written: Written = toml::from_str(text)?;
        let desk = Desk::new(written.telemetry, written.state, written.http);
        let mut desk = desk.map_err(|why| part("telemetry", why))?;
        if !written.context.now.is_finite() {
            return Err(part("context.now", "has to be a finite number"));
        }
        let mut asked = Value::Table(written.request);
        put_artifacts(&mut asked, &mut desk, read)?;
        let config = serde_json::to_string(&written.context.config);
        Ok(Self {
            name: name.to_owned(),
            about: written.about,
            request: request(&asked)?,
            context: Context {
                config: config.map_err(|why| part("context.config", why))?,
                now_ms: written.context.now,
                seed: written.context.seed,
            },
            desk,
            expected: written.expect,
        })
    }

    /// Why it is none for this world, if it is none.
    #[must_use]
    pub fn misfit(&self, world: World) -> Option<String> {
        let asked = self.request.world();
        (asked != world)
            .then(|| format!("the case is for the world `{asked}`, and the plugin is of `{world}`"))
    }

    /// Asks a plugin, and holds what comes of it against what was expected.
    #[must_use]
    pub fn run(&self, plugin: &Plugin) -> Tried {
        if let Some(why) = self.misfit(plugin.world()) {
            return Tried::broken(&self.name, why);
        }
        let Some(expected) = &self.expected else {
            return Tried::broken(&self.name, "the case has no `[expect]`".to_owned());
        };
        let doors = Arc::new(self.desk.clone());
        let outcome = plugin.call(&self.request, &self.context, doors);
        let differs = expected.differences(&outcome.result);
        Tried {
            name: self.name.clone(),
            about: self.about.clone(),
            passed: differs.is_empty(),
            differs,
            log: outcome.log.lines().map(ToString::to_string).collect(),
            wall_ms: outcome.used.wall_ms,
            memory_bytes: outcome.used.memory_bytes,
        }
    }
}

/// How a plugin did in a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    /// The case.
    pub name: String,
    /// In its author's words.
    pub about: String,
    /// Whether all is as expected.
    pub passed: bool,
    /// What is not, with its place in the answer.
    pub differs: Vec<String>,
    /// What the plugin wrote.
    pub log: Vec<String>,
    /// From the call's beginning to its end, in milliseconds.
    pub wall_ms: f64,
    /// The most memory at one time, in bytes.
    pub memory_bytes: u64,
}

impl Tried {
    /// A case that says nothing of the plugin, for it is at fault itself.
    #[must_use]
    pub fn broken(name: &str, why: String) -> Self {
        Self {
            name: name.to_owned(),
            about: String::new(),
            passed: false,
            differs: vec![why],
            log: Vec::new(),
            wall_ms: 0.0,
            memory_bytes: 0,
        }
    }
}

/// Whether a file of a project is one of its cases: `glob` is that of its manifest, `*` stands for any text.
#[must_use]
pub fn is_case(glob: &str, file: &str) -> bool {
    matches(glob, file)
}

/// A request as it is written; a key that is none of the contract's would go unnoticed, as what it means is left out.
fn request(asked: &Value) -> Result<Request, CaseError> {
    let request: Request = (asked.clone().try_into()).map_err(|why| part("request", why))?;
    let understood = Value::try_from(&request).map_err(|why| part("request", why))?;
    match expected::unknown(asked, &understood) {
        Some(place) => Err(part("request", format_args!("there is no `{place}`"))),
        None => Ok(request),
    }
}

/// Puts an artifact in place of every table that names a file.
fn put_artifacts(
    value: &mut Value,
    desk: &mut Desk,
    read: &mut dyn FnMut(&str) -> io::Result<Vec<u8>>,
) -> Result<(), CaseError> {
    match value {
        Value::Array(items) => {
            for item in items {
                put_artifacts(item, desk, read)?;
            }
        }
        Value::Table(table) if table.contains_key("file") => {
            #[derive(Deserialize)]
            #[serde(deny_unknown_fields, rename_all = "kebab-case")]
            struct Named {
                file: String,
                media_type: String,
                name: Option<String>,
            }
            let named: Named = (value.clone().try_into()).map_err(|why| part("artifact", why))?;
            let file = named.file;
            let bytes = read(&file).map_err(|source| CaseError::File {
                file: file.clone(),
                source,
            })?;
            let last = file.rsplit('/').next().unwrap_or(&file).to_owned();
            let artifact = ArtifactRef {
                digest: digest(&bytes),
                media_type: named.media_type,
                size: u32::try_from(bytes.len())
                    .map_err(|_| part("artifact", format_args!("`{file}` has 4 GiB or more")))?,
                name: named.name.unwrap_or(last),
            };
            *value = Value::try_from(&artifact).map_err(|why| part("artifact", why))?;
            desk.keep(bytes);
        }
        Value::Table(table) => {
            for (_, inner) in table.iter_mut() {
                put_artifacts(inner, desk, read)?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Answer;
    use crate::doors::{Doors, Query};

    fn parse(text: &str) -> Result<Case, CaseError> {
        let mut read = |file: &str| match file {
            "part.stl" => Ok(b"solid".to_vec()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        Case::parse("a", text, &mut read)
    }

    const ACT: &str = "[request.act]\ninput = '{\"a\": 1}'\nkey = 'k'\n";

    #[test]
    fn the_case_of_the_documentation_is_one() {
        let text: String = include_str!("mod.rs")
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!").trim_start().to_owned() + "\n")
            .collect();
        let case = parse(&text).unwrap();
        assert_eq!(case.context.config, r#"{"limit":3}"#);
        let query = Query {
            asset: "fan-7".to_owned(),
            metric: "vibration".to_owned(),
            start: 0.0,
            end: NOW_MS,
            max_points: 10,
        };
        let series = case.desk.query(&query).unwrap();
        assert!(series.values[1].is_nan());
        let answer = Ok(Answer::Act(r#"{"ticket": 18, "more": null}"#.to_owned()));
        let expected = case.expected.unwrap();
        assert_eq!(expected.differences(&answer), Vec::<String>::new());
        let other = Ok(Answer::Act(r#"{"ticket": 19}"#.to_owned()));
        let differs = expected.differences(&other);
        assert_eq!(differs, ["answer.ticket: 19 instead of 18"]);
    }

    const VERIFY: &str = r#"
        [request.verify]
        expected = { file = "part.stl", media-type = "model/stl" }
        tolerance = 0.3
        [[request.verify.observations]]
        artifact = { file = "part.stl", media-type = "model/stl", name = "scan" }
        placement = { Pose = { rotation = [1, 0, 0, 0], translation = [0.0, 0.0, 1.5] } }
    "#;

    #[test]
    fn a_file_stands_for_an_artifact() {
        let case = parse(VERIFY).unwrap();
        let Request::Verify(request) = &case.request else {
            panic!("{:?}", case.request);
        };
        let named = (
            &*request.expected.name,
            &*request.observations[0].artifact.name,
        );
        assert_eq!(named, ("part.stl", "scan"));
        let bytes = case.desk.read_artifact(&request.expected.digest, 1, 3);
        assert_eq!(bytes.unwrap(), b"oli");
        let error = parse(&VERIFY.replace("part.stl", "other.stl")).unwrap_err();
        assert_eq!(error.to_string(), "failed to read `other.stl`");
    }

    #[test]
    fn every_world_can_be_asked() {
        let asset = "asset = { id = 'fan-7', kind = 'fan_tray', labels = [['row', '1']] }";
        let region = "{ Cylinder = { start = [0, 0, 0], end = [0, 0, 1], radius = 2 } }";
        let box3 = "{ min = [0, 0, 0], max = [1, 1, 1] }";
        let requests = [
            (
                World::Predictor,
                format!(
                    "predict = {{ horizons = [1], histories = [{{ {asset}, start = 0, step = 1, columns = [{{ metric = 'm', unit = '', values = [nan] }}] }}] }}"
                ),
            ),
            (
                World::Detector,
                format!("detect = {{ {asset}, series = [], since = 0 }}"),
            ),
            (
                World::Designer,
                format!(
                    "design = {{ max_candidates = 1, task = {{ {asset}, envelope = {box3}, keep_in = [{{ Box = {box3} }}], keep_out = [{region}], fixed = [], loads = [], material = {{ name = 'petg', density = 1, stiffness = 1, poisson_ratio = 0, yield_strength = 1, yield_strength_across = 1 }}, process = {{ layer_height = 1, min_wall = 1, max_overhang = 1 }}, max_mass = 1, min_safety_factor = 1 }} }}"
                ),
            ),
            (
                World::Scheduler,
                "schedule = { tasks = [], workers = [], agreed = [] }".to_owned(),
            ),
            (World::Action, "act = { input = '', key = '' }".to_owned()),
        ];
        for (world, request) in requests {
            let case = parse(&format!("[request]\n{request}"));
            let case = case.unwrap_or_else(|error| panic!("{world}: {error}"));
            assert_eq!(case.request.world(), world);
            assert_eq!(case.misfit(world), None);
        }
        let other = parse(ACT).unwrap().misfit(World::Verifier).unwrap();
        assert_eq!(
            other,
            "the case is for the world `action`, and the plugin is of `verifier`"
        );
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_place() {
        for (text, said) in [
            ("", "missing field `request`"),
            ("[request.at]\n", "`request`: unknown variant `at`"),
            (
                "[request.act]\nkey = 1\ninput = ''",
                "`request`: invalid type",
            ),
            (
                &format!(
                    "{ACT}[[telemetry]]\nasset = 'a'\nmetric = 'm'\nstep = 0.0\nstart = 1.0\nvalues = [1.0]"
                ),
                "`telemetry`: `m` of `a` has no finite start",
            ),
            (&format!("colour = 1\n{ACT}"), "unknown field `colour`"),
            (&format!("{ACT}[expect]\n"), "either `answer` or `fails`"),
            (
                &format!("{ACT}[expect]\nanswer = 1\nfails = 'plugin.trap'"),
                "either `answer` or `fails`",
            ),
            (
                &format!("{ACT}[expect]\nfails = 'plugin.trip'"),
                "unknown variant `plugin.trip`",
            ),
            (
                &format!("{ACT}[expect]\nanswer = 1\nsays = 'x'"),
                "only a case that `fails`",
            ),
            (
                &format!("{ACT}[expect]\nanswer = 1\ntolerance = -1.0"),
                "`tolerance`",
            ),
            (
                &format!("{ACT}[expect]\nanswer = 1\ntolerance = inf"),
                "`tolerance`",
            ),
            (&format!("{ACT}[context]\nnow = nan"), "`context.now`"),
            (
                &VERIFY.replace("tolerance", "tolerance = 1.0\ntolerances"),
                "there is no `verify.tolerances`",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}\n{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,200}") {
            let _ = parse(&text);
            let _ = parse(&format!("{ACT}{text}"));
        }
    }
}
