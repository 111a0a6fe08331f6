//! Faults: real processes are killed at seeded moments, and what they leave is looked at from outside.

mod a_demonstration_is_killed;
mod chaos;
mod checker;
mod history;
mod peers;
