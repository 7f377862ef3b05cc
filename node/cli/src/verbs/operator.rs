//! `operator add | list | remove | whoami`: who may run the cluster, and as what.

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    AddOperatorRequest, AddOperatorResponse, MAX_OPERATOR_NAME_CHARS, OperatorList, OperatorRole,
    OperatorView,
};
use reqwest::Method;
use serde_json::json;

use super::{document, pages, require_id, wire_word, words};
use crate::error::{CliError, Result};
use crate::options::{MutationOptions, Span};
use crate::report::{Column, Grid, Part, Report};
use crate::session::Session;

/// Operator tokens
#[derive(Debug, Clone, Subcommand)]
pub enum OperatorVerb {
    /// Make a token and show it once
    #[command(after_help = "\
Examples:
  leasehold operator add \"night shift\" --role operator --expires-in 30d
  leasehold operator add backup --role auditor")]
    Add(OperatorAddArgs),
    /// List tokens; never the tokens themselves
    #[command(after_help = "\
Example:
  leasehold operator list")]
    List,
    /// End a token at once
    #[command(after_help = "\
Example:
  leasehold operator remove operator-00000000c0ffee00")]
    Remove(OperatorRemoveArgs),
    /// Show what the token in use is and may do
    #[command(after_help = "\
Example:
  leasehold operator whoami")]
    Whoami,
}

/// Options of `operator add`.
#[derive(Debug, Clone, Args)]
pub struct OperatorAddArgs {
    /// Who is to hold it; for people
    name: String,
    /// What it allows: auditor (reads), operator (runs the cluster), admin (everything)
    #[arg(long, value_name = "WORD", value_parser = wire_word::<OperatorRole>)]
    role: OperatorRole,
    /// When it ends, as 12h or 30d from now; never when left out
    #[arg(long, value_name = "TIME")]
    expires_in: Option<Span>,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `operator remove`.
#[derive(Debug, Clone, Args)]
pub struct OperatorRemoveArgs {
    /// The token's id, as `operator list` shows it
    operator_id: String,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(verb: OperatorVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        OperatorVerb::Add(args) => add(args, session).await,
        OperatorVerb::List => list(session).await,
        OperatorVerb::Remove(args) => remove(args, session).await,
        OperatorVerb::Whoami => whoami(session).await,
    }
}

async fn add(args: OperatorAddArgs, session: &Session<'_>) -> Result<Report> {
    if !protocol::wire::is_text(&args.name, MAX_OPERATOR_NAME_CHARS) {
        return Err(CliError::Usage(format!(
            "the name wants 1 to {MAX_OPERATOR_NAME_CHARS} characters"
        )));
    }
    let expires_in = match args.expires_in.map(|span| u64::from(span.seconds)) {
        Some(0) => return Err(CliError::Usage("--expires-in wants a second at least".into())),
        seconds => seconds,
    };
    let body = AddOperatorRequest { name: args.name, role: args.role, expires_in };
    let answer = session.post(&["admin", "operators"], &body, &args.mutation).await?;
    let added: AddOperatorResponse = answer.json()?;
    let mut facts = facts(&added.operator);
    facts.push(("token", added.token.expose().to_owned()));
    let note = "The token is shown this once; whoever has it may do what its role allows.";
    let parts = vec![Part::Facts(facts), Part::Line(note.to_owned())];
    let ids = vec![added.token.expose().to_owned()];
    Ok(Report::done(document(&added)?, parts, ids))
}

async fn list(session: &Session<'_>) -> Result<Report> {
    let (operators, _) =
        pages(session, &["admin", "operators"], &[], None, |page: OperatorList| {
            (page.operators, page.next)
        })
        .await?;
    let mut grid = Grid::new(&[
        Column::whole("OPERATOR"),
        Column::text("ROLE"),
        Column::text("ENDS"),
        Column::text("NAME"),
    ]);
    for operator in &operators {
        grid.row(vec![
            operator.operator_id.clone(),
            words(&operator.role),
            ends(operator),
            operator.name.clone(),
        ]);
    }
    let ids = operators.iter().map(|operator| operator.operator_id.clone()).collect();
    let parts = vec![Part::Grid(grid, "there is no operator token")];
    Ok(Report::done(json!({ "operators": document(&operators)? }), parts, ids))
}

async fn remove(args: OperatorRemoveArgs, session: &Session<'_>) -> Result<Report> {
    let operator_id = require_id("operator token", &args.operator_id)?;
    let path = ["admin", "operators", operator_id];
    session.change(Method::DELETE, &path, None::<&()>, &args.mutation).await?;
    let json = json!({ "operator_id": operator_id, "status": "removed" });
    let line = format!("{operator_id} is removed; its token is void");
    Ok(Report::done(json, vec![Part::Line(line)], vec![operator_id.to_owned()]))
}

async fn whoami(session: &Session<'_>) -> Result<Report> {
    let own: OperatorView = session.get(&["admin", "operators", "self"]).await?.json()?;
    let ids = vec![own.operator_id.clone()];
    Ok(Report::done(document(&own)?, vec![Part::Facts(facts(&own))], ids))
}

fn facts(operator: &OperatorView) -> Vec<(&'static str, String)> {
    vec![
        ("operator", operator.operator_id.clone()),
        ("name", operator.name.clone()),
        ("role", words(&operator.role)),
        ("ends", ends(operator)),
    ]
}

fn ends(operator: &OperatorView) -> String {
    match (operator.expires_at, operator.expired) {
        (None, _) => "never".to_owned(),
        (Some(time), true) => format!("ended {time}"),
        (Some(time), false) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::report;
    use crate::scripted::{Exchange, play};

    const ID: &str = "operator-00000000c0ffee00";

    #[test]
    fn a_token_is_made_shown_once_and_removed() {
        let operator = json!({
            "operator_id": ID, "name": "night shift", "role": "operator",
            "expires_at": "2027-01-31T12:00:00Z", "expired": false, "api_key": false
        });
        let sent = json!({"name": "night shift", "role": "operator", "expires_in": 43_200});
        let answer = json!({"token": "lh_op_x", "operator": operator.clone()});
        let add = Exchange::change("POST /admin/operators", sent, answer);
        let line = ["operator", "add", "night shift", "--role", "operator", "--expires-in", "12h"];
        let report = play(&line, &[add]).ok().unwrap();
        assert_eq!(
            report::shown(&report),
            "\
operator  operator-00000000c0ffee00
name      night shift
role      operator
ends      2027-01-31T12:00:00Z
token     lh_op_x
The token is shown this once; whoever has it may do what its role allows.
"
        );
        assert_eq!(report.ids, ["lh_op_x"]);
        let own = [Exchange::get("GET /admin/operators/self", operator)];
        let report = play(&["operator", "whoami"], &own).ok().unwrap();
        assert!(report::shown(&report).contains("role      operator"));
        let gone = Exchange {
            request: "DELETE /admin/operators/operator-00000000c0ffee00",
            sends: serde_json::Value::Null,
            status: 204,
            answer: json!({}),
        };
        assert!(play(&["operator", "remove", ID], &[gone]).is_ok());
        let last = Exchange {
            request: "DELETE /admin/operators/operator-00000000c0ffee00",
            sends: serde_json::Value::Null,
            status: 409,
            answer: json!({"code": "last_admin", "detail": "It is the last."}),
        };
        let error = play(&["operator", "remove", ID], &[last]).err().unwrap();
        assert_eq!(error.exit(), Exit::Refused);
    }
}
