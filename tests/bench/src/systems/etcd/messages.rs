//! etcd's messages, as far as they are used here: field numbers from its `rpc.proto` and
//! `kv.proto`, version 3.4.
//!
//! Derived by hand so that nothing has to be generated. What a message has and nobody reads is
//! left out; decoding skips it.

use prost::{Enumeration, Message, Oneof};

/// `LeaseGrantRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseGrantRequest {
    /// Seconds.
    #[prost(int64, tag = "1")]
    pub(crate) ttl: i64,
}

/// `LeaseGrantResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseGrantResponse {
    /// The lease.
    #[prost(int64, tag = "2")]
    pub(crate) id: i64,
}

/// `LeaseRevokeRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseRevokeRequest {
    /// The lease.
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
}

/// `LeaseKeepAliveRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseKeepAliveRequest {
    /// The lease.
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
}

/// `LeaseKeepAliveResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseKeepAliveResponse {
    /// The lease.
    #[prost(int64, tag = "2")]
    pub(crate) id: i64,
    /// Seconds; 0: there is no such lease.
    #[prost(int64, tag = "3")]
    pub(crate) ttl: i64,
}

/// `RangeRequest`; linearizable unless it says otherwise.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RangeRequest {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
}

/// `RangeResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RangeResponse {
    /// How many keys there are.
    #[prost(int64, tag = "4")]
    pub(crate) count: i64,
}

/// `PutRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutRequest {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    /// What it holds.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
    /// The lease with which it ends; 0: none.
    #[prost(int64, tag = "3")]
    pub(crate) lease: i64,
}

/// `TxnRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TxnRequest {
    /// What must hold.
    #[prost(message, repeated, tag = "1")]
    pub(crate) compare: Vec<Compare>,
    /// What is done then.
    #[prost(message, repeated, tag = "2")]
    pub(crate) success: Vec<RequestOp>,
}

/// `Compare`, of a key's first revision.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Compare {
    /// How.
    #[prost(enumeration = "CompareResult", tag = "1")]
    pub(crate) result: i32,
    /// What.
    #[prost(enumeration = "CompareTarget", tag = "2")]
    pub(crate) target: i32,
    /// The key.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) key: Vec<u8>,
    /// With what.
    #[prost(oneof = "TargetUnion", tags = "5")]
    pub(crate) target_union: Option<TargetUnion>,
}

/// `Compare.target_union`.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum TargetUnion {
    /// 0: there is no such key.
    #[prost(int64, tag = "5")]
    CreateRevision(i64),
}

/// `Compare.CompareResult`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(crate) enum CompareResult {
    /// The same.
    Equal = 0,
}

/// `Compare.CompareTarget`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(crate) enum CompareTarget {
    /// The revision in which a key was made.
    Version = 0,
    /// The first revision.
    Create = 1,
}

/// `RequestOp`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestOp {
    /// Which.
    #[prost(oneof = "Op", tags = "2")]
    pub(crate) request: Option<Op>,
}

/// `RequestOp.request`.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Op {
    /// Put a key.
    #[prost(message, tag = "2")]
    Put(PutRequest),
}

/// `TxnResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TxnResponse {
    /// Whether what must hold held.
    #[prost(bool, tag = "2")]
    pub(crate) succeeded: bool,
}

/// An answer of which nothing is read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Acknowledged {}

impl TxnRequest {
    /// Puts a key if it is not there.
    pub(crate) fn create(key: &str, value: &[u8], lease: i64) -> Self {
        let key = key.as_bytes().to_vec();
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::CreateRevision(0)),
        };
        let put = Op::Put(PutRequest { key, value: value.to_vec(), lease });
        Self { compare: vec![compare], success: vec![RequestOp { request: Some(put) }] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_is_encoded_as_protoc_would() {
        let got = TxnRequest::create("/a", b"v", 7).encode_to_vec();
        let want: &[u8] = &[
            0x0a, 8, 0x10, 1, 0x1a, 2, b'/', b'a', 0x28,
            0, // compare: CREATE, key, revision 0
            0x12, 11, 0x12, 9, 0x0a, 2, b'/', b'a', 0x12, 1, b'v', 0x18, 7, // put
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn fields_that_nobody_reads_are_skipped() {
        // A header, then succeeded.
        let bytes: &[u8] = &[0x0a, 2, 0x08, 1, 0x10, 1];
        assert!(TxnResponse::decode(bytes).unwrap().succeeded);
    }
}
