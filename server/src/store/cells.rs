//! Cells: how they enrol, and the epoch of their present connection.

use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};
use serde_json::{Value, json};

use super::database::{execute, number, one, to_json};
use super::{StoreError, audit, events, leases};

table!(
    /// Cells; `machine` is the JSON they enrolled with.
    cell, "cell", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    name: String,
    machine: String,
    epoch: i64,
    seen_at: Option<i64>,
    created_at: i64,
});

table!(
    /// Requests to become a cell: `pending`, `approved`, `claimed` once the token was handed out, or `rejected`.
    enrolment, "enrolment", {
    #[sea_orm(primary_key, auto_increment = false)]
    code: String,
    name: String,
    machine: String,
    secret_hash: String,
    state: String,
    cell: Option<String>,
    created_at: i64,
    approved_at: Option<i64>,
    claimed_at: Option<i64>,
});

/// A request to become a cell.
#[derive(Debug, Clone, Copy)]
pub struct NewEnrolment<'a> {
    /// What the operator is shown.
    pub code: &'a str,
    /// What the cell wants to be called.
    pub name: &'a str,
    /// Its machine and capabilities.
    pub machine: &'a Value,
    /// Hash of the secret it will fetch its token with.
    pub secret_hash: &'a str,
}

/// How many requests may wait for an operator: they need no token, so that anybody could fill the table with them.
pub const MAX_PENDING: i64 = 100;

/// How long a request may wait before it makes room for another.
const PENDING_KEPT_MS: i64 = 24 * 3_600_000;

/// Keeps a request.
///
/// # Errors
///
/// `too_many_enrolments` when more wait than an operator could look at.
pub async fn enrol(
    db: &impl ConnectionTrait,
    now: i64,
    new: NewEnrolment<'_>,
) -> Result<(), StoreError> {
    if pending(db).await? >= MAX_PENDING {
        // Whoever filled the table must not keep cells out for ever.
        let sql = "DELETE FROM enrolment WHERE state = 'pending' AND created_at < $1";
        execute(db, sql, values![now - PENDING_KEPT_MS]).await?;
        if pending(db).await? >= MAX_PENDING {
            return Err(StoreError::refused(
                "too_many_enrolments",
                format_args!(
                    "{MAX_PENDING} enrolments wait for an operator; have those that are known \
                     approved, or ask again tomorrow, when the others have expired"
                ),
            ));
        }
    }
    let sql = "INSERT INTO enrolment (code, name, machine, secret_hash, state, created_at) \
               VALUES ($1, $2, $3, $4, 'pending', $5)";
    let machine = to_json("machine", new.machine)?;
    let values = values![new.code, new.name, machine, new.secret_hash, now];
    execute(db, sql, values).await?;
    let detail = json!({ "name": new.name });
    events::record(db, now, "enrolment.requested", new.code, &detail).await?;
    Ok(())
}

async fn pending(db: &impl ConnectionTrait) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) AS n FROM enrolment WHERE state = 'pending'";
    Ok(number(db, sql, values![]).await?.unwrap_or_default())
}

/// Every request, newest first.
pub async fn enrolments(db: &impl ConnectionTrait) -> Result<Vec<enrolment::Model>, StoreError> {
    Ok(enrolment::Entity::find()
        .order_by_desc(enrolment::Column::CreatedAt)
        .order_by_asc(enrolment::Column::Code)
        .all(db)
        .await?)
}

/// One request.
pub async fn enrolment(
    db: &impl ConnectionTrait,
    code: &str,
) -> Result<enrolment::Model, StoreError> {
    let row = enrolment::Entity::find_by_id(code.to_owned())
        .one(db)
        .await?;
    row.ok_or_else(|| StoreError::unknown("enrolment", code))
}

/// Makes the cell of a request, once; approving again changes nothing. To be called in a transaction.
///
/// # Errors
///
/// `enrolment_rejected` when an operator turned it away.
pub async fn approve(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    code: &str,
) -> Result<enrolment::Model, StoreError> {
    let request = enrolment(db, code).await?;
    if request.state == "rejected" {
        return Err(rejected());
    }
    // Names are chosen by cells, so two may ask for the same; the second gets its code behind it.
    let taken = find(db, &request.name).await?.is_some();
    let id = if taken {
        format!("{}-{}", request.name, code.to_lowercase())
    } else {
        request.name.clone()
    };
    let sql = "UPDATE enrolment SET state = 'approved', cell = $2, approved_at = $3 \
               WHERE code = $1 AND state = 'pending'";
    if execute(db, sql, values![code, id.as_str(), now]).await? == 1 {
        let sql = "INSERT INTO cell (id, name, machine, created_at) VALUES ($1, $2, $3, $4)";
        let values = values![
            id.as_str(),
            request.name.as_str(),
            request.machine.as_str(),
            now
        ];
        execute(db, sql, values).await?;
        let detail = json!({ "enrolment": code });
        audit::record_with_fact(
            db,
            now,
            "cell.enrolled",
            (actor, "approve_enrolment"),
            &id,
            &detail,
        )
        .await?;
    }
    enrolment(db, code).await
}

