//! Plugins on a server: compiled, checked, kept at hand, called, and what stands behind what they reach for.
//!
//! * [`Plugins`] is what a process has of them: an engine that is made when the first is needed, and the code of those
//!   that were.
//! * [`examine`] compiles and checks what was uploaded, one version at a time over all processes.
//! * [`Question`] is one call: asked within its plugin's grants, recorded, counted, and kept.

mod ask;
mod doors;
pub mod examine;
#[cfg(test)]
pub(crate) mod guests;
mod http;
#[cfg(test)]
mod life_tests;
mod shop;

pub use ask::{NoAnswer, Question, Told};
pub use shop::{Member, NotReady, Plugins};
