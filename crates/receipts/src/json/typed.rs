//! Reads a parsed value as a type without parsing its text again.
use std::fmt;
use std::slice;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::value::{Node, Value};

/// The reason why a value does not match a type, with the path of the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeError {
    path: String,
    problem: String,
}

impl TypeError {
    /// Prefixes the path with `step`.
    fn below(mut self, step: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.path.insert_str(0, dot);
        self.path.insert_str(0, step);
        self
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.problem)
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self {
            path: String::new(),
            problem: problem.to_string(),
        }
    }
}

impl Node<'_> {
    /// Reads the value as a type. An array is not accepted in place of an object.
    ///
    /// # Errors
    /// Returns the first member that does not match.
    pub fn typed<'de, T: Deserialize<'de>>(&'de self) -> Result<T, TypeError> {
        T::deserialize(self)
    }

    fn unexpected(&self) -> Unexpected<'_> {
        match &self.value {
            Value::Array(_) => Unexpected::Seq,
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Null => Unexpected::Unit,
            Value::Number => Unexpected::Other(self.raw),
            Value::Object(_) => Unexpected::Map,
            Value::String(text) => Unexpected::Str(text),
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node<'_> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Array(items) => visitor.visit_seq(Items(items.iter())),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Null => visitor.visit_unit(),
            Value::Number => match (self.unsigned(), self.raw.parse::<i64>()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Ok(value)) => visitor.visit_i64(value),
                (None, Err(_)) => visitor.visit_f64(self.raw.parse().map_err(de::Error::custom)?),
            },
            Value::Object(members) => visitor.visit_map(Members {
                rest: members.iter(),
                next: None,
            }),
            Value::String(text) => visitor.visit_borrowed_str(text),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        if self.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Object(_) => self.deserialize_any(visitor),
            // A visitor would accept an array and read the members by position, but another reader would find no
            // members.
            Value::Array(_) => Err(de::Error::custom("an array instead of an object")),
            Value::Bool(_) | Value::Null | Value::Number | Value::String(_) => {
                Err(de::Error::invalid_type(self.unexpected(), &visitor))
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::String(word) => visitor.visit_enum(word.as_ref().into_deserializer()),
            Value::Object(members) if let [(word, value)] = members.as_slice() => {
                visitor.visit_enum(Variant { word, value })
            }
            Value::Array(_) | Value::Bool(_) | Value::Null | Value::Number | Value::Object(_) => {
                Err(de::Error::invalid_type(self.unexpected(), &visitor))
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The unread items of an array.
struct Items<'de, 'a>(slice::Iter<'de, Node<'a>>);

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TypeError> {
        let item = self.0.next().map(|item| seed.deserialize(item));
        item.transpose().map_err(|error| error.below("[]"))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The unread members of an object, and the member whose name was read.
struct Members<'de, 'a> {
    rest: slice::Iter<'de, (std::borrow::Cow<'a, str>, Node<'a>)>,
    next: Option<(&'de str, &'de Node<'a>)>,
}

impl<'de> MapAccess<'de> for Members<'de, '_> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TypeError> {
        self.next = self.rest.next().map(|(name, value)| (name.as_ref(), value));
        let name = self.next.map(|(name, _)| {
            let name: de::value::BorrowedStrDeserializer<'de, TypeError> =
                de::value::BorrowedStrDeserializer::new(name);
            seed.deserialize(name)
        });
        name.transpose()
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, TypeError> {
        let Some((name, value)) = self.next.take() else {
            return Err(de::Error::custom("a value without a name"));
        };
        seed.deserialize(value).map_err(|error| error.below(name))
    }
}

/// A variant that holds a value: an object with one member.
struct Variant<'de, 'a> {
    word: &'de str,
    value: &'de Node<'a>,
}

impl<'de> EnumAccess<'de> for Variant<'de, '_> {
    type Error = TypeError;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), TypeError> {
        let word: de::value::BorrowedStrDeserializer<'de, TypeError> =
            de::value::BorrowedStrDeserializer::new(self.word);
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de, '_> {
    type Error = TypeError;

    fn unit_variant(self) -> Result<(), TypeError> {
        Err(de::Error::invalid_type(self.value.unexpected(), &"a word"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, TypeError> {
        seed.deserialize(self.value)
            .map_err(|error| error.below(self.word))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, TypeError> {
        self.value.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.value.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_DEPTH, parse};

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Plain,
        Io(String),
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Outer {
        #[serde(default)]
        inner: Option<Inner>,
        words: Vec<Word>,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Inner {
        port: u16,
    }

    fn read(text: &str) -> Result<Outer, String> {
        let node = parse(text, MAX_DEPTH).unwrap();
        node.typed().map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_is_read_as_it_would_be_from_its_text() {
        for text in [
            r#"{"words":[],"more":[1]}"#,
            r#"{"inner":null,"words":["plain",{"io":"full"}]}"#,
            r#"{"inner":{"port":65535},"words":["plai\u006e"]}"#,
        ] {
            assert_eq!(
                read(text),
                Ok(serde_json::from_str(text).unwrap()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        for (text, expected) in [
            (
                r#"{"inner":{"port":65536},"words":[]}"#,
                "inner.port: invalid value: integer `65536`, expected u16",
            ),
            (
                r#"{"inner":{"port":-1},"words":[]}"#,
                "inner.port: invalid value: integer `-1`, expected u16",
            ),
            (
                r#"{"inner":{"port":1.0},"words":[]}"#,
                "inner.port: invalid type: floating point `1.0`, expected u16",
            ),
            (
                r#"{"inner":[7],"words":[]}"#,
                "inner: an array instead of an object",
            ),
            (
                r#"{"words":["other"]}"#,
                "words.[]: unknown variant `other`, expected `plain` or `io`",
            ),
            (
                r#"{"words":[{"io":1}]}"#,
                "words.[].io: invalid type: integer `1`, expected a string",
            ),
            (
                r#"{"words":["io"]}"#,
                "words.[]: invalid type: unit variant, expected newtype variant",
            ),
            (
                r#"{"words":[{"plain":1}]}"#,
                "words.[]: invalid type: 1, expected a word",
            ),
            ("{}", "missing field `words`"),
        ] {
            assert_eq!(read(text), Err(expected.to_owned()), "{text}");
        }
    }
}
