//! The conformance kit: what every plugin meets sooner or later, before it serves.
//!
//! A plugin passes a case if it answers by the contract, or says in its words why it does not. It fails if it traps,
//! runs into a limit, breaks the contract, or blames itself. Which answer is the right one, only its author's own tests
//! can say.

mod action;
mod designer;
mod detector;
mod kit;
mod predictor;
mod samples;
mod scheduler;
mod surroundings;
mod verifier;

pub use kit::{Report, Verdict, run};
