//! Version 1 of the contract: bindings, what guests may import, and one file per world.

mod action;
mod asked;
mod bindings;
mod designer;
mod detector;
mod ended;
mod guest;
mod imports;
mod judge;
mod linker;
mod predictor;
mod request;
mod scheduler;
mod verifier;
mod wasi;

pub(crate) use asked::{check, given};
pub use bindings::{
    act, artifacts, design, detect, host, http, predict, schedule, state, telemetry, types, verify,
};
pub(crate) use ended::{busy, ended, refused};
pub(crate) use guest::{Budget, Guest};
pub(crate) use linker::Bound;
pub(crate) use wasi::has as has_wasi;
