//! Tools: what a product is to these clients, put together from the packages of it.
//!
//! A package belongs to the tool of its product's shown name (of the product's id where it has
//! none), and is found by either. Packages that are not in force give no seats and do not count.

use std::collections::BTreeMap;

use lease::command::{PackageTerms, SeatClass};
use lease::ids::Name;
use lease::{Ledger, PackageView};
use protocol::classic::refusal::Refusal;
use protocol::classic::wire::{ToolBudget, ToolSeats, ToolStatus};
use protocol::wire::Money;
use rust_decimal::Decimal;

use super::refused;
use crate::call::Call;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::view;

/// `GET /licenses/status`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    shared.serving_keys()?;
    let ledger = shared.read(call).await?;
    Ok(Reply::ok(&statuses(&ledger)))
}

/// `GET /licenses/{tool}/status`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    shared.serving_keys()?;
    let asked = call.param("tool")?;
    let ledger = shared.read(call).await?;
    let packages = ledger.packages().filter(|package| is_of(package.terms, asked));
    match of_packages(&ledger, packages).into_values().next() {
        Some(tool) => Ok(Reply::ok(&tool.status())),
        None => Err(refused(&Refusal::ToolNotFound).because("unknown_product").into()),
    }
}

/// The status of every tool, in order of name.
pub(super) fn statuses(ledger: &Ledger) -> Vec<ToolStatus> {
    all(ledger).iter().map(Tool::status).collect()
}

/// Every tool with a package in force, in order of name.
pub(crate) fn all(ledger: &Ledger) -> Vec<Tool> {
    of_packages(ledger, ledger.packages()).into_values().collect()
}

/// Seats and prices of a tool: its packages' put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tool {
    /// Its shown name.
    pub(crate) name: String,
    /// Seats; the overage price is the highest of its packages'.
    pub(crate) seats: ToolSeats,
    /// What the overage seats that are out cost.
    overage_cost: Decimal,
    /// Its packages, in order of id.
    packages: Vec<Name>,
}

impl Tool {
    /// Its status.
    fn status(&self) -> ToolStatus {
        let mut status = ToolStatus::of(self.name.clone(), self.seats);
        // Packages of one tool may differ in their price.
        status.current_overage_cost = Money(self.overage_cost);
        status.total_cost = Money(self.seats.commit_price.saturating_add(self.overage_cost));
        status
    }

    /// What it costs and may cost.
    pub(super) fn budget(&self, ledger: &Ledger) -> ToolBudget {
        let mut spent = Decimal::ZERO;
        // Unlimited when some package is.
        let mut max_spend = Some(Decimal::ZERO);
        for package in &self.packages {
            spent = spent.saturating_add(ledger.overage_of_month(package).0);
            let bound = ledger.budget(package).and_then(|budget| budget.max_spend);
            max_spend = match (max_spend, bound) {
                (Some(sum), Some(bound)) => Some(sum.saturating_add(bound.0)),
                _ => None,
            };
        }
        ToolBudget::of(self.name.clone(), self.seats, spent, max_spend)
    }

    fn add(&mut self, civil_ms: i64, package: &PackageView<'_>) {
        let terms = package.terms;
        let out = package.seats();
        let price = terms.pricing.overage_per_use.0;
        let seats = &mut self.seats;
        seats.total = seats.total.saturating_add(terms.total);
        let in_use = out.commit_in_use.saturating_add(out.overage_in_use);
        seats.borrowed = seats.borrowed.saturating_add(in_use);
        seats.overage = seats.overage.saturating_add(out.overage_in_use);
        seats.commit = seats.commit.saturating_add(capacity(terms, SeatClass::Commit, civil_ms));
        let overage = capacity(terms, SeatClass::Overage, civil_ms);
        seats.max_overage = seats.max_overage.saturating_add(overage);
        let fee = terms.pricing.commit_fee_monthly.0;
        seats.commit_price = seats.commit_price.saturating_add(fee);
        seats.overage_price = seats.overage_price.max(price);
        let cost = price.saturating_mul(out.overage_in_use.into());
        self.overage_cost = self.overage_cost.saturating_add(cost);
        self.packages.push(terms.package.clone());
    }
}

/// Seats of a class that a package has now.
fn capacity(terms: &PackageTerms, class: SeatClass, civil_ms: i64) -> u32 {
    let now = |from: i64, until: i64| (from..=until).contains(&civil_ms);
    terms
        .sources
        .iter()
        .filter(|source| source.class == class && now(source.valid_from_ms, source.valid_until_ms))
        .fold(0, |sum, source| sum.saturating_add(source.seats))
}

fn of_packages<'a>(
    ledger: &Ledger,
    packages: impl Iterator<Item = PackageView<'a>>,
) -> BTreeMap<String, Tool> {
    let mut tools = BTreeMap::new();
    for package in packages.filter(view::is_in_force) {
        let name = name_of(package.terms);
        let tool = tools.entry(name.to_owned()).or_insert_with(|| Tool {
            name: name.to_owned(),
            seats: ToolSeats {
                total: 0,
                borrowed: 0,
                overage: 0,
                commit: 0,
                max_overage: 0,
                commit_price: Decimal::ZERO,
                overage_price: Decimal::ZERO,
            },
            overage_cost: Decimal::ZERO,
            packages: Vec::new(),
        });
        tool.add(ledger.clock().civil_ms, &package);
    }
    tools
}

/// A package's tool.
pub(super) fn name_of(terms: &PackageTerms) -> &str {
    if terms.product_name.is_empty() { &terms.product } else { &terms.product_name }
}

/// Whether a package is of the tool that somebody means.
pub(super) fn is_of(terms: &PackageTerms, tool: &str) -> bool {
    name_of(terms) == tool || *terms.product == *tool
}

/// A tool's packages that are in force, in order of id.
pub(super) fn packages_in_force(ledger: &Ledger, tool: &str) -> Vec<Name> {
    let of_tool = ledger.packages().filter(|package| is_of(package.terms, tool));
    of_tool.filter(view::is_in_force).map(|package| package.terms.package.clone()).collect()
}

/// A tool's packages in the order in which to ask them for a seat: where it costs nothing, where it
/// costs something, where there is none; those not in force only when there is nothing else, so
/// that the ledger counts the reason.
pub(super) fn packages_to_ask(ledger: &Ledger, tool: &str) -> Vec<(Name, Standing)> {
    let mut found: Vec<(Name, Standing)> = ledger
        .packages()
        .filter(|package| is_of(package.terms, tool))
        .map(|package| (package.terms.package.clone(), standing(&package)))
        .collect();
    if found.iter().any(|(_, standing)| *standing != Standing::NotInForce) {
        found.retain(|(_, standing)| *standing != Standing::NotInForce);
    }
    // Stable: packages come in order of id.
    found.sort_by_key(|(_, standing)| *standing);
    found
}

/// How promising a package looks from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    CommitFree,
    OverageFree,
    Full,
    NotInForce,
}

impl Standing {
    /// Whether there was a seat when somebody looked.
    pub(super) fn has_seats(self) -> bool {
        matches!(self, Self::CommitFree | Self::OverageFree)
    }
}

fn standing(package: &PackageView<'_>) -> Standing {
    let seats = package.seats();
    if !view::is_in_force(package) {
        Standing::NotInForce
    } else if seats.commit_free > 0 {
        Standing::CommitFree
    } else if seats.overage_free > 0 {
        Standing::OverageFree
    } else {
        Standing::Full
    }
}
