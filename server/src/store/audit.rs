//! Who did what: an append-only chain in which every row carries the hash of the one before.

use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult, QueryOrder};
use serde::Serialize;
use serde_json::{Value, json};

use super::database::{execute, one, rows_in, to_json};
use super::{StoreError, events, retention, sha256_hex};

table!(
    /// The audit chain.
    audit, "audit", {
    #[sea_orm(primary_key)]
    seq: i64,
    at: i64,
    actor: String,
    verb: String,
    subject: String,
    detail: String,
    hash: String,
});

/// Records who did what to what. Record it last in a transaction, as the chain has one end.
pub async fn record(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    verb: &str,
    subject: &str,
    detail: &Value,
) -> Result<(), StoreError> {
    events::in_order(db).await?;
    let before = last_hash(db).await?;
    let detail = to_json("audit detail", detail)?;
    append(db, now, &before, [actor, verb, subject, &detail]).await
}

/// Records a fact and who brought it about: what both say is the same.
///
/// Last in a transaction, like either alone. All who record wait for whoever is here, so it asks the database for as
/// little as can be: the fact and the end of the chain come in one answer.
pub async fn record_with_fact(
    db: &impl ConnectionTrait,
    now: i64,
    fact: &str,
    (actor, verb): (&str, &str),
    subject: &str,
    detail: &Value,
) -> Result<(), StoreError> {
    let detail = to_json("audit detail", detail)?;
    let last: Last = events::insert(db, now, [fact, subject, &detail], LAST_HASH).await?;
    append(db, now, &last.hash, [actor, verb, subject, &detail]).await
}

async fn append(
    db: &impl ConnectionTrait,
    now: i64,
    before: &str,
    deed: [&str; 4],
) -> Result<(), StoreError> {
    let hash = link(before, now, deed);
    let [actor, verb, subject, detail] = deed;
    let sql = "INSERT INTO audit (at, actor, verb, subject, detail, hash) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    execute(db, sql, values![now, actor, verb, subject, detail, hash]).await?;
    Ok(())
}

/// The end of the chain, which the next row follows from; empty before the first.
const LAST_HASH: &str = "COALESCE((SELECT hash FROM audit ORDER BY seq DESC LIMIT 1), '') AS hash";

#[derive(FromQueryResult)]
struct Last {
    hash: String,
}

async fn last_hash(db: &impl ConnectionTrait) -> Result<String, StoreError> {
    let last: Option<Last> = one(db, &format!("SELECT {LAST_HASH}"), values![]).await?;
    Ok(last.map_or_else(String::new, |last| last.hash))
}

/// A row of the chain to be recorded with others.
#[derive(Debug, Clone, Copy)]
pub struct NewDeed<'a> {
    /// Who did it.
    pub actor: &'a str,
    /// What was done.
    pub verb: &'a str,
    /// To what.
    pub subject: &'a str,
    /// JSON text.
    pub detail: &'a str,
}

#[derive(Serialize)]
struct Linked<'a> {
    n: usize,
    actor: &'a str,
    verb: &'a str,
    subject: &'a str,
    detail: &'a str,
    hash: String,
}

/// Records many deeds in their order: the chain is hashed here and written in one statement. Record them last in a
/// transaction, as the chain has one end.
pub async fn record_all(
    db: &impl ConnectionTrait,
    now: i64,
    deeds: &[NewDeed<'_>],
) -> Result<(), StoreError> {
    events::in_order(db).await?;
    let mut before = last_hash(db).await?;
    let mut linked = Vec::with_capacity(deeds.len());
    for (n, deed) in deeds.iter().enumerate() {
        let (actor, verb, subject, detail) = (deed.actor, deed.verb, deed.subject, deed.detail);
        let hash = link(&before, now, [actor, verb, subject, detail]);
        before.clone_from(&hash);
        linked.push(Linked {
            n,
            actor,
            verb,
            subject,
            detail,
            hash,
        });
    }
    let columns = [
        ("n", "bigint"),
        ("actor", "text"),
        ("verb", "text"),
        ("subject", "text"),
        ("detail", "text"),
        ("hash", "text"),
    ];
    let sql = format!(
        "INSERT INTO audit (at, actor, verb, subject, detail, hash) \
         SELECT $1, f.actor, f.verb, f.subject, f.detail, f.hash FROM {} ORDER BY f.n",
        rows_in(db, 2, &columns)
    );
    execute(db, &sql, values![now, to_json("audit rows", &linked)?]).await?;
    Ok(())
}

/// Records that somebody stored a document: its digest, as it may be long and stands in a table of its own.
pub async fn record_put<T: Serialize>(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    verb: &str,
    subject: &str,
    document: &T,
) -> Result<(), StoreError> {
    let digest = sha256_hex(to_json("document", document)?.as_bytes());
    let detail = json!({ "digest": format!("sha256:{digest}") });
    record(db, now, actor, verb, subject, &detail).await
}

/// The number of the first row that does not follow from the one before, if somebody changed the chain. The first that
/// is kept follows from what retention noted of the last that is not.
pub async fn first_broken(db: &impl ConnectionTrait) -> Result<Option<i64>, StoreError> {
    let rows = audit::Entity::find()
        .order_by_asc(audit::Column::Seq)
        .all(db)
        .await?;
    // Asked for after the rows: what is removed meanwhile stands before it.
    let start = retention::audit_start(db).await?;
    let mut before = start.hash;
    for row in rows.into_iter().filter(|row| row.seq > start.seq) {
        let texts = [&*row.actor, &*row.verb, &*row.subject, &*row.detail];
        if link(&before, row.at, texts) != row.hash {
            return Ok(Some(row.seq));
        }
        before = row.hash;
    }
    Ok(None)
}

/// Lengths stand before the texts, so that no two different rows hash the same bytes.
fn link(before: &str, at: i64, texts: [&str; 4]) -> String {
    let mut bytes = format!("{before}\n{at}\n").into_bytes();
    for text in texts {
        bytes.extend_from_slice(format!("{}\n{text}\n", text.len()).as_bytes());
    }
    sha256_hex(&bytes)
}
