//! The built-in hall: the place and the people a data set knows nothing of.

mod hall;

pub use hall::{Hall, HallError, Source};
