//! Moving the open runs of a workflow to another revision, after looking which of them would diverge.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use workflows::run::{Ending, Progress};
use workflows::script::Script;

use super::script::refusal;
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::host::past::Stop;
use crate::host::replaying::replay_run;
use crate::store::runs::{Seen, run};
use crate::store::{self, scripts::Scripts};

/// Which runs to move, and whereto.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewMigration {
    /// Digest of the revision they are pinned to.
    pub from: String,
    /// Digest of the stored revision they are to go on with.
    pub to: String,
    /// Whether only to look; true if not said.
    #[serde(default = "yes")]
    pub dry_run: bool,
    /// `next` of the answer before.
    #[serde(default)]
    pub after: Option<String>,
    /// How many runs at most, 1 to 500; 100 if not said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

fn yes() -> bool {
    true
}

/// What became of one run.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunMigration {
    /// The run.
    run: String,
    /// What became of it.
    outcome: RunMigrationOutcome,
    /// Both sides, position and line where it would diverge; why it would fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
}

/// What became of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunMigrationOutcome {
    /// The new revision asks for what its journal holds.
    Agrees,
    /// So it was moved.
    Moved,
    /// The new revision asks for something else; it was left where it is.
    Diverges,
    /// The new revision fails on what its journal holds; it was left where it is.
    Fails,
    /// It moved on while it was looked at; ask again.
    Busy,
    /// It diverged and would go on, which the kill switch does not let it.
    HeldBack,
}

/// What became of the runs of one page.
#[derive(Debug, Serialize, ToSchema)]
pub struct MigrationReport {
    /// Whether it only looked.
    dry_run: bool,
    /// The open runs pinned to `from`, newest first.
    runs: Vec<RunMigration>,
    /// Where it goes on.
    next: Option<String>,
}

/// Move the open runs of a workflow from one revision to another.
///
/// Each is replayed with the new revision against its journal, which does nothing; only where the two agree is it
/// moved. Runs that diverged go on.
#[utoipa::path(post, path = "/api/v1/workflows/{name}/migrate", tag = "runs",
    params(("name" = String, Path)), request_body = NewMigration,
    responses((status = 200, body = MigrationReport)))]
pub async fn migrate_workflow(
    app: App,
    who: auth::Engineer,
    Path(name): Path<String>,
    Json(body): Json<NewMigration>,
) -> ApiResult<Json<MigrationReport>> {
    let limit = body.limit.unwrap_or(100);
    if !(1..=500).contains(&limit) {
        return Err(ApiError::refused(
            "invalid_body",
            "`limit` must be 1 to 500",
        ));
    }
    let to = Scripts::Workflows
        .revision(&app.db.read, &name, &body.to)
        .await?;
    let script = Script::compile(&to.name, &to.source).map_err(|error| refusal(&[error]))?;
    let page = store::Page {
        after: body.after.as_deref(),
        limit,
    };
    let open = store::runs::open_of(&app.db.read, (&name, &body.from), page).await?;
    let next = (open.len() as u64 == limit).then(|| open.last().map(|run| run.id.clone()));
    let mut runs = Vec::with_capacity(open.len());
    for run in open {
        runs.push(one(&app, &who.0.subject, &run, &script, &body).await?);
    }
    app.queue.notify_local();
    Ok(Json(MigrationReport {
        dry_run: body.dry_run,
        runs,
        next: next.flatten(),
    }))
}

async fn one(
    app: &App,
    actor: &str,
    run: &run::Model,
    script: &Script,
    body: &NewMigration,
) -> ApiResult<RunMigration> {
    // What is looked at is named first, so that a run that moves on meanwhile is noticed.
    let seen = store::runs::seen(&app.db.read, &run.id).await?;
    let (mut outcome, detail) = look(app, run, script).await?;
    if outcome == RunMigrationOutcome::Agrees && !body.dry_run {
        outcome = match seen {
            Some(seen) => carry_over(app, actor, run, seen, &body.to).await?,
            None => RunMigrationOutcome::Busy,
        };
    }
    Ok(RunMigration {
        run: run.id.clone(),
        outcome,
        detail,
    })
}

