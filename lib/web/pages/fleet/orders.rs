//! The orders that were sent from here: where each is, and how it ended.

use askama::Template;
use axum::response::Response;

use super::super::extract::QueryFields;
use super::super::frame::{Frame, page};
use super::{Head, Turn, Turns, host_filter};
use crate::base::clock;
use crate::base::names::FleetHost;
use crate::db::fleet::orders_out::{OrderOut, OrderState};
use crate::db::fleet::overview::{self, OrderFilter};
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

#[derive(Template)]
#[template(path = "fleet/orders.html")]
struct OrdersPage {
    frame: Frame,
    head: Head,
    host: String,
    open: bool,
    orders: Vec<OrderOut>,
    turns: Turns,
}

impl OrdersPage {
    /// The class of an order's state, by its meaning.
    fn order_class(state: &OrderState) -> &'static str {
        match state {
            OrderState::Kept => "waiting",
            OrderState::Sent => "queued",
            OrderState::Accepted => "requested",
            OrderState::Refused | OrderState::Failed => "failed",
            OrderState::Succeeded => "succeeded",
            OrderState::Cancelled | OrderState::Withdrawn => "cancelled",
            OrderState::Unknown => "unknown",
        }
    }

    /// Where it is, or what came of it.
    fn place(order: &OrderOut) -> String {
        let host = &order.to_host;
        let job = order.remote_job.map(|job| format!("job {job} on {host}"));
        let told = match order.state {
            OrderState::Kept => "kept here until the engine can be reached".to_owned(),
            OrderState::Sent => format!("with the engine; {host} has not answered"),
            OrderState::Accepted => job.unwrap_or_else(|| format!("accepted by {host}")),
            OrderState::Refused => format!("refused by {host}"),
            OrderState::Unknown => format!(
                "not known: its time was over before {host} answered, and it may have been carried out"
            ),
            OrderState::Succeeded
            | OrderState::Failed
            | OrderState::Cancelled
            | OrderState::Withdrawn => job.unwrap_or_default(),
        };
        match (told.is_empty(), order.detail.is_empty()) {
            (_, true) => told,
            (true, false) => order.detail.clone(),
            (false, false) => format!("{told}: {}", order.detail),
        }
    }
}

pub(super) async fn list(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(fields): QueryFields,
) -> Result<Response, Failure> {
    let now = clock::now_ms();
    let (only, turn, open) = (
        host_filter(&fields)?,
        Turn::of(&fields)?,
        fields.is_set("open"),
    );
    let part = turn.part();
    let loaded = app.store.read(move |db| {
        let filter = OrderFilter {
            host: only.as_ref().map(FleetHost::as_str),
            states: if open { &OrderState::OPEN } else { &[] },
        };
        Ok((
            Head::load(db, "orders", now)?,
            overview::orders(db, filter, part)?,
        ))
    });
    let (head, mut orders) = loaded.await?;

    let host = fields.raw("host").to_owned();
    let only_open = if open { "&open=1" } else { "" };
    let to = format!("/fleet/orders?host={host}{only_open}");
    let turns = turn.cut(&mut orders, &to);
    page(&OrdersPage {
        frame: Frame::of(viewer, "Orders from this host").within("fleet"),
        head,
        host,
        open,
        orders,
        turns,
    })
}
