//! Compares a parsed document with the text that its type would write. The comparison is a serializer that walks the
//! document and writes nothing.
use std::collections::HashMap;
use std::fmt;

use pipelock_receipts::json::{Node, Value};
use serde::ser::{self, Impossible, Serialize, Serializer};

use super::value::NOT_THIS_VERSION;

/// Number of deviations that are kept.
const KEPT: usize = 5;
/// In an object with at most this many members, each name is searched for. No object with fixed members is longer.
const SHORT: usize = 64;
/// Number of characters of a value that a deviation shows.
const SHOWN: usize = 40;

/// Describes the differences between the document and the text that this version would write for
/// `read`. `read` was read from the document. Members of the outermost object that are in `beside`
/// belong to another type.
pub(crate) fn deviations(
    read: &impl Serialize,
    document: &Node<'_>,
    beside: &[&str],
) -> Vec<String> {
    let mut found = Vec::new();
    let place = Place {
        node: document,
        path: Path::Root,
        beside,
    };
    place.hold(read, &mut found);
    found.dedup();
    found.truncate(KEPT);
    found
}

/// The path of a value in the document.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root,
    Below(&'p Path<'p>, &'p str),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Below(Self::Root, name) => formatter.write_str(name),
            Self::Below(parent, name) => write!(formatter, "{parent}.{name}"),
        }
    }
}

/// One value of the document.
#[derive(Clone, Copy)]
struct Place<'p> {
    node: &'p Node<'p>,
    path: Path<'p>,
    beside: &'p [&'p str],
}

/// The value at this place differs from the value that would be written.
#[derive(Debug)]
struct Differs;

impl fmt::Display for Differs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("another value")
    }
}

impl std::error::Error for Differs {}

impl ser::Error for Differs {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

fn same(is_same: bool) -> Result<(), Differs> {
    if is_same { Ok(()) } else { Err(Differs) }
}

impl Place<'_> {
    /// Adds the deviations of the value and everything below it.
    fn hold(self, value: &(impl Serialize + ?Sized), found: &mut Vec<String>) {
        if found.len() >= KEPT {
            return;
        }
        let walk = Walk { place: self, found };
        if value.serialize(walk).is_err() {
            let short: String = self.node.raw.chars().take(SHOWN).collect();
            found.push(format!("{} is {short}", self.path));
        }
    }
}

/// The serializer.
struct Walk<'p, 'f> {
    place: Place<'p>,
    found: &'f mut Vec<String>,
}

impl<'p, 'f> Walk<'p, 'f> {
    fn is_text(&self, text: &str) -> Result<(), Differs> {
        same(self.place.node.text() == Some(text))
    }

    fn object(self) -> Result<Object<'p, 'f>, Differs> {
        same(self.place.node.members().is_some())?;
        Ok(Object {
            walk: self,
            next: 0,
            seen: 0,
            places: None,
            key: String::new(),
        })
    }
}

/// An object whose members are compared one by one.
struct Object<'p, 'f> {
    walk: Walk<'p, 'f>,
    /// Probable place of the next member.
    next: usize,
    /// One bit for each place in the object, set if the member at that place was compared. Places from 128 on have no
    /// bit. No format has so many members, so a longer object has an unknown member before place 128.
    seen: u128,
    /// Places by name. The map is made for a long object whose members are not in order, because
    /// searching each member would take quadratic time.
    places: Option<HashMap<&'p str, usize>>,
    key: String,
}

impl<'p> Object<'p, '_> {
    /// Returns the member of this name and marks it as compared.
    fn take(&mut self, name: &str) -> Option<&'p Node<'p>> {
        let members = self.walk.place.node.members().unwrap_or_default();
        let is_next = |(known, _): &(std::borrow::Cow<'_, str>, Node<'_>)| known == name;
        let at = if members.get(self.next).is_some_and(is_next) {
            self.next
        } else if members.len() <= SHORT {
            members.iter().position(is_next)?
        } else {
            let numbered = members.iter().enumerate();
            let places = self.places.get_or_insert_with(|| {
                numbered
                    .map(|(at, (known, _))| (known.as_ref(), at))
                    .collect()
            });
            *places.get(name)?
        };
        self.next = at.saturating_add(1);
        self.seen |= 1_u128
            .checked_shl(u32::try_from(at).unwrap_or(u32::MAX))
            .unwrap_or(0);
        members.get(at).map(|(_, node)| node)
    }

    fn member(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        let place = self.walk.place;
        let path = Path::Below(&place.path, name);
        match self.take(name) {
            Some(node) => Place {
                node,
                path,
                beside: &[],
            }
            .hold(value, self.walk.found),
            None => self.walk.found.push(format!("{path} is missing")),
        }
    }

    /// Reports the members that were not compared.
    fn unknown(self) {
        let place = self.walk.place;
        let members = place.node.members().unwrap_or_default();
        for (at, (name, _)) in members.iter().enumerate() {
            let bit = 1_u128.checked_shl(u32::try_from(at).unwrap_or(u32::MAX));
            let is_seen = bit.is_none_or(|bit| self.seen & bit != 0);
            if !is_seen && !place.beside.contains(&name.as_ref()) {
                let path = Path::Below(&place.path, name);
                self.walk.found.push(format!("{path} is unknown"));
            }
        }
    }
}

