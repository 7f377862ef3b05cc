//! Tenants, vendors and totals of the classic face, for operators. (The first server kept tenants
//! in tables that it never made, so there is no recorded shape; these are ours.)

use std::collections::BTreeMap;

use lease::command::Role;
use serde::Serialize;
use utoipa::ToSchema;

use super::{as_operator, tools};
use crate::call::Call;
use crate::calls::licensing::secrets;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /api/admin/tenants`
pub(crate) async fn tenants(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let call = as_operator(shared, call, Role::Auditor).await?;
    let ledger = shared.read(&call).await?;
    let mut by_tenant: BTreeMap<&str, u32> = BTreeMap::new();
    for row in ledger.api_keys() {
        *by_tenant.entry(&row.tenant).or_default() += 1;
    }
    let tenants = by_tenant
        .into_iter()
        .map(|(tenant, api_keys)| Tenant { tenant_id: tenant.to_owned(), api_keys })
        .collect();
    Ok(Reply::ok(&Tenants { tenants }))
}

/// `GET /api/admin/vendors`
pub(crate) async fn vendors(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let call = as_operator(shared, call, Role::Auditor).await?;
    let ledger = shared.read(&call).await?;
    let vendors = secrets::classic_vendors(&ledger)
        .map(|vendor| Vendor { vendor_id: vendor.to_owned() })
        .collect();
    Ok(Reply::ok(&Vendors { vendors }))
}

/// `GET /api/admin/stats`
pub(crate) async fn stats(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let call = as_operator(shared, call, Role::Auditor).await?;
    let ledger = shared.read(&call).await?;
    let tools = tools::all(&ledger);
    let sum = |count: fn(&tools::Tool) -> u32| tools.iter().map(count).map(u64::from).sum();
    Ok(Reply::ok(&Stats {
        tools: tools.len(),
        total: sum(|tool| tool.seats.total),
        borrowed: sum(|tool| tool.seats.borrowed),
        overage: sum(|tool| tool.seats.overage),
        api_keys: ledger.api_keys().count(),
        vendors: secrets::classic_vendors(&ledger).count(),
    }))
}

/// Everybody to whom API keys were given.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClassicTenants)]
pub(crate) struct Tenants {
    /// In order of id.
    tenants: Vec<Tenant>,
}

/// Somebody to whom API keys were given.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClassicTenant)]
pub(crate) struct Tenant {
    /// Their name.
    #[schema(example = "acme")]
    tenant_id: String,
    /// How many they have.
    api_keys: u32,
}

/// Everybody whose clients may sign.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClassicVendors)]
pub(crate) struct Vendors {
    /// In order of id.
    vendors: Vec<Vendor>,
}

/// Somebody whose clients may sign.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClassicVendor)]
pub(crate) struct Vendor {
    /// As `X-Vendor-ID` has it.
    #[schema(example = "techvendor")]
    vendor_id: String,
}

/// Totals.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClassicStats)]
pub(crate) struct Stats {
    /// Tools with a package in force.
    tools: usize,
    /// Their seats.
    total: u64,
    /// Seats that are out, through whichever face.
    borrowed: u64,
    /// Of those, beyond the ones paid for in advance.
    overage: u64,
    /// API keys in force.
    api_keys: usize,
    /// Vendors whose clients may sign.
    vendors: usize,
}
