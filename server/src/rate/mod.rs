//! How many requests anybody may send: a bucket for each token, and a smaller one for each address without any.

mod bucket;
mod callers;
mod layer;

pub use bucket::{Bucket, Policy};
pub use callers::Callers;
pub use layer::{Known, limit};
