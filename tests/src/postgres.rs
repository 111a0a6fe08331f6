//! Fresh databases in the cluster that `FOREWRIGHT_TEST_POSTGRES` names.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A database of one's own; removed with the value.
#[derive(Debug)]
pub struct Postgres {
    /// For `DATABASE_URL`.
    pub url: String,
    cluster: String,
    name: String,
}

impl Postgres {
    /// A fresh database.
    ///
    /// # Panics
    ///
    /// When there is no cluster; `scripts/with-postgres.sh` starts one.
    #[must_use]
    pub fn fresh() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let cluster = std::env::var("FOREWRIGHT_TEST_POSTGRES")
            .expect("FOREWRIGHT_TEST_POSTGRES names a cluster; see scripts/with-postgres.sh");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("story_{}_{number}", std::process::id());
        psql(&cluster, &format!("CREATE DATABASE {name}"));
        let (server, _) = cluster
            .rsplit_once('/')
            .expect("an address with a database");
        Self {
            url: format!("{server}/{name}"),
            cluster,
            name,
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        psql(
            &self.cluster,
            &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
        );
    }
}

fn psql(cluster: &str, command: &str) {
    let mut psql = Command::new("psql");
    let told = psql.args([cluster, "-qX", "-v", "ON_ERROR_STOP=1", "-c", command]);
    let told = told.status().expect("psql can be started");
    assert!(
        told.success() || std::thread::panicking(),
        "`{command}` failed"
    );
}
