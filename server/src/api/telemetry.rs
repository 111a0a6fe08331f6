//! Telemetry: samples in, ranges out.

use axum::body::Bytes;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;

use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Query};
use crate::ingest::{self, IngestError};
use crate::telemetry::{AppendReport, Bucket, RangeQuery, SeriesInfo, TelemetryError};

/// A batch of samples.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "describes what `ingest::json` reads without holding it twice"
)]
pub struct BatchBody {
    /// The samples.
    #[schema(max_items = 100_000)]
    samples: Vec<SampleBody>,
}

/// One measurement.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes what `ingest::json` reads without holding it twice"
)]
pub struct SampleBody {
    /// The asset it was taken from.
    asset: String,
    /// What was measured; the unit is part of the name.
    metric: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    time: String,
    /// The reading.
    value: f64,
}

/// What became of a batch: what is accepted is stored for good.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchReport {
    /// Items now stored.
    accepted: usize,
    /// Items left out, in order.
    rejected: Vec<RejectedView>,
}

/// An item that was not stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct RejectedView {
    /// Its place in the batch, from 0.
    index: usize,
    /// The field at fault.
    field: String,
    /// What is wrong with it.
    reason: String,
}

/// A series and how far it reaches.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesView {
    /// The asset.
    asset: String,
    /// The metric.
    metric: String,
    /// Its first sample.
    #[schema(value_type = String, format = DateTime)]
    first: Timestamp,
    /// Its last sample.
    #[schema(value_type = String, format = DateTime)]
    last: Timestamp,
    /// How many there are.
    count: u64,
}

/// Series by asset and metric.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesList {
    /// By asset and metric.
    series: Vec<SeriesView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// The samples of one stretch of time.
#[derive(Debug, Serialize, ToSchema)]
pub struct BucketView {
    /// Where the stretch begins.
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
    /// Smallest value.
    min: f64,
    /// Largest value.
    max: f64,
    /// Mean value.
    mean: f64,
    /// How many samples.
    count: u64,
}

/// A range of one series.
#[derive(Debug, Serialize, ToSchema)]
pub struct RangeView {
    /// In order of time.
    points: Vec<BucketView>,
}

/// Which series.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SeriesQuery {
    /// Only those of this asset.
    pub asset: Option<String>,
}

/// Which samples, and how finely.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RangeParams {
    /// The asset.
    pub asset: String,
    /// The metric.
    pub metric: String,
    /// First moment.
    #[param(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Last moment.
    #[param(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Width of a point, ms; every sample is a point if not said.
    #[param(minimum = 1)]
    pub step_ms: Option<i64>,
}

/// Store a batch of samples; items that cannot be stored are reported one by one, the rest is kept.
#[utoipa::path(post, path = "/api/v1/telemetry", tag = "telemetry", request_body = BatchBody,
    responses((status = 200, body = BatchReport)))]
pub async fn write_samples(
    app: App,
    _: auth::Agent,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> ApiResult<Json<BatchReport>> {
    let body = body.map_err(|_| ApiError::too_large(app.config.server.max_body_bytes))?;
    let parsed = ingest::json::parse(&body)?;
    let stored = app
        .telemetry
        .append(app.now_ms(), parsed.samples.clone())
        .await?;
    app.queue.notify_local();
    Ok(Json(parsed.report(stored).into()))
}

/// Store samples sent as Prometheus remote write 1.0: protobuf, snappy-compressed.
#[utoipa::path(post, path = "/api/v1/telemetry/write", tag = "telemetry",
    request_body(content = String, content_type = "application/x-protobuf"),
    responses((status = 204)))]
