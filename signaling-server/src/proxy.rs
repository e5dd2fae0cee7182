//! The client's address behind proxies: what a trusted proxy says in `X-Forwarded-For` or `Forwarded` (RFC 7239).

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderMap;
use serde::Deserialize;

/// The header in which the proxies write whom they speak for. Only one is believed: most proxies write one and pass on
/// whatever the client wrote in the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, as nginx and `HAProxy` write it.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// A network, as `192.0.2.0/24`, `2001:db8::/32` or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    addr: u128,
    prefix: u32,
}

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is written 192.0.2.0/24, 2001:db8::/32, or as a single address")]
pub struct NetworkError;

/// IPv4 lies in the last 32 bits of the addresses that are compared.
const MAPPED: u32 = 96;

fn bits(addr: IpAddr) -> u128 {
    match addr.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (addr, prefix) = text.split_once('/').map_or((text, None), |(addr, prefix)| (addr, Some(prefix)));
        let addr: IpAddr = addr.parse().map_err(|_| NetworkError)?;
        let (most, offset) = if addr.is_ipv4() { (32, MAPPED) } else { (128, 0) };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| NetworkError)?;
        if prefix > most {
            return Err(NetworkError);
        }
        Ok(Self { addr: bits(addr), prefix: prefix + offset })
    }
}

impl Network {
    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        let shift = 128 - self.prefix;
        (self.addr ^ bits(addr)).checked_shr(shift).unwrap_or(0) == 0
    }
}

impl Network {
    /// The length of its prefix, as if all addresses were IPv6.
    pub(crate) const fn prefix_len(&self) -> u32 {
        self.prefix
    }

    /// Its first address, as a number.
    pub(crate) fn first(&self) -> u128 {
        mask(self.addr, self.prefix)
    }

    /// The first address of the network with this prefix that an address lies in.
    pub(crate) fn first_of(addr: IpAddr, prefix: u32) -> u128 {
        mask(bits(addr), prefix)
    }
}

fn mask(addr: u128, prefix: u32) -> u128 {
    addr & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

/// The client's address: the socket's, or if that is a trusted proxy's, the last one that a proxy which is none of ours
/// reported. Whatever the client itself wrote before that is not believed.
pub(crate) fn client_addr(trusted: &[Network], header: ProxyHeader, socket: IpAddr, headers: &HeaderMap) -> IpAddr {
    let is_trusted = |addr: IpAddr| trusted.iter().any(|network| network.contains(addr));
    if !is_trusted(socket) {
        return socket.to_canonical();
    }
    let chain = match header {
        ProxyHeader::XForwardedFor => reported(headers, "x-forwarded-for", address),
        ProxyHeader::Forwarded => reported(headers, "forwarded", forwarded_for),
    };
    let mut client = socket;
    for addr in chain.into_iter().rev() {
        // Beyond something unreadable nothing can be believed.
        let Some(addr) = addr else { break };
        client = addr;
        if !is_trusted(addr) {
            break;
        }
    }
    client.to_canonical()
}

/// What all lines of a header list, in order. A line that is no text is one that cannot be read.
fn reported(headers: &HeaderMap, name: &str, read: fn(&str) -> Option<IpAddr>) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default());
    lines.flat_map(|line| line.split(',')).map(|part| read(part.trim())).collect()
}

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element
        .split(';')
        .find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            name.eq_ignore_ascii_case("for").then(|| value.trim_matches('"'))
        })
        .and_then(address)
}

/// An address with or without port; IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']').and_then(|(addr, _)| addr.parse().ok());
    }
    let without_port = text.split_once(':').filter(|(_, port)| !port.contains(':')).map_or(text, |(addr, _)| addr);
    without_port.parse().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn client(socket: &str, lines: &[(&'static str, &'static str)]) -> String {
        client_by(ProxyHeader::XForwardedFor, socket, lines)
    }

    fn client_by(header: ProxyHeader, socket: &str, lines: &[(&'static str, &'static str)]) -> String {
        let trusted: Vec<Network> = ["10.0.0.0/8", "2001:db8::/32"].iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for &(name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client_addr(&trusted, header, socket.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn networks_are_read_and_contain_what_they_should() {
        let contains = |network: &str, addr: &str| network.parse::<Network>().unwrap().contains(addr.parse().unwrap());
        assert!(contains("192.0.2.0/24", "192.0.2.255") && !contains("192.0.2.0/24", "192.0.3.0"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("::/0", "2001:db8::1") && contains("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1") && !contains("2001:db8::/32", "2001:db9::1"));
        for bad in ["", "x", "192.0.2.0/33", "::/129", "192.0.2.0/", "192.0.2.0/-1"] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError), "{bad}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_what_it_added() {
        assert_eq!(client("192.0.2.9", &[("x-forwarded-for", "198.51.100.1")]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "198.51.100.1")]), "198.51.100.1");
        // The client wrote the first, a proxy of ours the last.
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 198.51.100.1, 10.2.3.4")]), "198.51.100.1");
        assert_eq!(
            client("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.1")]),
            "198.51.100.1"
        );
        for unreadable in ["198.51.100.1, garbage", "198.51.100.1, ä", ""] {
            let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", unreadable)];
            assert_eq!(client("10.0.0.1", &lines), "10.0.0.1", "{unreadable}");
        }
    }

    #[test]
    fn a_client_behind_a_proxy_cannot_choose_its_address_in_the_other_header() {
        let lines = [("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(client_by(ProxyHeader::XForwardedFor, "10.0.0.1", &lines), "198.51.100.1");
        assert_eq!(client_by(ProxyHeader::Forwarded, "10.0.0.1", &lines), "1.1.1.1");
        assert_eq!(client_by(ProxyHeader::XForwardedFor, "10.0.0.1", &lines[..1]), "10.0.0.1");
        assert_eq!(client_by(ProxyHeader::Forwarded, "10.0.0.1", &lines[1..]), "10.0.0.1");
    }

    #[test]
    fn both_headers_and_every_form_of_address_are_read() {
        for (value, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("For=\"[2001:db9:cafe::17]:4711\"", "2001:db9:cafe::17"),
            ("for=192.0.2.43, for=\"198.51.100.17:80\"", "198.51.100.17"),
            ("for=_hidden", "10.0.0.1"),
        ] {
            assert_eq!(client_by(ProxyHeader::Forwarded, "10.0.0.1", &[("forwarded", value)]), expected, "{value}");
        }
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "2001:db9::1")]), "2001:db9::1");
    }
}
