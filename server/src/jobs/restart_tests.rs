//! Runs that are begun again, pinned and moved to another revision, on both databases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use workflows::host::Host;
use workflows::run::Position;
use workflows::steps::{Outcome, Registry, Step, StepError};

use super::workers::tests::{
    Build, Double, Working, complete_build, context, count, ended, result, until, waiting,
    work_with,
};
use crate::store::database::number;
use crate::store::dead_letters::{self, DeadLetters};
use crate::store::restarts::{self, Restart};
use crate::store::runs::run;
use crate::store::scripts::Scripts;
use crate::store::{self, StoreError, journal, runs, steps, values};
use crate::testing::{Fresh, on_both};

on_both!(
    a_dead_letter_is_redriven_and_nothing_is_made_twice,
    a_run_is_begun_again_from_any_of_its_calls,
    what_was_open_beside_the_failed_step_is_asked_again,
    a_run_that_diverged_is_begun_again_and_ends,
    a_run_that_diverged_goes_on_with_another_revision,
    open_runs_move_to_a_revision_that_agrees_with_their_journal,
    only_what_came_to_nothing_is_begun_again,
);

/// Fails until it is healed; counts how often it ran.
struct Flaky {
    broken: Arc<AtomicU32>,
    ran: Arc<AtomicU32>,
}

impl Step for Flaky {
    const KIND: &'static str = "flaky";
    type Input = Value;
    type Output = Value;

    fn run(&self, _: Value, host: &dyn Host) -> Result<Outcome<Value>, StepError> {
        self.ran.fetch_add(1, Ordering::SeqCst);
        host.put_artifact("flake", "text/plain", b"flake")?;
        match self.broken.load(Ordering::SeqCst) {
            0 => Ok(Outcome::Done(json!({ "healed": true }))),
            _ => Err(StepError::failed("broken", "it is broken")),
        }
    }
}

struct Hall {
    working: Working,
    broken: Arc<AtomicU32>,
    ran: Arc<AtomicU32>,
}

fn hall(f: &Fresh) -> Hall {
    let (broken, ran) = (Arc::new(AtomicU32::new(1)), Arc::<AtomicU32>::default());
    let flaky = Flaky {
        broken: broken.clone(),
        ran: ran.clone(),
    };
    let mut context = context(f);
    let registry = Registry::default().register(flaky);
    context.registry = Arc::new(registry.register(Build).register(Double));
    Hall {
        working: work_with(context),
        broken,
        ran,
    }
}

impl Hall {
    fn heal(&self) {
        self.broken.store(0, Ordering::SeqCst);
    }
}

async fn again(
    f: &Fresh,
    id: &str,
    from: Option<&str>,
    revision: Option<&str>,
) -> Result<run::Model, StoreError> {
    let from: Option<Position> = from.map(|p| p.parse().unwrap());
    let how = Restart {
        from: from.as_ref(),
        revision,
        actor: "op",
    };
    let tx = store::begin(&f.db.write).await?;
    let made = restarts::restart(&tx, f.now(), id, &how).await?;
    tx.commit().await?;
    Ok(made)
}

async fn letters(f: &Fresh, which: DeadLetters<'_>) -> Vec<dead_letters::DeadLetter> {
    let page = store::Page::ALL;
    dead_letters::list(&f.db.read, which, page).await.unwrap()
}

