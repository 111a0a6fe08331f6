//! A cell played by hand: every call of the lease protocol is a line of the story.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::digest;
use crate::{Answer, Client, Server};

/// An enrolled cell with an open connection.
#[derive(Debug, Clone)]
pub struct FakeCell {
    /// Its id.
    pub id: String,
    /// Speaks as it.
    pub client: Client,
    /// The number of its connection.
    pub epoch: i64,
}

/// The answer to a request for work.
#[derive(Debug)]
pub struct Leased(Answer, FakeCell);

/// A lease in hand.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Its id.
    pub id: String,
    /// The build.
    pub build: String,
    /// Repeated with every call.
    pub fence: i64,
    /// All the server said.
    pub view: Value,
    cell: FakeCell,
}

impl FakeCell {
    pub(crate) async fn enrol(server: &Server, name: &str) -> Self {
        let machine = json!({ "printers": ["prusa_mk4"], "materials": ["petg"] });
        let body = json!({ "name": name, "machine": machine });
        let asked = server.anonymous.post("/enrolments", &body).await;
        let asked = asked.expect(201);
        let code = asked["code"].as_str().expect("a code");
        let claim = json!({ "claim_secret": asked["claim_secret"] });
        let path = format!("/enrolments/{code}/token");
        let early = server.anonymous.post(&path, &claim).await;
        early.expect_problem(409, "enrolment_pending");
        let approval = format!("/enrolments/{code}/approve");
        server
            .operator
            .post(&approval, &json!({}))
            .await
            .expect(200);
        let granted = server.anonymous.post(&path, &claim).await.expect(200);
        let token = granted["token"].as_str().expect("a token");
        let mut cell = Self {
            id: granted["cell"].as_str().expect("a cell").to_owned(),
            client: server.anonymous.with_token(token),
            epoch: 0,
        };
        cell.reconnect().await;
        cell
    }

    /// Opens a new connection, as after a crash.
    pub async fn reconnect(&mut self) {
        let path = format!("/cells/{}/epochs", self.id);
        let opened = self.client.post(&path, &json!({})).await.expect(201);
        self.epoch = opened["epoch"].as_i64().expect("an epoch");
    }

    /// Asks for work.
    pub async fn lease(&self) -> Leased {
        self.lease_once(None, 0).await
    }

    /// Asks for work under a key, waiting so many seconds for some.
    pub async fn lease_once(&self, key: Option<&str>, wait_s: u32) -> Leased {
        let path = format!("/cells/{}/leases", self.id);
        let body = json!({
            "epoch": self.epoch, "printers": ["prusa_mk4"], "materials": ["petg"],
        });
        let mut request = self.client.request(Method::POST, &path).json(&body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if wait_s > 0 {
            request = request.header("prefer", format!("wait={wait_s}"));
        }
        Leased(self.client.send(request).await, self.clone())
    }

    /// The lease the server told of in this answer.
    ///
    /// # Panics
    ///
    /// When it told of none.
    #[must_use]
    #[track_caller]
    pub fn hold(&self, view: &Value) -> Lease {
        Lease {
            id: view["id"].as_str().expect("an id").to_owned(),
            build: view["build"].as_str().expect("a build").to_owned(),
            fence: view["fence"].as_i64().expect("a fence"),
            view: view.clone(),
            cell: self.clone(),
        }
    }

    /// The request of [`Self::lease_once`] as it goes over the wire.
    #[must_use]
    pub fn lease_bytes(&self, key: &str) -> Vec<u8> {
        let path = format!("/cells/{}/leases", self.id);
        let body = json!({ "epoch": self.epoch });
        let headers = [("idempotency-key", key), ("prefer", "wait=20")];
        self.client.post_bytes(&path, &headers, &body)
    }

    /// Says what is on the plate of a build that was leased under this fence.
    pub async fn resolve(&self, build: &str, fence: i64, on_plate: &str) -> Answer {
        let path = format!("/builds/{build}/resolve");
        let body = json!({ "on_plate": on_plate, "fence": fence });
        self.client.post(&path, &body).await
    }
}

impl Leased {
    /// The answer as it came.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.0
    }

    /// The lease of this build.
    ///
    /// # Panics
    ///
    /// When there is none, or of another build.
    #[track_caller]
    pub fn expect_build(self, build: &str) -> Lease {
        let view = self.0.expect(201);
        assert_eq!(view["build"], build, "{view}");
        self.1.hold(&view)
    }

    /// There is nothing to do.
    ///
    /// # Panics
    ///
    /// When there is.
    #[track_caller]
    pub fn expect_no_work(self) {
        self.0.expect(204);
        assert_eq!(self.0.header("retry-after"), "1");
    }
}

impl Lease {
    /// Says something of the build, with the lease's fence and the connection's epoch.
    pub async fn tell(&self, verb: &str, mut body: Value) -> Answer {
        body["fence"] = self.fence.into();
        body["epoch"] = self.cell.epoch.into();
        let path = format!("/leases/{}/{verb}", self.id);
        self.cell.client.post(&path, &body).await
    }

    /// The same lease held by a later connection, or by a liar.
    #[must_use]
    pub fn by(&self, cell: &FakeCell) -> Self {
        Self {
            cell: cell.clone(),
            ..self.clone()
        }
    }

    /// Renews the lease.
    pub async fn heartbeat(&self, seq: i64, percent: f64) -> Answer {
        let body = json!({
            "fence": self.fence, "epoch": self.cell.epoch, "seq": seq, "percent": percent,
            "phase": "printing",
        });
        let path = format!("/leases/{}", self.id);
        self.cell.client.put(&path, &body).await
    }

    /// Fetches the G-code, checks it and says that it lies at the machine.
    ///
    /// # Panics
    ///
    /// When the server sends other bytes or refuses.
    pub async fn stage(&self) -> &Self {
        let named = self.view["gcode"]["digest"].as_str().expect("a digest");
        let fetched = self.cell.client.get(&format!("/artifacts/{named}")).await;
        assert_eq!(digest(&fetched.bytes), named);
        self.tell("staged", json!({ "digest": named })).await.ok();
        self
    }

    /// Starts the machine.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    pub async fn start(&self) -> &Self {
        self.tell("start", json!({})).await.ok();
        self
    }

    /// Uploads a scan and ends the build with it.
    pub async fn complete(&self, scan: &[u8]) -> Answer {
        let named = digest(scan);
        let path = format!("/artifacts/{named}");
        self.cell.client.put_bytes(&path, scan).await.expect(201);
        let body = json!({ "scan": named, "report": { "by": "hand" } });
        self.tell("complete", body).await
    }

    /// Ends the build without a part.
    pub async fn fail(&self, code: &str) -> Answer {
        let body = json!({ "code": code, "message": "said the story" });
        self.tell("fail", body).await
    }
}
