//! The fleet: its hosts, their servers, and the orders that were sent from here.

use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{self, Limit, Offset, Query};
use super::list::List;
use crate::base::clock;
use crate::base::names::FleetHost;
use crate::db::fleet::orders_out::{OrderOut, OrderState};
use crate::db::fleet::overview::{self, OrderFilter};
use crate::db::lists::Part;
use crate::queue::fleet::seen::{self, SeenHost, SeenServer};
use crate::web::failure::{Failure, FailureBody};
use crate::web::json;
use crate::web::signed_in::SignedIn;

/// Filters for hosts.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HostFilters {
    /// The most items to return.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// The number of items to skip.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64, default = 0)]
    offset: Offset,
}

/// List the hosts of the fleet by name
///
/// For admins only. Empty on a host that belongs to no fleet, or is not told about others.
#[utoipa::path(get, path = "/api/fleet/hosts", operation_id = "listFleetHosts", tag = "fleet", params(HostFilters), responses(
    (status = 200, body = List<SeenHost>, description = "The hosts, with the expelled ones."),
    (status = 403, body = FailureBody, description = "Admins only."),
))]
pub async fn hosts(
    SignedIn { app, viewer }: SignedIn,
    Query(which): Query<HostFilters>,
) -> Result<Response, Failure> {
    let part = extract::part(which.limit, which.offset);
    json::answer(&app, viewer.id, move |db| {
        Ok(page_of(seen::all_hosts(db, clock::now_ms())?, part))
    })
    .await
}

/// Filters for servers of the fleet.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FleetServerFilters {
    /// Only servers of this host. Empty for a host that the fleet does not have.
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[param(value_type = Option<String>, nullable = false)]
    host: Option<FleetHost>,
    /// The most items to return.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// The number of items to skip.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64, default = 0)]
    offset: Offset,
}

/// List the servers of all hosts by host and name
///
/// For admins only. Each is as its host told it last; `known` tells whether that is still so.
#[utoipa::path(get, path = "/api/fleet/servers", operation_id = "listFleetServers", tag = "fleet", params(FleetServerFilters), responses(
    (status = 200, body = List<SeenServer>, description = "The servers."),
    (status = 403, body = FailureBody, description = "Admins only."),
))]
pub async fn servers(
    SignedIn { app, viewer }: SignedIn,
    Query(which): Query<FleetServerFilters>,
) -> Result<Response, Failure> {
    let part = extract::part(which.limit, which.offset);
    json::answer(&app, viewer.id, move |db| {
        let host = which.host.as_ref().map(FleetHost::as_str);
        Ok(page_of(seen::all_servers(db, host, clock::now_ms())?, part))
    })
    .await
}

/// Filters for orders.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OrderFilters {
    /// Only orders to this host.
    #[serde(default, deserialize_with = "extract::parsed_or_none")]
    #[param(value_type = Option<String>, nullable = false)]
    host: Option<FleetHost>,
    /// Only orders in this state. May be repeated; `kept`, `sent` and `accepted` are those whose end
    /// is not known.
    #[serde(default, deserialize_with = "extract::parsed_list")]
    state: Vec<OrderState>,
    /// The most items to return.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// The number of items to skip.
    #[serde(default, deserialize_with = "extract::parsed")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64, default = 0)]
    offset: Offset,
}

/// List the orders that were sent from this host, newest first
///
/// For admins only.
#[utoipa::path(get, path = "/api/fleet/orders", operation_id = "listFleetOrders", tag = "fleet", params(OrderFilters), responses(
    (status = 200, body = List<OrderOut>, description = "The orders."),
    (status = 403, body = FailureBody, description = "Admins only."),
))]
pub async fn orders(
    SignedIn { app, viewer }: SignedIn,
    Query(which): Query<OrderFilters>,
) -> Result<Response, Failure> {
    let part = extract::part(which.limit, which.offset);
    json::answer(&app, viewer.id, move |db| {
        let filter = OrderFilter {
            host: which.host.as_ref().map(FleetHost::as_str),
            states: &which.state,
        };
        let total = overview::count_orders(db, filter, part.most())?;
        Ok(List::new(
            (overview::orders(db, filter, part)?, total),
            part,
        ))
    })
    .await
}

fn page_of<T>(all: Vec<T>, part: Part) -> List<T> {
    let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let items = all.into_iter().skip(count(part.offset));
    List::new((items.take(count(part.limit)).collect(), total), part)
}
