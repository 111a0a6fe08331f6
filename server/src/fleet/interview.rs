//! The revisions of the fleet's policy on a thread of their own, which is asked about one asset after the other.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::time::timeout;
use workflows::policy::{Asked, DECISION_TIME, Facts, Panel, PolicyError, Seat};
use workflows::script::{Limits, Script, StopFlag, StopReason, on_big_stack};

use crate::app::App;
use crate::store::StoreError;
use crate::store::scripts::{Revision, Scripts, Standing};

/// How often somebody looks whether a revision takes longer about one asset than a decision may.
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
                let mut panel = panel(&standing, &limits, || begun.begin());
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
        self.patience.give_up();
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
        // Nobody looks any more, so whoever would begin now is stopped at once.
        if self.stop.raised() == Some(StopReason::GivenUp) {
            return;
        }
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

    fn give_up(&self) {
        // Under the lock and in place of any other reason, so that the next one to begin does not lower it.
        let _since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        self.stop.lower();
        self.stop.raise(StopReason::GivenUp);
    }
}

/// The revisions, ready to be asked; `next` is called before the constants of each are worked out.
fn panel(standing: &Standing, limits: &Limits, next: impl Fn()) -> Panel {
    let seat = |revision: &Revision| {
        next();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_given_up_is_stopped_whoever_begins_next() {
        let patience = Patience::default();
        patience.begin();
        patience.stop.raise(StopReason::UsedUp);
        patience.begin();
        assert_eq!(patience.stop.raised(), None, "all the time again");
        patience.stop.raise(StopReason::UsedUp);
        patience.give_up();
        patience.begin();
        assert_eq!(patience.stop.raised(), Some(StopReason::GivenUp));
    }
}
