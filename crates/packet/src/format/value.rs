//! Types of values that are narrower than their JSON type. Each type reads and writes any value of
//! the JSON type. A value that does not match the pattern is written as [`NOT_THIS_VERSION`], so
//! that `deviations` finds it and JSON contains it unchanged.
use std::fmt;
use std::ops::Deref;

use pipelock_receipts::is_rfc3339;
use pipelock_receipts::record::GENESIS;
use serde::{Deserialize, Serialize, Serializer};

/// Name of the newtype struct that wraps a serialized value that this version never writes. JSON contains the value as
/// it is, so serializing a document that was read never fails.
pub(crate) const NOT_THIS_VERSION: &str = "egress::NotThisVersion";

/// Defines kinds of strings with a description, a pattern for the schema, and a condition.
macro_rules! texts {
    ($($(#[doc = $doc:literal])* $name:ident: $pattern:literal, $holds:expr;)+) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                super::describe::text(concat!($($doc),*), $pattern)
            }
        }

        impl<T: Into<String>> From<T> for $name {
            fn from(text: T) -> Self {
                Self(text.into())
            }
        }

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, text: &&str) -> bool {
                self.0 == *text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let holds: fn(&str) -> bool = $holds;
                if holds(&self.0) {
                    serializer.serialize_str(&self.0)
                } else {
                    serializer.serialize_newtype_struct(NOT_THIS_VERSION, &self.0)
                }
            }
        }
    )+};
}

texts! {
    /// A string that is not empty.
    Name: "[\\s\\S]", |text| !text.is_empty();
    /// 64 lowercase hexadecimal digits.
    Sha256: "^[0-9a-f]{64}$", |text| is_hex(text, 64);
    /// 16 lowercase hexadecimal digits.
    Hex16: "^[0-9a-f]{16}$", |text| is_hex(text, 16);
    /// The hash of a row, or `genesis` before the first row.
    Head: "^([0-9a-f]{64}|genesis)$", |text| is_hex(text, 64) || text == GENESIS;
    /// Permission bits, four octal digits.
    OctalMode: "^[0-7]{4}$", |text| text.len() == 4 && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    /// An RFC 3339 time.
    Time: "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$", is_rfc3339;
}

fn is_hex(text: &str, length: usize) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == length && text.bytes().all(is_digit)
}

/// A number with one possible value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Exactly<const N: u64>(u64);

impl<const N: u64> Exactly<N> {
    /// The possible value.
    pub const VALUE: Self = Self(N);

    /// Returns the number that was read from the file.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<const N: u64> Serialize for Exactly<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == N {
            serializer.serialize_u64(N)
        } else {
            serializer.serialize_newtype_struct(NOT_THIS_VERSION, &self.0)
        }
    }
}

#[cfg(feature = "schema")]
impl<const N: u64> schemars::JsonSchema for Exactly<N> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Exactly{N}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "const": N })
    }
}
