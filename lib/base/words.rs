//! Enums of which each value has one word: in the database, in JSON, on the command line and in
//! texts.

/// Declares such an enum, with its words and what it is called in errors.
macro_rules! words {
    (
        $(#[$about:meta])*
        pub enum $name:ident ($what:literal) {
            $($(#[$meta:meta])* $value:ident = $word:literal,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$meta])* $value,)+
        }

        impl $name {
            /// All values, as they are declared.
            pub const ALL: [$name; [$($word),+].len()] = [$($name::$value),+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$value => $word,)+
                }
            }

            /// The value with this word, if there is one.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::base::names::BadName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text).ok_or_else(|| {
                    let shown = $crate::base::names::shown(text);
                    let known = Self::ALL.map(Self::as_str).join(", ");
                    Self::Err::new(format!("'{shown}' is not {}: one of {known}", $what))
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;
