//! Immutable bytes by digest: a local folder by default, S3-compatible by configuration.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, MultipartUpload, ObjectStore, ObjectStoreExt};
use sha2::{Digest as _, Sha256};

use crate::config::Config;

/// What is held in memory of an upload that comes in stretches, and so the most that a killed server loses of it.
pub const PIECE_BYTES: usize = 1024 * 1024;

/// What is held in memory of bytes that come in a stream.
const PART_BYTES: usize = 1024 * 1024;

/// S3 takes no smaller parts.
const S3_PART_BYTES: usize = 5 * 1024 * 1024;

/// Where artifacts lie. What the bytes mean and who made them is in the table `artifact`.
#[derive(Debug, Clone)]
pub struct Artifacts {
    store: Arc<dyn ObjectStore>,
    part_bytes: usize,
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
        let part_bytes = match settings.store.as_str() {
            "s3" => S3_PART_BYTES,
            _ => PART_BYTES,
        };
        Ok(Self { store, part_bytes })
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

    /// Keeps bytes that come in a stream, claimed to have this digest; of a lie nothing is kept.
    pub fn writer(&self, claimed: &str) -> Result<ArtifactWriter, ArtifactError> {
        Ok(ArtifactWriter {
            store: self.store.clone(),
            path: path(claimed)?,
            claimed: claimed.into(),
            hasher: Sha256::new(),
            buffer: BytesMut::new(),
            part_bytes: self.part_bytes,
            parts: None,
        })
    }

    /// Keeps a piece of an upload; answers where it lies. Two that send the same piece keep two.
    pub async fn put_piece(&self, upload: &str, bytes: Bytes) -> Result<String, ArtifactError> {
        let path = Path::from(format!("uploads/{upload}/{}", uuid::Uuid::now_v7()));
        let kept = self.store.put(&path, bytes.into()).await;
        kept.map_err(ArtifactError::Store)?;
        Ok(path.to_string())
    }

    /// Joins the pieces of an upload under the digest the whole was claimed to have.
    pub async fn join(&self, claimed: &str, pieces: &[String]) -> Result<(), ArtifactError> {
        let mut writer = self.writer(claimed)?;
        for piece in pieces {
            let found = self.store.get(&Path::from(piece.as_str())).await;
            let bytes = found.map_err(|e| missing(piece, e))?.bytes().await;
            writer.write(bytes.map_err(ArtifactError::Store)?).await?;
        }
        writer.finish().await
    }

