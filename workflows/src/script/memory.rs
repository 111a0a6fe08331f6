//! Bounds what a running script holds altogether, which Rhai itself leaves to the size of each value.

use std::sync::Arc;

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, Map, Position};

use super::engine::Meter;

/// Uses of variables between two looks; what can be piled up in between is a few megabytes.
const LOOK_EVERY: u32 = 64;

/// Bytes one cell stands for.
const CELL_BYTES: usize = 16;

/// Has an engine stop scripts whose function at work holds more than `cells` values or pieces of text.
#[expect(
    deprecated,
    reason = "`on_var` is marked volatile, not deprecated; the version is pinned by the lock file"
)]
pub(super) fn bound(engine: &mut Engine, cells: usize, meter: Arc<Meter>) {
    engine.on_var(move |_, _, ctx| {
        if meter.use_one() % LOOK_EVERY != LOOK_EVERY - 1 {
            return Ok(None);
        }
        let mut left = cells;
        for (_, _, value) in ctx.scope().iter_raw() {
            if !take(value, &mut left) {
                let what = "all variables together".to_owned();
                return Err(EvalAltResult::ErrorDataTooLarge(what, Position::NONE).into());
            }
        }
        Ok(None)
    });
}

/// Takes what a value holds off `left`; `false` once nothing is left.
fn take(value: &Dynamic, left: &mut usize) -> bool {
    let own = match value.read_lock::<ImmutableString>() {
        Some(text) => 1 + text.len() / CELL_BYTES,
        None => 1,
    };
    let Some(rest) = left.checked_sub(own) else {
        return false;
    };
    *left = rest;
    if let Some(items) = value.read_lock::<Array>() {
        return items.iter().all(|item| take(item, left));
    }
    if let Some(fields) = value.read_lock::<Map>() {
        return fields.values().all(|field| take(field, left));
    }
    true
}
