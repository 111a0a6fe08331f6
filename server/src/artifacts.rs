//! Immutable bytes by digest: a local folder by default, S3-compatible by configuration.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt};
use sha2::{Digest as _, Sha256};

use crate::config::Config;

/// Where artifacts lie. What the bytes mean and who made them is in the table `artifact`.
#[derive(Debug, Clone)]
pub struct Artifacts {
    store: Arc<dyn ObjectStore>,
}

/// Why an artifact could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Not `sha256:` and 64 lower-case hexadecimal digits.
    #[error("`{0}` is not a digest; write `sha256:` and 64 hexadecimal digits")]
    NotADigest(String),
    /// The bytes are not those the digest names.
    #[error("the bytes have the digest `{actual}`, not `{claimed}`")]
    Mismatch {
        /// What was claimed.
        claimed: String,
        /// What the bytes are.
        actual: String,
    },
    /// Nothing is stored under the digest.
    #[error("no artifact `{0}`")]
    Missing(String),
    /// The store failed.
    #[error("failed to reach the artifact store")]
    Store(#[source] object_store::Error),
}

impl Artifacts {
    /// Opens the configured store, creating the folder where it is one.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let settings = &config.artifacts;
        let store: Arc<dyn ObjectStore> = if settings.store == "s3" {
            let mut builder = AmazonS3Builder::new()
                .with_bucket_name(&settings.bucket)
                .with_access_key_id(&settings.access_key_id)
                .with_secret_access_key(&settings.secret_access_key)
                .with_allow_http(settings.endpoint.starts_with("http://"));
            if !settings.endpoint.is_empty() {
                builder = builder.with_endpoint(&settings.endpoint);
            }
            if !settings.region.is_empty() {
                builder = builder.with_region(&settings.region);
            }
            Arc::new(builder.build()?)
        } else {
            let folder = config.server.data.join("artifacts");
            std::fs::create_dir_all(&folder)?;
            // A digest in the database must never name bytes a power cut took away.
            Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true))
        };
        Ok(Self { store })
    }

    /// Keeps bytes; answers their digest. Keeping the same bytes again changes nothing.
    pub async fn put(&self, bytes: Bytes) -> Result<String, ArtifactError> {
        let digest = digest(&bytes);
        let path = path(&digest)?;
        match self.store.head(&path).await {
            Ok(_) => return Ok(digest),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(ArtifactError::Store(e)),
        }
        self.store
            .put(&path, bytes.into())
            .await
            .map_err(ArtifactError::Store)?;
        Ok(digest)
    }

    /// Keeps bytes somebody claims to have the digest `claimed`; refuses a lie and keeps nothing.
    pub async fn put_claimed(&self, claimed: &str, bytes: Bytes) -> Result<String, ArtifactError> {
        path(claimed)?;
        let actual = digest(&bytes);
        if actual != claimed {
            return Err(ArtifactError::Mismatch {
                claimed: claimed.into(),
                actual,
            });
        }
        self.put(bytes).await
    }

    /// All bytes of a digest.
    pub async fn get(&self, digest: &str) -> Result<Bytes, ArtifactError> {
        let path = path(digest)?;
        let result = self
            .store
            .get(&path)
            .await
            .map_err(|e| missing(digest, e))?;
        result.bytes().await.map_err(ArtifactError::Store)
    }

    /// A stream of the bytes, or of a part of them.
    pub async fn open_range(
        &self,
        digest: &str,
        range: Option<Range<u64>>,
    ) -> Result<GetResult, ArtifactError> {
        let path = path(digest)?;
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            ..GetOptions::default()
        };
        self.store
            .get_opts(&path, options)
            .await
            .map_err(|e| missing(digest, e))
    }

    /// Size in bytes.
    pub async fn size(&self, digest: &str) -> Result<u64, ArtifactError> {
        let path = path(digest)?;
        Ok(self
            .store
            .head(&path)
            .await
            .map_err(|e| missing(digest, e))?
            .size)
    }
}

/// `sha256:` and the digest in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        use std::fmt::Write as _;
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}

fn path(digest: &str) -> Result<Path, ArtifactError> {
    let hex = digest
        .strip_prefix("sha256:")
        .filter(|h| h.len() == 64 && h.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        .ok_or_else(|| ArtifactError::NotADigest(digest.into()))?;
    Ok(Path::from(format!("sha256/{}/{}", &hex[..2], &hex[2..])))
}

fn missing(digest: &str, error: object_store::Error) -> ArtifactError {
    match error {
        object_store::Error::NotFound { .. } => ArtifactError::Missing(digest.into()),
        other => ArtifactError::Store(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_a_folder() -> (tempfile::TempDir, Artifacts) {
        let folder = tempfile::tempdir().expect("folder");
        let data = folder.path().display().to_string();
        let vars = [("FOREWRIGHT_SERVER_DATA".to_owned(), data)];
        let config = Config::load(None, vars.into_iter()).expect("valid");
        let artifacts = Artifacts::open(&config).expect("opened");
        (folder, artifacts)
    }

    #[tokio::test]
    async fn bytes_come_back_under_their_digest() {
        let (_folder, artifacts) = in_a_folder();
        let digest = artifacts
            .put(Bytes::from_static(b"G28\n"))
            .await
            .expect("kept");
        assert_eq!(digest, super::digest(b"G28\n"));
        assert_eq!(artifacts.get(&digest).await.expect("there"), &b"G28\n"[..]);
        assert_eq!(artifacts.size(&digest).await.expect("there"), 4);
        let part = artifacts
            .open_range(&digest, Some(1..3))
            .await
            .expect("there");
        assert_eq!(part.bytes().await.expect("read"), &b"28"[..]);
    }

    #[tokio::test]
    async fn a_lie_about_the_digest_keeps_nothing() {
        let (_folder, artifacts) = in_a_folder();
        let claimed = super::digest(b"other");
        let refused = artifacts
            .put_claimed(&claimed, Bytes::from_static(b"bytes"))
            .await;
        assert!(matches!(refused, Err(ArtifactError::Mismatch { .. })));
        assert!(matches!(
            artifacts.get(&claimed).await,
            Err(ArtifactError::Missing(_))
        ));
    }

    #[tokio::test]
    async fn a_digest_cannot_leave_the_folder() {
        let (_folder, artifacts) = in_a_folder();
        for evil in ["sha256:../../etc/passwd", "../x", "sha256:", "md5:00"] {
            assert!(matches!(
                artifacts.get(evil).await,
                Err(ArtifactError::NotADigest(_))
            ));
        }
    }
}
