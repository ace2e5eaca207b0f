use oxy_core::{Carrier, Layer, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::proxy_protocol::Version;

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";

fn flow(peer: Option<&str>) -> (Flow, StreamIo) {
    let (near, client) = StreamIo::pair(1 << 16);
    let origin = Origin {
        listener: "test".into(),
        peer: peer.map(|peer| peer.parse().unwrap()),
        local: None,
    };
    (Flow::new(Layer::Tcp, Carrier::Stream(near), origin), client)
}

fn options(change: impl FnOnce(&mut ProxyProtocolOptions)) -> Arc<ProxyProtocolOptions> {
    let mut options = ProxyProtocolOptions::default();
    change(&mut options);
    Arc::new(options)
}

async fn rest(flow: &mut Flow, len: usize) -> Vec<u8> {
    let mut rest = vec![0; len];
    flow.stream().unwrap().read_exact(&mut rest).await.unwrap();
    rest
}

#[tokio::test]
async fn the_flow_is_the_clients_at_every_split() {
    let mut v2 = Header::new(
        Version::V2,
        Addresses::stream(
            "192.0.2.1:1".parse().unwrap(),
            "192.0.2.2:2".parse().unwrap(),
        ),
    );
    v2.tlvs
        .push(crate::proxy_protocol::kind::ALPN, b"h2")
        .unwrap();
    for header in [LINE.to_vec(), v2.write().unwrap()] {
        let all = [&header[..], b"rest"].concat();
        for at in 1..all.len() {
            let (flow, mut client) = flow(Some("127.0.0.1:9"));
            let (id, before) = (flow.info.id, flow.info.clone());
            client.write_all(&all[..at]).await.unwrap();
            let taking = tokio::spawn(take_off(flow, options(|_| {})));
            tokio::task::yield_now().await;
            assert_eq!(taking.is_finished(), at >= header.len(), "{at}");
            client.write_all(&all[at..]).await.unwrap();
            let mut flow = taking.await.unwrap().unwrap();
            assert_eq!(flow.info.peer, Some("192.0.2.1:1".parse().unwrap()));
            assert_eq!(flow.info.local, Some("192.0.2.2:2".parse().unwrap()));
            assert_eq!((flow.info.id, flow.info.started), (id, before.started));
            let passed = flow.info.extensions().get::<Passed>().unwrap();
            assert_eq!(passed.by, before.peer);
            assert_eq!(rest(&mut flow, 4).await, b"rest");
        }
    }
}

#[tokio::test]
async fn who_is_for_nobody_stays_who_it_is() {
    let nobody = Header::local(Version::V2).write().unwrap();
    for header in [&nobody[..], b"PROXY UNKNOWN\r\n"] {
        let (flow, mut client) = flow(Some("10.1.2.3:9"));
        client.write_all(header).await.unwrap();
        client.write_all(b"rest").await.unwrap();
        let mut flow = take_off(flow, options(|_| {})).await.unwrap();
        assert_eq!(flow.info.peer, Some("10.1.2.3:9".parse().unwrap()));
        assert!(flow.info.extensions().get::<Passed>().is_some());
        assert_eq!(rest(&mut flow, 4).await, b"rest");
    }
    let unix = Header::new(
        Version::V2,
        Addresses::Unix {
            transport: crate::proxy_protocol::Transport::Stream,
            source: Box::new([0; 108]),
            destination: Box::new([0; 108]),
        },
    );
    let (flow, mut client) = flow(Some("10.1.2.3:9"));
    client.write_all(&unix.write().unwrap()).await.unwrap();
    let flow = take_off(flow, options(|_| {})).await.unwrap();
    assert_eq!((flow.info.peer, flow.info.local), (None, None));
}

#[tokio::test]
async fn strangers_are_refused_or_passed_untouched() {
    for peer in ["192.0.2.77:1", "[2001:db8::1]:1", "[::ffff:8.8.8.8]:1"] {
        let (stranger, mut client) = flow(Some(peer));
        client.write_all(LINE).await.unwrap();
        let error = take_off(stranger, options(|_| {})).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.side()),
            (ErrorKind::Denied, Side::Down)
        );

        let (stranger, mut client) = flow(Some(peer));
        client.write_all(LINE).await.unwrap();
        let pass = options(|o| o.untrusted = Untrusted::Pass);
        let mut passed = take_off(stranger, pass).await.unwrap();
        assert_eq!(passed.info.peer, Some(peer.parse().unwrap()));
        assert!(passed.info.extensions().get::<Passed>().is_none());
        assert_eq!(rest(&mut passed, LINE.len()).await, LINE);

        let (friend, mut client) = flow(Some(peer));
        client.write_all(LINE).await.unwrap();
        let ip: SocketAddr = peer.parse().unwrap();
        let trust = options(|o| o.trusted = vec![ip.ip().to_canonical().into()]);
        assert!(take_off(friend, trust).await.is_ok());
    }
    for peer in [
        None,
        Some("[::1]:1"),
        Some("[::ffff:127.0.0.1]:1"),
        Some("172.31.0.1:1"),
    ] {
        let (friend, mut client) = flow(peer);
        client.write_all(LINE).await.unwrap();
        assert!(take_off(friend, options(|_| {})).await.is_ok(), "{peer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_is_cut_off() {
    for said in [&b""[..], b"P", &LINE[..LINE.len() - 1], b"\r\n\r\n\0"] {
        for required in [true, false] {
            let (slow, mut client) = flow(None);
            client.write_all(said).await.unwrap();
            let start = tokio::time::Instant::now();
            let taken = take_off(slow, options(|o| o.required = required)).await;
            assert_eq!(start.elapsed().as_secs(), 5);
            if said.is_empty() && !required {
                // It may be one who waits for the server to speak first.
                assert!(taken.is_ok());
            } else {
                assert_eq!(taken.unwrap_err().kind(), ErrorKind::Timeout);
            }
        }
    }
}

#[tokio::test]
async fn a_header_may_be_missing_only_where_none_is_required() {
    for first in [&b"GET / HTTP/1.1\r\n"[..], b"PROPFIND", b"\x16\x03"] {
        let (none, mut client) = flow(None);
        client.write_all(first).await.unwrap();
        let error = take_off(none, options(|_| {})).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.side()),
            (ErrorKind::Malformed, Side::Down)
        );

        let (none, mut client) = flow(None);
        client.write_all(first).await.unwrap();
        let mut flow = take_off(none, options(|o| o.required = false))
            .await
            .unwrap();
        assert_eq!(rest(&mut flow, first.len()).await, first);
    }
    // What begins like one must be one, and whole.
    for first in [&b"PROXY TCP4 nonsense\r\n"[..], &LINE[..9]] {
        for required in [true, false] {
            let (bad, mut client) = flow(None);
            client.write_all(first).await.unwrap();
            drop(client);
            let error = take_off(bad, options(|o| o.required = required)).await;
            let expected = if first.ends_with(b"\n") {
                ErrorKind::Malformed
            } else {
                ErrorKind::Closed
            };
            assert_eq!(error.unwrap_err().kind(), expected);
        }
    }
    let (silent, client) = flow(None);
    drop(client);
    assert!(
        take_off(silent, options(|o| o.required = false))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_header_that_announces_too_much_is_refused_at_once() {
    let (flow, mut client) = flow(None);
    client
        .write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff")
        .await
        .unwrap();
    let error = take_off(flow, options(|_| {})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(format!("{error:?}").contains("too long"), "{error:?}");
}

#[cfg(feature = "settings")]
#[test]
fn settings_read_as_they_are_written() {
    let options = ProxyProtocolOptions::default();
    let text = serde_json::to_string(&options).unwrap();
    assert_eq!(
        serde_json::from_str::<ProxyProtocolOptions>(&text).unwrap(),
        options
    );
    let read: ProxyProtocolOptions = serde_json::from_str(
        r#"{"trusted": ["192.0.2.0/24"], "untrusted": "pass", "required": false, "timeout": "2s"}"#,
    )
    .unwrap();
    assert!(read.trusts("192.0.2.9".parse().unwrap()) && !read.required);
    assert_eq!(read.untrusted, Untrusted::Pass);
    assert_eq!(read.timeout, Duration::from_secs(2));
    let out: super::super::SendProxyProtocolOptions =
        serde_json::from_str(r#"{"version": "v1"}"#).unwrap();
    assert_eq!(out.version, Version::V1);
}
