//! The configuration of the engine's nodes, for the nats-server of Debian 13.

use std::fmt::Write as _;

/// The oldest nats-server that keeps what it has acknowledged.
pub const OLDEST: [u64; 3] = [2, 10, 27];

/// The ports that nodes listen on, by default: for hosts, and for one another.
pub const PORTS: (u16, u16) = (4222, 6222);

/// A node of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name among the nodes: `engine-1`.
    pub name: String,
    /// An address or a DNS name.
    pub address: String,
    pub port: u16,
    pub cluster_port: u16,
}

/// Where things are on the node.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    /// The directory of ca.pem, cert.pem and key.pem.
    pub tls: &'a str,
    /// Where it keeps streams and accounts.
    pub data: &'a str,
}

/// The JWTs that it begins with; later ones come over the network.
#[derive(Clone, Debug)]
pub struct Accounts<'a> {
    pub operator: &'a str,
    pub system: (&'a str, &'a str),
    pub fleet: (&'a str, &'a str),
}

/// Text of nats-server.conf of the node with this index.
pub fn conf(
    fleet: &str,
    nodes: &[Node],
    index: usize,
    places: &Places<'_>,
    accounts: &Accounts<'_>,
) -> String {
    let node = &nodes[index];
    let mut text = String::from(
        "# The engine of a left4me fleet; made by `left4me fleet init`. It needs nats-server 2.10.27 or later.\n",
    );
    let mut line = |line: String| {
        writeln!(text, "{line}").ok();
    };
    line(format!("server_name: {}", node.name));
    line(format!("listen: \"0.0.0.0:{}\"", node.port));
    line("max_payload: 1MB".to_owned());
    line(tls("", places.tls));
    line(String::new());
    line("jetstream {".to_owned());
    line(format!("    store_dir: \"{}/jetstream\"", places.data));
    line("    max_memory_store: 64MB".to_owned());
    line("    max_file_store: 8GB".to_owned());
    line("    # Otherwise a power cut of all nodes loses what was acknowledged in the last two minutes.".to_owned());
    line("    sync_interval: always".to_owned());
    line("}".to_owned());
    line(String::new());

    if nodes.len() > 1 {
        let routes: Vec<_> = nodes
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .map(|(_, other)| format!("\"nats-route://{}:{}\"", other.address, other.cluster_port))
            .collect();
        line("cluster {".to_owned());
        line(format!("    name: \"{fleet}\""));
        line(format!("    listen: \"0.0.0.0:{}\"", node.cluster_port));
        line(format!("    routes: [{}]", routes.join(", ")));
        line("    # Nodes know each other by their certificates.".to_owned());
        line(tls("    ", places.tls).replace("key_file", "verify: true, key_file"));
        line("}".to_owned());
        line(String::new());
    }

    line(format!("operator: \"{}\"", accounts.operator));
    line(format!("system_account: {}", accounts.system.0));
    line("resolver {".to_owned());
    line("    type: full".to_owned());
    line(format!("    dir: \"{}/accounts\"", places.data));
    line("    allow_delete: false".to_owned());
    line("    interval: \"2m\"".to_owned());
    line("}".to_owned());
    line("resolver_preload {".to_owned());
    for (key, jwt) in [accounts.system, accounts.fleet] {
        line(format!("    {key}: \"{jwt}\""));
    }
    line("}".to_owned());
    text
}

fn tls(indent: &str, directory: &str) -> String {
    format!(
        "{indent}tls {{ ca_file: \"{directory}/ca.pem\", cert_file: \"{directory}/cert.pem\", \
         key_file: \"{directory}/key.pem\", timeout: 5 }}"
    )
}

/// A drop-in for Debian's nats-server.service: where it keeps its data, and that it comes back.
pub const DROP_IN: &str = "\
# For the engine of a left4me fleet: /etc/systemd/system/nats-server.service.d/left4me.conf
[Service]
StateDirectory=nats-server
StateDirectoryMode=0700
Restart=always
RestartSec=2
LimitNOFILE=65536
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
";

/// What root runs on a node, in the directory that `left4me fleet init` has made for it.
pub const INSTALL: &str = "\
#!/bin/sh
# Installs this node of the engine of a left4me fleet, on Debian 13. Run it as root, in this directory.
set -eu
cd \"$(dirname \"$0\")\"
command -v nats-server >/dev/null || apt-get install -y nats-server
install -d -m 0750 -o root -g nats /etc/left4me-engine
install -m 0640 -o root -g nats ca.pem cert.pem key.pem /etc/left4me-engine/
install -m 0640 -o root -g nats nats-server.conf /etc/nats-server.conf
install -D -m 0644 left4me.conf /etc/systemd/system/nats-server.service.d/left4me.conf
systemctl daemon-reload
systemctl enable nats-server.service
systemctl restart nats-server.service
echo \"the node runs; its key need not stay here: rm key.pem\"
";

/// Whether this version of nats-server keeps what it has acknowledged: `2.10.27`, `2.11.0-dev`.
pub fn is_new_enough(version: &str) -> bool {
    let number = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u64>().ok());
    let mut part = || parts.next().flatten();
    match (part(), part(), part()) {
        (Some(major), Some(minor), Some(patch)) => [major, minor, patch] >= OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<Node> {
        (1..=count)
            .map(|number| Node {
                name: format!("engine-{number}"),
                address: format!("10.0.0.{number}"),
                port: 4222,
                cluster_port: 6222,
            })
            .collect()
    }

    #[test]
    fn each_message_is_synced_and_nodes_know_all_others() {
        let places = Places {
            tls: "/etc/t",
            data: "/var/lib/nats-server",
        };
        let accounts = Accounts {
            operator: "o",
            system: ("AS", "s"),
            fleet: ("AF", "f"),
        };
        let text = conf("home", &nodes(3), 1, &places, &accounts);
        assert!(text.contains("sync_interval: always"));
        assert!(
            text.contains(
                r#"routes: ["nats-route://10.0.0.1:6222", "nats-route://10.0.0.3:6222"]"#
            )
        );
        let one = conf("home", &nodes(1), 0, &places, &accounts);
        assert!(!one.contains("cluster"));
        assert!(one.contains("sync_interval: always"));
    }

    #[test]
    fn an_older_server_is_not_taken() {
        for (version, good) in [
            ("2.10.27", true),
            ("2.11.0-dev", true),
            ("3.0.0", true),
            ("2.10.26", false),
            ("2.9.10", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
    }
}