async fn look(
    app: &App,
    run: &run::Model,
    script: &Script,
) -> ApiResult<(RunMigrationOutcome, Option<Value>)> {
    use RunMigrationOutcome::{Agrees, Diverges, Fails};
    match replay_run(&app.world(), run, script.clone(), app.now_ms()).await {
        Ok(Progress::Diverged(divergence)) => Ok((Diverges, Some(json!(divergence)))),
        Ok(Progress::Ended {
            ending: Ending::Failed(failure),
            ..
        }) => Ok((Fails, Some(json!(failure)))),
        Ok(Progress::UsedUp { new, .. }) => {
            let why = new.last().and_then(|entry| entry.outcome.as_ref());
            Ok((Fails, why.map(|why| json!(why))))
        }
        Ok(Progress::Suspended { .. } | Progress::Ended { .. }) => Ok((Agrees, None)),
        Err(Stop::Never { code, message }) => {
            Ok((Fails, Some(json!({ "code": code, "message": message }))))
        }
        Err(Stop::Storage(error)) => Err(error.into()),
        Err(Stop::Again(trouble)) => Err(ApiError::internal(trouble.to_string())),
    }
}

async fn carry_over(
    app: &App,
    actor: &str,
    run: &run::Model,
    seen: Seen,
    to: &str,
) -> ApiResult<RunMigrationOutcome> {
    let tx = store::begin(&app.db.write).await?;
    if run.state == "diverged" && store::guards::is_stopped(&tx).await? {
        return Ok(RunMigrationOutcome::HeldBack);
    }
    let moved = store::runs::migrate(&tx, app.now_ms(), actor, run, seen, to).await?;
    tx.commit().await?;
    Ok(match moved {
        true => RunMigrationOutcome::Moved,
        false => RunMigrationOutcome::Busy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;
    use crate::store::{database::execute, values};
    use crate::testing::TestServer;

    async fn stored(server: &TestServer, token: &str, source: &str) -> String {
        let body = json!({ "name": "w", "source": source }).to_string();
        let answer = server.ask("POST", "/api/v1/workflows", token, &body).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.json()["revision"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_migration_looks_first_and_moves_only_what_agrees() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Engineer, "eve").await;
        let old = stored(
            &server,
            &token,
            r#"fn run(event) { step("notify", #{ subject: "a" }); 1 }"#,
        )
        .await;
        let body = r#"{"workflow": "w", "event": {}}"#;
        let run = server
            .ask("POST", "/api/v1/runs", &token, body)
            .await
            .json();
        let id = run["id"].as_str().unwrap();
        let new = stored(
            &server,
            &token,
            r#"fn run(event) { step("notify", #{ subject: "a" }); 2 }"#,
        )
        .await;
        let path = "/api/v1/workflows/w/migrate";
        let migrate = |from: &str, to: &str, dry_run: bool| {
            let body = json!({ "from": from, "to": to, "dry_run": dry_run }).to_string();
            let (server, token) = (&server, &token);
            async move { server.ask("POST", path, token, &body).await.json() }
        };
        let looked = migrate(&old, &new, true).await;
        assert_eq!(looked["runs"][0]["outcome"], "agrees", "{looked}");
        let revision = || async {
            let path = format!("/api/v1/runs/{id}");
            server.ask("GET", &path, &token, "").await.json()["revision"].clone()
        };
        assert_eq!(revision().await, *old, "it only looked");
        let moved = migrate(&old, &new, false).await;
        assert_eq!(
            (&moved["runs"][0]["outcome"], &moved["runs"][0]["run"]),
            (&json!("moved"), &json!(id))
        );
        assert_eq!(revision().await, *new);
        assert_eq!(migrate(&old, &new, false).await["runs"], json!([]));
        // One that diverged would go on, which is not for now.
        let db = &server.app.db.write;
        let sql = "UPDATE run SET state = 'diverged' WHERE id = $1";
        execute(db, sql, values![id]).await.unwrap();
        let switch = async |why| store::guards::set_kill_switch(db, 1, "olga", why).await;
        switch(Some("a fire")).await.unwrap();
        let held = migrate(&new, &old, false).await;
        assert_eq!(held["runs"][0]["outcome"], "held_back", "{held}");
        switch(None).await.unwrap();
        for (from, to) in [(&new, &old), (&old, &new)] {
            let moved = migrate(from, to, false).await;
            assert_eq!(moved["runs"][0]["outcome"], "moved", "{moved}");
        }
        // Now its journal holds something else than either revision asks for.
        let sql = "INSERT INTO journal (run_id, position, ordinal, kind, input, input_digest, recorded_at) \
                   VALUES ($1, '1', 0, 'make', '{}', 'sha256:0', 0)";
        execute(&server.app.db.write, sql, values![id])
            .await
            .unwrap();
        let looked = migrate(&new, &old, false).await;
        assert_eq!(looked["runs"][0]["outcome"], "diverges", "{looked}");
        assert_eq!(looked["runs"][0]["detail"]["position"], "1");
        assert_eq!(looked["runs"][0]["detail"]["recorded"]["kind"], "make");
        assert_eq!(looked["runs"][0]["detail"]["requested"]["kind"], "notify");
        assert_eq!(revision().await, *new, "it was left where it is");
        let unknown = json!({ "from": old, "to": "sha256:1" }).to_string();
        let unknown = server.ask("POST", path, &token, &unknown).await;
        assert_eq!(unknown.problem(404), "not_found");
    }

    #[tokio::test]
    async fn a_run_says_why_it_is_where_it_is_and_what_cannot_be_begun_again() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Engineer, "eve").await;
        stored(
            &server,
            &token,
            r#"fn run(event) { step("notify", #{ subject: "a" }) }"#,
        )
        .await;
        let body = r#"{"workflow": "w", "event": {}}"#;
        let run = server
            .ask("POST", "/api/v1/runs", &token, body)
            .await
            .json();
        let path = |what: &str| format!("/api/v1/runs/{}/{what}", run["id"].as_str().unwrap());
        let why = server.ask("GET", &path("why"), &token, "").await.json();
        let reason = why["reason"].as_str().unwrap();
        assert!(
            reason.contains("no worker") && reason.contains("--queues runs"),
            "{reason}"
        );
        let refused = server.ask("POST", &path("restart"), &token, "{}").await;
        assert_eq!(refused.problem(409), "run_not_restartable");
        let pin = json!({ "revision": run["revision"] }).to_string();
        let refused = server.ask("POST", &path("pin"), &token, &pin).await;
        assert_eq!(refused.problem(409), "run_not_diverged");
        let cancelled = server
            .ask("POST", &path("cancel?force=true"), &token, "")
            .await;
        assert_eq!(cancelled.json()["state"], "cancelled");
        let why = server.ask("GET", &path("why"), &token, "").await.json();
        assert!(why["reason"].as_str().unwrap().contains("restart"), "{why}");
        let odd = server
            .ask("POST", &path("restart"), &token, r#"{"from": "x"}"#)
            .await;
        assert_eq!(odd.problem(422), "invalid_position");
        let again = server.ask("POST", &path("restart"), &token, "{}").await;
        assert_eq!(again.status, 201, "{:?}", again.body);
        assert_eq!(again.json()["restarted_from"], run["id"]);
        let dead = server
            .ask(
                "GET",
                "/api/v1/dead_letters?redriven=false&limit=5",
                &token,
                "",
            )
            .await;
        assert_eq!(dead.json(), json!({ "dead_letters": [], "next": null }));
        let none = server
            .ask("POST", "/api/v1/dead_letters/none/redrive", &token, "")
            .await;
        assert_eq!(none.problem(404), "not_found");
    }
}
