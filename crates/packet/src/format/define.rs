//! Macros that define the types of the formats.

/// Defines documents and rows. The members in brackets are required. Any other absent member has its default.
macro_rules! documents {
    ($($(#[$doc:meta])* $name:ident {
        $([$($(#[$of_required:meta])* $required:ident: $required_type:ty,)+])?
        $($(#[$of:meta])* $member:ident: $type:ty,)*
    })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
        pub struct $name {
            $($($(#[$of_required])* pub $required: $required_type,)+)?
            $($(#[$of])* #[serde(default)] pub $member: $type,)*
        }
    )+};
}

/// Defines sets of words. Reading keeps an unknown word, and `deviations` reports it.
macro_rules! words {
    ($($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $of:literal])* $variant:ident = $word:literal,)+ })+) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[doc = $of])* $variant,)+
            /// An unknown word.
            Unknown(Box<str>),
        }

        impl $name {
            /// Every word, in order.
            pub const WORDS: &[&'static str] = &[$($word),+];

            /// Returns the word in the file.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Unknown(word) => word,
                }
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let words = [$(($word, concat!($($of),*))),+];
                $crate::format::describe::words(concat!($($doc),*), &words)
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Unknown(other.into()),
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::from("")
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;
                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        formatter.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$name, E> {
                        Ok($name::from(word))
                    }
                }
                deserializer.deserialize_str(Word)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    Self::Unknown(word) => serializer.serialize_newtype_struct($crate::format::NOT_THIS_VERSION, word),
                    known => serializer.serialize_str(known.as_str()),
                }
            }
        }
    )+};
}
