//! Everything about one physical part: design, prove, slice, inspect.

pub mod formats;
pub mod inspect;
pub mod mesh;
pub mod slice;
pub mod units;

/// Told the share of a long computation that is done; `Break` asks it to stop.
pub type Progress<'a> = &'a mut dyn FnMut(f64) -> std::ops::ControlFlow<()>;
