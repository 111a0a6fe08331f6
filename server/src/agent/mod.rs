//! The agent: this host's telemetry into a server, over HTTP like any stranger.
//!
//! Every reading comes from the kernel. What it does not offer is absent, never made up.

mod collect;
mod cpu;
mod disk;
mod hwmon;
mod memory;
mod network;
mod outbox;
pub mod pci;
mod rapl;
mod reading;
mod run;
mod thermal;

pub use collect::Collector;
pub use reading::Reading;
pub use run::{AgentError, AgentOptions, run};
