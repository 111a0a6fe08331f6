//! How the points of one block become bytes; the maths is `predict`'s, the server stores the bytes.

pub use predict::series::Samples;

pub(super) use predict::codec::block::{CodecError, MOST_SAMPLES, decode, encode};
