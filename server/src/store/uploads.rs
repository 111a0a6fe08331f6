//! Uploads that can be resumed: announced with digest and size, received in pieces, stored once they are whole.
//!
//! A piece's bytes are stored before its row, and the row names them, so that of two connections that send the same
//! bytes at once one counts and the other learns where the upload stands.

use sea_orm::{ConnectionTrait, EntityTrait};

use super::database::{all, execute, for_update, number, one};
use super::{StoreError, new_id};

table!(
    /// Uploads: `open` or `stored`.
    upload, "upload", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    owner: String,
    digest: String,
    size_bytes: i64,
    media: String,
    received_bytes: i64,
    state: String,
    created_at: i64,
    expires_at: i64,
});

/// How many uploads one owner may have open; more would be a way to fill the disk with what nobody finishes.
pub const MAX_OPEN: i64 = 16;

/// What is to be uploaded.
#[derive(Debug, Clone, Copy)]
pub struct NewUpload<'a> {
    /// Who uploads it, and who alone may go on with it.
    pub owner: &'a str,
    /// The digest the bytes will have.
    pub digest: &'a str,
    /// How many there will be.
    pub size_bytes: i64,
    /// Their media type.
    pub media: &'a str,
    /// Whether they are stored already, so that none has to be sent.
    pub stored: bool,
    /// How long an upload is kept that nobody goes on with.
    pub ttl_ms: i64,
}

/// The owner's open upload of this digest, begun now if there is none; says whether it was. To be called in a
/// transaction.
///
/// # Errors
///
/// `upload_differs` when one of another size is open, `too_many_uploads` when the owner has enough to finish.
pub async fn begin(
    db: &impl ConnectionTrait,
    now: i64,
    new: &NewUpload<'_>,
) -> Result<(upload::Model, bool), StoreError> {
    let sql = "SELECT * FROM upload WHERE owner = $1 AND digest = $2 AND state = 'open'";
    let found: Option<upload::Model> = one(db, sql, values![new.owner, new.digest]).await?;
    match found {
        Some(row) if row.size_bytes == new.size_bytes => return Ok((row, false)),
        Some(row) => {
            return Err(StoreError::refused(
                "upload_differs",
                format_args!(
                    "upload `{}` of these bytes is open with {} bytes, not {}; abandon it first",
                    row.id, row.size_bytes, new.size_bytes
                ),
            ));
        }
        None => {}
    }
    let sql = "SELECT COUNT(*) AS n FROM upload WHERE owner = $1 AND state = 'open'";
    let open = number(db, sql, values![new.owner]).await?.unwrap_or(0);
    if open >= MAX_OPEN && !new.stored {
        return Err(StoreError::refused(
            "too_many_uploads",
            format_args!("you have {open} uploads open; finish or abandon one of them first"),
        ));
    }
    let sql = "INSERT INTO upload (id, owner, digest, size_bytes, media, received_bytes, state, \
               created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING *";
    let (received, state) = match new.stored {
        true => (new.size_bytes, "stored"),
        false => (0, "open"),
    };
    let id = new_id(now);
    let values = values![
        id.as_str(),
        new.owner,
        new.digest,
        new.size_bytes,
        new.media,
        received,
        state,
        now,
        now + new.ttl_ms
    ];
    let row = one(db, sql, values).await?;
    Ok((row.ok_or_else(|| StoreError::unknown("upload", id))?, true))
}

/// One upload of this owner.
pub async fn get(
    db: &impl ConnectionTrait,
    owner: &str,
    id: &str,
) -> Result<upload::Model, StoreError> {
    let row = upload::Entity::find_by_id(id.to_owned()).one(db).await?;
    row.filter(|row| row.owner == owner)
        .ok_or_else(|| StoreError::unknown("upload", id))
}

/// A piece whose bytes are stored.
#[derive(Debug, Clone, PartialEq, Eq, sea_orm::FromQueryResult)]
pub struct Piece {
    /// Where it begins in the whole.
    pub at_byte: i64,
    /// Its size.
    pub size_bytes: i64,
    /// Where its bytes lie.
    pub object: String,
}

/// Counts a piece whose bytes are stored; `false` when the upload has gone on meanwhile, or is no longer open. To be
/// called in a transaction.
pub async fn receive(
    db: &impl ConnectionTrait,
    expires_at: i64,
    id: &str,
    piece: &Piece,
) -> Result<bool, StoreError> {
    let sql = "UPDATE upload SET received_bytes = received_bytes + $3, expires_at = $4 \
               WHERE id = $1 AND received_bytes = $2 AND state = 'open' \
               AND received_bytes + $3 <= size_bytes";
    let values = values![id, piece.at_byte, piece.size_bytes, expires_at];
    if execute(db, sql, values).await? == 0 {
        return Ok(false);
    }
    let sql = "INSERT INTO upload_piece (upload, at_byte, size_bytes, object) \
               VALUES ($1, $2, $3, $4)";
    let values = values![id, piece.at_byte, piece.size_bytes, piece.object.as_str()];
    execute(db, sql, values).await?;
    Ok(true)
}

