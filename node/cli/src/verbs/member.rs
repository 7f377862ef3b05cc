//! `member add | list | promote | remove | replace`: who is in the cluster.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    AddMemberRequest, AddMemberResponse, DEFAULT_TICKET_MINUTES, MAX_TICKET_MINUTES, MemberList,
    MemberPart,
};
use reqwest::Method;
use serde_json::json;

use super::document;
use crate::client::Request;
use crate::error::{CliError, Result};
use crate::options::{MutationOptions, Wait};
use crate::report::{Column, Grid, Part, Report, duration};
use crate::session::Session;

/// Members
#[derive(Debug, Clone, Subcommand)]
pub enum MemberVerb {
    /// Invite a new node: prints the one command to run on its machine
    #[command(after_help = "\
Examples:
  leasehold member add
  leasehold member add --learner --valid 60m")]
    Add(AddMemberArgs),
    /// List members, invited nodes and former ones
    #[command(
        visible_alias = "ls",
        after_help = "\
Example:
  leasehold member list -o json"
    )]
    List,
    /// Give a learner a vote
    #[command(after_help = "\
Example:
  leasehold member promote 4")]
    Promote(PromoteMemberArgs),
    /// Remove a member, or withdraw an invitation
    ///
    /// Refused when the voters that are left and answer would be no majority.
    #[command(
        visible_alias = "rm",
        after_help = "\
Examples:
  leasehold member remove 2
  leasehold member remove 2 --revoke-tokens"
    )]
    Remove(RemoveMemberArgs),
    /// Replace a node that was lost or damaged, by a new one under a new id
    ///
    /// Anywhere: prints the one command for the new machine. On the damaged node's own machine,
    /// with --config: does it all; starting the service again is what is left.
    #[command(after_help = "\
Examples:
  leasehold member replace 3
  leasehold member replace 3 --config /var/lib/leasehold/node.toml")]
    Replace(ReplaceMemberArgs),
}

/// Options of `member add`.
#[derive(Debug, Clone, Args)]
pub struct AddMemberArgs {
    /// It is to follow without a vote until it is promoted
    #[arg(long)]
    pub learner: bool,
    /// How long the token is good, as 15m or 60m
    #[arg(long, value_name = "TIME", default_value = "15m")]
    pub valid: Wait,
    /// What makes a repeat the same request.
    #[command(flatten)]
    pub mutation: MutationOptions,
}

/// Options of `member promote`.
#[derive(Debug, Clone, Args)]
pub struct PromoteMemberArgs {
    /// The node
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub id: u64,
    /// What makes a repeat the same request.
    #[command(flatten)]
    pub mutation: MutationOptions,
}

/// Options of `member remove`.
#[derive(Debug, Clone, Args)]
pub struct RemoveMemberArgs {
    /// The node
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub id: u64,
    /// Remove it although the voters that are left and answer are no majority: nothing can be
    /// written then until enough of them are back
    #[arg(long)]
    pub force: bool,
    /// End access tokens that it signed now, and not within an hour
    #[arg(long)]
    pub revoke_tokens: bool,
    /// What makes a repeat the same request.
    #[command(flatten)]
    pub mutation: MutationOptions,
}

/// Options of `member replace`.
#[derive(Debug, Clone, Args)]
pub struct ReplaceMemberArgs {
    /// The node that is lost
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub id: u64,
    /// Its own configuration, on its own machine: its data is put aside and it joins anew
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How long the token is good, as 15m or 60m
    #[arg(long, value_name = "TIME", default_value = "15m")]
    pub valid: Wait,
    /// What makes a repeat the same request.
    #[command(flatten)]
    pub mutation: MutationOptions,
}

pub(crate) async fn run(verb: MemberVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        MemberVerb::Add(args) => {
            let request = request(args.learner, None, args.valid)?;
            add(&request, &args.mutation, session).await
        }
        MemberVerb::List => list(session).await,
        MemberVerb::Promote(args) => promote(args, session).await,
        MemberVerb::Remove(args) => remove(args, session).await,
        MemberVerb::Replace(ReplaceMemberArgs { config: Some(_), .. }) => {
            Err(CliError::Failed("a node's own files are the node's own matter".to_owned()))
        }
        MemberVerb::Replace(args) => {
            let request = request(false, Some(args.id), args.valid)?;
            add(&request, &args.mutation, session).await
        }
    }
}

