//! Making numbers mean what they say: probabilities that come true, intervals that cover.

pub mod conformal;
pub mod isotonic;
pub mod reliability;
pub mod survival;
