//! A backup over the air: who may have it, and that it is whole.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use sha2::{Digest, Sha256};
use storage::snapshot::{SnapshotItem, SnapshotReader};

use crate::world::World;

const PATH: &str = "/admin/snapshot";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_downloads_a_whole_snapshot_with_its_hash_behind() {
    let world = World::unsealed().await;
    for token in [&world.operator, &world.auditor] {
        let refused = world.get(PATH).bearer(token).send().await;
        assert_eq!(refused.expect(403)["code"], "role_too_narrow");
    }
    for _ in 0..3 {
        world.pin_vendor().await;
        let request = Request::get(PATH)
            .header("authorization", format!("Bearer {}", world.admin))
            .body(Full::new(Bytes::new()))
            .expect("a request");
        let response = world.gateway.answer(request).await;
        let (parts, body) = response.into_parts();
        assert_eq!(parts.status, 200);
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("content-type"), Some("application/octet-stream"));
        let whole = body.collect().await.expect("a body");
        let trailer = whole.trailers().and_then(|it| it.get("content-digest")).cloned();
        let bytes = whole.to_bytes();
        let digest = data_encoding::BASE64.encode(&Sha256::digest(&bytes));
        assert_eq!(trailer.expect("a trailer"), format!("sha-256=:{digest}:").as_str());
        let mut reader = SnapshotReader::new(&bytes[..]);
        let (mut index, mut rows) = (0, 0);
        while let Some(item) = reader.next().expect("a whole snapshot") {
            match item {
                SnapshotItem::Meta(meta, _) => index = meta.applied.expect("an index").index,
                SnapshotItem::Row { .. } => rows += 1,
            }
        }
        assert!(rows > 4, "{rows} rows");
        assert!(index >= world.cluster.ledger().applied_index(), "older than what was answered");
        assert_eq!(header("leasehold-applied-index"), Some(index.to_string().as_str()));
        let name = header("content-disposition").expect("a name");
        assert!(name.ends_with(&format!("-1-{index}.snapshot\"")), "{name}");
    }
}
