//! The documents that open the engine: JWTs as NATS reads them. An operator signs accounts, an account
//! signs users. A host's own JWT holds no permissions: those of its role stand in the account's.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::permissions::{Permissions, Role};
use crate::base::issuer::IssuerKey;
use crate::base::keys::PublicKey;
use crate::base::names::FleetHost;
use crate::base::{Result, secret};

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

/// The account's name: everything of left4me is in it.
pub const ACCOUNT: &str = "FLEET";

/// The keys that sign the JWTs of hosts, one for each role: each can make hosts of
/// that role, and nothing else.
pub type RoleKeys = BTreeMap<Role, String>;

/// Of the operator, by itself. It names the account for the engine's own administration.
pub fn operator(key: &IssuerKey, name: &str, system: &str, now: i64) -> Result<String> {
    let nats = json!({
        "type": "operator", "version": 2,
        "system_account": system,
    });
    sign(key, &key.public(), name, now, None, nats)
}

/// Of the account in which the engine tells of itself, and takes changed accounts.
pub fn system_account(operator: &IssuerKey, account: &str, now: i64) -> Result<String> {
    let nats = json!({
        "type": "account", "version": 2,
        "limits": limits(0),
        "default_permissions": {"pub": {}, "sub": {}},
    });
    sign(operator, account, "SYS", now, None, nats)
}

/// Of the account FLEET: what each role may, and which hosts were expelled, by their keys, with the
/// time (unix s) up to which their JWTs do not count any more.
pub fn account(
    operator: &IssuerKey,
    account: &str,
    roles: &RoleKeys,
    revoked: &BTreeMap<PublicKey, i64>,
    now: i64,
) -> Result<String> {
    let scope = |(role, key): (&Role, &String)| {
        json!({
            "kind": "user_scope",
            "key": key,
            "role": role.as_str(),
            "template": template(&role.permissions()),
        })
    };
    let revocations: BTreeMap<_, _> = revoked
        .iter()
        .map(|(key, until)| (key.as_str(), until))
        .collect();

    let nats = json!({
        "type": "account", "version": 2,
        "limits": limits(-1),
        "signing_keys": roles.iter().map(scope).collect::<Vec<_>>(),
        "revocations": revocations,
        "default_permissions": {"pub": {}, "sub": {}},
    });
    sign(operator, account, ACCOUNT, now, None, nats)
}

/// Of a host, signed by the key of its role.
pub fn host(
    signer: &IssuerKey,
    account: &str,
    host: &FleetHost,
    key: &PublicKey,
    now: i64,
) -> Result<String> {
    let nats = json!({
        "type": "user", "version": 2,
        "issuer_account": account,
        "pub": {}, "sub": {},
    });
    sign(signer, key.as_str(), host.as_str(), now, None, nats)
}

/// Of an administrator, signed by the account's own key: everything in that account, for a few minutes.
pub fn administrator(account: &IssuerKey, key: &PublicKey, now: i64) -> Result<String> {
    let nats = json!({
        "type": "user", "version": 2,
        "pub": {}, "sub": {},
        "subs": -1, "data": -1, "payload": -1,
    });
    let until = now / 1000 + 600;
    sign(account, key.as_str(), "left4me", now, Some(until), nats)
}

/// When a JWT was made, unix s. None if it is not one. Its signature is not looked at: only the engine
/// judges it.
pub fn made_at(jwt: &str) -> Option<i64> {
    claims(jwt)?.get("iat")?.as_i64()
}

/// The host that a JWT is for.
pub fn subject(jwt: &str) -> Option<String> {
    Some(claims(jwt)?.get("sub")?.as_str()?.to_owned())
}

fn claims(jwt: &str) -> Option<Value> {
    let body = URL_SAFE_NO_PAD
        .decode(jwt.trim_end().split('.').nth(1)?)
        .ok()?;
    serde_json::from_slice(&body).ok()
}

fn template(permissions: &Permissions) -> Value {
    json!({
        "pub": {"allow": permissions.publish},
        "sub": {"allow": permissions.subscribe},
        "subs": -1, "data": -1, "payload": -1,
    })
}

/// No limits besides that of the disk: what the system's account may keep is nothing.
fn limits(storage: i64) -> Value {
    json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": storage, "disk_storage": storage,
        "streams": storage, "consumer": storage,
    })
}

fn sign(
    key: &IssuerKey,
    subject: &str,
    name: &str,
    now: i64,
    until: Option<i64>,
    nats: Value,
) -> Result<String> {
    let mut claims = json!({
        "iss": key.public(),
        "sub": subject,
        "name": name,
        "iat": now / 1000,
        "nats": nats,
    });
    if let Some(until) = until {
        claims["exp"] = until.into();
    }
    let digest = secret::digest(&claims.to_string());
    claims["jti"] = secret::hex(&digest).into();

    let body = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(HEADER),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = key.sign(body.as_bytes())?;
    Ok(format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::issuer::Issuer;
    use crate::base::keys::SigningKey;

    #[test]
    fn a_host_has_no_permissions_of_its_own_and_a_revocation_names_its_key() {
        let (operator, fleet) = (
            IssuerKey::generate(Issuer::Operator),
            IssuerKey::generate(Issuer::Account),
        );
        let role = IssuerKey::generate(Issuer::Account);
        let key = SigningKey::generate().public();
        let ams = "ams-1".parse().unwrap();

        let jwt = host(&role, &fleet.public(), &ams, &key, 5_000).unwrap();
        let read = claims(&jwt).unwrap();
        assert_eq!(made_at(&jwt), Some(5));
        assert_eq!(subject(&jwt).as_deref(), Some(key.as_str()));
        assert_eq!(read["name"], "ams-1");
        assert_eq!(read["nats"]["pub"], json!({}));
        assert_eq!(read["nats"]["issuer_account"], fleet.public());

        let roles = RoleKeys::from([(Role::Host, role.public())]);
        let revoked = BTreeMap::from([(key.clone(), 7)]);
        let jwt = account(&operator, &fleet.public(), &roles, &revoked, 9_000).unwrap();
        let read = claims(&jwt).unwrap();
        assert_eq!(read["nats"]["revocations"][key.as_str()], 7);
        let scope = &read["nats"]["signing_keys"][0];
        assert_eq!(scope["role"], "host");
        assert!(
            scope["template"]["pub"]["allow"]
                .to_string()
                .contains("l4m.event.{{name()}}")
        );
        // It would allow a message anywhere: for a question that a host asks itself.
        assert_eq!(scope["template"]["resp"], Value::Null);
    }
}
