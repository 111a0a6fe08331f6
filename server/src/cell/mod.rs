//! The reference cell: polls the REST API like any cell, and drives one machine.
//!
//! What it must never do is make a part twice. So it writes down what it is about to do before it does it: the
//! machine moves only after the server recorded the start *and* the start is in the state file. After a crash the
//! file says what is on the plate, and the cell says so before it asks for work.

mod protocol;
mod simulated;
pub mod state;
mod transfer;

pub use protocol::{CellOptions, run};
pub use simulated::Simulated;
pub use state::is_enrolled;
