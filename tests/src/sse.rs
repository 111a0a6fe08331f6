//! Server-sent events as a browser reads them.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;

use crate::Client;

/// An open stream of events.
#[derive(Debug)]
pub struct Stream {
    response: Response,
    unread: String,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What it says.
    pub data: Value,
}

impl Stream {
    /// Opens the stream of events, from where another one broke if that is said.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    pub async fn open(client: &Client, last: Option<i64>) -> Self {
        let mut request = client.request(Method::GET, "/events/stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = client.open(request).await;
        assert_eq!(response.status().as_u16(), 200);
        Self {
            response,
            unread: String::new(),
        }
    }

    /// What the stream says before the first event: the history it is of, and the number it begins after.
    ///
    /// # Panics
    ///
    /// When it says something else, or nothing.
    pub async fn instance(&mut self) -> Value {
        let block = self.block().await;
        let data = block.strip_prefix("event: instance\ndata: ");
        let data = data.expect("the history before its events");
        serde_json::from_str(data).expect("JSON")
    }

    /// The next event.
    ///
    /// # Panics
    ///
    /// When none comes, or the stream ends.
    pub async fn next(&mut self) -> Event {
        loop {
            // A block without a number is no event.
            if let Some(event) = read(&self.block().await) {
                return event;
            }
        }
    }

    async fn block(&mut self) -> String {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.unread = rest;
                return block;
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await;
            let chunk = chunk.expect("an event in time").expect("an open stream");
            let chunk = chunk.expect("the stream goes on");
            self.unread += &String::from_utf8_lossy(&chunk);
        }
    }
}

fn read(block: &str) -> Option<Event> {
    let line = |name: &str| {
        let mut lines = block.lines();
        lines.find_map(|l| l.strip_prefix(name).map(str::trim))
    };
    Some(Event {
        id: line("id:")?.parse().ok()?,
        name: line("event:")?.to_owned(),
        data: serde_json::from_str(line("data:")?).ok()?,
    })
}
