//! One call of a plugin on a server: within its grants, its turn and its time; recorded, counted and kept.

use std::sync::Arc;
use std::time::Duration;

use ::plugins::call::{Answer, Context, Outcome, Request};
use ::plugins::contract;
use ::plugins::engine::Pace;
use ::plugins::failure::{Code, Failure};
use ::plugins::lifecycle::State;
use ::plugins::recording::{Recorder, Recording};
use anyhow::Context as _;
use tracing::warn;
use workflows::model::PluginUse;

use super::doors::CallDoors;
use super::shop::{Member, NotReady, Plugins, Ready};
use crate::store::plugin_calls::{self, NewCall};
use crate::store::{self, StoreError, plugin_memory, plugin_settings, plugins};

/// How often a call is run anew because what it remembers was changed meanwhile.
const CONFLICTS: u32 = 4;
/// How often what came of a call is recorded anew where the database failed for now.
const RECORDINGS: u32 = 4;
/// The longest wait before a call is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A question to a plugin.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Whom it is put to.
    pub member: &'a Member,
    /// Who asks and about what, for whoever looks at the call later: `score fan-r01-01`.
    pub purpose: &'a str,
    /// What is asked.
    pub request: Request,
    /// The moment it is about.
    pub now_ms: i64,
    /// Where all randomness starts from.
    pub seed: u32,
}

