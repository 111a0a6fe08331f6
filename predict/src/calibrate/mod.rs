//! Making numbers mean what they say: probabilities that come true, intervals that cover.

pub mod beta;
pub mod conformal;
pub mod reliability;
pub mod survival;
