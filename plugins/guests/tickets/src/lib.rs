//! Opens an incident in ServiceNow (the Table API), once for each action however often it is asked for: the action's key is
//! the incident's `correlation_id`, which is looked for first.

use std::fmt::Write;

use plugin_sdk::act::PluginError;
use plugin_sdk::http::{self, CapabilityError, Request, Response};
use plugin_sdk::{host, info};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long one request may take, in milliseconds: two of them fit into a call.
const PATIENCE: f64 = 8_000.0;
const TABLE: &str = "incident";
/// What is said of an answer that makes no sense, at most.
const QUOTED: usize = 200;

#[derive(Deserialize)]
struct Config {
    url: String,
    authorization: String,
    table: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    asset: String,
    summary: String,
    #[serde(default)]
    details: String,
    urgency: Option<u8>,
}

#[derive(Deserialize)]
struct Incident {
    number: String,
    sys_id: String,
}

struct Tickets;

impl plugin_sdk::Action for Tickets {
    fn run(input: String, key: String) -> Result<String, PluginError> {
        let input: Input = read("the input", input.as_bytes())?;
        let desk = Desk::configured()?;
        let (incident, created) = match desk.find(&key)? {
            Some(incident) => (incident, false),
            None => (desk.open(&input, &key)?, true),
        };
        info!(asset = input.asset, ticket = incident.number; "a ticket is open");
        let told = json!({ "ticket": incident.number, "id": incident.sys_id, "created": created });
        Ok(told.to_string())
    }
}

plugin_sdk::action!(Tickets);

/// A table of incidents.
struct Desk {
    url: String,
    authorization: String,
}

impl Desk {
    fn configured() -> Result<Self, PluginError> {
        let config: Config = read("this plugin's settings", host::config().as_bytes())?;
        let (base, table) = (
            config.url.trim_end_matches('/'),
            config.table.as_deref().unwrap_or(TABLE),
        );
        Ok(Self {
            url: format!("{base}/api/now/table/{}", encoded(table)),
            authorization: config.authorization,
        })
    }

    /// The incident of an action, if an earlier try has opened it.
    fn find(&self, key: &str) -> Result<Option<Incident>, PluginError> {
        let (url, key) = (&self.url, encoded(&format!("correlation_id={key}")));
        let url = format!("{url}?sysparm_query={key}&sysparm_fields=number,sys_id&sysparm_limit=1");
        let found: Vec<Incident> = self.ask("GET", url, Vec::new())?;
        Ok(found.into_iter().next())
    }

    fn open(&self, input: &Input, key: &str) -> Result<Incident, PluginError> {
        let incident = json!({
            "short_description": input.summary,
            "description": format!("{}\n\nAsset: {}", input.details, input.asset).trim_start(),
            "urgency": input.urgency.unwrap_or(2).to_string(),
            "correlation_id": key,
            "correlation_display": "Forewright",
        });
        self.ask("POST", self.url.clone(), incident.to_string().into_bytes())
    }

    /// The `result` of an answer.
    fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        method: &str,
        url: String,
        body: Vec<u8>,
    ) -> Result<T, PluginError> {
        let request = Request {
            method: method.to_owned(),
            url,
            headers: [
                ("accept", "application/json"),
                ("content-type", "application/json"),
                ("authorization", &self.authorization),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            body,
        };
        let response = match http::send(&request, Some(PATIENCE)) {
            Ok(response) => response,
            // Nobody answered: the key sees to it that another try opens no second one.
            Err(CapabilityError::Unavailable(why)) => {
                info!("{why}");
                return Err(PluginError::Unavailable(None));
            }
            Err(error) => return Err(error.into()),
        };
        #[derive(Deserialize)]
        struct Told<T> {
            result: T,
        }
        match response.status {
            200 | 201 => read::<Told<T>>("the answer of ServiceNow", &response.body)
                .map(|told| told.result)
                .map_err(|error| PluginError::Internal(said(&error))),
            429 | 500..=599 => {
                info!("ServiceNow answered {}", response.status);
                Err(PluginError::Unavailable(after(&response)))
            }
            status => Err(PluginError::InvalidInput(format!(
                "ServiceNow answered {status}: {}",
                quoted(&response.body)
            ))),
        }
    }
}

fn read<T: for<'a> Deserialize<'a>>(what: &str, json: &[u8]) -> Result<T, PluginError> {
    serde_json::from_slice(json)
        .map_err(|why| PluginError::InvalidInput(format!("{what} cannot be read: {why}")))
}

fn said(error: &PluginError) -> String {
    match error {
        PluginError::InvalidInput(why) => why.clone(),
        other => format!("{other:?}"),
    }
}

/// What an error says for people, or the beginning of what came.
fn quoted(body: &[u8]) -> String {
    let told: Option<Value> = serde_json::from_slice(body).ok();
    let message = told
        .as_ref()
        .and_then(|told| told["error"]["message"].as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.chars().take(QUOTED).collect()
}

/// When it may be tried again, in milliseconds, if the answer says so in seconds.
fn after(response: &Response) -> Option<f64> {
    let mut headers = response.headers.iter();
    let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))?;
    let seconds: f64 = value.trim().parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some(seconds * 1_000.0)
}

/// For a URL: all but letters, digits and `-._~` as `%` and two digits (RFC 3986).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}
