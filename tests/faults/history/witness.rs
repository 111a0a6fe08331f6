//! A witness in the database: triggers that copy every change of a lease into a table nobody else knows.
//!
//! A row is written in the transaction of the change, under the lock of the row that changed, so the witness holds
//! exactly what was committed, and for one row in the order in which it was.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::Rows;

use super::text;

/// One state of one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// When it was written, ms since the epoch.
    pub(crate) at: i64,
    /// The row.
    pub(crate) id: String,
    /// `ready`, `leased`, `done`, `failed`, `cancelled` of a step; `deleted` when the row went.
    pub(crate) state: String,
    /// The fence, of what has one.
    pub(crate) fence: Option<i64>,
    /// The attempt it is at.
    pub(crate) attempt: Option<i64>,
    /// The most attempts it may have.
    pub(crate) most: Option<i64>,
    /// Who has it.
    pub(crate) owner: Option<String>,
    /// Until when, ms since the epoch.
    pub(crate) until: Option<i64>,
}

/// A table that is watched: its name, and what of its columns is the fence, the attempt, and so on.
pub(crate) struct Watched {
    /// The table, also the name its rows are kept under.
    pub(crate) table: &'static str,
    /// Columns, `NULL`, or expressions over the row as `ROW`: id, state, fence, attempt, most attempts, owner, until.
    pub(crate) columns: [&'static str; 7],
}

/// What is watched of Forewright.
pub(crate) const FOREWRIGHT: [Watched; 3] = [
    Watched {
        table: "step",
        columns: [
            "id",
            "state",
            "fence",
            "attempt",
            "max_attempts",
            "lease_owner",
            "lease_until",
        ],
    },
    Watched {
        table: "build",
        columns: [
            "id",
            "state",
            "fence",
            "physical_starts",
            "NULL",
            "cell",
            "NULL",
        ],
    },
    Watched {
        table: "lease",
        columns: ["id", "state", "fence", "NULL", "NULL", "cell", "expires_at"],
    },
];

const INTO: &str = "INSERT INTO witness (at, what, id, state, fence, attempt, most, owner, until)";

/// Begins to watch. Before anything is queued.
pub(crate) fn watch(rows: &Rows, all: &[Watched]) {
    let sql: Vec<String> = all.iter().map(|watched| watched.sql(rows)).collect();
    let counter = match rows {
        Rows::Postgres(_) => "BIGSERIAL PRIMARY KEY",
        Rows::Sqlite(_) => "INTEGER PRIMARY KEY AUTOINCREMENT",
    };
    let table = format!(
        "CREATE TABLE witness (n {counter}, at BIGINT NOT NULL, what TEXT NOT NULL, \
         id TEXT NOT NULL, state TEXT NOT NULL, fence BIGINT, attempt BIGINT, most BIGINT, \
         owner TEXT, until BIGINT);"
    );
    let told = rows.execute(&(table + &sql.concat()));
    told.unwrap_or_else(|said| panic!("the witness is refused: {said}"));
}

impl Watched {
    fn sql(&self, rows: &Rows) -> String {
        let table = self.table;
        let name = table.replace('.', "_");
        let new = self.values("NEW", None);
        let old = self.values("OLD", Some("'deleted'"));
        match rows {
            Rows::Postgres(_) => format!(
                "CREATE FUNCTION witness_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF TG_OP = 'DELETE' THEN {INTO} SELECT NOW_MS, {old}; \
                 ELSE {INTO} SELECT NOW_MS, {new}; END IF; RETURN NULL; END $$; \
                 CREATE TRIGGER witness_{name} AFTER INSERT OR UPDATE OR DELETE ON {table} \
                 FOR EACH ROW EXECUTE FUNCTION witness_{name}();"
            )
            .replace(
                "NOW_MS",
                "(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
            ),
            Rows::Sqlite(_) => [("INSERT", &new), ("UPDATE", &new), ("DELETE", &old)]
                .map(|(verb, values)| {
                    format!(
                        "CREATE TRIGGER witness_{name}_{verb} AFTER {verb} ON {table} BEGIN {INTO} \
                         SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), {values}; END;"
                    )
                })
                .concat(),
        }
    }

    fn values(&self, row: &str, state: Option<&str>) -> String {
        let mut values = vec![format!("'{}'", self.table)];
        for (index, column) in self.columns.iter().enumerate() {
            values.push(match (index, state) {
                (1, Some(state)) => state.to_owned(),
                _ if *column == "NULL" || column.starts_with('\'') => (*column).to_owned(),
                _ if column.contains("ROW.") => column.replace("ROW.", &format!("{row}.")),
                _ => format!("{row}.{column}"),
            });
        }
        values.join(", ")
    }
}

/// Everything the witness saw of one table: each row's states, in order.
pub(crate) fn lives(rows: &Rows, what: &str) -> BTreeMap<String, Vec<Seen>> {
    let mut lives = BTreeMap::<String, Vec<Seen>>::new();
    let sql = format!("SELECT * FROM witness WHERE what = '{what}' ORDER BY n");
    for row in rows.all(&sql) {
        let seen = Seen::of(&row);
        lives.entry(seen.id.clone()).or_default().push(seen);
    }
    lives
}

impl Seen {
    fn of(row: &Value) -> Self {
        Self {
            at: row["at"].as_i64().expect("a time"),
            id: text(row, "id").to_owned(),
            state: text(row, "state").to_owned(),
            fence: row["fence"].as_i64(),
            attempt: row["attempt"].as_i64(),
            most: row["most"].as_i64(),
            owner: row["owner"].as_str().map(str::to_owned),
            until: row["until"].as_i64(),
        }
    }
}
