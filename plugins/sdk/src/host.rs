//! What every plugin may do without a grant.

use crate::types::Instant;

pub use crate::bindings::forewright::plugin::host::Level;

#[cfg(target_arch = "wasm32")]
use crate::bindings::forewright::plugin::host as door;

/// The host's part where there is no host.
#[cfg(not(target_arch = "wasm32"))]
mod door {
    use super::Level;

    pub(super) fn log(level: Level, message: &str, fields: &[(String, String)]) {
        eprintln!("{level:?} {message} {fields:?}");
    }

    pub(super) fn progress(_share: f64, _phase: &str) -> bool {
        false
    }

    pub(super) fn config() -> String {
        "{}".to_owned()
    }

    pub(super) fn now() -> f64 {
        0.0
    }

    pub(super) fn seed() -> u32 {
        0
    }
}

/// Writes a line to the plugin's own log, with at most 32 fields beside it. The macros [`info!`](crate::info) and its
/// siblings say it shorter.
pub fn log(level: Level, message: &str, fields: &[(String, String)]) {
    door::log(level, message, fields);
}

/// Tells how far the call is, 0 to 1, and in which phase.
///
/// True asks it to stop: the call was cancelled, and whatever it still does is thrown away. A second later it is
/// stopped.
#[must_use = "true asks the call to stop"]
pub fn progress(share: f64, phase: &str) -> bool {
    door::progress(share, phase)
}

/// The operator's settings for this plugin: a JSON object that fits the schema in the manifest.
#[must_use]
pub fn config() -> String {
    door::config()
}

/// The moment the call is about, in milliseconds since 1970-01-01T00:00:00Z. It stands still.
#[must_use]
pub fn now() -> Instant {
    door::now()
}

/// Where all randomness of the call starts from.
#[must_use]
pub fn seed() -> u32 {
    door::seed()
}

/// Logs a line of some [`Level`]: fields, if any, then `;` and what [`format!`] takes.
///
/// ```
/// # let (id, score) = ("fan-7", 0.75);
/// plugin_sdk::log!(plugin_sdk::Level::Info, asset = id, score = score; "one of {} is unusual", 3);
/// ```
#[macro_export]
macro_rules! log {
    ($level:expr, $($name:ident = $value:expr),+; $($message:tt)+) => {
        $crate::host::log(
            $level,
            &::std::format!($($message)+),
            &[$((::std::stringify!($name).to_owned(), ::std::string::ToString::to_string(&$value))),+],
        )
    };
    ($level:expr, $($message:tt)+) => {
        $crate::host::log($level, &::std::format!($($message)+), &[])
    };
}

/// [`log!`] for who looks closely.
#[macro_export]
macro_rules! trace {
    ($($line:tt)+) => { $crate::log!($crate::Level::Trace, $($line)+) };
}

/// [`log!`] for the plugin's author.
#[macro_export]
macro_rules! debug {
    ($($line:tt)+) => { $crate::log!($crate::Level::Debug, $($line)+) };
}

/// [`log!`] of what happened.
#[macro_export]
macro_rules! info {
    ($($line:tt)+) => { $crate::log!($crate::Level::Info, $($line)+) };
}

/// [`log!`] of what should not be.
#[macro_export]
macro_rules! warn {
    ($($line:tt)+) => { $crate::log!($crate::Level::Warn, $($line)+) };
}

/// [`log!`] of what went wrong.
#[macro_export]
macro_rules! error {
    ($($line:tt)+) => { $crate::log!($crate::Level::Error, $($line)+) };
}

/// From here on a panic is told to the log before it traps, which by itself says nothing.
#[cfg(target_arch = "wasm32")]
pub(crate) fn log_panics() {
    use std::panic::{PanicHookInfo, set_hook};
    use std::sync::Once;

    fn hook(info: &PanicHookInfo<'_>) {
        let payload = info.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("panicked");
        let place = info.location().map(|at| ("at".to_owned(), at.to_string()));
        log(Level::Error, text, place.as_slice());
    }

    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| set_hook(Box::new(hook)));
}

/// In unit tests panics are the test runner's.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn log_panics() {}
