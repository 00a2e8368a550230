//! Checks alerts by what came of their last delivery.

use std::path::Path;

use super::Finding;
use super::finding::{Advice, quoted};
use crate::db::Db;
use crate::db::alerts::{self, Alert};

/// A finding for each alert that could not be delivered. Nothing if the database cannot be read,
/// which is a finding of another check.
pub(super) fn check(database: &Path) -> Vec<Finding> {
    let alerts = Db::peek(database, |tx| alerts::all(tx)).unwrap_or_default();
    alerts.iter().filter_map(judge).collect()
}

fn judge(alert: &Alert) -> Option<Finding> {
    let why = alert.last_error.as_ref()?;
    let found = format!(
        "the last delivery to {} failed: {why}; {} events wait",
        alert.destination, alert.pending
    );
    let advice = Advice::run(format!("left4me alert test {}", quoted(&alert.name)))
        .after("mend the destination, or remove the alert and add it again, then try it");
    Some(Finding::warn(
        format!("alert {}", alert.name),
        found,
        advice,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::AlertId;

    #[test]
    fn an_alert_is_told_of_while_its_last_delivery_failed() {
        let mut alert = Alert {
            id: AlertId(1),
            name: "my ops".to_owned(),
            kind: "ntfy".to_owned(),
            destination: "https://ntfy.sh/…".to_owned(),
            events: Vec::new(),
            servers: Vec::new(),
            created_at: 1,
            created_by: "anna".to_owned(),
            muted_until: None,
            pending: 3,
            retry_at: None,
            last_error: None,
        };
        assert_eq!(judge(&alert), None);

        alert.last_error = Some("404 Not Found".to_owned());
        let found = judge(&alert).unwrap();
        assert_eq!(
            found.found,
            "the last delivery to https://ntfy.sh/… failed: 404 Not Found; 3 events wait"
        );
        let advice = found.advice.unwrap();
        assert!(advice.contains("left4me alert test 'my ops'"), "{advice}");
    }
}
