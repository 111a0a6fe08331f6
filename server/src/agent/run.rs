//! The agent's loop: collect, keep, send, and wait out a server that is away.

use std::{io::Write as _, path::PathBuf, time::Duration};

use reqwest::{StatusCode, Url, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, MissedTickBehavior, sleep};
use tracing::{error, info, warn};

use super::{
    collect::Collector,
    outbox::{Collection, Outbox},
    pci::{self, PciDevice},
    reading::Reading,
};

/// The most samples kept for a server that is away: about an hour of a large host.
const OUTBOX_SAMPLES: usize = 200_000;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Where the server is, such as `http://127.0.0.1:8600`; without one nothing is sent.
    pub server: Option<String>,
    /// The agent's token.
    pub token: Option<String>,
    /// The asset this host is in the server; by default the name it has given itself.
    pub asset: Option<String>,
    /// The time between two collections.
    pub interval: Duration,
    /// Collect and send once, then end.
    pub once: bool,
    /// Print every collection as one line of JSON.
    pub json: bool,
    /// Where `proc` and `sys` are; `/` but in tests.
    pub root: PathBuf,
}

/// Why an agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The address of the server is none.
    #[error("server address `{address}` is not of the form http://HOST:PORT")]
    Address {
        /// What was given.
        address: String,
    },
    /// The host has no name and none was given.
    #[error("this host has no name; say which asset it is with --asset")]
    NoName,
    /// The kernel offers nothing.
    #[error("no readings below `{root}`; is this a Linux host?")]
    NoReadings {
        /// Where they were looked for.
        root: PathBuf,
    },
    /// The server does not accept the token; sending again will not help.
    #[error("server refused the token ({status}); it must be one of the role agent")]
    Refused {
        /// The status it answered with.
        status: StatusCode,
    },
    /// The one collection of `--once` did not arrive.
    #[error("failed to deliver the samples: {reason}")]
    Undelivered {
        /// What the server or the network said.
        reason: String,
    },
    /// The HTTP client could not be made.
    #[error("failed to prepare the HTTP client")]
    Client(#[source] reqwest::Error),
    /// The output went away.
    #[error("failed to print a collection")]
    Print(#[source] std::io::Error),
}

/// Collects and sends until interrupted, or once.
///
/// A server that is away is waited for, with growing pauses; what was collected meanwhile is kept
/// within bounds and sent later, oldest first.
pub async fn run(options: AgentOptions) -> Result<(), AgentError> {
    let mut agent = Agent::new(&options)?;
    let mut ticks = tokio::time::interval(options.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    agent.collector.collect();
    if options.once {
        // Rates need two readings; a second apart, or less if the interval is shorter.
        sleep(options.interval.min(Duration::from_secs(1))).await;
        agent.collect()?;
        return agent.deliver_once().await;
    }
    info!(agent.asset = %agent.asset, "collecting as asset `{}`", agent.asset);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        agent.collect()?;
        agent.deliver().await?;
    }
}

struct Agent {
    asset: String,
    collector: Collector,
    inventory: Vec<PciDevice>,
    inventory_sent: bool,
    outbox: Outbox,
    link: Option<Link>,
    root: PathBuf,
    json: bool,
}

impl Agent {
    fn new(options: &AgentOptions) -> Result<Self, AgentError> {
        let collector = Collector::new(options.root.clone());
        let named = options.asset.clone().or_else(|| collector.host_name());
        let server = options.server.as_deref();
        let link = server
            .map(|server| Link::new(server, options))
            .transpose()?;
        Ok(Self {
            asset: named.ok_or(AgentError::NoName)?,
            collector,
            inventory: pci::read(&options.root),
            inventory_sent: false,
            outbox: Outbox::new(OUTBOX_SAMPLES),
            link,
            root: options.root.clone(),
            json: options.json,
        })
    }

    fn collect(&mut self) -> Result<(), AgentError> {
        let readings = self.collector.collect();
        if readings.is_empty() {
            let root = self.root.clone();
            return Err(AgentError::NoReadings { root });
        }
        let time = now();
        if self.json {
            print(&self.asset, time, &readings, &self.inventory)?;
        }
        if self.link.is_some() {
            self.outbox.push(Collection { time, readings });
            let lost = self.outbox.take_lost();
            if lost > 0 {
                warn!(lost, "outbox is full: the {lost} oldest samples are lost");
            }
        }
        Ok(())
    }

    /// Sends what waits, unless the server asked for a pause or is away.
    async fn deliver(&mut self) -> Result<(), AgentError> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        if Instant::now() < link.quiet_until {
            return Ok(());
        }
        while let Some((count, request)) = self.outbox.request(&self.asset) {
            match link.send(&request).await? {
                Delivery::Arrived => {}
                Delivery::Unwanted(reason) => {
                    error!(
                        samples = count,
                        "server does not take the samples: {reason}"
                    );
                }
                Delivery::Away { reason, pause } => {
                    let waiting = self.outbox.samples();
                    let pause = link.back_off(pause);
                    warn!(
                        waiting,
                        "server is away, next attempt in {pause:?}: {reason}"
                    );
                    return Ok(());
                }
            }
            self.outbox.remove(count);
            link.pause = None;
        }
        if !self.inventory_sent && !self.inventory.is_empty() {
            self.inventory_sent = link.send_inventory(&self.asset, &self.inventory).await;
        }
        Ok(())
    }

    async fn deliver_once(&mut self) -> Result<(), AgentError> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        while let Some((count, request)) = self.outbox.request(&self.asset) {
            match link.send(&request).await? {
                Delivery::Arrived => self.outbox.remove(count),
                Delivery::Unwanted(reason) | Delivery::Away { reason, .. } => {
                    return Err(AgentError::Undelivered { reason });
                }
            }
        }
        if !self.inventory.is_empty() {
            link.send_inventory(&self.asset, &self.inventory).await;
        }
        Ok(())
    }
}

