//! What the host promises of a request; one that breaks it never reaches a plugin, which would be blamed for it.

use std::collections::BTreeSet;

use super::bindings::predict::History;
use super::bindings::types::{ArtifactRef, Series};
use super::bindings::{detect, predict, schedule};
use super::judge::{Judgement, rising};
use crate::call::Request;
use crate::schema::Schemas;

/// The longest input of an action, in bytes.
const LONGEST_INPUT: usize = 1 << 20;

/// The artifacts that a request names.
pub(crate) fn given(request: &Request) -> Vec<ArtifactRef> {
    match request {
        Request::Predict(request) => request.model.iter().cloned().collect(),
        Request::Design { task, .. } => task.source.iter().cloned().collect(),
        Request::Verify(request) => {
            let seen = request.observations.iter().map(|one| one.artifact.clone());
            seen.chain([request.expected.clone()]).collect()
        }
        Request::Detect(_) | Request::Schedule(_) | Request::Act { .. } => Vec::new(),
    }
}

/// Fine, or which promise is broken: one of the contract, or of the plugin's own schemas.
pub(crate) fn check(request: &Request, config: &str, schemas: &Schemas) -> Judgement {
    schemas.check_config(config)?;
    match request {
        Request::Predict(request) => predict(request),
        Request::Detect(request) => detect(request),
        Request::Schedule(request) => schedule(request),
        Request::Act { input, .. } if input.len() > LONGEST_INPUT => Err(format!(
            "the input has {} bytes; {LONGEST_INPUT} are the most",
            input.len()
        )),
        Request::Act { input, .. } => schemas.check_input(input),
        Request::Design { .. } | Request::Verify(_) => Ok(()),
    }
}

fn predict(request: &predict::Request) -> Judgement {
    rising("the horizons", request.horizons.iter().copied(), false)?;
    let kind = request.histories.first().map(|history| &history.asset.kind);
    for history in &request.histories {
        let told = of_history(history, kind);
        told.map_err(|why| format!("asset `{}`: {why}", history.asset.id))?;
    }
    Ok(())
}

fn of_history(history: &History, kind: Option<&String>) -> Judgement {
    if Some(&history.asset.kind) != kind {
        return Err("its kind is another than that of the first".to_owned());
    }
    sorted(
        "the metrics",
        history.columns.iter().map(|column| column.metric.as_str()),
    )?;
    let rows = history
        .columns
        .first()
        .map_or(0, |column| column.values.len());
    match history
        .columns
        .iter()
        .find(|column| column.values.len() != rows)
    {
        Some(column) => Err(format!(
            "`{}` has {} rows, others {rows}",
            column.metric,
            column.values.len()
        )),
        None => Ok(()),
    }
}

fn detect(request: &detect::Request) -> Judgement {
    sorted(
        "the metrics",
        request.series.iter().map(|series| series.metric.as_str()),
    )?;
    request.series.iter().try_for_each(of_series)
}

fn of_series(series: &Series) -> Judgement {
    let (times, values) = (series.times.len(), series.values.len());
    if times != values {
        return Err(format!(
            "`{}` has {times} times and {values} values",
            series.metric
        ));
    }
    rising(
        &format!("the times of `{}`", series.metric),
        series.times.iter().copied(),
        false,
    )
}

fn schedule(request: &schedule::Request) -> Judgement {
    let ids: Vec<&str> = request.tasks.iter().map(|task| task.id.as_str()).collect();
    if ids.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("the tasks are not in the order of their ids, or two are alike".to_owned());
    }
    let mut agreed = BTreeSet::new();
    for slot in &request.agreed {
        if ids.binary_search(&slot.task.as_str()).is_err() || !agreed.insert(&slot.task) {
            return Err(format!(
                "`{}` is agreed, and is no task, or is twice",
                slot.task
            ));
        }
    }
    Ok(())
}

fn sorted<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Judgement {
    let names: Vec<&str> = names.collect();
    if names.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err(format!("{what} are not sorted"));
    }
    Ok(())
}
