//! Technicians, the windows they work in, and the orders they work by.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Who can do maintenance, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Technician {
    /// Stable name.
    pub id: String,
    /// What people call them.
    pub name: String,
    /// What they can do.
    #[serde(default)]
    pub skills: Vec<String>,
    /// IANA time zone their shifts are told in.
    pub time_zone: String,
    /// When they work.
    pub shifts: Vec<Shift>,
    /// When they do not, whatever their shifts say.
    #[serde(default)]
    pub away: Vec<Absence>,
}

/// A weekly recurring shift in local time; `to` at or before `from` ends the next day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    /// Days it begins on.
    pub days: Vec<Weekday>,
    /// Begin, `HH:MM` local time.
    pub from: String,
    /// End, `HH:MM` local time.
    pub to: String,
}

/// Day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A time somebody is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// First moment away.
    pub from: Timestamp,
    /// First moment back.
    pub to: Timestamp,
}

/// An agreed span when an asset may be offline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Stable name.
    pub id: String,
    /// Where it stands.
    pub state: WindowState,
    /// What was proposed.
    pub proposal: NewWindow,
    /// The run and position that proposed it.
    pub run: String,
    /// Position of that step.
    pub position: String,
}

/// A window to be proposed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewWindow {
    /// The asset that may go offline.
    pub asset: String,
    /// First moment.
    pub from: Timestamp,
    /// First moment after.
    pub to: Timestamp,
    /// Who does the work; `None` while nobody is free.
    pub technician: Option<String>,
    /// Why this one, and what it costs, term by term.
    pub reasons: serde_json::Value,
    /// The next best, best first.
    pub alternatives: Vec<serde_json::Value>,
}

/// Where a window stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowState {
    /// Nobody has answered.
    Proposed,
    /// A technician will come.
    Accepted,
    /// A technician will not.
    Rejected,
    /// The work is done.
    Done,
    /// The work will not happen.
    Cancelled,
}

/// The instruction to do maintenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkOrder {
    /// Stable name.
    pub id: String,
    /// What is ordered.
    pub order: NewWorkOrder,
    /// When it was written.
    pub created_at: Timestamp,
    /// The run that wrote it.
    pub run: String,
}

/// A work order to be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewWorkOrder {
    /// The asset worked on.
    pub asset: String,
    /// The window it happens in.
    pub window: String,
    /// Who does it.
    pub technician: Option<String>,
    /// What to bring: parts and tools.
    pub bring: Vec<String>,
    /// What to do, in order.
    pub procedure: Vec<String>,
    /// Why.
    pub reason: String,
}