pub async fn remote_write(
    app: App,
    _: auth::Agent,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> ApiResult<StatusCode> {
    let body = body.map_err(|_| ApiError::too_large(app.config.server.max_body_bytes))?;
    let parsed = ingest::remote_write::decode(&body)?;
    let stored = app
        .telemetry
        .append(app.now_ms(), parsed.samples.clone())
        .await?;
    let report = parsed.report(stored);
    app.queue.notify_local();
    // The protocol knows no partial success: the rest is stored, and senders must not repeat a 400.
    match report.rejected.first() {
        None => Ok(StatusCode::NO_CONTENT),
        Some(first) => Err(ApiError::malformed(
            "partly_rejected",
            format!(
                "{} samples were stored and {} were not; the first of those, number {}: {}",
                report.accepted,
                report.rejected.len(),
                first.index,
                first.reason
            ),
        )
        .with("accepted", report.accepted)
        .with("rejected", report.rejected.len())),
    }
}

/// The series there are.
#[utoipa::path(get, path = "/api/v1/telemetry/series", tag = "telemetry", params(SeriesQuery),
    responses((status = 200, body = SeriesList)))]
pub async fn list_series(
    app: App,
    _: auth::Reader,
    Query(query): Query<SeriesQuery>,
) -> ApiResult<Json<SeriesList>> {
    let series = app.telemetry.series(query.asset.as_deref()).await?;
    Ok(Json(SeriesList {
        series: series.into_iter().map(Into::into).collect(),
        next: None,
    }))
}

/// A range of one series, down-sampled if asked.
#[utoipa::path(get, path = "/api/v1/telemetry/range", tag = "telemetry", params(RangeParams),
    responses((status = 200, body = RangeView)))]
pub async fn get_range(
    app: App,
    _: auth::Reader,
    Query(params): Query<RangeParams>,
) -> ApiResult<Json<RangeView>> {
    let query = RangeQuery {
        asset: params.asset,
        metric: params.metric,
        from_ms: params.from.0,
        to_ms: params.to.0,
        step_ms: params.step_ms,
    };
    let points = app.telemetry.query(query).await?;
    Ok(Json(RangeView {
        points: points.into_iter().map(Into::into).collect(),
    }))
}

impl From<AppendReport> for BatchReport {
    fn from(report: AppendReport) -> Self {
        let rejected = report.rejected.into_iter().map(|r| RejectedView {
            index: r.index,
            field: r.field.into_owned(),
            reason: r.reason,
        });
        Self {
            accepted: report.accepted,
            rejected: rejected.collect(),
        }
    }
}

impl From<SeriesInfo> for SeriesView {
    fn from(s: SeriesInfo) -> Self {
        Self {
            asset: s.asset.to_string(),
            metric: s.metric.to_string(),
            first: Timestamp(s.first_ms),
            last: Timestamp(s.last_ms),
            count: s.count,
        }
    }
}

impl From<Bucket> for BucketView {
    fn from(b: Bucket) -> Self {
        Self {
            time: Timestamp(b.time_ms),
            min: b.min,
            max: b.max,
            mean: b.mean,
            count: b.count,
        }
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        let detail = error.to_string();
        match error {
            IngestError::Json { line, column, .. } => Self::malformed("malformed_batch", detail)
                .with("line", line)
                .with("column", column),
            IngestError::Snappy { .. } => Self::malformed("malformed_snappy", detail),
            IngestError::Protobuf { offset, .. } => {
                Self::malformed("malformed_protobuf", detail).with("offset", offset)
            }
            IngestError::Oversized { limit, .. } => {
                Self::refused("oversized_batch", detail).with("limit", limit)
            }
        }
    }
}

impl From<TelemetryError> for ApiError {
    fn from(error: TelemetryError) -> Self {
        let detail = error.to_string();
        match error {
            TelemetryError::OversizedBatch { .. } => Self::refused("oversized_batch", detail),
            TelemetryError::EmptyRange { .. } => Self::malformed("empty_range", detail),
            TelemetryError::InvalidStep { .. } => Self::malformed("invalid_step", detail),
            TelemetryError::TooManyPoints { .. } => Self::refused("too_many_points", detail),
            TelemetryError::Database(error) => error.into(),
            other => Self::internal(anyhow::Error::from(other)),
        }
    }
}
