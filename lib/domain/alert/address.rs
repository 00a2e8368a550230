//! Which addresses a destination may have. Whoever adds an alert chooses where left4me connects to,
//! and must not reach services that trust this host or its network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to the public internet. Addresses that only wrap an IPv4 address
/// count as that one.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By IANA's registry of special-purpose addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        // "This network", and multicast, reserved and broadcast addresses.
        || a == 0
        || a >= 224
        // Carriers' networks.
        || a == 100 && (64..128).contains(&b)
        // Protocol assignments, the old 6to4 relays, and benchmarks.
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || a == 198 && (b == 18 || b == 19))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    if let Some(wrapped) = wrapped(parts) {
        return is_public_v4(wrapped);
    }

    // Only 2000::/3 is in use by the public. It also has benchmarks, documentation and Teredo,
    // which hides an IPv4 address.
    let is_special = matches!(parts, [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..])
        || matches!(parts, [0x3fff, 0..=0x0fff, ..]);
    parts[0] & 0xe000 == 0x2000 && !is_special
}

/// The IPv4 address in a mapped, translated (NAT64) or 6to4 one.
fn wrapped(parts: [u16; 8]) -> Option<Ipv4Addr> {
    let (high, low) = match parts {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for public in [
            "1.1.1.1",
            "162.159.135.232",
            "100.128.0.1",
            "172.32.0.1",
            "223.255.255.255",
            "2606:4700::6810:1234",
            "2a01:4f8::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }

        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.1.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }
}