    /// Removes whatever lies of an upload.
    pub async fn drop_pieces(&self, upload: &str) -> Result<(), ArtifactError> {
        let prefix = Path::from(format!("uploads/{upload}"));
        let listed: Vec<_> = self
            .store
            .list(Some(&prefix))
            .try_collect()
            .await
            .map_err(ArtifactError::Store)?;
        for piece in listed {
            match self.store.delete(&piece.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(ArtifactError::Store(error)),
            }
        }
        Ok(())
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

/// Bytes on their way into the store, a piece of them in memory. Dropped before the end, nothing is kept.
pub struct ArtifactWriter {
    store: Arc<dyn ObjectStore>,
    path: Path,
    claimed: String,
    hasher: Sha256,
    buffer: BytesMut,
    part_bytes: usize,
    /// Begun with the first full piece; what fits into one is put at once.
    parts: Option<Box<dyn MultipartUpload>>,
}

impl ArtifactWriter {
    /// Adds bytes to the end.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), ArtifactError> {
        self.digest(&bytes).await?;
        while !bytes.is_empty() {
            let room = self.part_bytes - self.buffer.len();
            if self.parts.is_some() && self.buffer.is_empty() {
                // It will be full again; growing into it would take twice the room.
                self.buffer.reserve(self.part_bytes);
            }
            let part = bytes.split_to(room.min(bytes.len()));
            self.buffer.extend_from_slice(&part);
            if self.buffer.len() == self.part_bytes {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Puts everything in its place at once, if it is what was claimed.
    pub async fn finish(mut self) -> Result<(), ArtifactError> {
        let actual = named(&self.hasher.clone().finalize());
        if actual != self.claimed {
            if let Some(mut parts) = self.parts.take() {
                parts.abort().await.map_err(ArtifactError::Store)?;
            }
            return Err(ArtifactError::Mismatch {
                claimed: self.claimed,
                actual,
            });
        }
        if self.parts.is_none() {
            let bytes = self.buffer.split().freeze();
            let kept = self.store.put(&self.path, bytes.into()).await;
            return kept.map(drop).map_err(ArtifactError::Store);
        }
        if !self.buffer.is_empty() {
            self.send().await?;
        }
        if let Some(mut parts) = self.parts.take() {
            parts.complete().await.map_err(ArtifactError::Store)?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), ArtifactError> {
        let piece = self.buffer.split().freeze();
        if self.parts.is_none() {
            let begun = self.store.put_multipart(&self.path).await;
            self.parts = Some(begun.map_err(ArtifactError::Store)?);
        }
        if let Some(parts) = &mut self.parts {
            parts
                .put_part(piece.into())
                .await
                .map_err(ArtifactError::Store)?;
        }
        Ok(())
    }

    /// Long pieces are digested beside the runtime, which has others to serve.
    async fn digest(&mut self, bytes: &Bytes) -> Result<(), ArtifactError> {
        if bytes.len() < 256 * 1024 {
            self.hasher.update(bytes);
            return Ok(());
        }
        let (mut hasher, bytes) = (std::mem::take(&mut self.hasher), bytes.clone());
        let digested = tokio::task::spawn_blocking(move || {
            hasher.update(&bytes);
            hasher
        });
        self.hasher = digested
            .await
            .map_err(|source| ArtifactError::Store(object_store::Error::JoinError { source }))?;
        Ok(())
    }
}

/// `sha256:` and the digest in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    named(&Sha256::digest(bytes))
}

fn named(digest: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in digest {
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

    /// Bytes that fit no piece, and no two stretches of which are alike.
    fn many(count: usize) -> Vec<u8> {
        (0..count as u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8)
            .collect()
    }

    fn files(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| {
                if entry.path().is_dir() {
                    files(&entry.path())
                } else {
                    1
                }
            })
            .sum()
    }

    #[tokio::test]
    async fn a_stream_is_kept_whole_or_not_at_all() {
        let (folder, artifacts) = in_a_folder();
        for size in [0, 5, PART_BYTES, 2 * PART_BYTES + 17] {
            let bytes = many(size);
            let digest = super::digest(&bytes);
            let mut writer = artifacts.writer(&digest).expect("a digest");
            for chunk in bytes.chunks(1_234_567) {
                writer
                    .write(Bytes::copy_from_slice(chunk))
                    .await
                    .expect("written");
            }
            writer.finish().await.expect("kept");
            assert_eq!(artifacts.get(&digest).await.expect("there"), bytes);
        }
        let kept = files(folder.path());
        for size in [5, PART_BYTES + 5] {
            let claimed = super::digest(b"something else");
            let mut writer = artifacts.writer(&claimed).expect("a digest");
            writer.write(many(size).into()).await.expect("written");
            let refused = writer.finish().await;
            assert!(matches!(refused, Err(ArtifactError::Mismatch { .. })));
            assert!(artifacts.get(&claimed).await.is_err());
        }
        assert_eq!(files(folder.path()), kept, "nothing of it is left");
    }

    #[tokio::test]
    async fn pieces_are_joined_and_dropped() {
        let (folder, artifacts) = in_a_folder();
        let bytes = many(PIECE_BYTES + 100);
        let mut pieces = Vec::new();
        for chunk in [&bytes[..7], &bytes[7..PIECE_BYTES], &bytes[PIECE_BYTES..]] {
            let piece = Bytes::copy_from_slice(chunk);
            pieces.push(artifacts.put_piece("u1", piece).await.expect("kept"));
        }
        let digest = super::digest(&bytes);
        artifacts.join(&digest, &pieces).await.expect("joined");
        assert_eq!(artifacts.get(&digest).await.expect("there"), bytes);
        artifacts.drop_pieces("u1").await.expect("dropped");
        artifacts
            .drop_pieces("u1")
            .await
            .expect("there is nothing to drop");
        assert_eq!(files(folder.path()), 1);
        let gone = artifacts.join(&digest, &pieces).await;
        assert!(matches!(gone, Err(ArtifactError::Missing(_))));
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