impl ser::SerializeStruct for Object<'_, '_> {
    type Ok = ();
    type Error = Differs;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Differs> {
        self.member(name, value);
        Ok(())
    }

    fn skip_field(&mut self, name: &'static str) -> Result<(), Differs> {
        let place = self.walk.place;
        if let Some(node) = self.take(name) {
            let short: String = node.raw.chars().take(SHOWN).collect();
            let path = Path::Below(&place.path, name);
            self.walk.found.push(format!("{path} is {short}"));
        }
        Ok(())
    }

    fn end(self) -> Result<(), Differs> {
        self.unknown();
        Ok(())
    }
}

impl ser::SerializeMap for Object<'_, '_> {
    type Ok = ();
    type Error = Differs;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Differs> {
        let Ok(serde_json::Value::String(text)) = serde_json::to_value(key) else {
            return Err(Differs);
        };
        // The name is compared with itself, which fails for a name that this version never writes.
        let node = Node {
            raw: "",
            value: Value::String(text.as_str().into()),
        };
        let place = Place {
            node: &node,
            path: Path::Root,
            beside: &[],
        };
        let found = &mut Vec::new();
        key.serialize(Walk { place, found })?;
        self.key = text;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Differs> {
        let key = std::mem::take(&mut self.key);
        self.member(&key, value);
        Ok(())
    }

    fn end(self) -> Result<(), Differs> {
        self.unknown();
        Ok(())
    }
}

/// An array whose items are compared in order.
struct Array<'p, 'f> {
    walk: Walk<'p, 'f>,
    rest: std::slice::Iter<'p, Node<'p>>,
}

impl ser::SerializeSeq for Array<'_, '_> {
    type Ok = ();
    type Error = Differs;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Differs> {
        let place = self.walk.place;
        let node = self.rest.next().ok_or(Differs)?;
        let path = Path::Below(&place.path, "[]");
        let item = Place {
            node,
            path,
            beside: &[],
        };
        item.hold(value, self.walk.found);
        Ok(())
    }

    fn end(self) -> Result<(), Differs> {
        same(self.rest.len() == 0)
    }
}

/// Defines the methods of a serializer that no format needs.
macro_rules! never {
    ($($name:ident($($of:ty),*);)+) => {
        $(fn $name(self $(, _: $of)*) -> Result<(), Differs> {
            Err(Differs)
        })+
    };
    ($($name:ident($($of:ty),*): $result:ty;)+) => {
        $(fn $name(self $(, _: $of)*) -> Result<$result, Differs> {
            Err(Differs)
        })+
    };
}

impl<'p, 'f> Serializer for Walk<'p, 'f> {
    type Ok = ();
    type Error = Differs;
    type SerializeSeq = Array<'p, 'f>;
    type SerializeTuple = Impossible<(), Differs>;
    type SerializeTupleStruct = Impossible<(), Differs>;
    type SerializeTupleVariant = Impossible<(), Differs>;
    type SerializeMap = Object<'p, 'f>;
    type SerializeStruct = Object<'p, 'f>;
    type SerializeStructVariant = Impossible<(), Differs>;

    fn serialize_bool(self, value: bool) -> Result<(), Differs> {
        same(matches!(self.place.node.value, Value::Bool(there) if there == value))
    }

    fn serialize_u8(self, value: u8) -> Result<(), Differs> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Differs> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Differs> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Differs> {
        same(self.place.node.unsigned() == Some(value))
    }

    fn serialize_str(self, text: &str) -> Result<(), Differs> {
        self.is_text(text)
    }

