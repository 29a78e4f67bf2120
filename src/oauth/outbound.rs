//! Which addresses the operator may talk to: global unicast ones, and what its configuration adds. Tenants choose the
//! URLs, so that without this rule any of them could reach the cluster's inside through the operator (SSRF).

use super::Sensitive;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::Url;

/// Blocks of the IANA special-purpose registries (RFC 6890, kept at iana.org/assignments/iana-ipv4-special-registry)
/// that are not global unicast, with multicast.
const NOT_GLOBAL_V4: [&str; 17] = [
    "0.0.0.0/8",       // this network, RFC 791
    "10.0.0.0/8",      // private, RFC 1918
    "100.64.0.0/10",   // shared address space, RFC 6598
    "127.0.0.0/8",     // loopback, RFC 1122
    "169.254.0.0/16",  // link-local and cloud metadata, RFC 3927
    "172.16.0.0/12",   // private, RFC 1918
    "192.0.0.0/24",    // protocol assignments, RFC 6890
    "192.0.2.0/24",    // documentation, RFC 5737
    "192.31.196.0/24", // AS112, RFC 7535
    "192.52.193.0/24", // AMT, RFC 7450
    "192.88.99.0/24",  // 6to4 relays, RFC 7526
    "192.168.0.0/16",  // private, RFC 1918
    "192.175.48.0/24", // AS112, RFC 7534
    "198.18.0.0/15",   // benchmarks, RFC 2544
    "198.51.100.0/24", // documentation, RFC 5737
    "203.0.113.0/24",  // documentation, RFC 5737
    "224.0.0.0/3",     // multicast, reserved and broadcast, RFC 5771, RFC 1112
];

/// Global unicast is 2000::/3 (RFC 4291 §2.4) but for these of its blocks.
const NOT_GLOBAL_V6: [&str; 4] = [
    "2001::/23",     // protocol assignments with Teredo and ORCHID, RFC 2928
    "2001:db8::/32", // documentation, RFC 3849
    "2002::/16",     // 6to4: carries an IPv4 address, RFC 3056
    "3fff::/20",     // documentation, RFC 9637
];

/// Whom we trust at the other end of a connection, and who we are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM certificates trusted in place of the public ones.
    pub ca_bundle: Option<Vec<u8>>,
    /// Our certificate and its private key, PEM (RFC 8705).
    pub identity: Option<Sensitive>,
}

/// Where requests may go.
#[derive(Clone, Debug, Default)]
pub struct OutboundPolicy {
    /// Networks permitted though they are not global.
    pub allowed_cidrs: Vec<IpNet>,
}

impl OutboundPolicy {
    /// Whether the operator may talk to this address. Forms that carry an IPv4 address (mapped, NAT64) are judged by it.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = carried(address);
        is_global(address) || self.allowed_cidrs.iter().any(|network| network.contains(&address))
    }

    /// Whether a URL may be asked at all, before its name is resolved: https, and no literal address that is refused.
    ///
    /// # Errors
    /// A clause that says what is wrong with it.
    pub fn admits(&self, url: &Url) -> Result<(), String> {
        if url.scheme() != "https" {
            return Err("only https is spoken".into());
        }
        let literal = match url.host() {
            Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
            Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
            Some(url::Host::Domain(_)) => return Ok(()),
            None => return Err("it names no host".into()),
        };
        if self.permits(literal) { Ok(()) } else { Err(REFUSED.into()) }
    }
}

/// Why an address is refused. It does not name the address: a tenant would learn names inside the cluster from it.
pub const REFUSED: &str = "its address is not a public one; whoever runs the operator can allow its network with --allowed-cidrs";

/// `host` or `host:port` (where the port is not https's own), lower case: what `token-hosts` lists.
pub fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

/// Whether a host (with its port, where that is not https's own) is one of those that a pattern names: itself, or with `*.` in
/// place of one label.
pub fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern.eq_ignore_ascii_case(host),
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
    }
}

fn carried(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let segments = v6.segments();
    let low = Ipv4Addr::from(((u32::from(segments[6])) << 16) | u32::from(segments[7]));
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => low.into(),                      // NAT64, RFC 6052
        [0, 0, 0, 0, 0, 0, ..] if v6 != Ipv6Addr::LOCALHOST => low.into(), // IPv4-compatible, RFC 4291 §2.5.5.1
        _ => address,
    }
}

fn is_global(address: IpAddr) -> bool {
    let within = |block: &&str| block.parse::<IpNet>().is_ok_and(|network| network.contains(&address));
    match address {
        IpAddr::V4(_) => !NOT_GLOBAL_V4.iter().any(within),
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000 && !NOT_GLOBAL_V6.iter().any(within),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(cidrs: &[&str]) -> OutboundPolicy {
        OutboundPolicy { allowed_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect() }
    }

    #[test]
    fn a_pattern_names_one_host_or_one_label() {
        for (pattern, host, matches) in [
            ("api.example.com", "API.example.com", true),
            ("api.example.com", "api.example.com:8443", false),
            ("api.example.com:8443", "api.example.com:8443", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("example.com", "evilexample.com", false),
        ] {
            assert_eq!(host_matches(pattern, host), matches, "{pattern} {host}");
        }
    }

    #[test]
    fn every_block_of_the_tables_parses() {
        for block in NOT_GLOBAL_V4.iter().chain(&NOT_GLOBAL_V6) {
            assert!(block.parse::<IpNet>().is_ok(), "{block}");
        }
    }

    #[test]
    fn addresses_that_are_not_global_are_refused_in_every_form() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "::7f00:1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "100::1",
            "fec0::1",
        ] {
            assert!(!policy(&[]).permits(address.parse().unwrap()), "{address} must be refused");
        }
    }

    #[test]
    fn global_addresses_are_permitted() {
        for address in ["1.1.1.1", "172.32.0.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(policy(&[]).permits(address.parse().unwrap()), "{address} must be permitted");
        }
    }

    #[test]
    fn configuration_opens_a_network_and_no_more() {
        let policy = policy(&["127.0.0.0/8", "fd00::/8"]);
        assert!(policy.permits("127.0.0.1".parse().unwrap()));
        assert!(policy.permits("::ffff:127.0.0.1".parse().unwrap()));
        assert!(policy.permits("fd00::1".parse().unwrap()));
        assert!(!policy.permits("10.0.0.1".parse().unwrap()));
        assert!(!policy.permits("::1".parse().unwrap()));
    }

    #[test]
    fn a_url_must_be_https_and_its_literal_address_permitted() {
        let admits = |url: &str| policy(&[]).admits(&url.parse().unwrap());
        assert_eq!(admits("http://login.example.com/token"), Err("only https is spoken".into()));
        assert_eq!(admits("https://10.0.0.1/token"), Err(REFUSED.into()));
        assert_eq!(admits("https://[::ffff:127.0.0.1]/token"), Err(REFUSED.into()));
        // The URL standard reads 0x7f.1 and 2130706433 as 127.0.0.1: so must we.
        assert_eq!(admits("https://2130706433/token"), Err(REFUSED.into()));
        assert_eq!(admits("https://0x7f.1/token"), Err(REFUSED.into()));
        assert_eq!(admits("https://login.example.com/token"), Ok(()));
    }

    #[test]
    fn a_host_carries_its_port_only_where_it_is_not_https_own() {
        assert_eq!(host_and_port(&"https://Login.Example.com:443/t".parse().unwrap()), "login.example.com");
        assert_eq!(host_and_port(&"https://login.example.com:8443/t".parse().unwrap()), "login.example.com:8443");
    }
}
