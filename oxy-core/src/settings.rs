//! How option structs are read from a settings file: durations and sizes in the units that people write.
//!
//! The types here are named by `#[serde(with = ...)]`: each has `serialize` and `deserialize`, and describes the text
//! that it reads.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;

/// A quantity that is written with a unit.
pub trait Quantity: Sized {
    /// What the text looks like, for messages and schemas.
    const EXPECTED: &'static str;
    /// The schema's name.
    const NAME: &'static str;
    /// Reads a number with its unit.
    fn read(text: &str) -> Option<Self>;
    /// Reads a bare whole number.
    fn whole(number: u64) -> Option<Self>;
    /// Writes it so that [`Quantity::read`] reads the same.
    fn write(&self) -> String;
}

const UNITS_OF_TIME: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

impl Quantity for Duration {
    const EXPECTED: &'static str =
        "a duration like 500ms, 10s, 1m30s or 1h (a bare number is seconds)";
    const NAME: &'static str = "Duration";

    fn read(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return None;
        }
        if let Ok(seconds) = rest.parse::<u64>() {
            return Some(Self::from_secs(seconds));
        }
        let mut micros = 0_u64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            let letters = rest
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(rest.len());
            let unit = match &rest[..letters] {
                "min" => "m",
                "sec" => "s",
                unit => unit,
            };
            let (_, scale) = UNITS_OF_TIME.iter().find(|(name, _)| *name == unit)?;
            micros = micros.checked_add(number.checked_mul(*scale)?)?;
            rest = rest[letters..].trim_start();
        }
        Some(Self::from_micros(micros))
    }

    fn whole(number: u64) -> Option<Self> {
        Some(Self::from_secs(number))
    }

    fn write(&self) -> String {
        let micros = u64::try_from(self.as_micros()).unwrap_or(u64::MAX);
        if micros == 0 {
            return "0s".into();
        }
        UNITS_OF_TIME
            .iter()
            .find(|(_, scale)| micros.is_multiple_of(*scale))
            .map_or_else(
                || format!("{micros}us"),
                |(unit, scale)| format!("{}{unit}", micros / scale),
            )
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bytes(u64);

const UNITS_OF_SIZE: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

impl Quantity for Bytes {
    const EXPECTED: &'static str = "a size like 64KiB, 10MiB, 1GB or a number of bytes";
    const NAME: &'static str = "Size";

    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let number: u64 = text[..digits].parse().ok()?;
        let scale = match text[digits..].trim_start() {
            "" | "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            unit => UNITS_OF_SIZE.iter().find(|(name, _)| *name == unit)?.1,
        };
        Some(Self(number.checked_mul(scale)?))
    }

    fn whole(number: u64) -> Option<Self> {
        Some(Self(number))
    }

    fn write(&self) -> String {
        let Self(bytes) = *self;
        match UNITS_OF_SIZE
            .iter()
            .find(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale))
        {
            Some((unit, scale)) => format!("{}{unit}", bytes / scale),
            None => bytes.to_string(),
        }
    }
}

/// Permissions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Permissions(u32);

impl Quantity for Permissions {
    const EXPECTED: &'static str = "permissions like 0o660";
    const NAME: &'static str = "Permissions";

    fn read(text: &str) -> Option<Self> {
        let digits = text.trim().strip_prefix("0o")?;
        Self::whole(u64::from_str_radix(digits, 8).ok()?)
    }

    fn whole(number: u64) -> Option<Self> {
        // More than these bits is most likely an octal number that was written as a decimal one.
        let bits = u32::try_from(number).ok()?;
        (bits <= 0o777).then_some(Self(bits))
    }

    fn write(&self) -> String {
        format!("0o{:03o}", self.0)
    }
}

/// The integers that a size may be kept in.
pub trait Whole: TryFrom<u64> + TryInto<u64> + Copy {}
impl<T: TryFrom<u64> + TryInto<u64> + Copy> Whole for T {}

struct Reader<Q>(PhantomData<Q>);

impl<Q: Quantity> Visitor<'_> for Reader<Q> {
    type Value = Q;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Q::EXPECTED)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Q, E> {
        Q::whole(number).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Q, E> {
        let unsigned = u64::try_from(number).ok().and_then(Q::whole);
        unsigned.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Q, E> {
        Q::read(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

fn schema<Q: Quantity>() -> Schema {
    json_schema!({ "type": ["string", "integer"], "description": Q::EXPECTED })
}

/// A [`Duration`], as `10s`.
#[derive(Debug)]
pub struct Span;

impl Span {
    /// For serde.
    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&value.write())
    }

    /// For serde.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_any(Reader(PhantomData))
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        Duration::NAME.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::<Duration>()
    }
}

/// A number of bytes, as `64KiB`.
#[derive(Debug)]
pub struct Size;

impl Size {
    /// For serde.
    pub fn serialize<T: Whole, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        let bytes = (*value).try_into().unwrap_or(u64::MAX);
        match (Bytes(bytes).write(), bytes) {
            (text, bytes) if text == bytes.to_string() => to.serialize_u64(bytes),
            (text, _) => to.serialize_str(&text),
        }
    }

    /// For serde.
    pub fn deserialize<'de, T: Whole, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let Bytes(bytes) = from.deserialize_any(Reader(PhantomData))?;
        bytes
            .try_into()
            .map_err(|_| de::Error::custom(format_args!("{bytes} bytes is too much here")))
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        Bytes::NAME.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::<Bytes>()
    }
}

