//! What any call of any face can meet before its handler: a path or method that is not there, a
//! node that is sealed or has too much to do. Each face says it in its own words.

use gateway::Faces;
use http::{Method, Request};
use http_body_util::Full;

use crate::world::{Answer, World};

/// One place near each face, and its words for "there is nothing".
const NOWHERE: [(&str, &str); 6] = [
    ("/api/nothing", r#"{"error":"Not found","message":"Not found"}"#),
    ("/api/products/x/nothing/y", "404 page not found\n"),
    ("/v1/license/nothing", r#"{"error":"not_found","message":"There is nothing at this path."}"#),
    ("/v1/activate/nothing", r#"{"detail":"There is nothing at this path."}"#),
    ("/licenses/x/nothing", r#"{"detail":"There is nothing at this path."}"#),
    ("/v1/validate/x/y", r#"{"detail":"There is nothing at this path."}"#),
];

fn assert_device_headers(answer: &Answer, has_them: bool) {
    for name in
        ["content-security-policy", "x-frame-options", "referrer-policy", "permissions-policy"]
    {
        assert_eq!(answer.header(name).is_some(), has_them, "{name}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_there_is_answered_in_the_words_around_it() {
    let world = World::unsealed().await;
    for (path, body) in NOWHERE {
        let answer = world.get(path).send().await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (404, body), "{path}");
        assert_device_headers(&answer, path.starts_with("/api/"));
    }
    let answer = world.get("/api/v1/nothing").send().await;
    assert_eq!(answer.expect(404)["code"], "not_found");
    let answer = world.get("/nothing").send().await;
    assert_eq!(answer.expect(404)["code"], "not_found");
    assert_device_headers(&answer, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_classic_face_is_not_there_while_it_is_switched_off() {
    let off = World::with_faces(Faces::default()).await;
    let answer = off.get("/licenses/x/nothing").send().await;
    assert_eq!(answer.expect(404)["code"], "not_found", "no word of the face");
    let on = World::unsealed().await;
    let listed = |document: &serde_json::Value| {
        let paths = document["paths"].as_object().expect("paths").values();
        let mut items = paths.flat_map(|item| item.as_object().expect("an item").values());
        items.any(|operation| operation["tags"][0] == "classic")
    };
    assert!(!listed(&off.get("/openapi.json").send().await.expect(200)));
    let has_any =
        gateway::routes::operations().any(|row| row.protocol == gateway::routes::Protocol::Classic);
    assert_eq!(listed(&on.get("/openapi.json").send().await.expect(200)), has_any);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_node_says_so_in_the_words_of_the_face() {
    let world = World::with_requests_in_flight(0).await;
    let table = [
        ("/api/activate", "message", "This node has more to do than it can."),
        ("/v1/license/activate", "error", "overloaded"),
        ("/v1/activate", "detail", "This node has more to do than it can."),
        ("/licenses/borrow", "detail", "This node has more to do than it can."),
        ("/api/v1/licenses/checkout", "code", "overloaded"),
    ];
    for (path, member, value) in table {
        let answer = world.post(path).body("{}").send().await;
        assert_eq!(answer.expect(503)[member], value, "{path}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
    }
    let answer = world.post("/v1/activate").send().await;
    assert_eq!(answer.expect(503)["ok"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_is_no_text_names_nothing() {
    let world = World::unsealed().await;
    let answer = world.get("/admin/packages/%FF%FE").bearer(&world.admin).send().await;
    assert_eq!(answer.expect(404)["code"], "not_found");
    let answer = world.get("/admin/packages/a%20b").bearer(&world.admin).send().await;
    assert_eq!(answer.expect(404)["code"], "unknown_package");
    let request = Request::builder().method(Method::GET).uri("/livez");
    let request = request.body(Full::new(bytes::Bytes::new())).expect("a request");
    assert_eq!(world.gateway.answer(request).await.status().as_u16(), 200);
}
