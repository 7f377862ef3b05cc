//! A vector file as it is written: members in the order in which they are named.
//!
//! Not `serde_json::Value`: whether that keeps the order depends on what else is compiled along.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// A value of a vector file.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Null,
    Flag(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(&'static str, Node)>),
}

/// Members by name, in this order.
macro_rules! object {
    ($($name:ident: $value:expr),+ $(,)?) => {
        $crate::vectors::document::Node::Object(vec![
            $((stringify!($name), $crate::vectors::document::Node::from($value))),+
        ])
    };
}
pub(super) use object;

impl Node {
    /// The file: indented by 2, with a line end.
    pub(super) fn to_file(&self) -> String {
        serde_json::to_string_pretty(self).unwrap() + "\n"
    }
}

/// A list of whatever can be a node.
pub(super) fn list<T: Into<Node>>(items: impl IntoIterator<Item = T>) -> Node {
    Node::List(items.into_iter().map(Into::into).collect())
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Bytes that are text.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Real(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(members) => {
                let mut object = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    object.serialize_entry(name, value)?;
                }
                object.end()
            }
        }
    }
}

macro_rules! node_from {
    ($($type:ty => $value:ident: $node:expr),+ $(,)?) => {
        $(impl From<$type> for Node {
            fn from($value: $type) -> Self {
                $node
            }
        })+
    };
}

node_from! {
    bool => flag: Self::Flag(flag),
    i64 => number: Self::Integer(number),
    u32 => number: Self::Integer(number.into()),
    u64 => number: Self::Integer(number.try_into().unwrap()),
    u16 => number: Self::Integer(number.into()),
    f64 => number: Self::Real(number),
    &str => text: Self::Text(text.to_owned()),
    String => text: Self::Text(text),
}

impl<T: Into<Self>> From<Option<T>> for Node {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
