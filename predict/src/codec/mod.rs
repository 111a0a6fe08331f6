//! Samples as bytes: the maths of storage; who stores them is another matter.

pub mod block;
