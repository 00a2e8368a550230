//! Where an order is on its way, in words for people. What is not known is said to be unknown.

use super::event::End;
use super::rules::OrderState;
use super::view::LinkView;

/// What is known of an order at its sender.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    pub state: OrderState,
    pub host: &'a str,
    /// The job there.
    pub job: Option<i64>,
    /// Why it was refused, or failed.
    pub detail: &'a str,
    /// Whether this host is connected to the engine.
    pub link: LinkView,
    /// Whether the host told its status not long ago.
    pub is_host_there: bool,
    /// Whether it is being withdrawn.
    pub is_held: bool,
}

impl Way<'_> {
    /// `kept here: …`, `with the engine`, `job 17 on ams-1`, and its end.
    pub fn message(&self) -> String {
        let host = self.host;
        let what = match self.job {
            Some(job) => format!("job {job} on {host}"),
            None => format!("on {host}"),
        };
        let why = match self.detail {
            "" => String::new(),
            detail => format!(": {detail}"),
        };
        match self.state {
            OrderState::Kept if self.is_held => {
                "kept here, and held back until its withdrawal is answered".to_owned()
            }
            OrderState::Kept if self.link.is_connected() => {
                "kept here, about to be sent to the engine".to_owned()
            }
            OrderState::Kept => "kept here until there is a connection to the engine".to_owned(),
            OrderState::Sent if self.is_host_there => {
                format!("with the engine; {host} has not answered yet")
            }
            OrderState::Sent => format!("with the engine until {host} is there"),
            OrderState::Accepted if self.job.is_some() => what,
            OrderState::Accepted => format!("accepted by {host}"),
            OrderState::Refused => format!("refused by {host}{why}"),
            OrderState::Succeeded => format!("{what}: {}", End::Succeeded.as_str()),
            OrderState::Failed => format!("{what}: {}{why}", End::Failed.as_str()),
            OrderState::Cancelled => format!("{what}: {}{why}", End::Cancelled.as_str()),
            OrderState::Withdrawn => format!("withdrawn, not carried out by {host}"),
            OrderState::Unknown => {
                format!("not known: its time was over before {host} answered")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_says_where_the_order_is_and_none_says_more_than_is_known() {
        let way = Way {
            state: OrderState::Kept,
            host: "ams-1",
            job: None,
            detail: "",
            link: LinkView::Away { since: 1 },
            is_host_there: false,
            is_held: false,
        };
        let said = |way: Way<'_>| way.message();
        assert_eq!(
            said(way),
            "kept here until there is a connection to the engine"
        );
        let sent = Way {
            state: OrderState::Sent,
            link: LinkView::Connected { since: 1 },
            ..way
        };
        assert_eq!(said(sent), "with the engine until ams-1 is there");
        let job = Way {
            job: Some(17),
            ..sent
        };
        for (state, expected) in [
            (OrderState::Accepted, "job 17 on ams-1"),
            (OrderState::Succeeded, "job 17 on ams-1: succeeded"),
        ] {
            assert_eq!(said(Way { state, ..job }), expected);
        }
        let refused = Way {
            state: OrderState::Refused,
            detail: "no server 01J",
            ..sent
        };
        assert_eq!(said(refused), "refused by ams-1: no server 01J");
        let unknown = Way {
            state: OrderState::Unknown,
            ..sent
        };
        assert!(said(unknown).starts_with("not known"));
        assert!(!said(unknown).contains("failed"));
    }
}
