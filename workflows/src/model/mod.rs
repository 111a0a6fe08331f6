//! The nouns: plain data with public fields, shared by scripts, steps, planners and the server.

mod action;
mod artifact;
mod asset;
mod build;
mod design;
mod prediction;
mod time;
mod window;

pub use action::{Action, ActionKind};
pub use artifact::{ArtifactRef, Origin};
pub use asset::{Asset, AssetState, Dependency, Locality, Redundancy, Twin};
pub use build::{Build, BuildEnd, BuildState, NewBuild};
pub use design::{Design, NewDesign, Part, Proposal};
pub use prediction::{
    Detected, MetricForecast, ModelRecord, NewModel, PluginFinding, PluginUse, PluginVerdict,
    Prediction, Scored,
};
pub use time::Timestamp;
pub use window::{
    Absence, NewWindow, NewWorkOrder, Shift, Technician, Weekday, Window, WindowState, WorkOrder,
};