/// What became of a request.
#[derive(Debug)]
enum Delivery {
    Arrived,
    /// Sending it again cannot help.
    Unwanted(String),
    /// Sending it again may help, after the pause the server asked for.
    Away {
        reason: String,
        pause: Option<Duration>,
    },
}

/// The way to the server.
struct Link {
    client: reqwest::Client,
    base: Url,
    token: Option<String>,
    interval: Duration,
    /// The last pause, while the server is away.
    pause: Option<Duration>,
    quiet_until: Instant,
}

impl Link {
    fn new(server: &str, options: &AgentOptions) -> Result<Self, AgentError> {
        let address = || AgentError::Address {
            address: server.to_owned(),
        };
        let base = Url::parse(server).map_err(|_| address())?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(address());
        }
        // Another part of the process may have chosen it already, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(AgentError::Client)?;
        Ok(Self {
            client,
            base,
            token: options.token.clone(),
            interval: options.interval,
            pause: None,
            quiet_until: Instant::now(),
        })
    }

    async fn send(&self, request: &impl Serialize) -> Result<Delivery, AgentError> {
        let response = match self.post("/api/v1/telemetry", request).await {
            Ok(response) => response,
            Err(error) => {
                let reason = root_cause(&error);
                let pause = None;
                return Ok(Delivery::Away { reason, pause });
            }
        };
        let status = response.status();
        if status.is_success() {
            let report: Report = response.json().await.unwrap_or_default();
            if let Some(first) = report.rejected.first() {
                let (count, field, reason) = (report.rejected.len(), &first.field, &first.reason);
                warn!("server rejected {count} samples, the first for its {field}: {reason}");
            }
            return Ok(Delivery::Arrived);
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(AgentError::Refused { status });
        }
        let header = response.headers().get(header::RETRY_AFTER);
        let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
        let pause = seconds.map(Duration::from_secs);
        let problem: Problem = response.json().await.unwrap_or_default();
        let reason = format!("{status} {}", problem.detail);
        let again = status.is_server_error()
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
            );
        Ok(if again {
            Delivery::Away { reason, pause }
        } else {
            Delivery::Unwanted(reason)
        })
    }

    /// Tells the server what sits on the PCI bus; the same inventory is the same event.
    async fn send_inventory(&self, asset: &str, devices: &[PciDevice]) -> bool {
        let payload = serde_json::json!({ "asset": asset, "pci": devices });
        let digest = Sha256::digest(payload.to_string());
        let digest: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let event = serde_json::json!({
            "name": "host_inventory",
            "key": format!("{asset}/{digest}"),
            "payload": payload,
        });
        match self.post("/api/v1/events", &event).await {
            Ok(response) if response.status().is_server_error() => false,
            Ok(response) => {
                let status = response.status();
                if !status.is_success() {
                    warn!(%status, "server does not take the inventory of this host");
                }
                true
            }
            Err(_) => false,
        }
    }

    async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let mut request = self.client.post(url).json(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.send().await
    }

    /// Doubles the pause, up to a minute, but waits at least as long as the server asked.
    fn back_off(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = self.pause.map_or(self.interval, |pause| pause * 2);
        let pause = doubled
            .min(LONGEST_PAUSE)
            .max(asked.unwrap_or_default().min(LONGEST_PAUSE));
        self.pause = Some(pause);
        self.quiet_until = Instant::now() + pause;
        pause
    }
}

