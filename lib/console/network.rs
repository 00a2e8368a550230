//! This host's IPv4 addresses, from /proc/self/net: left4me-console may not open a netlink socket.

use std::io::Read as _;
use std::net::Ipv4Addr;

/// More than this is not read: a router may have a million routes.
const LIMIT: u64 = 4 * 1024 * 1024;

/// This host's addresses, without loopback. Empty if the kernel does not tell.
pub fn own_addresses() -> Vec<Ipv4Addr> {
    let mut text = String::new();
    let file = std::fs::File::open("/proc/self/net/fib_trie");
    if let Err(error) = file.and_then(|file| file.take(LIMIT).read_to_string(&mut text)) {
        tracing::debug!("this host's addresses cannot be read: {error}");
    }
    local_addresses(&text)
}

/// In fib_trie, the line after a local address says so: `/32 host LOCAL`.
fn local_addresses(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut addresses = Vec::new();
    let mut last = None;
    for line in fib_trie.lines() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("|-- ") {
            last = text.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            addresses.extend(last.filter(|address| !address.is_loopback()));
        }
    }

    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_found_once_and_loopback_is_left_out() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
                    +-- 127.0.0.0/8 2 0 2\n        |-- 127.0.0.1\n           /32 host LOCAL\n     \
                    |-- 192.168.1.0\n        /24 link UNICAST\n     |-- 192.168.1.5\n        \
                    /32 host LOCAL\n     |-- 192.168.1.255\n        /32 link BROADCAST\nLocal:\n  \
                    |-- 192.168.1.5\n     /32 host LOCAL\n";
        assert_eq!(local_addresses(text), [Ipv4Addr::new(192, 168, 1, 5)]);
        assert_eq!(local_addresses("nonsense"), [] as [Ipv4Addr; 0]);
    }
}
