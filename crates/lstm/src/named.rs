//! The names of an option's choices, in one table for reading and writing.

/// Gives an option `Display` and `FromStr` by a table of the names of its choices. `kind`: what a choice is, in the sentence
/// that refuses a name that there is none of.
macro_rules! named {
    ($option:ident, $kind:literal, $first:literal => $first_choice:ident $(, $name:literal => $choice:ident)* $(,)?) => {
        impl std::fmt::Display for $option {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    Self::$first_choice => $first,
                    $(Self::$choice => $name,)*
                })
            }
        }

        impl std::str::FromStr for $option {
            type Err = $crate::setting::ConfigError;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                match name {
                    $first => Ok(Self::$first_choice),
                    $($name => Ok(Self::$choice),)*
                    _ => Err($crate::setting::ConfigError::Unknown {
                        kind: $kind,
                        value: name.to_owned(),
                        choices: concat!($first $(, ", ", $name)*),
                    }),
                }
            }
        }
    };
}

/// Lets a setting be stored as the text that it is displayed as.
macro_rules! stored_as_text {
    ($setting:ident) => {
        impl serde::Serialize for $setting {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $setting {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use {named, stored_as_text};
