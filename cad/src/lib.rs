//! Everything about one physical part: design, prove, slice, inspect.

pub mod formats;
pub mod inspect;
pub mod mesh;
pub mod slice;
pub mod units;

/// Told the share done (0 to 1) of a long computation; its answer says whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(f64) -> std::ops::ControlFlow<()>;
