//! Addresses: parts of them, and what of them is shown.

use ureq::http::Uri;

/// Scheme, host and port.
pub(super) fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?;
    let host = host.to_ascii_lowercase();
    Some((scheme, host, uri.port_u16().unwrap_or(usual)))
}

/// An address without its query, which may sign it, and without a name and password.
pub(super) fn plain(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

/// Scheme, host and port of an address as they stand in it.
pub(super) fn host(url: &str) -> String {
    plain(url)
        .splitn(4, '/')
        .take(3)
        .collect::<Vec<_>>()
        .join("/")
}

/// `text` as a part of an address; its slashes stay where `keep` says so.
pub(super) fn encoded(text: &str, keep: &str) -> String {
    let mut address = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) {
            address.push(c);
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_host_and_port_together_are_the_same_place() {
        let same = |a, b| origin(a).is_some() && origin(a) == origin(b);
        assert!(same("https://hub.co/a", "https://HUB.co:443/b?c"));
        for other in [
            "http://hub.co/a",
            "https://hub.co:444/a",
            "https://cdn.hub.co/a",
            "https://hub.co@evil.co/a",
            "https://hub.co.evil.co/a",
        ] {
            assert!(!same("https://hub.co/a", other), "{other}");
        }
        assert_eq!(origin("ftp://hub.co/a"), None);
    }

    #[test]
    fn what_may_be_secret_in_an_address_is_not_shown() {
        assert_eq!(
            plain("https://me:pass@cdn.co/a/b?X-Signature=1#c"),
            "https://cdn.co/a/b"
        );
    }

    #[test]
    fn names_become_parts_of_addresses() {
        assert_eq!(encoded("a b/ü#%?.bin", "/"), "a%20b/%C3%BC%23%25%3F.bin");
        assert_eq!(encoded("feature/new", ""), "feature%2Fnew");
    }
}
