//! Packages as operators see and change them.

use lease::Ledger;
use lease::command::{Command, PackageChange};
use lease::outcome::Outcome;
use protocol::cloud::admin::{PackageList, PackageView, ReasonRequest};

use super::paged;
use crate::call::Call;
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::view;

/// `GET /admin/packages`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let page = paged::asked(call)?;
    let ledger = shared.read(call).await?;
    let (packages, next) =
        paged::by_name(ledger.packages(), &page, |package| package.terms.package.to_string());
    let packages = packages.iter().map(view::package).collect::<Result<Vec<PackageView>, _>>()?;
    Ok(Reply::ok(&PackageList { packages, next }))
}

/// `GET /admin/packages/{package_id}`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    view_of(&ledger, call)
}

/// `POST /admin/packages/{package_id}/suspend`
pub(crate) async fn suspend(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, Command::SuspendPackage).await
}

/// `POST /admin/packages/{package_id}/resume`
pub(crate) async fn resume(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, Command::ResumePackage).await
}

/// `POST /admin/packages/{package_id}/revoke`
pub(crate) async fn revoke(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, Command::RevokePackage).await
}

/// `POST /admin/packages/{package_id}/release-reserved`
pub(crate) async fn release_reserved(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, |PackageChange { package, reason }| Command::ReleaseReserved {
        package,
        reason,
    })
    .await
}

async fn change(
    shared: &Shared,
    call: &Call,
    command: fn(PackageChange) -> Command,
) -> Result<Reply, Failure> {
    let request: ReasonRequest = call.json_or_default()?;
    let request_id = call.request_id(&request);
    let change = PackageChange {
        package: call.subject()?.into(),
        reason: request.reason.as_deref().unwrap_or_default().into(),
    };
    let decided = shared.decide(call, Some(request_id), command(change)).await?;
    match decided.outcome {
        Outcome::Done | Outcome::Unchanged => {
            shared.seen(call, decided.index).await?;
            view_of(&shared.context.cluster.ledger(), call)
        }
        Outcome::Refused(refusal) => Err(admin_failure(&refusal)),
        _ => Err(Failure::internal("a package change had the outcome of another command")),
    }
}

fn view_of(ledger: &Ledger, call: &Call) -> Result<Reply, Failure> {
    match ledger.package(call.subject()?) {
        Some(package) => Ok(Reply::ok(&view::package(&package)?)),
        None => Err(view::unknown_package()),
    }
}
