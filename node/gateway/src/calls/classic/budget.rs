//! What overage of a tool may cost in a calendar month.
//!
//! The ledger bounds packages. Of a tool with several, each gets an equal share of the bound, so
//! that together they never cost more.

use lease::command::{Command, Role};
use lease::ids::Name;
use lease::money::Money as LedgerMoney;
use lease::offline::SetBudget;
use lease::outcome::Outcome;
use protocol::classic::refusal::Refusal;
use protocol::classic::wire::{Budget, OkStatus, ProtectionAnswer, ProtectionRequest};
use protocol::wire::Money;
use rust_decimal::{Decimal, RoundingStrategy};

use super::refusal::{Verdict, verdict};
use super::tools;
use super::{as_operator, invalid, refused};
use crate::call::Call;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /config/budget`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let call = as_operator(shared, call, Role::Auditor).await?;
    let ledger = shared.read(&call).await?;
    let tools = tools::all(&ledger).iter().map(|tool| tool.budget(&ledger)).collect();
    Ok(Reply::ok(&Budget { tools }))
}

/// `PUT /config/protection` and `PUT /config/budget`
pub(crate) async fn set(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let call = as_operator(shared, call, Role::Operator).await?;
    let request = ProtectionRequest::from_body(&call.body).map_err(invalid)?;
    let packages = tools::packages_in_force(&*shared.read(&call).await?, &request.tool);
    if packages.is_empty() {
        return Err(refused(&Refusal::ToolNotFound).because("unknown_product").into());
    }
    let bounds = shares(request.max_spend.map(|bound| bound.0), packages.len());
    for (package, max_spend) in packages.into_iter().zip(bounds) {
        set_one(shared, &call, package, max_spend).await?;
    }
    let (status, tool) = (OkStatus::Ok, request.tool);
    Ok(Reply::ok(&ProtectionAnswer { status, tool, max_spend: request.max_spend.map(in_cents) }))
}

async fn set_one(
    shared: &Shared,
    call: &Call,
    package: Name,
    max_spend: Option<Decimal>,
) -> Result<(), Failure> {
    let command = Command::SetBudget(SetBudget { package, max_spend: max_spend.map(LedgerMoney) });
    // No request id: setting a bound twice is setting it once.
    let decided = shared.decide(call, None, command).await?;
    match decided.outcome {
        Outcome::Done | Outcome::Unchanged => {}
        Outcome::Refused(refusal) => {
            return Err(match verdict(refusal.code) {
                Verdict::NoSeatHere => refused(&Refusal::ToolNotFound).into(),
                Verdict::Final(refusal) => refused(&refusal).into(),
                _ => Failure::internal("a budget met another face's refusal"),
            });
        }
        _ => return Err(Failure::internal("a budget had the outcome of another command")),
    }
    shared.seen(call, decided.index).await
}

/// A bound in equal shares of whole cents; what is left of them is the first's.
fn shares(bound: Option<Decimal>, packages: usize) -> Vec<Option<Decimal>> {
    let Some(bound) = bound.map(|bound| in_cents(Money(bound)).0) else {
        return vec![None; packages];
    };
    let count = Decimal::from(packages.max(1));
    let each = in_cents(Money(bound.checked_div(count).unwrap_or_default())).0;
    let rest = bound.saturating_sub(each.saturating_mul(count));
    let first = each.saturating_add(rest);
    (0..packages).map(|at| Some(if at == 0 { first } else { each })).collect()
}

fn in_cents(amount: Money) -> Money {
    Money(amount.0.round_dp_with_strategy(2, RoundingStrategy::ToZero))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_bound_are_the_bound() {
        let amount = |text: &str| text.parse::<Decimal>().unwrap();
        for (bound, packages, want) in [
            ("100", 1, vec!["100"]),
            ("100", 3, vec!["33.34", "33.33", "33.33"]),
            ("0.01", 2, vec!["0.01", "0"]),
            ("0", 2, vec!["0", "0"]),
        ] {
            let got = shares(Some(amount(bound)), packages);
            let want: Vec<_> = want.into_iter().map(|text| Some(amount(text))).collect();
            assert_eq!(got, want, "{bound} over {packages}");
            let sum: Decimal = got.into_iter().flatten().sum();
            assert_eq!(sum, amount(bound));
        }
        assert_eq!(shares(None, 2), [None, None]);
    }
}
