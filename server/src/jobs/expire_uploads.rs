//! Drops uploads nobody went on with, and what came of them.

use tracing::info;

use crate::app::App;
use crate::store::{self, uploads};

/// Drops those whose time is over; says how many. Of two processes that do so at once, one finds less to do.
///
/// # Errors
///
/// When the database or the artifact store does not answer.
pub async fn expire_uploads(app: &App) -> anyhow::Result<usize> {
    let expired = uploads::expired(&app.db.read, app.now_ms()).await?;
    for upload in &expired {
        let tx = store::begin(&app.db.write).await?;
        uploads::forget(&tx, &upload.id).await?;
        tx.commit().await?;
        app.artifacts.drop_pieces(&upload.id).await?;
        if upload.state == "open" {
            info!(
                upload.id,
                upload.owner, "dropped upload {} that nobody went on with", upload.id
            );
        }
    }
    Ok(expired.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;
    use crate::testing::TestServer;

    #[tokio::test]
    async fn an_upload_nobody_goes_on_with_is_dropped_with_its_bytes() {
        let server = TestServer::with(&[("FOREWRIGHT_ARTIFACTS_UPLOAD_HOURS", "2")]).await;
        let token = server.token(Role::Engineer, "ada").await;
        let digest = crate::artifacts::digest(b"0123456789");
        let body = format!(r#"{{"digest":"{digest}","size_bytes":10}}"#);
        let path = "/api/v1/artifacts/uploads";
        let begun = server.ask("POST", path, &token, &body).await;
        assert_eq!(begun.status, 201, "{:?}", begun.body);
        let id = begun.json()["id"].as_str().expect("an id").to_owned();
        let path = format!("{path}/{id}");
        let part = axum::http::Request::patch(&path)
            .header("authorization", format!("Bearer {token}"))
            .header("upload-offset", "0")
            .body("01234".into())
            .expect("a request");
        server.app.clock.advance(3_600_000);
        assert_eq!(server.send(part).await.status, 204);
        // An hour later it is an hour since somebody went on with it.
        server.app.clock.advance(3_600_000);
        assert_eq!(expire_uploads(&server.app).await.expect("looked"), 0);
        let folder = server
            .app
            .config
            .server
            .data
            .join("artifacts/uploads")
            .join(&id);
        let pieces = || std::fs::read_dir(&folder).map_or(0, Iterator::count);
        assert_eq!(pieces(), 1);
        server.app.clock.advance(3_600_000);
        assert_eq!(expire_uploads(&server.app).await.expect("looked"), 1);
        assert_eq!(pieces(), 0);
        assert_eq!(
            server.ask("GET", &path, &token, "").await.problem(404),
            "not_found"
        );
    }
}
