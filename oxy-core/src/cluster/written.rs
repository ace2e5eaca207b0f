//! How an endpoint is written in settings: as its address, or as a map with more about it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::spec::{Address, EndpointSpec};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Full {
    /// Where it is: `host:port`, `udp://host:port`, `unix:/path`, `dns://name:port` or `srv://name`.
    address: Address,
    /// Its share of the work, relative to the others' of its priority; 0 gives it none but for what sticks to it
    /// already. At most 65535. Default: 1, which gives all the same.
    #[serde(default = "one")]
    weight: u32,
    /// 0 is used first; higher ones take over what those before them cannot carry. At most 127. Default: 0.
    #[serde(default)]
    priority: u32,
    /// What is known of it besides: for reports, hooks, and balancing of one's own. Default: nothing.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

impl<'de> Deserialize<'de> for EndpointSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either)
    }
}

/// By hand, as a derived choice of two would not say what is wrong with either.
struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = EndpointSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an endpoint's address, or a map with its `address`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<EndpointSpec, E> {
        let address = text.parse::<Address>();
        address
            .map(EndpointSpec::new)
            .map_err(|error| E::custom(format_args!("{text:?} is no endpoint's address: {error}")))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointSpec, A::Error> {
        let full = Full::deserialize(MapAccessDeserializer::new(map))?;
        Ok(EndpointSpec {
            address: full.address,
            weight: full.weight,
            priority: full.priority,
            labels: full.labels,
        })
    }
}

impl JsonSchema for EndpointSpec {
    fn schema_name() -> Cow<'static, str> {
        "EndpointSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One endpoint, or a name that stands for several: its address, or a map with more about it.",
            "anyOf": [generator.subschema_for::<Address>(), Full::json_schema(generator)],
        })
    }
}
