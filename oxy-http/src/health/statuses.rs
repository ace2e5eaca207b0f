//! Ranges of status codes.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A status code, or a range of them, of final responses (RFC 9110 section 15): `204`, `200-299`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Statuses {
    first: u16,
    last: u16,
}

impl Statuses {
    /// Those that say that somebody is there and serves.
    pub(super) const WELL: Self = Self {
        first: 200,
        last: 399,
    };

    /// Whether `status` is among them.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }

    /// Whether there can be an answer with one of them.
    pub(super) fn is_possible(self) -> bool {
        200 <= self.first && self.first <= self.last && self.last <= 599
    }
}

impl From<u16> for Statuses {
    fn from(status: u16) -> Self {
        (status..=status).into()
    }
}

impl From<RangeInclusive<u16>> for Statuses {
    fn from(range: RangeInclusive<u16>) -> Self {
        let (first, last) = range.into_inner();
        Self { first, last }
    }
}

/// A text that is neither a status from 200 to 599 nor a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoStatuses;

impl fmt::Display for NoStatuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither a status from 200 to 599 nor a range like 200-299")
    }
}

impl std::error::Error for NoStatuses {}

impl FromStr for Statuses {
    type Err = NoStatuses;

    fn from_str(text: &str) -> Result<Self, NoStatuses> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let read = |code: &str| match code.as_bytes() {
            // `parse` reads a sign, too.
            [b'2'..=b'5', _, _] => code.parse().map_err(|_| NoStatuses),
            _ => Err(NoStatuses),
        };
        let statuses = Self::from(read(first)?..=read(last)?);
        if statuses.is_possible() {
            Ok(statuses)
        } else {
            Err(NoStatuses)
        }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Debug for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "settings")]
mod settings {
    use std::borrow::Cow;
    use std::fmt;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::de::{Deserialize, Deserializer, Error, Visitor};
    use serde::ser::{Serialize, Serializer};

    use super::{NoStatuses, Statuses};

    struct Reader;

    impl Visitor<'_> for Reader {
        type Value = Statuses;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a status from 200 to 599, or a range like 200-299")
        }

        fn visit_u64<E: Error>(self, status: u64) -> Result<Statuses, E> {
            self.visit_str(&status.to_string())
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Statuses, E> {
            let wrong = |error: NoStatuses| E::custom(format_args!("{text:?} is {error}"));
            text.parse().map_err(wrong)
        }
    }

    impl<'de> Deserialize<'de> for Statuses {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_any(Reader)
        }
    }

    impl Serialize for Statuses {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            if self.first == self.last {
                to.serialize_u16(self.first)
            } else {
                to.collect_str(self)
            }
        }
    }

    impl JsonSchema for Statuses {
        fn schema_name() -> Cow<'static, str> {
            "Statuses".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "type": ["integer", "string"],
                "description": "a status from 200 to 599, or a range like 200-299",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_and_written() {
        for (text, first, last) in [("204", 204, 204), ("200-299", 200, 299), ("599", 599, 599)] {
            let statuses: Statuses = text.parse().unwrap();
            assert_eq!(statuses, (first..=last).into());
            assert_eq!(statuses.to_string(), text);
            assert!(statuses.contains(first) && statuses.contains(last));
            assert!(!statuses.contains(first - 1) && !statuses.contains(last + 1));
        }
        for bad in [
            "", "-", "200-", "-299", "99", "100-299", "299-200", "600", "+200", "2+0", "2000",
            "20é",
        ] {
            assert_eq!(bad.parse::<Statuses>(), Err(NoStatuses), "{bad}");
        }
    }
}
