//! Forewright plugins in Rust.
//!
//! A plugin plays one role: it implements the role's trait and names itself to the role's macro.
//!
//! ```
//! use plugin_sdk::info;
//! use plugin_sdk::predict::{Outlook, PluginError, Request};
//!
//! struct Silent;
//!
//! impl plugin_sdk::Predictor for Silent {
//!     fn predict(request: Request) -> Result<Vec<Outlook>, PluginError> {
//!         info!("judges {} assets", request.histories.len());
//!         let declined = |_| Outlook::Declined("not yet".to_owned());
//!         Ok(request.histories.iter().map(declined).collect())
//!     }
//! }
//!
//! plugin_sdk::predictor!(Silent);
//! ```
//!
//! Times are milliseconds since 1970, lengths millimetres, forces newtons, masses grams, stresses megapascals. A call is
//! given the same each time it is run: the only clock is [`now`], and all randomness starts from [`seed`].
//!
//! The modules [`artifacts`], [`telemetry`], [`state`] and [`http`] are capabilities. What a plugin calls of them becomes
//! an import of it, and has to be asked for in its `plugin.toml`; what it does not call leaves no trace.
//!
//! Outside of WebAssembly, in unit tests, [`host`] is played by stand-ins and the log goes to standard error; there are
//! no capabilities there, and calling one panics.

mod bindings;
mod capabilities;
pub mod host;
mod worlds;

pub use bindings::forewright::plugin::types;
pub use capabilities::{artifacts, http, state, telemetry};
pub use host::{Level, config, now, progress, seed};
pub use worlds::{act, design, detect, predict, schedule, verify};

pub use act::Action;
pub use design::Designer;
pub use detect::Detector;
pub use predict::Predictor;
pub use schedule::Scheduler;
pub use verify::Verifier;

#[doc(hidden)]
pub use worlds::Export;
