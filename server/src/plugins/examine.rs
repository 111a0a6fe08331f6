//! What becomes of an uploaded plugin: it is compiled in a child process, meets the conformance kit, and is compared from
//! then on, or set aside with the reason.
//!
//! A version is in the hands of one process at a time, fenced like a step: if that process dies, another begins anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::plugins::check::{self, Report};
use ::plugins::engine::{Pace, Plugin};
use ::plugins::lifecycle::Event;
use ::plugins::manifest::Manifest;
use anyhow::Context;
use tracing::info;

use super::shop::{NotReady, Plugins};
use crate::store::plugins::Examined;
use crate::store::{self, StoreError, plugins};

/// How long a version stays with a process that says nothing.
const LEASE_MS: i64 = 15_000;
/// From one word of that process to the next.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// What could not be examined for want of a disk or a store is not tried again sooner.
const NOT_SOONER_MS: i64 = 10_000;
/// A plugin that has failed so many checks is asked no more of them: each of some it may use a minute for.
const ENOUGH: usize = 5;

/// Compiles and checks the version that has waited longest; false if none waits.
///
/// # Errors
///
/// When the database or the artifact store does not answer; the version is then taken again.
pub async fn examine_next(plugins: &Plugins) -> anyhow::Result<bool> {
    let (db, now) = (&plugins.db().write, plugins.now());
    // Asked every second by every process: nobody's way is barred for it.
    if !plugins::any_to_examine(&plugins.db().read, now).await? {
        return Ok(false);
    }
    let tx = store::begin(db).await?;
    let taken = plugins::take(&tx, now, LEASE_MS).await?;
    tx.commit().await?;
    let Some(taken) = taken else {
        return Ok(false);
    };
    let lost = Arc::new(AtomicBool::new(false));
    let beating = tokio::spawn(keep_holding(plugins.clone(), taken.clone(), lost.clone()));
    let examined = examine(plugins, &taken, &lost).await;
    beating.abort();
    match examined {
        Err(error) if lost.load(Ordering::Relaxed) || is_stale(&error) => {
            info!(plugin = %taken.row.plugin, "somebody else has `{}` {} in hand", taken.row.plugin, taken.row.version);
            Ok(true)
        }
        Err(error) => {
            plugins::put_back(db, plugins.now() + NOT_SOONER_MS, &taken).await?;
            Err(error)
        }
        Ok(()) => Ok(true),
    }
}

fn is_stale(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<StoreError>(),
        Some(StoreError::Stale { .. })
    )
}

/// Says again and again that the version is in hand, until it is not.
async fn keep_holding(plugins: Plugins, taken: Examined, lost: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let until = plugins.now() + LEASE_MS;
        if let Err(StoreError::Stale { .. }) =
            plugins::hold(&plugins.db().heartbeat, until, &taken).await
        {
            lost.store(true, Ordering::Relaxed);
            return;
        }
    }
}

async fn examine(
    plugins: &Plugins,
    taken: &Examined,
    lost: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let row = &taken.row;
    let manifest = match row.manifest() {
        Ok(manifest) => manifest,
        Err(error) => {
            let reason = format!("plugin.manifest: {error}");
            return end(plugins, taken, &Event::Refused { reason }, None).await;
        }
    };
    // Whatever was in the way before, it is tried now.
    plugins.forget(&row.digest);
    info!(plugin = %row.plugin, "compiling and checking `{}` {}", row.plugin, row.version);
    let mut ready = Vec::new();
    for pace in [Pace::Timed, Pace::Counted] {
        match plugins.ready(&row.digest, &manifest, pace).await {
            Ok(one) => ready.push(one.plugin),
            Err(NotReady::Compile(error)) if error.code().is_some() => {
                let reason = format!("{}: {error}", error.code().unwrap_or_default());
                return end(plugins, taken, &Event::Refused { reason }, None).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    plugins::compiled(&plugins.db().write, taken).await?;
    let report = checked(ready, manifest, lost.clone()).await;
    // Whoever asks it loads it again, at one pace of the two.
    plugins.forget(&row.digest);
    let Some(report) = report? else {
        return Ok(());
    };
    let event = match report.all_passed() {
        true => Event::Passed,
        false => Event::Refused {
            reason: in_short(&report),
        },
    };
    let told = serde_json::to_string(&report).context("the report of the checks")?;
    end(plugins, taken, &event, Some(&told)).await
}

/// What the conformance kit says; none if the version has passed to somebody else meanwhile.
async fn checked(
    ready: Vec<Plugin>,
    manifest: Manifest,
    lost: Arc<AtomicBool>,
) -> anyhow::Result<Option<Report>> {
    let checking = tokio::task::spawn_blocking(move || {
        let [timed, counted] = ready.as_slice() else {
            return None;
        };
        let mut failed = 0;
        let report = check::run(timed, counted, &manifest, &mut |verdict, _| {
            failed += usize::from(!verdict.passed);
            failed < ENOUGH && !lost.load(Ordering::Relaxed)
        });
        (!lost.load(Ordering::Relaxed)).then_some(report)
    });
    checking.await.context("checking a plugin panicked")
}

fn in_short(report: &Report) -> String {
    let failed: Vec<&str> = (report.verdicts.iter())
        .filter(|verdict| !verdict.passed)
        .map(|verdict| verdict.name.as_str())
        .collect();
    let count = failed.len();
    let named: Vec<String> = failed.iter().map(|name| format!("`{name}`")).collect();
    let rest = match count >= ENOUGH {
        true => "; the rest was left out",
        false => "",
    };
    format!(
        "plugin.checks-failed: {count} checks failed: {}{rest}",
        named.join(", ")
    )
}

async fn end(
    plugins: &Plugins,
    taken: &Examined,
    event: &Event,
    report: Option<&str>,
) -> anyhow::Result<()> {
    let tx = store::begin(&plugins.db().write).await?;
    plugins::examined(&tx, plugins.now(), taken, event, report).await?;
    tx.commit().await?;
    let (row, refused) = (&taken.row, matches!(event, Event::Refused { .. }));
    let how = if refused { "is refused" } else { "passed" };
    info!(plugin = %row.plugin, "`{}` {} {how}", row.plugin, row.version);
    Ok(())
}
