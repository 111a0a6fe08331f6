//! What really happened, read and judged from outside: nothing here shares code with what it checks.
//!
//! [`witness`] has the database write down every change of a lease while it happens, [`leases`] says which rows of
//! such changes should never have been written, [`recovery`] how soon lost leases were taken back, and [`forewright`]
//! what else must hold of a Forewright database and of what its cells wrote down. [`tampered`] shows that this sees.

pub(crate) mod forewright;
pub(crate) mod leases;
pub(crate) mod recovery;
pub(crate) mod tampered;
pub(crate) mod witness;

use serde_json::Value;

/// A text of a row, empty if there is none.
pub(crate) fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

/// A number of a row.
#[track_caller]
pub(crate) fn number(row: &Value, name: &str) -> i64 {
    row[name]
        .as_i64()
        .unwrap_or_else(|| panic!("`{name}` is no number: {row}"))
}

/// A document that a row holds as text.
#[track_caller]
pub(crate) fn document(row: &Value, name: &str) -> Value {
    serde_json::from_str(text(row, name)).unwrap_or_else(|error| panic!("{error}: {row}"))
}
