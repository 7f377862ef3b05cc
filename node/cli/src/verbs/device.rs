//! `device list | remove`: the devices that a license was activated on.

use clap::{Args, Subcommand};
use protocol::cloud::admin::{ActivationView, RemoveActivationResponse};
use reqwest::Method;
use serde_json::json;

use super::{ReasonOptions, activation, cut_line, day_of, document, require_id, words};
use crate::client::Request;
use crate::error::{CliError, Result};
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report};
use crate::session::Session;

/// Devices
#[derive(Debug, Clone, Subcommand)]
pub enum DeviceVerb {
    /// List the devices of a license
    #[command(after_help = "\
Example:
  leasehold device list --license 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    List(DeviceListArgs),
    /// Forget a device, so that another may take its place; it may activate anew
    ///
    /// Its seat comes free, at the latest when an offline token of it has run out everywhere.
    #[command(after_help = "\
Examples:
  leasehold device remove 0195f3a2-8d22-7b10-a6f1-3c4d5e6f7081
  leasehold device remove --license 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10 --fingerprint 6b7d0c9b")]
    Remove(DeviceRemoveArgs),
}

/// Options of `device list`.
#[derive(Debug, Clone, Args)]
pub struct DeviceListArgs {
    /// The license, as `license list` shows it
    #[arg(long, visible_alias = "license-id", value_name = "ID")]
    license: String,
    /// Most devices to show; all when left out
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Options of `device remove`.
#[derive(Debug, Clone, Args)]
pub struct DeviceRemoveArgs {
    /// The device's activation, as `device list` shows it
    #[arg(required_unless_present = "fingerprint", conflicts_with = "fingerprint")]
    activation_id: Option<String>,
    /// The device by its fingerprint, or the beginning of it
    #[arg(long, value_name = "HEX", requires = "license")]
    fingerprint: Option<String>,
    /// The license that the fingerprint is looked for in
    #[arg(long, visible_alias = "license-id", value_name = "ID", requires = "fingerprint")]
    license: Option<String>,
    /// Free its seat at once although an offline token is outstanding: the device is lost
    #[arg(long)]
    write_off: bool,
    #[command(flatten)]
    reason: ReasonOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(verb: DeviceVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        DeviceVerb::List(args) => list(&args, session).await,
        DeviceVerb::Remove(args) => remove(args, session).await,
    }
}

async fn list(args: &DeviceListArgs, session: &Session<'_>) -> Result<Report> {
    let found = devices(&args.license, args.limit, session).await?;
    let mut grid = Grid::new(&[
        Column::whole("ACTIVATION"),
        Column::text("DEVICE"),
        Column::whole("ACTIVATED"),
        Column::whole("LAST SEEN"),
        Column::state("STATE"),
    ]);
    for device in &found.activations {
        grid.row(vec![
            device.activation_id.clone(),
            device.holder.clone(),
            day_of(device.activated_at),
            day_of(device.last_seen_at),
            words(&device.state),
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "no device was activated under this license")];
    if found.is_cut {
        parts.push(cut_line(found.activations.len()));
    }
    let ids = found.activations.iter().map(|device| device.activation_id.clone()).collect();
    let json = json!({ "devices": document(&found.activations)?, "complete": !found.is_cut });
    Ok(Report::done(json, parts, ids))
}

async fn devices(
    license_id: &str,
    limit: Option<u32>,
    session: &Session<'_>,
) -> Result<activation::Found> {
    let license_id = require_id("license", license_id)?.to_owned();
    let filters = [("license_id", Some(license_id))];
    activation::find(session, &filters, limit).await
}

async fn remove(args: DeviceRemoveArgs, session: &Session<'_>) -> Result<Report> {
    let reason = args.reason.text()?;
    let activation_id = match (&args.activation_id, &args.fingerprint, &args.license) {
        (Some(activation_id), _, _) => require_id("activation", activation_id)?.to_owned(),
        (None, Some(fingerprint), Some(license)) => {
            let found = devices(license, None, session).await?;
            the_one(&found.activations, fingerprint)?.activation_id.clone()
        }
        _ => return Err(CliError::Usage("which device? name its activation".to_owned())),
    };
    let path = ["admin", "activations", activation_id.as_str()];
    let key = args.mutation.idempotency_key.as_deref();
    let request = Request::change(Method::DELETE, &path, key)?
        .query("write_off", args.write_off.then(|| "true".to_owned()))
        .query("reason", reason)
        .bearer(session.settings.operator_token()?);
    let removed: RemoveActivationResponse = session.client.send(&request).await?.json()?;
    let line = match removed.seats_taken_until {
        None => format!("{} is removed; its seat is free", removed.activation_id),
        Some(until) => format!(
            "{} is removed; its seat stays taken until {until}, for it may be offline",
            removed.activation_id
        ),
    };
    let ids = vec![removed.activation_id.clone()];
    Ok(Report::done(document(&removed)?, vec![Part::Line(line)], ids))
}

/// The one device whose fingerprint begins so.
fn the_one<'a>(devices: &'a [ActivationView], beginning: &str) -> Result<&'a ActivationView> {
    if beginning.len() < MIN_BEGINNING_CHARS {
        return Err(CliError::Usage(format!(
            "--fingerprint wants {MIN_BEGINNING_CHARS} characters at least"
        )));
    }
    let beginning = beginning.to_ascii_lowercase();
    let mut matching =
        devices.iter().filter(|it| it.holder.to_ascii_lowercase().starts_with(&beginning));
    match (matching.next(), matching.next()) {
        (Some(device), None) => Ok(device),
        (None, _) => Err(CliError::NotFound(format!(
            "no device of the license has a fingerprint that begins with {beginning}"
        ))),
        (Some(_), Some(_)) => Err(CliError::Usage(format!(
            "several devices have a fingerprint that begins with {beginning}: give more of it"
        ))),
    }
}

/// Enough that nobody hits a device by accident.
const MIN_BEGINNING_CHARS: usize = 8;
