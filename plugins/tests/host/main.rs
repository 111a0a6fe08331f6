//! Guests written as text, run by the real host: every limit, every door, every refusal.

mod admission;
mod compile;
mod doors;
mod kit;
mod limits;
mod wasi;
mod world;
mod worlds;
