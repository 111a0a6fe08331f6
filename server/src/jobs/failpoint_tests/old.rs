//! Runs that are kept no longer: they are in the archive before they are gone.

use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::Life;
use super::hall::{Client, Hall, ended};
use crate::process::prune_once;
use crate::store::database::all;
use crate::store::values;

const DAY_MS: i64 = 24 * 3_600_000;

const OLD: &str = r#"fn run(event) { step("double", #{ n: 4 }, #{ backoff: "1ms" }).n }"#;

pub(super) struct Old;

#[derive(Debug, sea_orm::FromQueryResult)]
struct Left {
    n: i64,
}

impl Life for Old {
    async fn prepare(hall: &Hall) -> Self {
        hall.serve("old", OLD).await;
        Self
    }

    async fn live(&self, client: &mut Client<'_>, key: &str) {
        let id = client.start_run("old", key).await;
        let run = format!("/runs/{id}");
        client.until(&run, ended).await;
        let rules = client.hall.config().retention;
        client
            .hall
            .clock
            .advance((i64::from(rules.runs_days) + 1) * DAY_MS);
        for look in 0.. {
            assert!(look < 20, "run {id} is never gone");
            client.hall.clock.advance(i64::from(rules.every_s) * 1_000);
            client
                .within(|app| async move {
                    // Whatever comes of it, the next look goes on.
                    let _ = prune_once(&app).await;
                })
                .await;
            if rows_of(client.hall, &id).await == 0 {
                break;
            }
        }
        let (status, answer) = client.ask("GET", &run, Value::Null).await;
        assert_eq!(
            (status.as_u16(), &answer["code"]),
            (410, &json!("run_archived")),
            "{answer}"
        );
        let (_, page) = client
            .ask("GET", "/run_archives?workflow=old", Value::Null)
            .await;
        let archives = page["run_archives"].as_array().into_iter().flatten();
        let mine: Vec<_> = archives.filter(|archive| archive["run"] == *id).collect();
        assert_eq!(mine.len(), 1, "{page:#}");
        let told = read(client.hall, mine[0]["digest"].as_str().unwrap()).await;
        assert_eq!(told["run"]["id"], *id, "{told:#}");
        assert_eq!(
            told["journal"].as_array().map(Vec::len),
            Some(1),
            "{told:#}"
        );
    }
}

/// How many rows are left of what a run did.
async fn rows_of(hall: &Hall, run: &str) -> i64 {
    let sql = "SELECT (SELECT COUNT(*) FROM journal WHERE run_id = $1) \
               + (SELECT COUNT(*) FROM step WHERE run_id = $1) AS n";
    let rows: Vec<Left> = all(&hall.f.db.write, sql, values![run]).await.unwrap();
    rows[0].n
}

/// An archive, as whoever fetches it reads it.
async fn read(hall: &Hall, digest: &str) -> Value {
    let artifacts = crate::artifacts::Artifacts::open(&hall.config()).unwrap();
    let bytes = artifacts.get(digest).await.unwrap();
    let mut text = String::new();
    GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}
