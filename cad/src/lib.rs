//! Everything about one physical part: design, prove, slice, inspect.

pub mod formats;
pub mod inspect;
pub mod mesh;
pub mod slice;
pub mod units;