    fn serialize_none(self) -> Result<(), Differs> {
        same(self.place.node.is_null())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Differs> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Differs> {
        same(name != NOT_THIS_VERSION)?;
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        word: &'static str,
    ) -> Result<(), Differs> {
        self.is_text(word)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        word: &'static str,
        value: &T,
    ) -> Result<(), Differs> {
        let mut object = self.object()?;
        object.member(word, value);
        object.unknown();
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Array<'p, 'f>, Differs> {
        let items = self.place.node.items().ok_or(Differs)?;
        Ok(Array {
            rest: items.iter(),
            walk: self,
        })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Object<'p, 'f>, Differs> {
        self.object()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object<'p, 'f>, Differs> {
        self.object()
    }

    never! {
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64); serialize_f32(f32);
        serialize_f64(f64); serialize_char(char); serialize_bytes(&[u8]); serialize_unit();
        serialize_unit_struct(&'static str);
    }
    never! {
        serialize_tuple(usize): Impossible<(), Differs>;
        serialize_tuple_struct(&'static str, usize): Impossible<(), Differs>;
        serialize_tuple_variant(&'static str, u32, &'static str, usize): Impossible<(), Differs>;
        serialize_struct_variant(&'static str, u32, &'static str, usize): Impossible<(), Differs>;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pipelock_receipts::json::{MAX_DEPTH, parse};
    use serde::{Deserialize, Serialize};

    use super::super::{Hex16, Time, UnixHook};
    use super::{KEPT, deviations};

    #[derive(Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Small {
        id: Hex16,
        hook: UnixHook,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        held: Option<u64>,
        times: Vec<Time>,
        by: BTreeMap<String, bool>,
    }

    fn found(text: &str) -> Vec<String> {
        let node = parse(text, MAX_DEPTH).unwrap();
        deviations(&node.typed::<Small>().unwrap(), &node, &["seq"])
    }

    #[test]
    fn a_long_object_may_have_any_order() {
        let members: Vec<String> = (0..20_000)
            .rev()
            .map(|number| format!("\"{number:05}\":true"))
            .collect();
        let sound = format!(
            r#"{{"by":{{{}}},"held":null,"hook":"connect_unix","id":"00af00af00af00af","times":[]}}"#,
            members.join(",")
        );
        assert_eq!(found(&sound), Vec::<String>::new());
        // In an object that is not short, members are found by name.
        assert_eq!(
            found(&sound.replace("\"id\"", "\"more\":1,\"id\"")),
            ["more is unknown"]
        );
    }

    /// Claims: compare-form, differences, add-member*
    #[test]
    fn every_deviation_is_named() {
        let sound = r#"{"id":"00af00af00af00af","hook":"connect_unix","held":null,"times":["2026-11-24T10:00:00Z"],"by":{"x":true}}"#;
        assert_eq!(found(sound), Vec::<String>::new());
        assert_eq!(
            found(&sound.replace("{\"id\"", "{\"seq\":1,\"id\"")),
            Vec::<String>::new()
        );
        for (from, to, named) in [
            (r#""id":"00af00af00af00af","#, "", "id is missing"),
            ("00af00af", "00AF00af", "id is \"00AF00af00af00af\""),
            ("00af00af00af00af", "0af", "id is \"0af\""),
            ("connect_unix", "Connect_unix", "hook is \"Connect_unix\""),
            ("2026-", "026-", "times.[] is \"026-"),
            ("{\"id\"", "{\"more\":1,\"id\"", "more is unknown"),
            ("{\"id\"", "{\"note\":null,\"id\"", "note is null"),
        ] {
            let said = found(&sound.replacen(from, to, 1));
            assert!(
                said.len() == 1 && said[0].starts_with(named),
                "{named}: {said:?}"
            );
        }
    }

    #[test]
    fn unknown_words_are_deviations_of_names_of_members_too() {
        let found = |key: &str| {
            let text = format!(r#"{{"{key}":1}}"#);
            let node = parse(&text, MAX_DEPTH).unwrap();
            let read: BTreeMap<UnixHook, u64> = node.typed().unwrap();
            deviations(&read, &node, &[])
        };
        assert_eq!(found("connect_unix"), Vec::<String>::new());
        assert_eq!(found("zebra").len(), 1);
    }

    #[test]
    fn no_more_than_a_few_are_kept() {
        let members: Vec<String> = (0..200).map(|at| format!("\"m{at}\":0")).collect();
        let text = format!("{{{}}}", members.join(","));
        assert_eq!(found(&text).len(), KEPT);
    }
}
