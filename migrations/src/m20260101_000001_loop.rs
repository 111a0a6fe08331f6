//! The first schema: fleet, scripts, runs and their queue, artifacts, cells, windows, and what is told to whom.
//!
//! Ids are text, times are milliseconds since the epoch, documents are JSON in text columns, so that both databases
//! hold the same values; only the spelling of a counter differs.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20260101_000001_loop"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let counter = match db.get_database_backend() {
            DbBackend::Postgres => "BIGSERIAL PRIMARY KEY",
            _ => "INTEGER PRIMARY KEY AUTOINCREMENT",
        };
        for part in [FLEET, SCRIPTS, RUNS, CELLS, TELLING] {
            db.execute_unprepared(&part.replace("COUNTER", counter))
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in TABLES.iter().rev() {
            db.execute_unprepared(&format!("DROP TABLE IF EXISTS {table}"))
                .await?;
        }
        Ok(())
    }
}

const TABLES: &[&str] = &[
    "setting",
    "token",
    "locality",
    "technician",
    "part",
    "asset",
    "model",
    "prediction",
    "outcome",
    "policy_revision",
    "workflow_revision",
    "decision",
    "run",
    "step",
    "journal",
    "event_wait",
    "approval",
    "artifact",
    "provenance",
    "design",
    "cell",
    "enrolment",
    "build",
    "lease",
    "maintenance_window",
    "work_order",
    "action",
    "event",
    "outbox",
    "webhook_delivery",
    "audit",
    "idempotency",
    "chore_tick",
];

