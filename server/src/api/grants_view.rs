//! Capabilities of plugins on the wire: what is asked for, granted and used.

use ::plugins::grants::{Artifacts, Capabilities, Http, State, Telemetry};
use ::plugins::world::Capability;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Powers with their reach; one that is not there is not granted, or not asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantsView {
    /// Bytes by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactsGrant>,
    /// What was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<TelemetryGrant>,
    /// What the plugin remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateGrant>,
    /// Requests to other systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpGrant>,
}

/// The reach of `artifacts`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsGrant {
    /// Media types that may be read and written, as globs.
    pub media: Vec<String>,
    /// MiB that a call may write.
    pub write_mib: u32,
}

/// The reach of `telemetry`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TelemetryGrant {
    /// Metrics that may be read, as globs.
    pub metrics: Vec<String>,
}

/// The reach of `state`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StateGrant {
    /// KiB of keys and values together.
    pub kib: u32,
}

/// The reach of `http`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpGrant {
    /// Origins, such as `https://example.service-now.com`, without a path.
    pub origins: Vec<String>,
    /// KiB of the largest answer.
    pub response_kib: u32,
}

impl From<Capabilities> for GrantsView {
    fn from(own: Capabilities) -> Self {
        Self {
            artifacts: own.artifacts.map(|own| ArtifactsGrant {
                media: own.media,
                write_mib: own.write_mib,
            }),
            telemetry: own.telemetry.map(|own| TelemetryGrant {
                metrics: own.metrics,
            }),
            state: own.state.map(|own| StateGrant { kib: own.kib }),
            http: own.http.map(|own| HttpGrant {
                origins: own.origins,
                response_kib: own.response_kib,
            }),
        }
    }
}

impl From<GrantsView> for Capabilities {
    fn from(told: GrantsView) -> Self {
        Self {
            artifacts: told.artifacts.map(|own| Artifacts {
                media: own.media,
                write_mib: own.write_mib,
            }),
            telemetry: told.telemetry.map(|own| Telemetry {
                metrics: own.metrics,
            }),
            state: told.state.map(|own| State { kib: own.kib }),
            http: told.http.map(|own| Http {
                origins: own.origins,
                response_kib: own.response_kib,
            }),
        }
    }
}

/// One capability of a plugin, as a person reads it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CapabilityView {
    /// `artifacts`, `telemetry`, `state` or `http`.
    pub capability: String,
    /// What it lets the plugin do.
    pub means: String,
    /// As a manifest asks for it.
    pub line: String,
    /// Whether it is granted at all.
    pub granted: bool,
}

impl CapabilityView {
    /// Everything that is asked for, beside what is granted.
    pub(super) fn of(asked: &Capabilities, granted: &Capabilities) -> Vec<Self> {
        let view = |capability: Capability| Self {
            capability: capability.name().to_owned(),
            means: asked.sentence(capability).unwrap_or_default(),
            line: asked.line(capability).unwrap_or_default(),
            granted: granted.has(capability),
        };
        asked.named().into_iter().map(view).collect()
    }
}