async fn a_dead_letter_is_redriven_and_nothing_is_made_twice(f: Fresh) {
    let hall = hall(&f);
    let source = r#"fn run(event) {
        on_failure(|| step("double", #{ n: 21 }));
        let scan = step("build", ());
        let flaky = step("flaky", #{ scan: scan });
        [scan, flaky.healed, step("double", #{ n: 1 }).n]
    }"#;
    let id = f.start(source, Value::Null).await;
    until(|| async { (count(&f, "build").await == 1).then_some(()) }).await;
    complete_build(&f).await;
    hall.working.queue.notify_local();
    let failed = ended(&f, &id).await;
    assert_eq!(
        (&*failed.state, failed.failed_position.as_deref()),
        ("failed", Some("3"))
    );
    let dead = letters(&f, DeadLetters::default()).await;
    assert_eq!(dead.len(), 1);
    assert_eq!((&*dead[0].step.kind, &*dead[0].run.id), ("flaky", &*id));
    hall.heal();
    let redrive = || async {
        let tx = store::begin(&f.db.write).await.unwrap();
        let run = dead_letters::redrive(&tx, f.now(), "op", &dead[0].step.id).await;
        tx.commit().await.unwrap();
        run.unwrap()
    };
    let new = redrive().await;
    hall.working.queue.notify_local();
    let run = ended(&f, &new).await;
    assert_eq!(result(&run), json!(["sha256:5c", true, 2]));
    assert_eq!(redrive().await, new, "a dead letter is redriven once");
    assert_eq!(run.restarted_from.as_deref(), Some(&*id));
    assert_eq!(run.restarted_position.as_deref(), Some("3"));
    let sql = "SELECT CAST(SUM(physical_starts) AS BIGINT) AS n FROM build";
    assert_eq!(number(&f.db.read, sql, values![]).await.unwrap(), Some(1));
    assert_eq!(count(&f, "build").await, 1);
    // The new run shows the step it did not do, and the journal of the old one is as it was.
    let rows = steps::of_run(&f.db.read, &new).await.unwrap();
    assert_eq!(
        rows.iter()
            .filter(|s| s.kind == "build" && s.state == "done")
            .count(),
        1
    );
    let old = journal::of_run(&f.db.read, &id).await.unwrap();
    assert_eq!(old.iter().filter(|e| e.undo).count(), 1);
    let waiting = DeadLetters {
        redriven: Some(false),
        ..DeadLetters::default()
    };
    assert_eq!(letters(&f, waiting).await.len(), 0);
    for (kind, found) in [("flaky", 1), ("build", 0)] {
        let which = DeadLetters {
            kind: Some(kind),
            workflow: Some("test"),
            redriven: Some(true),
        };
        assert_eq!(letters(&f, which).await.len(), found, "{kind}");
    }
    hall.working.stop().await;
    assert_eq!(store::audit::first_broken(&f.db.read).await.unwrap(), None);
}

async fn a_run_is_begun_again_from_any_of_its_calls(f: Fresh) {
    let hall = hall(&f);
    let source = r#"fn run(event) {
        let one = step("flaky", #{ n: 1 });
        let luck = random();
        let two = step("flaky", #{ n: 2 });
        fail("never enough");
    }"#;
    hall.heal();
    let id = f.start(source, Value::Null).await;
    assert_eq!(ended(&f, &id).await.state, "failed");
    assert_eq!(hall.ran.load(Ordering::SeqCst), 2);
    // From what it was told to the end nothing is done again; from the third call one step is.
    for (from, ran) in [(None, 2), (Some("3"), 3), (Some("2"), 4), (Some("1"), 6)] {
        let new = again(&f, &id, from, None).await.unwrap();
        hall.working.queue.notify_local();
        assert_eq!(ended(&f, &new.id).await.state, "failed");
        assert_eq!(hall.ran.load(Ordering::SeqCst), ran, "from {from:?}");
        let f = &f;
        let luck = |id: &str| {
            let id = id.to_owned();
            async move {
                let told = journal::of_run(&f.db.read, &id).await.unwrap();
                told.into_iter()
                    .find(|e| e.kind == "random")
                    .unwrap()
                    .outcome
            }
        };
        assert_eq!(luck(&id).await, luck(&new.id).await, "the same seed");
        let made = store::artifacts::of_run(&f.db.read, &new.id).await.unwrap();
        assert_eq!(made.len(), 2, "what was made before is shown here too");
    }
    let unknown = again(&f, &id, Some("9"), None).await;
    assert!(
        matches!(unknown, Err(StoreError::Refused { code, .. }) if code == "invalid_position"),
        "{unknown:?}"
    );
    hall.working.stop().await;
}

async fn what_was_open_beside_the_failed_step_is_asked_again(f: Fresh) {
    let hall = hall(&f);
    let source = r#"fn run(event) {
        let yes = start("build", ());
        let two = step("double", #{ n: 1 });
        step("flaky", #{ n: two.n });
        wait(yes)
    }"#;
    let id = f.start(source, Value::Null).await;
    assert_eq!(ended(&f, &id).await.state, "failed");
    hall.heal();
    let new = again(&f, &id, None, None).await.unwrap();
    hall.working.queue.notify_local();
    // The build of the old run was called off with it; the new one orders its own and does `double` not again.
    until(|| async { (count(&f, "build WHERE state = 'waiting'").await == 1).then_some(()) }).await;
    complete_build(&f).await;
    hall.working.queue.notify_local();
    assert_eq!(result(&ended(&f, &new.id).await), json!("sha256:5c"));
    assert_eq!(
        count(
            &f,
            "event WHERE name = 'step.done' AND payload LIKE '%double%'"
        )
        .await,
        1
    );
    hall.working.stop().await;
}

const BEFORE: &str =
    r#"fn run(event) { step("double", #{ n: 1 }); approval("operator", (), "24h"); 1 }"#;

/// A run that waits for its approval, and the digest of another revision.
async fn waits(f: &Fresh, other: &str) -> (String, String, String) {
    let id = f.start(BEFORE, Value::Null).await;
    let run = until(|| async {
        let asked = count(f, &format!("approval WHERE run_id = '{id}'")).await == 1;
        asked.then_some(())
    });
    run.await;
    let revision = waiting(f, &id).await.revision;
    let db = &f.db.write;
    let stored = Scripts::Workflows
        .activate(db, f.now(), "test", other)
        .await;
    (id, revision, stored.unwrap().digest)
}

async fn diverges(f: &Fresh, id: &str) {
    let sql = "UPDATE journal SET kind = 'flaky' WHERE run_id = $1 AND position = '1'";
    store::database::execute(&f.db.write, sql, values![id])
        .await
        .unwrap();
    steps::wake(&f.db.write, f.now(), id, steps::ADVANCE)
        .await
        .unwrap();
    until(|| async {
        let run = runs::get(&f.db.read, id).await.unwrap();
        (run.state == "diverged").then_some(())
    })
    .await;
}

async fn a_run_that_diverged_is_begun_again_and_ends(f: Fresh) {
    let hall = hall(&f);
    let other = r#"fn run(event) { step("double", #{ n: 2 }).n }"#;
    let (id, _, digest) = waits(&f, other).await;
    diverges(&f, &id).await;
    let new = again(&f, &id, None, Some(&digest)).await.unwrap();
    hall.working.queue.notify_local();
    assert_eq!(result(&ended(&f, &new.id).await), json!(4));
    assert_eq!(new.restarted_position.as_deref(), Some("1"));
    assert_eq!(runs::get(&f.db.read, &id).await.unwrap().state, "cancelled");
    assert_eq!(count(&f, "approval WHERE state = 'open'").await, 0);
    hall.working.stop().await;
}

async fn a_run_that_diverged_goes_on_with_another_revision(f: Fresh) {
    let hall = hall(&f);
    hall.heal();
    let other = r#"fn run(event) { step("flaky", #{ n: 1 }); 2 }"#;
    let (id, first, digest) = waits(&f, other).await;
    let pin = |to: String| {
        let (f, id) = (&f, id.clone());
        async move {
            let tx = store::begin(&f.db.write).await.unwrap();
            let pinned = runs::pin(&tx, f.now(), "op", &id, &to).await;
            tx.commit().await.unwrap();
            pinned
        }
    };
    let early = pin(digest.clone()).await;
    assert!(
        matches!(early, Err(StoreError::Refused { code, .. }) if code == "run_not_diverged"),
        "{early:?}"
    );
    diverges(&f, &id).await;
    pin(first).await.unwrap();
    hall.working.queue.notify_local();
    let still = until(|| async {
        let run = runs::get(&f.db.read, &id).await.unwrap();
        (run.state == "diverged").then_some(run)
    })
    .await;
    assert!(still.failure.is_some(), "both sides are shown again");
    // Its approval is in the journal, which this script does not ask for either; it is taken out by hand.
    let sql = "DELETE FROM journal WHERE run_id = $1 AND kind = 'approval'";
    store::database::execute(&f.db.write, sql, values![id.as_str()])
        .await
        .unwrap();
    pin(digest).await.unwrap();
    hall.working.queue.notify_local();
    assert_eq!(result(&ended(&f, &id).await), json!(2));
    hall.working.stop().await;
}

async fn open_runs_move_to_a_revision_that_agrees_with_their_journal(f: Fresh) {
    let hall = hall(&f);
    let other =
        r#"fn run(event) { step("double", #{ n: 1 }); approval("operator", (), "24h"); 7 }"#;
    let (id, from, to) = waits(&f, other).await;
    let open = runs::open_of(&f.db.read, ("test", &from), store::Page::ALL)
        .await
        .unwrap();
    assert_eq!(open.len(), 1);
    let seen = until(|| async { runs::seen(&f.db.read, &id).await.unwrap() }).await;
    let migrate = || async {
        let tx = store::begin(&f.db.write).await.unwrap();
        let moved = runs::migrate(&tx, f.now(), "op", &open[0], seen, &to).await;
        tx.commit().await.unwrap();
        moved.unwrap()
    };
    assert!(migrate().await);
    assert!(!migrate().await, "it has moved on since it was looked at");
    hall.working.queue.notify_local();
    let asked = store::approvals::list(&f.db.read, Some("open"), store::Page::ALL).await;
    let yes = store::approvals::Answer {
        by: "ada",
        answer: true,
        comment: None,
    };
    let tx = store::begin(&f.db.write).await.unwrap();
    store::approvals::answer(&tx, f.now(), &asked.unwrap()[0].id, yes)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    hall.working.queue.notify_local();
    let run = ended(&f, &id).await;
    assert_eq!((result(&run), run.revision), (json!(7), to.clone()));
    hall.working.stop().await;
}

async fn only_what_came_to_nothing_is_begun_again(f: Fresh) {
    let id = f.start("fn run(event) { 1 }", Value::Null).await;
    let refused = again(&f, &id, None, None).await;
    assert!(
        matches!(refused, Err(StoreError::Refused { code, .. }) if code == "run_not_restartable"),
        "{refused:?}"
    );
}
