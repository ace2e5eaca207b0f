//! How a cluster is written in settings.

use std::time::Duration;

use super::*;

#[test]
fn settings_are_read() {
    let spec: ClusterSpec = serde_json::from_str(
        r#"{
            "name": "web",
            "endpoints": [
                "127.0.0.1:80",
                "unix:/run/a.sock",
                {"address": "dns://a.test:80", "weight": 3, "priority": 1, "labels": {"zone": "a"}},
                {"address": "srv://_http._tcp.a.test"}
            ],
            "balance": "least_request",
            "health": {"interval": "1s", "timeout": "500ms", "port": 81},
            "outlier": {"base_ejection": "1m"},
            "slow_start": {"window": "30s"},
            "failover": {"panic_percent": 0},
            "breaker": {"max_requests": 100},
            "retry_budget": {"percent": 10},
            "tables": {"maglev_size": 251},
            "dns": {"addresses": "all"}
        }"#,
    )
    .unwrap();
    spec.check().unwrap();
    let [first, _, third, last] = &spec.endpoints[..] else {
        panic!("{:?}", spec.endpoints)
    };
    assert_eq!(*first, EndpointSpec::new(Target::tcp([127, 0, 0, 1], 80)));
    let named: Address = "dns://a.test:80".parse().unwrap();
    let expected = EndpointSpec::new(named).weight(3).priority(1);
    assert_eq!(*third, expected.label("zone", "a"));
    assert_eq!((last.weight, last.priority), (1, 0));
    assert_eq!(spec.balance, BalanceSpec::LeastRequest);
    let health = spec.health.as_ref().unwrap();
    assert_eq!(health.timeout, Duration::from_millis(500));
    assert_eq!(health.healthy_threshold, 2);
    assert_eq!(spec.breaker.max_requests, Some(100));
    // What is written is read again.
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ClusterSpec>(&text).unwrap(), spec);
}

#[test]
fn mistakes_are_told() {
    for (text, told) in [
        (r#"{"endpoints": ["nowhere"]}"#, "a port from 1 to 65535"),
        (r#"{"endpoints": [7]}"#, "an endpoint's address, or a map"),
        (
            r#"{"endpoints": [{"weight": 1}]}"#,
            "missing field `address`",
        ),
        (
            r#"{"endpoints": [{"address": "a:1", "wait": 1}]}"#,
            "unknown field `wait`",
        ),
        (
            r#"{"endpoints": [{"address": "srv://a b"}]}"#,
            "a host name has only",
        ),
        (r#"{"balance": "custom"}"#, "unknown variant"),
        (r#"{"helth": {}}"#, "unknown field"),
    ] {
        let error = serde_json::from_str::<ClusterSpec>(text).unwrap_err();
        assert!(error.to_string().contains(told), "{text}: {error}");
    }
}

#[test]
fn settings_describe_themselves() {
    let schema = serde_json::to_string(&schemars::schema_for!(ClusterSpec)).unwrap();
    for part in ["maglev_size", "panic_percent", "srv://name", "Default: 50"] {
        assert!(schema.contains(part), "{part}");
    }
}
