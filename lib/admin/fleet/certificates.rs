//! The certificates of the engine's nodes, by an authority of the fleet's own.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::base::{Error, Result};

/// A certificate with its key, as PEM.
pub(super) struct Certificate {
    pub certificate: String,
    pub key: String,
}

fn failed(error: rcgen::Error) -> Error {
    Error::failed(format!("a certificate of the engine: {error}"))
}

fn authority(fleet: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("left4me fleet {fleet}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A new authority.
pub(super) fn make_authority(fleet: &str) -> Result<Certificate> {
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = authority(fleet).self_signed(&key).map_err(failed)?;
    Ok(Certificate {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// A node's certificate, for its address and its name, for hosts and for the other nodes.
pub(super) fn make_node(
    fleet: &str,
    authority_key: &str,
    name: &str,
    address: &str,
) -> Result<Certificate> {
    let authority_key = KeyPair::from_pem(authority_key).map_err(failed)?;
    let issuer = Issuer::new(authority(fleet), authority_key);

    let key = KeyPair::generate().map_err(failed)?;
    let names = vec![address.to_owned(), name.to_owned()];
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Certificate {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}
