//! From a mesh to G-code, and back to check it.
//!
//! `slice` turns a mesh into toolpaths and G-code for one printer. `check` reads that G-code with a
//! parser of its own and applies the safety rules; `deposit` executes it move by move into a model
//! of the material that ends up on the bed, the only thing a simulated scanner ever sees.

pub mod check;
pub mod defect;
pub mod deposit;
pub mod estimate;
mod gcode;
mod infill;
mod job;
mod layer;
mod machine;
pub mod parse;
mod perimeter;
mod plan;
mod polygon;
pub mod printer;
mod rng;
mod runs;
pub mod settings;
mod surface;

pub use defect::{Defect, deposit_with_defect};
pub use deposit::{Deposit, DepositError, DepositOptions, deposit};
pub use estimate::Estimate;
pub use job::{SliceError, Sliced, slice};
pub use layer::SolidError;
pub use surface::ScannerPose;
