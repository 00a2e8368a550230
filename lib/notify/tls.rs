//! TLS with the certificates that this host trusts.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::later;
use crate::domain::alert::Answer;

/// Makes a connection an encrypted one to `host`, whose certificate must be valid.
pub(super) async fn wrap(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, Answer> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Answer::Refused(format!("{host} is no name for a certificate")))?;
    let connector = connector().map_err(later)?;
    connector
        .connect(name, stream)
        .await
        .map_err(|error| later(format!("TLS with {host} failed: {error}")))
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this host trusts no certificate: as root, apt-get install ca-certificates".to_owned(),
        );
    }

    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
