//! The capabilities, each with what makes it handy.

/// Bytes by digest. The grant says which media types, and how many bytes a call may write, in at most 256 artifacts.
pub mod artifacts {
    pub use crate::bindings::forewright::plugin::artifacts::{Reader, Writer, create, open};
    pub use crate::types::{ArtifactRef, CapabilityError, PluginError};

    /// The most that is read or appended in one go: 1 MiB.
    pub const PIECE: u32 = 1 << 20;

    /// The bytes of an artifact, from its beginning, in pieces of at most [`PIECE`].
    pub struct Pieces {
        reader: Reader,
        offset: u32,
        size: u32,
    }

    impl Pieces {
        /// Of the whole artifact, in bytes.
        #[must_use]
        pub fn size(&self) -> u32 {
            self.size
        }
    }

    impl Iterator for Pieces {
        type Item = Result<Vec<u8>, CapabilityError>;

        fn next(&mut self) -> Option<Self::Item> {
            if self.offset >= self.size {
                return None;
            }
            let piece = self.reader.read(self.offset, PIECE);
            // A piece that could not be read is the last one; so is an empty one.
            let read = piece.as_ref().map_or(0, Vec::len);
            self.offset = match u32::try_from(read) {
                Ok(read @ 1..) => self.offset.saturating_add(read),
                _ => self.size,
            };
            Some(piece)
        }
    }

    /// Opens an artifact to read it piece by piece.
    ///
    /// # Errors
    ///
    /// If the call was neither given this artifact nor has made it, or it cannot be read now.
    pub fn pieces(artifact: &ArtifactRef) -> Result<Pieces, CapabilityError> {
        let reader = open(artifact)?;
        let size = reader.size();
        Ok(Pieces {
            reader,
            offset: 0,
            size,
        })
    }

    /// Reads an artifact whole.
    ///
    /// # Errors
    ///
    /// Unsupported if it has more than `most` bytes; else like [`pieces`].
    pub fn read(artifact: &ArtifactRef, most: u32) -> Result<Vec<u8>, PluginError> {
        let pieces = pieces(artifact)?;
        let size = pieces.size();
        if size > most {
            let text = format!("`{}` has {size} bytes, more than {most}", artifact.name);
            return Err(PluginError::Unsupported(text));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        for piece in pieces {
            bytes.extend(piece?);
        }
        Ok(bytes)
    }

    /// Keeps bytes as a new artifact. A name is a file's, without a folder.
    ///
    /// # Errors
    ///
    /// If the media type is not granted, or not as many bytes.
    pub fn write(
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<ArtifactRef, CapabilityError> {
        let writer = create(name, media_type)?;
        for piece in bytes.chunks(PIECE as usize) {
            writer.append(piece)?;
        }
        Writer::finish(writer)
    }
}

/// Requests to other systems. The grant names the origins and the largest answer, headers included.
pub mod http {
    pub use crate::bindings::forewright::plugin::http::{Request, Response, send};
    pub use crate::types::{CapabilityError, Duration};
}

/// What the plugin remembers from call to call. The grant says how many KiB, keys included.
///
/// A call sees what was remembered when it began, and what it has written since. It is kept only if the call succeeds
/// and nobody else wrote a key meanwhile that this call read or wrote; otherwise the call is run again.
pub mod state {
    pub use crate::bindings::forewright::plugin::state::{Entry, get, remove, set};
    pub use crate::types::CapabilityError;
}

/// What was measured. The grant says which metrics.
pub mod telemetry {
    pub use crate::bindings::forewright::plugin::telemetry::query;
    pub use crate::types::{CapabilityError, Instant, Series};
}