/// Permissions of a file, as `0o660`.
#[derive(Debug)]
pub struct Mode;

impl Mode {
    /// For serde.
    pub fn serialize<S: Serializer>(value: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&Permissions(*value).write())
    }

    /// For serde.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let Permissions(bits) = from.deserialize_any(Reader(PhantomData))?;
        Ok(bits)
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        Permissions::NAME.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::<Permissions>()
    }
}

/// As `$with`, for what may be left out.
macro_rules! optional {
    ($(#[$doc:meta])* $name:ident, $quantity:ty, $value:ty, $to:expr, $from:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl $name {
            /// For serde.
            pub fn serialize<S: Serializer>(value: &Option<$value>, to: S) -> Result<S::Ok, S::Error> {
                let to_quantity: fn($value) -> $quantity = $to;
                match value {
                    None => to.serialize_none(),
                    Some(value) => to.serialize_some(&to_quantity(*value).write()),
                }
            }

            /// For serde.
            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<$value>, D::Error> {
                struct Maybe;
                impl<'de> Visitor<'de> for Maybe {
                    type Value = Option<$quantity>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(<$quantity>::EXPECTED)?;
                        f.write_str(" or null")
                    }

                    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
                        Ok(None)
                    }

                    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                        Ok(None)
                    }

                    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
                        from.deserialize_any(Reader(PhantomData)).map(Some)
                    }
                }
                let from_quantity: fn($quantity) -> Option<$value> = $from;
                match from.deserialize_option(Maybe)? {
                    None => Ok(None),
                    Some(quantity) => from_quantity(quantity)
                        .map(Some)
                        .ok_or_else(|| de::Error::custom("too much here")),
                }
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                concat!("Maybe", stringify!($quantity)).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["string", "integer", "null"], "description": <$quantity>::EXPECTED })
            }
        }
    };
}

optional!(
    /// A [`Duration`] that may be `null`.
    MaybeSpan, Duration, Duration, |value| value, Some
);
optional!(
    /// A number of bytes that may be `null`.
    MaybeSize, Bytes, usize, |value| Bytes(value as u64), |Bytes(bytes)| usize::try_from(bytes).ok()
);

/// Reads, writes and describes a type by its text, by way of `FromStr` and `Display`.
#[macro_export]
#[doc(hidden)]
macro_rules! settings_by_text {
    ($type:ty, $name:literal, $expected:literal) => {
        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <::std::borrow::Cow<'de, str> as ::serde::Deserialize>::deserialize(from)?;
                text.parse().map_err(|error| {
                    ::serde::de::Error::custom(format_args!("{text:?} is not {}: {error}", $expected))
                })
            }
        }

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl ::schemars::JsonSchema for $type {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({ "type": "string", "description": $expected })
            }
        }
    };
}

settings_by_text!(crate::target::HostName, "HostName", "a host name");
settings_by_text!(
    crate::offramp::Cidr,
    "Cidr",
    "a block of addresses like 10.0.0.0/8"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_human_units() {
        for (text, micros) in [
            ("10s", 10_000_000),
            ("10", 10_000_000),
            ("500ms", 500_000),
            ("1m30s", 90_000_000),
            ("1h 5min", 3_900_000_000),
            ("7us", 7),
            ("0s", 0),
        ] {
            assert_eq!(
                Duration::read(text),
                Some(Duration::from_micros(micros)),
                "{text}"
            );
        }
        for bad in [
            "",
            "s",
            "10x",
            "-1s",
            "1.5s",
            "10s5",
            "99999999999999999999s",
            "999999999999999d",
        ] {
            assert_eq!(Duration::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_in_human_units() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("1 MiB", 1 << 20),
            ("12", 12),
            ("3kB", 3_000),
            ("1GB", 1_000_000_000),
        ] {
            assert_eq!(Bytes::read(text), Some(Bytes(bytes)), "{text}");
        }
        for bad in ["", "KiB", "1.5MiB", "1 zebra", "-1", "99999999999999TiB"] {
            assert_eq!(Bytes::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(Permissions::read("0o660"), Some(Permissions(0o660)));
        assert_eq!(Permissions::whole(0o640), Some(Permissions(0o640)));
        assert_eq!(Permissions(0o7).write(), "0o007");
        assert_eq!(Permissions::whole(660), None);
        assert_eq!(Permissions::read("660"), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for micros in [
            0,
            1,
            999,
            1_000,
            250_000,
            1_500_000,
            90_000_000,
            3_600_000_000,
            86_400_000_000,
        ] {
            let value = Duration::from_micros(micros);
            assert_eq!(Duration::read(&value.write()), Some(value));
        }
        for bytes in [0, 1, 1_000, 1_024, 65_536, 1 << 30, u64::MAX] {
            assert_eq!(Bytes::read(&Bytes(bytes).write()), Some(Bytes(bytes)));
        }
    }
}