/// Turns a request away; rejecting again changes nothing. To be called in a transaction.
///
/// # Errors
///
/// `enrolment_claimed` when it was approved before: its cell is there, and only its token can be revoked.
pub async fn reject(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    code: &str,
) -> Result<enrolment::Model, StoreError> {
    let sql = "UPDATE enrolment SET state = 'rejected' WHERE code = $1 AND state = 'pending'";
    if execute(db, sql, values![code]).await? == 1 {
        let detail = json!({ "enrolment": code });
        audit::record_with_fact(
            db,
            now,
            "enrolment.rejected",
            (actor, "reject_enrolment"),
            code,
            &detail,
        )
        .await?;
    }
    let request = enrolment(db, code).await?;
    if request.state == "rejected" {
        return Ok(request);
    }
    Err(StoreError::refused(
        "enrolment_claimed",
        "the enrolment was approved before; revoke the token of its cell instead",
    ))
}

fn rejected() -> StoreError {
    StoreError::refused(
        "enrolment_rejected",
        "an operator has turned this enrolment away; ask them before enrolling anew",
    )
}

/// Takes the right to fetch the token of an approved request; again until the cell first connects, since the reply may
/// be lost.
///
/// # Errors
///
/// `claim_secret` when the secret is not the request's, `enrolment_pending` before the approval, `enrolment_rejected` when
/// there will be none, `enrolment_claimed` after the token was fetched.
pub async fn claim_token(
    db: &impl ConnectionTrait,
    now: i64,
    code: &str,
    secret_hash: &str,
) -> Result<String, StoreError> {
    let request = enrolment(db, code).await?;
    if request.secret_hash != secret_hash {
        return Err(StoreError::refused(
            "claim_secret",
            "the claim secret is not the one this enrolment was given",
        ));
    }
    let sql = "UPDATE enrolment SET state = 'claimed', claimed_at = $2 \
               WHERE code = $1 AND (state = 'approved' OR (state = 'claimed' AND \
               EXISTS (SELECT 1 FROM cell WHERE cell.id = enrolment.cell AND cell.epoch = 0)))";
    match (execute(db, sql, values![code, now]).await?, request.cell) {
        (1, Some(cell)) => Ok(cell),
        _ if request.state == "rejected" => Err(rejected()),
        _ if request.state == "pending" => Err(StoreError::refused(
            "enrolment_pending",
            "an operator has yet to approve this enrolment",
        )),
        _ => Err(StoreError::refused(
            "enrolment_claimed",
            "the token of this enrolment was handed out before; enrol again",
        )),
    }
}

/// One cell.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<cell::Model, StoreError> {
    let row = find(db, id).await?;
    row.ok_or_else(|| StoreError::unknown("cell", id))
}

async fn find(db: &impl ConnectionTrait, id: &str) -> Result<Option<cell::Model>, StoreError> {
    one(db, "SELECT * FROM cell WHERE id = $1", values![id]).await
}

/// Every cell, by name.
pub async fn list(db: &impl ConnectionTrait) -> Result<Vec<cell::Model>, StoreError> {
    Ok(cell::Entity::find()
        .order_by_asc(cell::Column::Id)
        .all(db)
        .await?)
}

/// Opens a new connection of a cell: its older ones are shut out, and what they held is lost to them. To be called
/// in a transaction.
pub async fn open_epoch(db: &impl ConnectionTrait, now: i64, id: &str) -> Result<i64, StoreError> {
    let sql = "UPDATE cell SET epoch = epoch + 1, seen_at = $2 WHERE id = $1 RETURNING epoch AS n";
    let epoch = number(db, sql, values![id, now]).await?;
    let epoch = epoch.ok_or_else(|| StoreError::unknown("cell", id))?;
    leases::lose_all_of_cell(db, now, id).await?;
    events::record(db, now, "cell.connected", id, &json!({ "epoch": epoch })).await?;
    Ok(epoch)
}

/// Checks that a cell speaks from its present connection, and notes that it spoke.
///
/// # Errors
///
/// `Stale` when it has opened a newer one.
pub async fn check_epoch(
    db: &impl ConnectionTrait,
    now: i64,
    id: &str,
    epoch: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE cell SET seen_at = $3 WHERE id = $1 AND epoch = $2";
    if execute(db, sql, values![id, epoch, now]).await? == 1 {
        return Ok(());
    }
    get(db, id).await?;
    Err(StoreError::stale("session epoch of cell", id))
}
