//! Who is asking, and whether their role may.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::error::ApiError;
use crate::rate::Known;
use crate::store;

/// What a token's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything but what only cells do.
    Operator,
    /// Windows, approvals, work orders, outcomes.
    Technician,
    /// Policies, workflows, runs.
    Engineer,
    /// Plugins.
    Developer,
    /// Sends telemetry.
    Agent,
    /// Takes builds.
    Cell,
}

impl Role {
    /// The word in tokens and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Technician => "technician",
            Self::Engineer => "engineer",
            Self::Developer => "developer",
            Self::Agent => "agent",
            Self::Cell => "cell",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [
            Self::Operator,
            Self::Technician,
            Self::Engineer,
            Self::Developer,
            Self::Agent,
            Self::Cell,
        ]
        .into_iter()
        .find(|role| role.name() == name)
    }
}

/// Somebody with a valid token.
#[derive(Debug, Clone)]
pub struct Principal {
    /// What they may do.
    pub role: Role,
    /// Who they are: the cell's id, the token's name.
    pub subject: String,
}

impl Principal {
    fn require(self, allowed: &[Role]) -> Result<Self, ApiError> {
        if allowed.contains(&self.role) {
            return Ok(self);
        }
        let names: Vec<_> = allowed.iter().map(|r| r.name()).collect();
        Err(ApiError::forbidden(format!(
            "the role `{}` may not do this; it takes {}",
            self.role.name(),
            names.join(" or ")
        )))
    }
}

impl FromRequestParts<App> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let who = match bearer(&parts.headers) {
            None => anonymous(app)?,
            Some(token) => {
                let found = store::tokens::by_hash(&app.db.read, &hash(token)).await?;
                let found = found.ok_or_else(ApiError::unauthorized)?;
                let role = Role::from_name(&found.role).ok_or_else(ApiError::unauthorized)?;
                Self {
                    role,
                    subject: found.subject,
                }
            }
        };
        if let Some(known) = parts.extensions.get::<Known>() {
            known.tell();
        }
        Ok(who)
    }
}

/// The token a request carries, whatever it is worth.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Who speaks without a token. Without a lock that is the operator; a token that is sent counts all the same, since a
/// cell has to say which cell it is.
fn anonymous(app: &App) -> Result<Principal, ApiError> {
    if app.config.server.authentication {
        return Err(ApiError::unauthorized());
    }
    Ok(Principal {
        role: Role::Operator,
        subject: "anyone".into(),
    })
}

macro_rules! guards {
    ($($(#[$doc:meta])* $name:ident($($role:ident),+);)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(pub Principal);

        impl FromRequestParts<App> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
                let who = Principal::from_request_parts(parts, app).await?;
                who.require(&[$(Role::$role),+]).map(Self)
            }
        }
    )*};
}

guards! {
    /// Whoever runs the fleet.
    Operator(Operator);
    /// Whoever may read what people see.
    Reader(Operator, Technician, Engineer, Developer, Agent);
    /// Whoever may read artifacts and events.
    Anybody(Operator, Technician, Engineer, Developer, Agent, Cell);
    /// Whoever maintains.
    Technician(Technician, Operator);
    /// Whoever writes scripts and starts runs.
    Engineer(Engineer, Operator);
    /// Whoever makes plugins.
    Developer(Developer, Operator);
    /// Whoever sends telemetry.
    Agent(Agent, Operator);
    /// Whoever tells of facts from outside.
    Teller(Engineer, Agent, Operator);
    /// A manufacturing cell.
    Cell(Cell);
    /// Whoever can tell what lies on a plate; a cell for its own alone.
    PlateReader(Operator, Technician, Cell);
    /// Whoever puts bytes into the artifact store.
    Uploader(Cell, Operator, Technician, Engineer);
}

impl Cell {
    /// Refuses a cell that speaks for another.
    pub fn must_be(&self, cell: &str) -> Result<(), ApiError> {
        if self.0.subject == cell {
            return Ok(());
        }
        Err(ApiError::forbidden(format!(
            "this token speaks for `{}`, not for `{cell}`",
            self.0.subject
        )))
    }
}

/// What is stored of a token.
pub fn hash(token: &str) -> String {
    crate::artifacts::digest(token.as_bytes())
}

/// A new token: 256 random bits, told apart from other secrets by its prefix.
pub fn new_token() -> String {
    let bits = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    format!("fw_{}{}", bits[0].simple(), bits[1].simple())
}

#[cfg(test)]
mod tests {
    use super::Role;
    use crate::testing::TestServer;

    #[test]
    fn an_approval_can_be_asked_of_every_role_there_is() {
        for role in workflows::run::ROLES {
            assert!(Role::from_name(role).is_some(), "{role}");
        }
    }

    #[tokio::test]
    async fn without_a_lock_a_cell_is_still_the_cell_its_token_says() {
        let server = TestServer::with(&[("FOREWRIGHT_SERVER_AUTHENTICATION", "false")]).await;
        let asked = r#"{"name":"c1"}"#;
        let asked = server
            .ask("POST", "/api/v1/enrolments", "", asked)
            .await
            .json();
        let path = format!(
            "/api/v1/enrolments/{}",
            asked["code"].as_str().expect("a code")
        );
        let approved = server.ask("POST", &format!("{path}/approve"), "", "").await;
        assert_eq!(approved.status, 200, "{:?}", approved.body);
        let claim = serde_json::json!({ "claim_secret": asked["claim_secret"] }).to_string();
        let claimed = server
            .ask("POST", &format!("{path}/token"), "", &claim)
            .await
            .json();
        let token = claimed["token"].as_str().expect("a token");

        let epochs = "/api/v1/cells/c1/epochs";
        let opened = server.ask("POST", epochs, token, "").await;
        assert_eq!(opened.status, 201, "{:?}", opened.body);
        assert_eq!(
            server.ask("POST", epochs, "", "").await.problem(403),
            "forbidden"
        );
        let unknown = server.ask("POST", epochs, "fw_0", "").await;
        assert_eq!(unknown.problem(401), "unauthorized");
        assert_eq!(
            server.ask("GET", "/api/v1/assets", "", "").await.status,
            200
        );
    }
}
