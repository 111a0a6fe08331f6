//! Origins: where a request may go, read the same way in grants and in addresses.

/// Scheme, host and port of an address, in lower case and without the port that its scheme has anyway; none for what is
/// not plainly one.
///
/// Anything two readers could read differently is none: user names, backslashes, white space, other scripts.
#[must_use]
pub fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    if url.contains(|c: char| c == '\\' || c.is_whitespace() || c.is_control()) {
        return None;
    }
    let place = rest
        .split(['/', '?', '#'])
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let place = place.strip_suffix(usual).unwrap_or(&place);
    is_place(place).then(|| format!("{scheme}://{place}"))
}

/// Whether a text is an origin and nothing more.
#[must_use]
pub fn is_origin(text: &str) -> bool {
    let whole = |(_, rest): (&str, &str)| !rest.contains(['/', '?', '#']);
    text.split_once("://").is_some_and(whole) && origin(text).is_some()
}

/// A host, by name or address, and perhaps a port.
fn is_place(place: &str) -> bool {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port))
                if address
                    .chars()
                    .all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.') =>
            {
                (
                    address,
                    port.strip_prefix(':').or(port.is_empty().then_some("0")),
                )
            }
            _ => return false,
        },
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, Some("0")),
        },
    };
    let name = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
    let port = port.is_some_and(|port| {
        port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit())
    });
    !host.is_empty() && host.chars().all(name) && port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_every_reader_of_the_address_would_say() {
        let cases = [
            ("https://a.example/x?y#z", Some("https://a.example")),
            ("HTTPS://A.Example:8443", Some("https://a.example:8443")),
            ("https://a.example:443/", Some("https://a.example")),
            ("http://a.example:443/", Some("http://a.example:443")),
            ("https://a.example?x", Some("https://a.example")),
            ("http://[::1]:80/", Some("http://[::1]")),
            ("http://[::1]:8080/", Some("http://[::1]:8080")),
            ("http://10.0.0.1/", Some("http://10.0.0.1")),
            ("https://a.example@b.example/", None),
            ("https://a.example\\@b.example/", None),
            ("https://a.example:/", None),
            ("https://a.example:99999/", None),
            ("https://a.example:+1/", None),
            ("https://a:b:1/", None),
            ("https://[::1/", None),
            ("https://[a.example]/", None),
            ("https:///x", None),
            ("ftp://a.example/", None),
            ("a.example", None),
            ("https://a.example/\n", None),
            ("https://ä.example/", None),
        ];
        for (url, expected) in cases {
            assert_eq!(origin(url).as_deref(), expected, "{url}");
        }
        assert!(is_origin("https://a.example:8443"));
        assert!(!is_origin("https://a.example/"));
    }
}