/// What a plugin answered, and who it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What it said.
    pub answer: Answer,
    /// Which plugin, and in which call.
    pub by: PluginUse,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// It cannot be called.
    #[error("`{plugin}` cannot be called")]
    NotReady {
        /// Which plugin.
        plugin: String,
        /// Why not.
        #[source]
        source: NotReady,
    },
    /// It served when the asker looked, and does so no more.
    #[error("`{plugin}` {version} is not asked any more")]
    SetAside {
        /// Which plugin.
        plugin: String,
        /// Its version.
        version: String,
    },
    /// It failed, or would not answer.
    #[error("`{plugin}` {version} ({}): {failure}", failure.code.name())]
    Failed {
        /// Which plugin.
        plugin: String,
        /// Its version.
        version: String,
        /// What happened.
        failure: Box<Failure>,
    },
    /// The call could not be recorded.
    #[error("a plugin's call could not be kept")]
    Store(#[from] StoreError),
    /// The call itself could not be made.
    #[error("a plugin's call could not be made: {0:#}")]
    Trouble(#[from] anyhow::Error),
}

/// What becomes of a call that has ended.
enum Kept {
    Told(Box<Told>),
    Failed(Box<Failure>),
    /// What it remembers was changed meanwhile.
    Conflict,
}

impl Plugins {
    /// Puts a question to a plugin, as often as its crash policy says, and answers what came of it. What the plugin
    /// remembers is kept with it. One that is only compared is asked once, and what it writes is not kept: its memory is
    /// that of the version that serves.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`].
    pub async fn ask(&self, question: Question<'_>) -> Result<Told, NoAnswer> {
        // A panel is asked for as long as a tick takes; meanwhile a version may have been set aside, or a grant withdrawn.
        let db = &self.db().read;
        let member = &Member {
            row: plugins::by_id(db, &question.member.row.id).await?,
            manifest: question.member.manifest.clone(),
            settings: plugin_settings::get(db, &question.member.row.plugin).await?,
        };
        let question = &Question { member, ..question };
        let Member {
            row,
            manifest,
            settings,
        } = member;
        let stands = row.stands();
        if !matches!(stands, State::Shadow | State::Canary { .. } | State::Active) {
            return Err(NoAnswer::SetAside {
                plugin: row.plugin.clone(),
                version: row.version.clone(),
            });
        }
        let most = match stands {
            State::Shadow => 1,
            _ => settings.crash_policy.tries,
        };
        let ready = self.ready(&row.digest, manifest, Pace::Timed).await;
        let ready = ready.map_err(|source| NoAnswer::NotReady {
            plugin: row.plugin.clone(),
            source,
        })?;
        let (mut tries, mut conflicts) = (1, 0);
        loop {
            let (outcome, recording) = self.call(&ready, question).await?;
            let kept = self.recorded(question, &outcome, recording.as_deref());
            match kept.await? {
                Kept::Told(told) => return Ok(*told),
                Kept::Conflict if conflicts < CONFLICTS => conflicts += 1,
                Kept::Conflict => {
                    let why = "what it remembers is written by too many calls at once";
                    return Err(failed(question, Box::new(unavailable(&outcome, why))));
                }
                Kept::Failed(failure) => {
                    if !failure.code.retryable() || tries >= most {
                        return Err(failed(question, failure));
                    }
                    tokio::time::sleep(pause(&failure, tries)).await;
                    tries += 1;
                }
            }
        }
    }

    async fn call(
        &self,
        ready: &Ready,
        question: &Question<'_>,
    ) -> anyhow::Result<(Outcome, Option<Vec<u8>>)> {
        let turns = ready.turns.clone();
        let turn = turns.acquire_owned().await.context("no turn is left")?;
        let member = question.member;
        let grants = member.grants();
        let plugin = ready.plugin.reaching(&grants).held_to(&ready.schemas);
        let config = serde_json::to_string(&member.settings.config)?;
        let context = Context {
            config,
            now_ms: question.now_ms as f64,
            seed: question.seed,
        };
        let doors = Arc::new(CallDoors::new(self.clone(), &member.row.plugin));
        let most = usize::try_from(self.settings().recording_kib)? << 10;
        let (request, digest) = (question.request.clone(), member.row.digest.clone());
        let limits = member.manifest.limits.clone();
        let called = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let recorder = Arc::new(Recorder::while_it_fits(doors, most));
            let outcome = plugin.call(&request, &context, recorder.clone());
            let recording = recorder.take().map(|told| Recording {
                plugin: digest,
                contract: contract::VERSION.to_owned(),
                pace: Pace::Timed,
                request,
                context,
                limits,
                grants,
                told,
                outcome: outcome.clone(),
            });
            let bytes = recording.map(|recording| recording.to_bytes());
            (outcome, bytes.filter(|bytes| bytes.len() <= most))
        });
        called.await.context("a plugin's call panicked")
    }

    /// As [`Self::keep`], and where the database failed for now, once more: nothing of it was kept.
    async fn recorded(
        &self,
        question: &Question<'_>,
        outcome: &Outcome,
        recording: Option<&[u8]>,
    ) -> Result<Kept, StoreError> {
        let mut tries = 1;
        loop {
            match self.keep(question, outcome, recording).await {
                Err(StoreError::Database(error))
                    if tries < RECORDINGS && store::database::is_passing(&error) =>
                {
                    warn!(error = %error, "failed to record a plugin's call; trying again");
                    tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// Keeps what a call wrote, how it went, and what that makes of the plugin: together, or nothing of it.
    async fn keep(
        &self,
        question: &Question<'_>,
        outcome: &Outcome,
        recording: Option<&[u8]>,
    ) -> Result<Kept, StoreError> {
        let Member { row, settings, .. } = question.member;
        let (now, db) = (self.now(), &self.db().write);
        let blame = match &outcome.result {
            Ok(_) => ::plugins::lifecycle::Blame::None,
            Err(failure) => failure.code.blame(),
        };
        let tx = store::begin(db).await?;
        // First of all: it locks the version's row, to which the call's row refers, and who has it in part waits for
        // whoever else does.
        let policy = settings.crash_policy;
        let set_aside = plugins::count(&tx, now, &row.id, blame, policy).await?;
        if row.stands() != State::Shadow
            && !plugin_memory::keep(&tx, &row.plugin, &outcome.state).await?
        {
            tx.rollback().await?;
            return Ok(Kept::Conflict);
        }
        let new = NewCall {
            version_id: &row.id,
            purpose: question.purpose,
            outcome,
            recording,
        };
        let id = plugin_calls::insert(&tx, now, &new, self.settings().keep_calls).await?;
        tx.commit().await?;
        if set_aside {
            let (plugin, version) = (&row.plugin, &row.version);
            warn!(plugin = %plugin, "plugin `{plugin}` {version} failed too often and is in quarantine");
            self.forget(&row.digest);
        }
        Ok(match &outcome.result {
            Ok(answer) => Kept::Told(Box::new(Told {
                answer: answer.clone(),
                by: by(question.member, id, outcome),
            })),
            Err(failure) => Kept::Failed(failure.clone()),
        })
    }
}

fn by(member: &Member, call: String, outcome: &Outcome) -> PluginUse {
    let used = outcome.used.capabilities.iter();
    PluginUse {
        name: member.row.plugin.clone(),
        version: member.row.version.clone(),
        digest: member.row.digest.clone(),
        interface: format!("{}@{}", ::plugins::world::PACKAGE, contract::VERSION),
        call,
        fuel: outcome.used.fuel,
        grants: used
            .map(|capability| capability.name().to_owned())
            .collect(),
    }
}

fn failed(question: &Question<'_>, failure: Box<Failure>) -> NoAnswer {
    NoAnswer::Failed {
        plugin: question.member.row.plugin.clone(),
        version: question.member.row.version.clone(),
        failure,
    }
}

fn unavailable(outcome: &Outcome, why: &str) -> Failure {
    Failure {
        code: Code::Unavailable,
        message: why.to_owned(),
        function: String::new(),
        frames: Vec::new(),
        log: outcome.log.tail(),
        limit: None,
        hint: None,
        after_ms: None,
    }
}

/// As long as the plugin says, or longer each time.
fn pause(failure: &Failure, tries: u32) -> Duration {
    let usual = Duration::from_millis(100 << tries.min(6));
    let said = failure
        .after_ms
        .and_then(|ms| Duration::try_from_secs_f64(ms / 1_000.0).ok());
    said.unwrap_or(usual).min(LONGEST_PAUSE)
}
