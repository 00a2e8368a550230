//! Checks whether the web front can trust its proxy.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Finding;
use super::finding::{Advice, quoted};
use crate::base::config::EnvFile;
use crate::base::shared_secret::Secret;
use crate::base::users::{self, LEFT4ME};

/// Checks the settings for proxies. None without an origin, because then there is no proxy.
pub(super) fn check(settings: &EnvFile) -> Option<Finding> {
    let value = |name| settings.get(name).filter(|value| !value.is_empty());
    value("LEFT4ME_WEB_ORIGIN")?;

    let proxies = value("LEFT4ME_WEB_PROXIES").unwrap_or_default();
    if let Some(file) = value("LEFT4ME_WEB_PROXY_SECRET_FILE") {
        return Some(secret(Path::new(file)));
    }

    let addresses: Vec<IpAddr> = proxies
        .split(',')
        .filter_map(|text| text.trim().parse().ok())
        .collect();
    Some(
        match addresses
            .iter()
            .find(|address| address.to_canonical().is_loopback())
        {
            Some(local) => Finding::warn(
                "proxy",
                format!(
                    "LEFT4ME_WEB_PROXIES has {local}: \
                     every user of this host can pass for the proxy"
                ),
                "let the proxy send a secret instead: see operations.md, \"Behind a proxy\"",
            ),
            None if addresses.is_empty() => Finding::warn(
                "proxy",
                "no proxy is trusted: wrong passwords are counted for each account, \
                 not for each visitor's address",
                "let the proxy send a secret: see operations.md, \"Behind a proxy\"",
            ),
            None => Finding::ok("proxy", format!("trusted by address: {proxies}")),
        },
    )
}

fn secret(file: &Path) -> Finding {
    let name = quoted(file);
    let mend = format!(
        "test -f {name} -a ! -L {name} && chown -h root:{LEFT4ME} {name} && chmod 0640 {name}"
    );
    let renew = format!(
        "rm -f {name} && openssl rand -hex 32 | install -m 0640 -g {LEFT4ME} /dev/stdin {name}"
    );
    let renew = Advice::root(renew)
        .and("and give the proxy the same secret: operations.md, \"Behind a proxy\"");
    let found = match Secret::read(file) {
        Ok(_) => std::fs::metadata(file),
        // Its owner, its mode or its content.
        Err(error) => {
            let is_readable = std::fs::File::open(file).is_ok();
            let is_open = file
                .symlink_metadata()
                .is_ok_and(|found| found.mode() & 0o007 != 0);
            let is_there = file.symlink_metadata().is_ok_and(|found| found.is_file());
            let by_mode = is_there && (is_open || !is_readable);
            return Finding::fail(
                "proxy",
                error.to_string(),
                if by_mode { Advice::root(mend) } else { renew },
            );
        }
    };

    // In a developer's checkout root reads every file; left4me-web does not.
    let group = users::ids(LEFT4ME).map(|(_, gid)| gid.as_raw());
    match (found, group) {
        (Ok(found), Ok(group)) if found.gid() != group || found.mode() & 0o040 == 0 => {
            Finding::fail(
                "proxy",
                format!("left4me-web cannot read {}", file.display()),
                Advice::root(mend),
            )
        }
        _ => Finding::ok("proxy", "trusted by a secret"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    fn check(text: &str) -> Option<Finding> {
        super::check(&EnvFile::parse(text))
    }

    const ORIGIN: &str = "LEFT4ME_WEB_ORIGIN=https://l4d.example.org\n";

    #[test]
    fn a_proxy_that_is_not_trusted_or_is_everybody_is_told() {
        let found = |more: &str| check(&format!("{ORIGIN}{more}")).unwrap();
        assert_eq!(
            check("LEFT4ME_WEB_PROXIES=127.0.0.1\n#LEFT4ME_WEB_ORIGIN=https://x\n"),
            None
        );

        let none = found("");
        assert!(none.severity == Severity::Warn && none.advice.unwrap().contains("secret"));

        for local in ["127.0.0.1", "192.0.2.1, ::1", "\"::ffff:127.0.0.1\""] {
            let finding = found(&format!("LEFT4ME_WEB_PROXIES={local}\n"));
            assert!(
                finding.severity == Severity::Warn && finding.found.contains("every user"),
                "{finding:?}"
            );
        }

        assert_eq!(
            found("LEFT4ME_WEB_PROXIES=192.0.2.1\n").severity,
            Severity::Ok
        );
    }

    #[test]
    fn a_secret_that_cannot_be_used_is_told_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let line = format!("{ORIGIN}LEFT4ME_WEB_PROXY_SECRET_FILE={}\n", file.display());
        assert_eq!(check(&line).unwrap().severity, Severity::Fail);
        std::fs::write(&file, "short").unwrap();
        let finding = check(&line).unwrap();
        assert!(
            finding.severity == Severity::Fail && !finding.found.contains("short"),
            "{finding:?}"
        );
    }
}
