//! Requests of plugins to other systems: to no address of the server's own networks, unless it was granted as one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use ::plugins::v1::http::{Request, Response};
use ::plugins::v1::types::CapabilityError;
use futures::StreamExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Method};

/// One for all calls: what it knows of certificates takes long to read. Addresses that are written out never come to
/// the resolver; those the grant names.
static CLIENT: LazyLock<Result<Client, reqwest::Error>> = LazyLock::new(|| {
    Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .dns_resolver(std::sync::Arc::new(OutwardOnly))
        .build()
});

/// Sends a request, and reads no more than `most_bytes` of headers and body.
pub(super) async fn send(request: &Request, most_bytes: u64) -> Result<Response, CapabilityError> {
    let client = CLIENT
        .as_ref()
        .map_err(|error| CapabilityError::Unavailable(error.to_string()))?;
    let invalid = |why: &dyn std::fmt::Display| CapabilityError::Invalid(why.to_string());
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|e| invalid(&e))?;
    let mut builder = client.request(method, &request.url);
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let sent = builder.body(request.body.clone()).send().await;
    let answer = sent.map_err(|error| refusal(&error))?;
    let too_long =
        || CapabilityError::Quota(format!("the answer has more than {most_bytes} bytes"));
    let headers: Vec<(String, String)> = answer
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    let status = u32::from(answer.status().as_u16());
    let length = |(name, value): &(String, String)| (name.len() + value.len()) as u64;
    let mut left = most_bytes
        .checked_sub(headers.iter().map(length).sum())
        .ok_or_else(too_long)?;
    let mut body = Vec::new();
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| refusal(&error))?;
        left = left.checked_sub(piece.len() as u64).ok_or_else(too_long)?;
        body.extend_from_slice(&piece);
    }
    Ok(Response {
        status,
        headers,
        body,
    })
}

fn refusal(error: &reqwest::Error) -> CapabilityError {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let mut last = error.to_string();
    for cause in causes {
        if let Some(inward) = cause.downcast_ref::<Inward>() {
            return CapabilityError::Denied(inward.to_string());
        }
        last = cause.to_string();
    }
    CapabilityError::Unavailable(last)
}

/// A name that leads into the server's own networks.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{name}` leads to {address}, which is no address of the public network; to reach it, the grant has to name \
     the address"
)]
struct Inward {
    name: String,
    address: IpAddr,
}

/// Looks names up, and refuses those that lead anywhere but into the public network.
#[derive(Debug)]
struct OutwardOnly;

impl Resolve for OutwardOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(inward) = found.iter().find(|found| !is_public(found.ip())) {
                let address = inward.ip();
                return Err(Inward { name, address }.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the public network: what the registries of special addresses (RFC 6890 and those that
/// followed) do not list.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        // This host and this network; shared space of carriers; protocol assignments; benchmarks; reserved.
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let octets = address.octets();
    let inner =
        |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]);
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    match (a, b) {
        // Translated into version 4 on the way (RFC 6052, 8215 and 3056).
        (0x64, 0xff9b) => is_public_v4(inner(12)) && address.segments()[2..6] == [0; 4],
        (0x2002, _) => is_public_v4(inner(2)),
        // Protocol assignments, Teredo among them, and documentation.
        (0x2001, 0..0x200 | 0xdb8) => false,
        // What is given out to the public is all in here.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_of_the_own_networks_are_told_from_public_ones() {
        for public in [
            "1.1.1.1",
            "100.63.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        let inward = [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:a00:1::",
            "2001:db8::1",
            "2001::1",
            "fec0::1",
        ];
        for address in inward {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    /// Answers once with these bytes; its address.
    async fn answering(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1_024];
            let _ = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        address
    }

    fn request(url: String) -> Request {
        Request {
            method: "POST".to_owned(),
            url,
            headers: vec![("x-asked-by".to_owned(), "a plugin".to_owned())],
            body: b"{}".to_vec(),
        }
    }

    fn provided() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }

    #[tokio::test]
    async fn an_answer_of_any_status_is_an_answer_and_leads_nowhere_else() {
        provided();
        let address = answering(
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 4\r\n\r\ngone",
        )
        .await;
        let answer = send(&request(format!("http://{address}/a")), 1_000)
            .await
            .unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (302, &b"gone"[..]));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_not_read_to_its_end() {
        provided();
        let address =
            answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n0123456789012345678901234567890123456789")
                .await;
        let answer = send(&request(format!("http://{address}/")), 50).await;
        assert!(
            matches!(answer, Err(CapabilityError::Quota(_))),
            "{answer:?}"
        );
    }

    #[tokio::test]
    async fn a_name_that_leads_inward_is_refused_and_the_address_is_not() {
        provided();
        let address = answering(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        let by_name = send(
            &request(format!("http://localhost:{}/", address.port())),
            1_000,
        )
        .await;
        let Err(CapabilityError::Denied(why)) = by_name else {
            panic!("{by_name:?}");
        };
        assert!(why.contains("`localhost` leads to"), "{why}");
        let by_address = send(&request(format!("http://{address}/")), 1_000).await;
        assert_eq!(by_address.unwrap().status, 204);
        let nobody = send(&request("http://127.0.0.1:9/".to_owned()), 1_000).await;
        assert!(
            matches!(nobody, Err(CapabilityError::Unavailable(_))),
            "{nobody:?}"
        );
    }
}
