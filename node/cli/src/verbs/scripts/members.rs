//! Members: what is asked, what people read, how refusals end.

use serde_json::json;

use super::{check, check_fails};
use crate::exit::Exit;
use crate::scripted::Exchange;

fn refusal(request: &'static str, status: u16, code: &str, detail: &str) -> Exchange {
    let answer = json!({ "title": "No.", "status": status, "code": code, "detail": detail });
    Exchange { request, sends: json!(null), status, answer }
}

#[test]
fn an_invitation_shows_the_one_command_and_a_replacement_says_whose_place() {
    let answer = |node: u64, replaces: Option<u64>| {
        let mut answer = json!({
            "node_id": node, "token": "lhj1_AAAA",
            "command": "leasehold cluster join --token lhj1_AAAA", "expires_in_ms": 900_000,
        });
        if let Some(old) = replaces {
            answer["replaces"] = json!(old);
        }
        answer
    };
    let post = "POST /admin/members";
    check(
        &["member", "add"],
        &[Exchange::change(post, json!({ "learner": false }), answer(4, None))],
        "node 4 is invited; run on its machine within 15m 0s:\n  leasehold cluster join --token \
         lhj1_AAAA\nAddresses and directory are options of it: see --help there.\n",
    );
    check(
        &["member", "replace", "3", "--valid", "60m"],
        &[Exchange::change(
            post,
            json!({ "learner": false, "replaces": 3, "valid_minutes": 60 }),
            answer(5, Some(3)),
        )],
        "node 5 will take the place of node 3; run on its machine within 15m 0s:\n  leasehold \
         cluster join --token lhj1_AAAA\nAddresses and directory are options of it: see --help \
         there.\n",
    );
}

#[test]
fn members_are_listed_within_80_columns() {
    let member = |id: u64, part: &str, zone: &str| {
        json!({
            "node_id": id, "part": part, "peer_address": format!("10.0.0.{id}:7411"),
            "gateway_url": format!("https://10.0.0.{id}:7401"), "region": "eu", "zone": zone,
            "joining": part == "learner",
        })
    };
    let list = json!({
        "leader": 1,
        "members": [member(1, "voter", "a"), member(2, "voter", "b"), member(4, "learner", "c")],
        "invited": [{ "node_id": 5, "learner": false, "expires_in_ms": 0 }],
        "former": [{ "node_id": 3, "removed_at": "2026-11-22T14:00:00Z", "had_joined": true }],
    });
    check(
        &["member", "list"],
        &[Exchange::get("GET /admin/members", list)],
        "ID  PART     PEERS          GATEWAY                PLACE\n 1  leader   10.0.0.1:7411  \
         https://10.0.0.1:7401  eu/a\n 2  voter    10.0.0.2:7411  https://10.0.0.2:7401  eu/b\n 4  \
         learner  10.0.0.4:7411  https://10.0.0.4:7401  eu/c\nnode 5 is invited, its token has \
         ended\nnode 3 was removed at 2026-11-22T14:00:00Z\n",
    );
}

#[test]
fn what_is_refused_says_why_and_has_its_exit_code() {
    let quorum = "bring node 3 back first";
    check_fails(
        &["member", "remove", "2"],
        &[refusal("DELETE /admin/members/2", 409, "quorum_would_be_lost", quorum)],
        Exit::Refused,
        quorum,
    );
    check_fails(
        &["member", "remove", "9"],
        &[refusal("DELETE /admin/members/9", 404, "unknown_member", "No such node.")],
        Exit::NotFound,
        "No such node",
    );
    check_fails(
        &["member", "promote", "4"],
        &[refusal("POST /admin/members/4/promote", 403, "role_too_narrow", "needs admin")],
        Exit::NotAllowed,
        "needs admin",
    );
}

#[test]
fn removing_by_force_and_ending_tokens_is_said_in_the_query() {
    let request = "DELETE /admin/members/2?force=true&revoke_tokens=true";
    let done = Exchange { request, sends: json!(null), status: 204, answer: json!(null) };
    check(
        &["member", "remove", "2", "--force", "--revoke-tokens"],
        &[done],
        "node 2 is removed; its id is not given again\n",
    );
}

#[test]
fn leadership_is_handed_over_and_a_node_drains() {
    check(
        &["cluster", "transfer-leader", "--to", "2"],
        &[Exchange::change(
            "POST /admin/cluster/transfer-leader",
            json!({ "to": 2 }),
            json!({ "leader": 2 }),
        )],
        "node 2 leads\n",
    );
    check(
        &["node", "drain", "3"],
        &[Exchange::change(
            "POST /admin/nodes/3/drain",
            json!({ "force": false }),
            json!({ "node_id": 3, "message": "the node drains and ends" }),
        )],
        "node 3: the node drains and ends\n",
    );
}
