//! The operator token of a new database, made by the first process that serves it.
//!
//! The secret lies in a file of the data folder from before its hash is stored until it has been printed, so that a
//! process killed in between shows it at its next start, and nobody is locked out.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

use crate::app::App;
use crate::auth::{self, Role};
use crate::store::{self, tokens::token};

/// Where the secret waits to be seen, in the data folder.
const FILE: &str = "operator-token.unseen";
/// The setting that holds the hash of the first token; some other word where there is none to show.
const SETTING: &str = "bootstrap";

/// A token nobody has seen yet.
pub struct FirstToken {
    /// The secret.
    pub secret: String,
    file: PathBuf,
}

impl FirstToken {
    /// Makes the first token of a database, or finds the one that was never shown; of several processes that start at
    /// once, one does.
    pub async fn of(app: &App) -> anyhow::Result<Option<Self>> {
        let file = app.config.server.data.join(FILE);
        let made = store::settings::get(&app.db.read, SETTING).await?.is_some();
        if made && !file.exists() {
            return Ok(None);
        }
        let secret = keep_secret(&file).with_context(|| {
            format!("failed to keep the operator token in `{}`", file.display())
        })?;
        let hash = auth::hash(&secret);
        let tx = store::begin(&app.db.write).await?;
        if store::settings::get_or_set(&tx, SETTING, &hash).await? != hash {
            tx.rollback().await?;
            remove(&file)?;
            return Ok(None);
        }
        store_operator(&tx, app.now_ms(), hash).await?;
        tx.commit().await?;
        Ok(Some(Self { secret, file }))
    }

    /// It has been shown: from now on only its hash exists.
    pub fn seen(&self) -> std::io::Result<()> {
        remove(&self.file)
    }
}

/// Lets an operator in with a token chosen beforehand, in the place of the one the first start would make; doing it
/// again changes nothing.
pub async fn admit_operator(app: &App, secret: &str) -> anyhow::Result<()> {
    let tx = store::begin(&app.db.write).await?;
    store::settings::get_or_set(&tx, SETTING, "chosen beforehand").await?;
    store_operator(&tx, app.now_ms(), auth::hash(secret)).await?;
    tx.commit().await?;
    Ok(())
}

async fn store_operator(
    tx: &store::DatabaseTransaction,
    now: i64,
    hash: String,
) -> Result<(), store::StoreError> {
    if store::tokens::by_hash(tx, &hash).await?.is_some() {
        return Ok(());
    }
    let row = token::Model {
        id: store::new_id(now),
        hash,
        role: Role::Operator.name().into(),
        subject: "bootstrap".into(),
        created_at: now,
        revoked_at: None,
    };
    let id = row.id.clone();
    let detail = json!({ "role": row.role, "name": row.subject });
    store::tokens::insert(tx, row).await?;
    store::audit::record(tx, now, "server", "issue_token", &id, &detail).await
}

/// Several processes may share the folder, and another one may have been faster.
fn remove(file: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The secret in the file, or a new one put there; readable by its owner alone.
fn keep_secret(file: &Path) -> std::io::Result<String> {
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        found => return found,
    }
    let secret = auth::new_token();
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(secret.as_bytes())?;
    new.as_file().sync_all()?;
    match new.persist_noclobber(file) {
        Ok(_) => Ok(secret),
        // Another process of this folder was faster: there is one secret, and both know it.
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
            std::fs::read_to_string(file)
        }
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;

    async fn open(folder: &Path) -> App {
        let data = folder.display().to_string();
        let vars = [("FOREWRIGHT_SERVER_DATA".to_owned(), data)];
        let config = Config::load(None, vars.into_iter()).expect("defaults");
        App::open(config, Clock::default()).await.expect("an app")
    }

    #[tokio::test]
    async fn a_token_is_shown_until_it_was_seen_and_then_never_again() {
        let folder = tempfile::tempdir().unwrap();
        let app = open(folder.path()).await;
        let made = FirstToken::of(&app).await.unwrap().expect("the first");
        // Killed before it was printed.
        drop(app);
        let app = open(folder.path()).await;
        let again = FirstToken::of(&app).await.unwrap().expect("the same");
        assert_eq!(made.secret, again.secret);
        let hash = auth::hash(&again.secret);
        let stored = store::tokens::by_hash(&app.db.read, &hash).await.unwrap();
        assert_eq!(stored.expect("stored").role, Role::Operator.name());
        again.seen().unwrap();
        assert!(FirstToken::of(&app).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_token_chosen_beforehand_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let app = open(folder.path()).await;
        // Made by a process that was killed before it could store the hash.
        keep_secret(&folder.path().join(FILE)).unwrap();
        admit_operator(&app, "fw_chosen").await.unwrap();
        admit_operator(&app, "fw_chosen").await.unwrap();
        assert!(FirstToken::of(&app).await.unwrap().is_none());
        assert!(!folder.path().join(FILE).exists());
        assert_eq!(store::tokens::list(&app.db.read).await.unwrap().len(), 1);
        let issued = "SELECT COUNT(*) AS n FROM audit WHERE verb = 'issue_token'";
        let issued = store::database::number(&app.db.read, issued, vec![]).await;
        assert_eq!(issued.unwrap(), Some(1), "and the chain tells of it");
    }
}