const FLEET: &str = "
CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE token (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    subject TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE TABLE locality (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE technician (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE part (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE asset (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    locality TEXT NOT NULL,
    state TEXT NOT NULL,
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX asset_by_kind ON asset (kind, id);
CREATE TABLE model (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    asset_kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    evaluation TEXT NOT NULL,
    champion BOOLEAN NOT NULL,
    run_id TEXT,
    position TEXT,
    trained_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX model_by_step ON model (run_id, position);
CREATE INDEX model_by_asset_kind ON model (kind, asset_kind, champion);
CREATE TABLE prediction (
    id TEXT PRIMARY KEY,
    asset TEXT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX prediction_by_asset ON prediction (asset, at);
CREATE TABLE outcome (
    id TEXT PRIMARY KEY,
    asset TEXT NOT NULL,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    note TEXT NOT NULL,
    run_id TEXT,
    position TEXT,
    recorded_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX outcome_once ON outcome (asset, kind, at);
";

const SCRIPTS: &str = "
CREATE TABLE policy_revision (
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    source TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (name, digest)
);
CREATE UNIQUE INDEX policy_revision_active ON policy_revision (name) WHERE active;
CREATE TABLE workflow_revision (
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    source TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (name, digest)
);
CREATE UNIQUE INDEX workflow_revision_active ON workflow_revision (name) WHERE active;
CREATE TABLE decision (
    id TEXT PRIMARY KEY,
    asset TEXT NOT NULL,
    policy TEXT NOT NULL,
    revision TEXT NOT NULL,
    facts TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    operations BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    run_id TEXT,
    at BIGINT NOT NULL
);
CREATE INDEX decision_by_asset ON decision (asset, at);
";

const RUNS: &str = "
CREATE TABLE run (
    id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    revision TEXT NOT NULL,
    state TEXT NOT NULL,
    event TEXT NOT NULL,
    asset TEXT,
    seed BIGINT NOT NULL,
    decision TEXT,
    result TEXT,
    failure TEXT,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    started_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX run_by_state ON run (state, id);
CREATE INDEX run_by_asset ON run (asset, id);
CREATE TABLE step (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run (id),
    position TEXT NOT NULL,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority BIGINT NOT NULL DEFAULT 0,
    run_at BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempt BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL,
    fence BIGINT NOT NULL DEFAULT 0,
    lease_owner TEXT,
    lease_until BIGINT,
    wakes BIGINT NOT NULL DEFAULT 0,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    backoff_ms BIGINT NOT NULL,
    deadline BIGINT,
    input TEXT NOT NULL,
    waiting_for TEXT,
    error TEXT,
    share_done DOUBLE PRECISION NOT NULL DEFAULT 0,
    phase TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    UNIQUE (run_id, position)
);
CREATE INDEX step_ready ON step (queue, priority DESC, run_at, id) WHERE state = 'ready';
CREATE INDEX step_leased ON step (lease_until) WHERE state = 'leased';
CREATE TABLE journal (
    run_id TEXT NOT NULL REFERENCES run (id),
    position TEXT NOT NULL,
    ordinal BIGINT NOT NULL,
    kind TEXT NOT NULL,
    input TEXT NOT NULL,
    input_digest TEXT NOT NULL,
    line BIGINT,
    due BIGINT,
    outcome TEXT,
    recorded_at BIGINT NOT NULL,
    answered_at BIGINT,
    PRIMARY KEY (run_id, position)
);
CREATE TABLE event_wait (
    run_id TEXT NOT NULL REFERENCES run (id),
    position TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (run_id, position)
);
CREATE INDEX event_wait_by_key ON event_wait (name, key);
CREATE TABLE approval (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run (id),
    position TEXT NOT NULL,
    role TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    due BIGINT,
    answer BOOLEAN,
    comment TEXT,
    answered_by TEXT,
    created_at BIGINT NOT NULL,
    answered_at BIGINT,
    UNIQUE (run_id, position)
);
CREATE INDEX approval_by_state ON approval (state, id);
CREATE TABLE artifact (
    digest TEXT PRIMARY KEY,
    size_bytes BIGINT NOT NULL,
    media TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE provenance (
    digest TEXT NOT NULL REFERENCES artifact (digest),
    run_id TEXT NOT NULL,
    position TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    revision TEXT NOT NULL,
    recorded_at BIGINT NOT NULL,
    PRIMARY KEY (run_id, position, name)
);
CREATE INDEX provenance_by_digest ON provenance (digest);
CREATE TABLE design (
    id TEXT PRIMARY KEY,
    part TEXT NOT NULL,
    asset TEXT NOT NULL,
    run_id TEXT NOT NULL,
    position TEXT NOT NULL,
    artifacts TEXT NOT NULL,
    certificate TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (run_id, position)
);
";

const CELLS: &str = "
CREATE TABLE cell (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    machine TEXT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    seen_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE TABLE enrolment (
    code TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    machine TEXT NOT NULL,
    secret_hash TEXT NOT NULL,
    state TEXT NOT NULL,
    cell TEXT,
    created_at BIGINT NOT NULL,
    approved_at BIGINT,
    claimed_at BIGINT
);
CREATE TABLE build (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    position TEXT NOT NULL,
    gcode TEXT NOT NULL,
    gcode_size_bytes BIGINT NOT NULL,
    material TEXT NOT NULL,
    printer TEXT NOT NULL,
    design TEXT NOT NULL,
    state TEXT NOT NULL,
    fence BIGINT NOT NULL DEFAULT 0,
    cell TEXT,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    physical_starts BIGINT NOT NULL DEFAULT 0,
    share_done DOUBLE PRECISION NOT NULL DEFAULT 0,
    phase TEXT NOT NULL DEFAULT '',
    ending TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    UNIQUE (run_id, position)
);
CREATE INDEX build_waiting ON build (created_at, id) WHERE state = 'waiting';
CREATE TABLE lease (
    id TEXT PRIMARY KEY,
    build TEXT NOT NULL REFERENCES build (id),
    cell TEXT NOT NULL REFERENCES cell (id),
    epoch BIGINT NOT NULL,
    fence BIGINT NOT NULL,
    state TEXT NOT NULL,
    seq BIGINT NOT NULL DEFAULT -1,
    idempotency_key TEXT,
    claimed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    ending TEXT,
    UNIQUE (build, fence),
    UNIQUE (cell, idempotency_key)
);
CREATE INDEX lease_held ON lease (expires_at) WHERE state = 'held';
CREATE TABLE maintenance_window (
    id TEXT PRIMARY KEY,
    asset TEXT NOT NULL,
    state TEXT NOT NULL,
    from_at BIGINT NOT NULL,
    to_at BIGINT NOT NULL,
    proposal TEXT NOT NULL,
    run_id TEXT NOT NULL,
    position TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (run_id, position)
);
CREATE INDEX window_by_asset ON maintenance_window (asset, id);
CREATE INDEX window_by_time ON maintenance_window (from_at, to_at);
CREATE TABLE work_order (
    id TEXT PRIMARY KEY,
    asset TEXT NOT NULL,
    window_id TEXT NOT NULL,
    body TEXT NOT NULL,
    run_id TEXT NOT NULL,
    position TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (run_id, position)
);
CREATE TABLE action (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    position TEXT NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    at BIGINT NOT NULL,
    UNIQUE (run_id, position, key)
);
";

const TELLING: &str = "
CREATE TABLE event (
    seq COUNTER,
    at BIGINT NOT NULL,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    payload TEXT NOT NULL
);
CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    subject TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt BIGINT NOT NULL DEFAULT 0,
    due BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX outbox_waiting ON outbox (due) WHERE state = 'waiting';
CREATE TABLE webhook_delivery (
    id TEXT PRIMARY KEY,
    outbox_id TEXT NOT NULL UNIQUE REFERENCES outbox (id),
    target TEXT NOT NULL,
    subject TEXT NOT NULL,
    payload TEXT NOT NULL,
    status BIGINT,
    delivered_at BIGINT NOT NULL
);
CREATE TABLE audit (
    seq COUNTER,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    verb TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE TABLE idempotency (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    request_digest TEXT NOT NULL,
    response TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE TABLE chore_tick (
    chore TEXT NOT NULL,
    tick BIGINT NOT NULL,
    taken_at BIGINT NOT NULL,
    PRIMARY KEY (chore, tick)
);
";
