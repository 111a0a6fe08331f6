//! Compiled plugins in a private folder; what lies there is code, so only what this server put there is taken.
//!
//! A file's name is the component's digest, in a folder named after everything that decides what the code looks like.
//! Beside it lies an HMAC over its bytes, made with a key that only this server has: a file that somebody else wrote,
//! or that was cut off in a crash, is compiled again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ring::hmac;
use sha2::{Digest, Sha256};

use crate::hex;

/// The shortest key, in bytes.
const LEAST_KEY: usize = 32;
/// A file that was being written so long ago is not being written any more.
const LEFT: Duration = Duration::from_secs(3_600);
/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Compiled plugins in a folder.
pub struct Cache {
    folder: PathBuf,
    key: hmac::Key,
    most_bytes: u64,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file cannot be read or written.
    #[error("failed to {doing} `{path}`")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others can write into it, or exchange it.
    #[error(
        "`{path}` is not this user's alone (mode {mode:o}); compiled plugins are code, so it has to be"
    )]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key protects nothing.
    #[error("the cache's key has {0} bytes; {LEAST_KEY} are the least")]
    Key(usize),
    /// The name is no digest.
    #[error("`{0}` is not `sha256:` and 64 hexadecimal digits")]
    Name(String),
}

impl Cache {
    /// In `folder`, for one kind of code; `key` is the server's own, and what lies there is kept to `most_bytes`.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made, others may write into it, or the key is too short.
    pub fn new(folder: &Path, kind: &str, key: &[u8], most_bytes: u64) -> Result<Self, CacheError> {
        if key.len() < LEAST_KEY {
            return Err(CacheError::Key(key.len()));
        }
        let own = folder.join(kind);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&own).map_err(io_error("make", &own))?;
        // Who may write into the outer folder may put another in place of the inner one.
        for path in [folder, &own] {
            check_owner(path)?;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        Ok(Self {
            folder: own,
            key,
            most_bytes,
        })
    }

    /// The file with a component's code, if it is what this server put there. Marks it as used.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read; a file that is not there, or is not ours, is none.
    pub fn get(&self, digest: &str) -> Result<Option<PathBuf>, CacheError> {
        let path = self.path(digest)?;
        let Some(mut file) = existing(File::open(&path)).map_err(io_error("open", &path))? else {
            return Ok(None);
        };
        let seal = path.with_extension("hmac");
        let Some(seal) = existing(fs::read(&seal)).map_err(io_error("read", &seal))? else {
            return Ok(None);
        };
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece).map_err(io_error("read", &path))?;
            if read == 0 {
                break;
            }
            hash.update(&piece[..read]);
        }
        if hmac::verify(&self.key, &sealed(digest, hash), &seal).is_err() {
            return Ok(None);
        }
        // Used last is dropped last; that the time cannot be set is no reason not to run.
        let _ = file.set_modified(now());
        Ok(Some(path))
    }

    /// Keeps a component's code, and drops what was used longest ago if there is too much.
    ///
    /// # Errors
    ///
    /// If it cannot be written. What was there before may then count for nothing, and is compiled again.
    pub fn put(&self, digest: &str, code: &[u8]) -> Result<PathBuf, CacheError> {
        let path = self.path(digest)?;
        let seal_of_code = hmac::sign(&self.key, &sealed(digest, Sha256::new_with_prefix(code)));
        // The seal last: without it the code counts for nothing.
        let seal = path.with_extension("hmac");
        write(&path, code)?;
        write(&seal, seal_of_code.as_ref())?;
        self.prune(&path)?;
        Ok(path)
    }

    /// Drops a component's code; what runs goes on.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be removed.
    pub fn remove(&self, digest: &str) -> Result<(), CacheError> {
        let path = self.path(digest)?;
        for path in [path.with_extension("hmac"), path] {
            existing(fs::remove_file(&path)).map_err(io_error("remove", &path))?;
        }
        Ok(())
    }

    fn path(&self, digest: &str) -> Result<PathBuf, CacheError> {
        match hex::of_digest(digest) {
            Some(digits) => Ok(self.folder.join(format!("{digits}.cwasm"))),
            None => Err(CacheError::Name(digest.to_owned())),
        }
    }

    fn prune(&self, newest: &Path) -> Result<(), CacheError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(io_error("list", &self.folder))? {
            let path = entry.map_err(io_error("list", &self.folder))?.path();
            self.drop_leftover(&path)?;
            if path
                .extension()
                .is_none_or(|extension| extension != "cwasm")
                || path == newest
            {
                continue;
            }
            // Another process may have dropped it meanwhile.
            if let Some(about) =
                existing(fs::metadata(&path)).map_err(io_error("look at", &path))?
            {
                files.push((
                    about.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    about.len(),
                    path,
                ));
            }
        }
        files.sort();
        let own = fs::metadata(newest)
            .map_err(io_error("look at", newest))?
            .len();
        let mut bytes: u64 = own + files.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (_, size, path) in files {
            if bytes <= self.most_bytes {
                break;
            }
            for path in [path.with_extension("hmac"), path] {
                existing(fs::remove_file(&path)).map_err(io_error("remove", &path))?;
            }
            bytes -= size;
        }
        Ok(())
    }

    /// Removes what a crash left: a file that was being written, a seal whose code is gone.
    fn drop_leftover(&self, path: &Path) -> Result<(), CacheError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let old = |path: &Path| {
            let age = fs::metadata(path).and_then(|about| about.modified());
            age.ok()
                .and_then(|since| now().duration_since(since).ok())
                .is_some_and(|age| age > LEFT)
        };
        let leftover = match extension {
            Some("cwasm") => false,
            Some("hmac") => !path.with_extension("cwasm").exists() && old(path),
            _ => old(path),
        };
        if leftover {
            existing(fs::remove_file(path)).map_err(io_error("remove", path))?;
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file's own time, which the file system keeps by this clock"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// What the HMAC is over: the code under its name, since code of one plugin is no code of another.
fn sealed(digest: &str, code: Sha256) -> Vec<u8> {
    [digest.as_bytes(), code.finalize().as_slice()].concat()
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io {
        doing,
        path,
        source,
    }
}

fn existing<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Written aside and moved to its place, so that nobody sees half of it, and who has it open keeps the old one.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let failed = |source| io_error("write", path)(source);
    let aside = path.with_extension(hex::random_name().map_err(failed)?);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&aside, path));
    written.map_err(|source| {
        let _ = fs::remove_file(&aside);
        failed(source)
    })
}

