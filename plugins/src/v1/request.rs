//! What a guest's HTTP request may look like: it says what it wants, never where or how the message travels.

use super::bindings::http::Request;

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// Headers that say where a message goes, or where it ends.
const TRAVEL: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const MOST_HEADERS: usize = 64;
const MOST_HEADER_BYTES: u64 = 16 << 10;
const LONGEST_URL: usize = 8 << 10;

/// Fine, or what is wrong with it.
pub(super) fn check(request: &Request) -> Result<(), String> {
    if !METHODS.contains(&request.method.as_str()) {
        return Err(format!("the method is none of {}", METHODS.join(", ")));
    }
    if request.url.len() > LONGEST_URL {
        return Err(format!("an address has at most {LONGEST_URL} bytes"));
    }
    if request.headers.len() > MOST_HEADERS || size(&request.headers) > MOST_HEADER_BYTES {
        return Err(format!(
            "at most {MOST_HEADERS} headers of {MOST_HEADER_BYTES} bytes together"
        ));
    }
    for (name, value) in &request.headers {
        if !is_token(name) {
            return Err(format!("{name:?} is no name of a header"));
        }
        if TRAVEL.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(format!("the header `{name}` is the host's"));
        }
        if value.contains(|c: char| c.is_control() && c != '\t') {
            return Err(format!("the header `{name}` has control characters"));
        }
    }
    Ok(())
}

/// Bytes of headers.
pub(super) fn size(headers: &[(String, String)]) -> u64 {
    headers
        .iter()
        .map(|(name, value)| (name.len() + value.len()) as u64)
        .sum()
}

/// A `token` of RFC 9110 (5.6.2).
fn is_token(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(headers: &[(&str, &str)]) -> Result<(), String> {
        let headers = headers
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let request = Request {
            method: "POST".to_owned(),
            url: "https://a.example/".to_owned(),
            headers,
            body: Vec::new(),
        };
        check(&request)
    }

    #[test]
    fn a_request_cannot_be_made_into_two_or_sent_elsewhere() {
        assert_eq!(
            with(&[
                ("Content-Type", "application/json"),
                ("Idempotency-Key", "a\tb")
            ]),
            Ok(())
        );
        for (name, value) in [
            ("Host", "internal"),
            ("content-length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("x", "a\r\nb: c"),
            ("x\r\ny", "a"),
            ("x y", "a"),
            ("", "a"),
        ] {
            assert!(with(&[(name, value)]).is_err(), "{name:?}: {value:?}");
        }
        assert!(with(&[("x", &"v".repeat(20_000))]).is_err());
        assert!(with(&[("x", "v"); 65]).is_err());
        let connect = Request {
            method: "CONNECT".to_owned(),
            url: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        assert!(check(&connect).is_err());
    }
}
