//! `subject show | erase`: who is behind a reference, and forgetting them.

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    BondKind, EraseSubjectResponse, SubjectDetail, SubjectKind, SubjectList,
};

use super::{ReasonOptions, document, wire_word, words};
use crate::client::Request;
use crate::error::{CliError, Result};
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report};
use crate::session::Session;

/// People and hosts
#[derive(Debug, Clone, Subcommand)]
pub enum SubjectVerb {
    /// Show what is known of a person or a host, and what is bound to the name
    #[command(after_help = "\
Examples:
  leasehold subject show alice@bmw.com
  leasehold subject show 8c1f0a5b2d9e4f77")]
    Show(SubjectArgs),
    /// Take a person's or a host's name away from everything that refers to it, for good
    ///
    /// Leases and audit events go on with a reference that names nobody. Exports made before hold
    /// the name.
    #[command(after_help = "\
Example:
  leasehold subject erase alice@bmw.com --reason \"request of 2027-01-31\"")]
    Erase(EraseArgs),
}

/// Whom.
#[derive(Debug, Clone, Args)]
pub struct SubjectArgs {
    /// The name, or the reference that stands for it
    who: String,
    /// What the name is of, where both have it: user, host
    #[arg(long, value_name = "WORD", value_parser = wire_word::<SubjectKind>)]
    kind: Option<SubjectKind>,
}

/// Options of `subject erase`.
#[derive(Debug, Clone, Args)]
pub struct EraseArgs {
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    reason: ReasonOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(verb: SubjectVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        SubjectVerb::Show(args) => show(args, session).await,
        SubjectVerb::Erase(args) => erase(args, session).await,
    }
}

async fn show(args: SubjectArgs, session: &Session<'_>) -> Result<Report> {
    let reference = find(&args, session).await?;
    let subject: SubjectDetail = session.get(&["admin", "subjects", &reference]).await?.json()?;
    let more = if subject.events_complete { "" } else { " or more" };
    let facts = vec![
        ("name", subject.name.clone()),
        ("kind", words(&subject.kind)),
        ("reference", subject.reference.clone()),
        ("live leases", subject.leases.to_string()),
        ("audit events", format!("{}{more}", subject.events.0)),
    ];
    let mut grid =
        Grid::new(&[Column::text("BOUND BY"), Column::whole("ID"), Column::text("WAY OUT")]);
    for bond in &subject.bound_by {
        let way_out = match bond.what {
            BondKind::License => "license cancel, license revoke",
            BondKind::Activation => "device remove, activation revoke",
            BondKind::Operator => "operator remove",
        };
        grid.row(vec![words(&bond.what), bond.id.clone(), way_out.to_owned()]);
    }
    let parts =
        vec![Part::Facts(facts), Part::Grid(grid, "nothing keeps the name from being erased")];
    Ok(Report::done(document(&subject)?, parts, vec![subject.reference.clone()]))
}

async fn erase(args: EraseArgs, session: &Session<'_>) -> Result<Report> {
    args.reason.text()?;
    let reference = find(&args.subject, session).await?;
    let path = ["admin", "subjects", &reference, "erase"];
    let answer = session.post(&path, &args.reason.body(), &args.mutation).await?;
    let erased: EraseSubjectResponse = answer.json()?;
    let line = format!("the name is erased; {} names nobody from now on", erased.reference);
    Ok(Report::done(document(&erased)?, vec![Part::Line(line)], vec![erased.reference.clone()]))
}

/// The reference of a name, or the one that was given.
async fn find(args: &SubjectArgs, session: &Session<'_>) -> Result<String> {
    let who = &args.who;
    if who.len() == 16 && who.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(who.to_ascii_lowercase());
    }
    if !protocol::wire::is_text(who, protocol::wire::MAX_TEXT_CHARS) {
        return Err(CliError::Usage("want a name of 1 to 256 characters, or a reference".into()));
    }
    let request = Request::get(&["admin", "subjects"])
        .bearer(session.settings.operator_token()?)
        .query("name", Some(who.clone()))
        .query("kind", args.kind.map(|kind| words(&kind)));
    let list: SubjectList = session.client.send(&request).await?.json()?;
    match list.subjects.as_slice() {
        [] => Err(CliError::NotFound(format!("no person or host is known as {who:?}"))),
        [subject] => Ok(subject.reference.clone()),
        _ => Err(CliError::Usage(format!(
            "{who:?} is a user and a host: say --kind user or --kind host"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::exit::Exit;
    use crate::report;
    use crate::scripted::{Exchange, play};

    const REF: &str = "8c1f0a5b2d9e4f77";

    #[test]
    fn a_person_is_found_by_name_and_shown_with_what_is_bound_to_it() {
        let list = json!({"subjects": [{"reference": REF, "kind": "user", "name": "a@b.c"}]});
        let subject = json!({
            "reference": REF, "kind": "user", "name": "a@b.c", "leases": 2, "events": "17",
            "events_complete": false, "bound_by": [{"what": "license", "id": "l-1"}]
        });
        let script = [
            Exchange::get("GET /admin/subjects?name=a%40b.c", list),
            Exchange::get("GET /admin/subjects/8c1f0a5b2d9e4f77", subject),
        ];
        let report = play(&["subject", "show", "a@b.c"], &script).ok().unwrap();
        assert_eq!(
            report::shown(&report),
            "\
name          a@b.c
kind          user
reference     8c1f0a5b2d9e4f77
live leases   2
audit events  17 or more
BOUND BY  ID   WAY OUT
license   l-1  license cancel, license revoke
"
        );
        assert_eq!(report.ids, [REF]);
    }

    #[test]
    fn a_name_that_two_have_or_none_is_not_erased() {
        let both = json!({"subjects": [
            {"reference": REF, "kind": "user", "name": "a"},
            {"reference": "0000000000000001", "kind": "host", "name": "a"}
        ]});
        let none = json!({"subjects": []});
        for (answer, exit) in [(both, Exit::Usage), (none, Exit::NotFound)] {
            let script = [Exchange::get("GET /admin/subjects?name=a", answer)];
            let error = play(&["subject", "erase", "a"], &script).err().unwrap();
            assert_eq!(error.exit(), exit, "{}", error.line());
        }
        let erased = json!({"reference": REF, "kind": "user", "status": "erased"});
        let sent = json!({"reason": "left"});
        let change = Exchange::change("POST /admin/subjects/8c1f0a5b2d9e4f77/erase", sent, erased);
        let line = ["subject", "erase", "8C1F0A5B2D9E4F77", "--reason", "left"];
        let report = play(&line, &[change]).ok().unwrap();
        assert!(report::shown(&report).contains("names nobody"));
    }
}