/// Refuses a folder of another user, or one that others may write into.
fn check_owner(path: &Path) -> Result<(), CacheError> {
    let about = fs::metadata(path).map_err(io_error("look at", path))?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o022 != 0 || about.uid() != rustix::process::geteuid().as_raw() {
        let path = path.to_owned();
        return Err(CacheError::Open { path, mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u8) -> String {
        format!("sha256:{}", format!("{n:02x}").repeat(32))
    }

    fn cache(folder: &Path, key: &[u8]) -> Cache {
        Cache::new(folder, "test", &key.repeat(8), 100).unwrap()
    }

    #[test]
    fn what_is_put_is_got_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), b"own key");
        assert_eq!(cache.get(&name(1)).unwrap(), None);
        let path = cache.put(&name(1), b"code").unwrap();
        assert_eq!(cache.get(&name(1)).unwrap(), Some(path.clone()));
        assert_eq!(fs::read(&path).unwrap(), b"code");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        cache.remove(&name(1)).unwrap();
        cache.remove(&name(1)).unwrap();
        assert_eq!(cache.get(&name(1)).unwrap(), None);
        assert!(cache.get("sha256:../../etc/passwd").is_err());
    }

    #[test]
    fn what_somebody_else_wrote_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let own = cache(folder.path(), b"own key");
        let path = own.put(&name(1), b"code").unwrap();
        assert_eq!(
            cache(folder.path(), b"others'").get(&name(1)).unwrap(),
            None,
            "another server's"
        );
        fs::write(&path, b"evil").unwrap();
        assert_eq!(own.get(&name(1)).unwrap(), None, "changed");
        // The code of another plugin, with its own seal, under this one's name.
        let other = own.put(&name(2), b"other").unwrap();
        fs::copy(&other, &path).unwrap();
        fs::copy(other.with_extension("hmac"), path.with_extension("hmac")).unwrap();
        assert_eq!(own.get(&name(1)).unwrap(), None, "exchanged");
        fs::remove_file(other.with_extension("hmac")).unwrap();
        assert_eq!(own.get(&name(2)).unwrap(), None, "a crash before the seal");
    }

    #[test]
    fn a_folder_that_others_can_write_into_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        cache(folder.path(), b"own key");
        fs::set_permissions(
            folder.path().join("test"),
            fs::Permissions::from_mode(0o777),
        )
        .unwrap();
        let error = Cache::new(folder.path(), "test", &[7; 32], 100)
            .err()
            .unwrap();
        assert!(
            matches!(error, CacheError::Open { mode: 0o777, .. }),
            "{error}"
        );
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), b"own key");
        let old = |n: u8, hours: u64| {
            let path = cache.put(&name(n), &[n; 40]).unwrap();
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_modified(
                SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(hours * 3_600),
            )
            .unwrap();
        };
        old(1, 1);
        old(2, 2);
        cache.get(&name(1)).unwrap().unwrap();
        cache.put(&name(3), &[3; 40]).unwrap();
        assert!(cache.get(&name(1)).unwrap().is_some(), "used since");
        assert_eq!(cache.get(&name(2)).unwrap(), None);
        assert!(cache.get(&name(3)).unwrap().is_some());
        // What is larger than the cache is kept alone: it has to run.
        cache.put(&name(4), &[4; 400]).unwrap();
        assert!(cache.get(&name(4)).unwrap().is_some());
        assert_eq!(cache.get(&name(1)).unwrap(), None);
    }
}
