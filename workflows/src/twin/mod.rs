//! The graph of assets: what depends on what, who suffers if something stops, and the pictures drawn of it.

mod graph;
mod impact;
mod picture;
mod views;

pub use graph::Graph;
pub use impact::{Impact, STOOD_IN_SHARE, impact_of};
pub use picture::{PictureError, heatmap_png};
pub use views::{Cell, Confidence, Facts, Heatmap, Layer, Legend, WindowFact, heatmap};