/// What the network said, such as that the connection was refused.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    rejected: Vec<ReportItem>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReportItem {
    field: String,
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    detail: String,
}

fn print(
    asset: &str,
    time: jiff::Timestamp,
    readings: &[Reading],
    inventory: &[PciDevice],
) -> Result<(), AgentError> {
    let line = serde_json::json!({
        "asset": asset,
        "time": format!("{time:.3}"),
        "readings": readings,
        "pci": inventory,
    });
    writeln!(std::io::stdout(), "{line}").map_err(AgentError::Print)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an agent is a client on its own host: its samples carry that host's clock"
)]
fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    // Milliseconds are all a server keeps.
    jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Json, Router, extract::State, http, response::IntoResponse, routing::post};
    use serde_json::Value;

    use super::*;

    type Seen = Arc<Mutex<(Vec<u16>, Vec<(String, Value)>)>>;

    /// A server that answers telemetry with the given statuses in turn, then with 200.
    async fn server(statuses: &[u16]) -> (String, Seen) {
        let mut statuses = statuses.to_vec();
        statuses.reverse();
        let seen: Seen = Arc::new(Mutex::new((statuses, Vec::new())));
        let router = Router::new()
            .route("/api/v1/telemetry", post(take))
            .route("/api/v1/events", post(take_event))
            .with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        (format!("http://{address}/"), seen)
    }

    async fn take(
        State(seen): State<Seen>,
        headers: http::HeaderMap,
        Json(body): Json<Value>,
    ) -> impl IntoResponse {
        assert_eq!(headers["authorization"], "Bearer secret");
        let mut seen = seen.lock().expect("not poisoned");
        let status = seen.0.pop().unwrap_or(200);
        if status == 200 {
            seen.1.push(("telemetry".to_owned(), body));
        }
        let status = http::StatusCode::from_u16(status).expect("a status");
        (status, Json(serde_json::json!({ "detail": "as told" })))
    }

    async fn take_event(State(seen): State<Seen>, Json(body): Json<Value>) -> http::StatusCode {
        seen.lock()
            .expect("not poisoned")
            .1
            .push(("event".to_owned(), body));
        http::StatusCode::CREATED
    }

    fn options(server: Option<String>) -> AgentOptions {
        AgentOptions {
            server,
            token: Some("secret".to_owned()),
            asset: Some("bench".to_owned()),
            interval: Duration::from_millis(30),
            once: true,
            json: false,
            root: "/".into(),
        }
    }

    #[tokio::test]
    async fn one_collection_arrives_as_a_batch() {
        let (address, seen) = server(&[]).await;
        run(options(Some(address))).await.expect("delivers");
        let seen = seen.lock().expect("not poisoned");
        let (_, batch) = &seen.1[0];
        let parsed = crate::ingest::json::parse(batch.to_string().as_bytes()).expect("parses");
        assert_eq!(parsed.rejected, []);
        assert!(
            parsed
                .samples
                .iter()
                .all(|sample| &*sample.asset == "bench")
        );
        assert!(
            parsed
                .samples
                .iter()
                .any(|sample| &*sample.metric == "memory_used_bytes")
        );
    }

    #[tokio::test]
    async fn a_server_that_is_away_gets_everything_later_and_in_order() {
        let (address, seen) = server(&[503, 429, 500]).await;
        let mut agent = Agent::new(&options(Some(address))).expect("starts");
        for _ in 0..5 {
            agent.collect().expect("collects");
            if let Some(link) = &mut agent.link {
                link.quiet_until = Instant::now();
            }
            agent.deliver().await.expect("goes on");
        }
        assert_eq!(agent.outbox.samples(), 0);
        let seen = seen.lock().expect("not poisoned");
        let batches = seen.1.iter().filter(|(kind, _)| kind == "telemetry");
        let samples = batches.flat_map(|(_, body)| body["samples"].as_array().expect("a list"));
        let times: Vec<&str> = samples
            .map(|s| s["time"].as_str().expect("a time"))
            .collect();
        assert!(times.is_sorted(), "oldest first");
        let memory = times.len();
        assert!(memory >= 5);
    }

    #[tokio::test]
    async fn the_pause_grows_while_the_server_is_away() {
        let (address, seen) = server(&[503, 503, 503]).await;
        let mut agent = Agent::new(&options(Some(address))).expect("starts");
        agent.collect().expect("collects");
        agent.deliver().await.expect("goes on");
        agent.deliver().await.expect("waits");
        assert_eq!(
            seen.lock().expect("not poisoned").0.len(),
            2,
            "the second was held back"
        );
        let link = agent.link.as_mut().expect("there is one");
        assert_eq!(link.back_off(None), Duration::from_millis(60));
        assert_eq!(
            link.back_off(Some(Duration::from_secs(7))),
            Duration::from_secs(7)
        );
        assert_eq!(
            link.back_off(Some(Duration::from_secs(7000))),
            LONGEST_PAUSE
        );
    }

    #[tokio::test]
    async fn what_cannot_go_on_says_why() {
        for (statuses, wanted) in [(&[401], "token"), (&[422], "as told"), (&[503], "as told")] {
            let (address, _) = server(statuses).await;
            let error = run(options(Some(address)))
                .await
                .expect_err("fails")
                .to_string();
            assert!(error.contains(wanted), "{error}");
        }
        for address in ["nowhere", "ftp://host", "http://"] {
            let error = run(options(Some(address.to_owned())))
                .await
                .expect_err("fails");
            assert!(matches!(error, AgentError::Address { .. }), "{error}");
        }
        let nothing = AgentOptions {
            root: "/nonexistent".into(),
            ..options(None)
        };
        let error = run(nothing).await.expect_err("fails");
        assert!(matches!(error, AgentError::NoReadings { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_batch_the_server_does_not_want_is_not_sent_forever() {
        let (address, seen) = server(&[422]).await;
        let mut agent = Agent::new(&options(Some(address))).expect("starts");
        agent.collect().expect("collects");
        agent.deliver().await.expect("goes on");
        assert_eq!(agent.outbox.samples(), 0);
        let seen = seen.lock().expect("not poisoned");
        assert!(seen.1.iter().all(|(kind, _)| kind == "event"));
    }
}
