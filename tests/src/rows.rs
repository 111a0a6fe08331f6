//! A database read and watched by somebody who shares no code with who writes it: `psql`, or Python's SQLite.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// Where the rows are.
#[derive(Debug, Clone)]
pub enum Rows {
    /// The address of a Postgres database.
    Postgres(String),
    /// A SQLite file.
    Sqlite(PathBuf),
}

/// Reads a query's rows, or carries out a script when the third argument says so.
const SQLITE: &str = "
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30)
if sys.argv[3] == 'script':
    db.executescript(sys.argv[2])
else:
    db.row_factory = sqlite3.Row
    for row in db.execute(sys.argv[2]):
        print(json.dumps(dict(row)))
";

impl Rows {
    /// What a query finds, each row an object.
    ///
    /// # Errors
    ///
    /// What the database's own client says; it may be away at the moment.
    pub fn query(&self, sql: &str) -> Result<Vec<Value>, String> {
        let mut client = match self {
            Self::Postgres(url) => {
                let mut psql = psql(url);
                psql.args([
                    "-At",
                    "-c",
                    &format!("SELECT row_to_json(t) FROM ({sql}) t"),
                ]);
                psql
            }
            Self::Sqlite(path) => sqlite(path, sql, "query"),
        };
        let said = output(&mut client)?;
        let rows = said.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>().map_err(|e| e.to_string())
    }

    /// What a query finds in a database that is there.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[must_use]
    pub fn all(&self, sql: &str) -> Vec<Value> {
        self.query(sql)
            .unwrap_or_else(|said| panic!("{sql}: {said}"))
    }

    /// Carries out statements.
    ///
    /// # Errors
    ///
    /// What the database's own client says.
    pub fn execute(&self, sql: &str) -> Result<(), String> {
        let mut client = match self {
            Self::Postgres(url) => {
                let mut psql = psql(url);
                psql.args(["-c", sql]);
                psql
            }
            Self::Sqlite(path) => sqlite(path, sql, "script"),
        };
        output(&mut client).map(drop)
    }
}

fn psql(url: &str) -> Command {
    let mut psql = Command::new("psql");
    psql.args([url, "-qX", "-v", "ON_ERROR_STOP=1"]);
    psql
}

fn sqlite(path: &PathBuf, sql: &str, how: &str) -> Command {
    let mut python = Command::new("python3");
    python.args(["-c", SQLITE]).arg(path).args([sql, how]);
    python
}

fn output(client: &mut Command) -> Result<String, String> {
    let output = client.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        String::from_utf8(output.stdout).map_err(|error| error.to_string())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
