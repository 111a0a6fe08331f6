//! The revisions of the fleet's policy on a thread of their own, which is asked about one asset after the other.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::time::timeout;
use workflows::policy::{Asked, Facts, Panel, PolicyError, Seat};
use workflows::script::{Limits, Script, StopFlag, StopReason, on_big_stack};

use crate::app::App;
use crate::store::StoreError;
use crate::store::scripts::{Revision, Scripts, Standing};

/// How long one revision may think about one asset. Operations bound it first, unless each of them copies a lot.
const DECISION_TIME: Duration = Duration::from_secs(1);
/// How often somebody looks whether it takes longer.
const LOOK_EVERY: Duration = Duration::from_millis(100);

type Question = (Facts, oneshot::Sender<(Asked, Duration)>);

/// The revisions that have a say, compiled once and asked until this is dropped.
pub(super) struct Interview {
    questions: mpsc::Sender<Question>,
    patience: Arc<Patience>,
}

impl Interview {
    /// Begins with the revisions that stand at the moment.
    pub(super) async fn open(app: &App) -> Result<Self, StoreError> {
        let policy = &app.config.fleet.policy;
        let standing = Scripts::Policies.standing(&app.db.read, policy).await?;
        let (questions, asked) = mpsc::channel::<Question>();
        let patience = Arc::new(Patience::default());
        let begun = patience.clone();
        tokio::task::spawn_blocking(move || {
            let told = on_big_stack(move || {
                let limits = Limits::decision().stopped_by(begun.stop.clone());
                let mut panel = panel(&standing, &limits);
                while let Ok((facts, answer)) = asked.recv() {
                    let began = Instant::now();
                    let told = panel.ask(&facts, || begun.begin());
                    // Whoever asked may have gone meanwhile.
                    let _ = answer.send((told, began.elapsed()));
                }
            });
            if let Err(panic) = told {
                tracing::error!(
                    error = &panic as &dyn std::error::Error,
                    "a policy panicked"
                );
            }
        });
        Ok(Self {
            questions,
            patience,
        })
    }

    /// Asks about one asset; answers how long it took, too.
    pub(super) async fn ask(&self, facts: Facts) -> anyhow::Result<(Asked, Duration)> {
        let (answer, mut answered) = oneshot::channel();
        let gone = "the policy's thread has ended";
        self.questions.send((facts, answer)).ok().context(gone)?;
        loop {
            match timeout(LOOK_EVERY, &mut answered).await {
                Ok(answered) => return answered.context(gone),
                Err(_) => self.patience.look(),
            }
        }
    }
}

impl Drop for Interview {
    fn drop(&mut self) {
        self.patience.stop.raise(StopReason::GivenUp);
    }
}

/// Stops a revision that thinks for too long; the next one has all the time again.
#[derive(Default)]
struct Patience {
    stop: StopFlag,
    since: Mutex<Option<Instant>>,
}

impl Patience {
    fn begin(&self) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = Some(Instant::now());
        self.stop.lower();
    }

    fn look(&self) {
        // Raised under the lock, so that it cannot hit the one that has just begun.
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some_and(|since| since.elapsed() > DECISION_TIME) {
            self.stop.raise(StopReason::UsedUp);
        }
    }
}

fn panel(standing: &Standing, limits: &Limits) -> Panel {
    let seat = |revision: &Revision| {
        let script = Script::compile(&revision.name, &revision.source);
        Seat::new(&revision.digest, script.map_err(PolicyError::from), limits)
    };
    let canary = standing.canary.as_ref();
    Panel {
        active: seat(&standing.active),
        last_good: standing.last_good.as_ref().map(seat),
        canary: canary.map(|revision| (seat(revision), revision.percent.unwrap_or(0))),
        shadow: standing.shadow.as_ref().map(seat),
    }
}