/// The pieces of an upload, in order.
pub async fn pieces(db: &impl ConnectionTrait, id: &str) -> Result<Vec<Piece>, StoreError> {
    let sql = "SELECT at_byte, size_bytes, object FROM upload_piece WHERE upload = $1 \
               ORDER BY at_byte";
    all(db, sql, values![id]).await
}

/// Notes that the whole is stored; its pieces are not needed any more. To be called in a transaction.
pub async fn finish(db: &impl ConnectionTrait, id: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM upload_piece WHERE upload = $1";
    execute(db, sql, values![id]).await?;
    let sql = "UPDATE upload SET state = 'stored' WHERE id = $1";
    execute(db, sql, values![id]).await?;
    Ok(())
}

/// Forgets an upload. To be called in a transaction.
pub async fn forget(db: &impl ConnectionTrait, id: &str) -> Result<(), StoreError> {
    let sql = format!("SELECT * FROM upload WHERE id = $1 {}", for_update(db));
    let _: Option<upload::Model> = one(db, &sql, values![id]).await?;
    let sql = "DELETE FROM upload_piece WHERE upload = $1";
    execute(db, sql, values![id]).await?;
    execute(db, "DELETE FROM upload WHERE id = $1", values![id]).await?;
    Ok(())
}

/// Some uploads nobody went on with in time.
pub async fn expired(
    db: &impl ConnectionTrait,
    now: i64,
) -> Result<Vec<upload::Model>, StoreError> {
    let sql = "SELECT * FROM upload WHERE expires_at <= $1 ORDER BY expires_at LIMIT 100";
    all(db, sql, values![now]).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fresh, on_both};

    on_both!(
        an_upload_is_begun_once_and_counts_each_byte_once,
        an_owner_has_only_so_many_open,
        what_nobody_goes_on_with_expires,
    );

    fn new<'a>(owner: &'a str, digest: &'a str) -> NewUpload<'a> {
        NewUpload {
            owner,
            digest,
            size_bytes: 10,
            media: "model/ply",
            stored: false,
            ttl_ms: 1_000,
        }
    }

    fn piece(at_byte: i64, size_bytes: i64) -> Piece {
        Piece {
            at_byte,
            size_bytes,
            object: format!("o{at_byte}"),
        }
    }

    async fn an_upload_is_begun_once_and_counts_each_byte_once(f: Fresh) {
        let db = &f.db.write;
        let (upload, begun) = begin(db, f.now(), &new("c1", "d")).await.unwrap();
        assert!(begun);
        let (again, begun) = begin(db, f.now(), &new("c1", "d")).await.unwrap();
        assert_eq!((again.id.as_str(), begun), (upload.id.as_str(), false));
        let longer = NewUpload {
            size_bytes: 11,
            ..new("c1", "d")
        };
        let refused = begin(db, f.now(), &longer).await.unwrap_err();
        assert!(matches!(
            refused,
            StoreError::Refused {
                code: "upload_differs",
                ..
            }
        ));
        assert!(get(db, "c2", &upload.id).await.is_err(), "it is another's");

        let later = f.now() + 5;
        assert!(receive(db, later, &upload.id, &piece(0, 4)).await.unwrap());
        assert!(!receive(db, later, &upload.id, &piece(0, 4)).await.unwrap());
        assert!(
            !receive(db, later, &upload.id, &piece(4, 7)).await.unwrap(),
            "too long"
        );
        assert!(receive(db, later, &upload.id, &piece(4, 6)).await.unwrap());
        let upload = get(db, "c1", &upload.id).await.unwrap();
        assert_eq!((upload.received_bytes, upload.expires_at), (10, later));
        assert_eq!(
            pieces(db, &upload.id).await.unwrap(),
            [piece(0, 4), piece(4, 6)]
        );
        finish(db, &upload.id).await.unwrap();
        assert_eq!(get(db, "c1", &upload.id).await.unwrap().state, "stored");
        assert_eq!(pieces(db, &upload.id).await.unwrap(), []);
        let (next, begun) = begin(db, f.now(), &new("c1", "d")).await.unwrap();
        assert!(
            begun && next.id != upload.id,
            "a stored one is no longer open"
        );
    }

    async fn an_owner_has_only_so_many_open(f: Fresh) {
        let db = &f.db.write;
        for n in 0..MAX_OPEN {
            begin(db, f.now(), &new("c1", &n.to_string()))
                .await
                .unwrap();
        }
        let refused = begin(db, f.now(), &new("c1", "more")).await.unwrap_err();
        assert!(matches!(
            refused,
            StoreError::Refused {
                code: "too_many_uploads",
                ..
            }
        ));
        assert!(begin(db, f.now(), &new("c2", "more")).await.unwrap().1);
    }

    async fn what_nobody_goes_on_with_expires(f: Fresh) {
        let db = &f.db.write;
        let (upload, _) = begin(db, f.now(), &new("c1", "d")).await.unwrap();
        receive(db, f.now() + 1_000, &upload.id, &piece(0, 4))
            .await
            .unwrap();
        assert_eq!(expired(db, f.now()).await.unwrap(), []);
        f.advance(1_000);
        let found = expired(db, f.now()).await.unwrap();
        assert_eq!(found.len(), 1);
        forget(db, &upload.id).await.unwrap();
        assert!(get(db, "c1", &upload.id).await.is_err());
    }
}