/// The request of an invitation.
pub(crate) fn request(
    learner: bool,
    replaces: Option<u64>,
    valid: Wait,
) -> Result<AddMemberRequest> {
    let minutes = u32::try_from(valid.ms.div_ceil(60_000)).unwrap_or(u32::MAX);
    if !(1..=MAX_TICKET_MINUTES).contains(&minutes) {
        return Err(CliError::Usage("--valid wants a time from 1m to 60m".to_owned()));
    }
    let valid_minutes = (minutes != DEFAULT_TICKET_MINUTES).then_some(minutes);
    Ok(AddMemberRequest { learner, replaces, valid_minutes })
}

async fn add(
    request: &AddMemberRequest,
    mutation: &MutationOptions,
    session: &Session<'_>,
) -> Result<Report> {
    let answer = session.post(&["admin", "members"], request, mutation).await?;
    let invited: AddMemberResponse = answer.json()?;
    let AddMemberResponse { node_id, command, expires_in_ms, replaces, .. } = &invited;
    let what = match replaces {
        Some(old) => format!("node {node_id} will take the place of node {old}"),
        None => format!("node {node_id} is invited"),
    };
    let parts = vec![
        Part::Line(format!("{what}; run on its machine within {}:", duration(*expires_in_ms))),
        Part::Document(format!("  {command}\n")),
        Part::Line("Addresses and directory are options of it: see --help there.".to_owned()),
    ];
    let ids = vec![node_id.to_string()];
    Ok(Report::done(document(&invited)?, parts, ids))
}

async fn list(session: &Session<'_>) -> Result<Report> {
    let list: MemberList = session.get(&["admin", "members"]).await?.json()?;
    let mut grid = Grid::new(&[
        Column::number("ID"),
        Column::state("PART"),
        Column::whole("PEERS"),
        Column::whole("GATEWAY"),
        Column::text("PLACE"),
    ]);
    for member in &list.members {
        let part = match member.part {
            MemberPart::Voter if list.leader == Some(member.node_id) => "leader",
            MemberPart::Voter => "voter",
            MemberPart::Learner => "learner",
            MemberPart::Outside if member.joining => "joining",
            MemberPart::Outside => "outside",
        };
        let labels = [member.region.as_str(), member.zone.as_str()];
        let place: Vec<&str> = labels.into_iter().filter(|label| !label.is_empty()).collect();
        grid.row(vec![
            member.node_id.to_string(),
            part.to_owned(),
            member.peer_address.clone(),
            member.gateway_url.clone(),
            if place.is_empty() { "-".to_owned() } else { place.join("/") },
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "no members")];
    for ticket in &list.invited {
        let left = match ticket.expires_in_ms {
            0 => "its token has ended".to_owned(),
            ms => format!("for {} more", duration(ms)),
        };
        parts.push(Part::Line(format!("node {} is invited, {left}", ticket.node_id)));
    }
    for former in list.former.iter().filter(|former| former.had_joined) {
        let at = former.removed_at;
        parts.push(Part::Line(format!("node {} was removed at {at}", former.node_id)));
    }
    let ids = list.members.iter().map(|member| member.node_id.to_string()).collect();
    Ok(Report::done(document(&list)?, parts, ids))
}

async fn promote(args: PromoteMemberArgs, session: &Session<'_>) -> Result<Report> {
    let id = args.id.to_string();
    let path = ["admin", "members", &id, "promote"];
    session.change::<()>(Method::POST, &path, None, &args.mutation).await?;
    Ok(Report::done(
        json!({ "node_id": args.id, "part": "voter" }),
        vec![Part::Line(format!("node {id} votes"))],
        vec![id],
    ))
}

async fn remove(args: RemoveMemberArgs, session: &Session<'_>) -> Result<Report> {
    let id = args.id.to_string();
    let token = session.settings.operator_token()?;
    let key = args.mutation.idempotency_key.as_deref();
    let flag = |set: bool| set.then(|| "true".to_owned());
    let request = Request::change(Method::DELETE, &["admin", "members", &id], key)?
        .bearer(token)
        .query("force", flag(args.force))
        .query("revoke_tokens", flag(args.revoke_tokens));
    session.client.send(&request).await?;
    Ok(Report::done(
        json!({ "node_id": args.id, "removed": true }),
        vec![Part::Line(format!("node {id} is removed; its id is not given again"))],
        vec![id],
    ))
}
