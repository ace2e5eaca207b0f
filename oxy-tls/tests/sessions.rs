//! Sessions between our two sides, in memory and over sockets: the bytes, their order, their end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

mod support;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::task::Poll;

use oxy_core::StreamIo;
use oxy_tls::TlsVersion;
use support::{Raw, Session, World, accept, pattern, sockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn echo(session: &mut Session) {
    let Session { near, far, .. } = session;
    let mut got = [0; 4];
    near.write_all(b"ping").await.unwrap();
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
    far.write_all(b"pong").await.unwrap();
    near.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"pong");
}

#[tokio::test]
async fn both_versions_settle_on_the_same_facts_on_both_sides() {
    for (version, number) in [(TlsVersion::V1_2, 0x0303), (TlsVersion::V1_3, 0x0304)] {
        let world = World::with(
            |options, _, _| options.max_version = version,
            |options, _, _| options.alpn = vec!["what".into(), "http/1.1".into()],
        );
        let mut session = world.connect().await;
        for facts in [&session.near_facts, &session.far_facts] {
            assert_eq!(facts.version, number);
            assert_eq!(facts.alpn.as_deref(), Some(&b"http/1.1"[..]));
            assert_eq!(facts.server_name.as_deref(), Some("localhost"));
            assert_eq!(facts.cipher_suite, session.near_facts.cipher_suite);
            assert_eq!(facts.group, session.near_facts.group);
            assert!(!facts.resumed && !facts.may_be_replay());
        }
        if number == 0x0304 {
            assert_eq!(session.near_facts.group, Some(0x11ec), "X25519MLKEM768");
        }
        // A server's certificate is an identity, too.
        let identity = session.near_facts.peer_identity.clone().unwrap();
        assert_eq!(identity.dns, ["localhost"]);
        assert!(session.far_facts.peer_identity.is_none());
        let hello = session.info.client_hello().unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("localhost"));
        echo(&mut session).await;
    }
}

#[tokio::test]
async fn a_byte_at_a_time_is_enough() {
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let world = World::with(|options, _, _| options.max_version = version, |_, _, _| {});
        let mut session = world.session("localhost", StreamIo::pair(1)).await.unwrap();
        let Session { near, far, .. } = &mut session;
        let sent = pattern(3000);
        let (mut one, mut other) = (vec![0; 3000], Vec::new());
        let write = async {
            near.write_all(&sent).await?;
            near.flush().await
        };
        let (wrote, read) = tokio::join!(write, far.read_exact(&mut one));
        wrote.and(read).unwrap();
        let write = async {
            far.write_all(&sent).await?;
            far.shutdown().await
        };
        let (wrote, read) = tokio::join!(write, near.read_to_end(&mut other));
        wrote.and(read).unwrap();
        assert!(one == sent && other == sent);
        assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn bulk_goes_both_ways_at_once_under_backpressure() {
    const LEN: usize = 3 << 20;
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let world = World::with(|options, _, _| options.max_version = version, |_, _, _| {});
        for pair in [
            StreamIo::pair(1000),
            StreamIo::pair(300_000),
            sockets().await,
        ] {
            let Session { near, far, .. } = world.session("localhost", pair).await.unwrap();
            let (one, other) = tokio::join!(
                tokio::spawn(exchange(near, pattern(LEN))),
                tokio::spawn(exchange(far, pattern(LEN)))
            );
            assert!(one.unwrap() == pattern(LEN) && other.unwrap() == pattern(LEN));
        }
    }
}

/// Sends `bytes` and an end through the link, and takes what comes: one task for both ways, as in a proxy.
async fn exchange(stream: StreamIo, bytes: Vec<u8>) -> Vec<u8> {
    let (link, ahead) = stream.into_parts();
    let mut got = ahead.to_vec();
    let (mut sent, mut shut, mut ended) = (0, false, false);
    poll_fn(|cx| {
        // Pieces of many sizes, taken from two slices each.
        while sent < bytes.len() {
            let rest = &bytes[sent..];
            let len = rest.len().min(1 + sent % 100_003);
            let (a, b) = rest[..len].split_at(len / 3);
            let slices = [std::io::IoSlice::new(a), std::io::IoSlice::new(b)];
            match link.poll_write_vectored(cx, &slices) {
                Poll::Ready(n) => sent += n.unwrap(),
                Poll::Pending => break,
            }
        }
        if sent == bytes.len() && !shut {
            shut = link.poll_shutdown(cx).map(Result::unwrap).is_ready();
        }
        let mut buffer = vec![0; 1 + got.len() % 70_001];
        while !ended {
            match link.poll_read(cx, &mut buffer) {
                Poll::Ready(n) => {
                    let n = n.unwrap();
                    got.extend_from_slice(&buffer[..n]);
                    ended = n == 0;
                }
                Poll::Pending => break,
            }
        }
        if shut && ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    got
}

#[tokio::test]
async fn a_write_of_many_slices_is_one_record() {
    let world = World::new();
    let (near, far) = StreamIo::pair(64 * 1024);
    let config = std::sync::Arc::new(Raw::client_config(&world.authority));
    let mut client = Raw::client(&config, near);
    let (shaken, accepted) = tokio::join!(client.shake(), accept(&world.server, far));
    shaken.unwrap();
    let server = accepted.unwrap().0;
    let parts = [&b"head"[..], b"", b"body", b"tail"].map(std::io::IoSlice::new);
    let n = poll_fn(|cx| server.link().poll_write_vectored(cx, &parts)).await;
    assert_eq!(n.unwrap(), 12);
    // Tickets may stand before it.
    assert_eq!(client.hear(12).await, b"headbodytail");
    let parts = [&b"head"[..], b"body"].map(std::io::IoSlice::new);
    poll_fn(|cx| server.link().poll_write_vectored(cx, &parts))
        .await
        .unwrap();
    let mut record = [0; 100];
    let n = client.io.read(&mut record).await.unwrap();
    // A header, the plaintext, its type and the tag (RFC 8446 section 5.2).
    assert_eq!(n, 5 + 8 + 1 + 16);
}

#[tokio::test]
async fn each_half_ends_by_itself() {
    let world = World::new();
    for pair in [StreamIo::pair(1000), sockets().await] {
        let Session {
            mut near, mut far, ..
        } = world.session("localhost", pair).await.unwrap();
        near.write_all(b"question").await.unwrap();
        near.shutdown().await.unwrap();
        assert!(near.write_all(b"more").await.is_err());
        let mut got = String::new();
        far.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "question");
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "the end stays");
        far.write_all(b"answer").await.unwrap();
        far.shutdown().await.unwrap();
        drop(far);
        got.clear();
        near.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "answer");
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_an_error_after_what_came_before() {
    let world = World::new();
    // In memory: a socket that is closed with unread tickets is reset, and takes what it has sent with it.
    for pair in [StreamIo::pair(1000), StreamIo::pair(64 * 1024)] {
        let Session {
            mut near, mut far, ..
        } = world.session("localhost", pair).await.unwrap();
        near.write_all(b"half of a").await.unwrap();
        near.flush().await.unwrap();
        drop(near);
        let mut got = Vec::new();
        let error = far.read_to_end(&mut got).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(got, b"half of a");
        let error = far.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "it stays one");
    }
}

#[tokio::test]
async fn bytes_that_are_no_record_are_an_error_that_the_peer_is_told_of() {
    let world = World::new();
    let (near, far) = StreamIo::pair(64 * 1024);
    let config = std::sync::Arc::new(Raw::client_config(&world.authority));
    let mut client = Raw::client(&config, near);
    let (shaken, accepted) = tokio::join!(client.shake(), accept(&world.server, far));
    shaken.unwrap();
    let mut server = accepted.unwrap().0;
    client.say(b"good").await;
    client.io.write_all(&[23, 3, 3, 0, 20]).await.unwrap();
    client.io.write_all(&[9; 20]).await.unwrap();
    let mut got = Vec::new();
    let error = server.read_to_end(&mut got).await.unwrap_err();
    assert_eq!(
        (error.kind(), &got[..]),
        (ErrorKind::InvalidData, &b"good"[..])
    );
    assert!(server.write_all(b"x").await.is_err());
    assert!(server.read(&mut [0]).await.is_err());
    let told = loop {
        match client.take().await {
            Ok(0) => panic!("the end"),
            Ok(_) => {}
            Err(e) => break e.to_string(),
        }
    };
    assert!(told.contains("BadRecordMac"), "{told}");
}

#[tokio::test]
async fn keys_are_changed_on_the_way() {
    let world = World::new();
    let (near, far) = StreamIo::pair(64 * 1024);
    let config = std::sync::Arc::new(Raw::client_config(&world.authority));
    let mut client = Raw::client(&config, near);
    let (shaken, accepted) = tokio::join!(client.shake(), accept(&world.server, far));
    shaken.unwrap();
    let mut server = accepted.unwrap().0;
    for _ in 0..20 {
        let rustls::Connection::Client(conn) = &mut client.conn else {
            panic!()
        };
        conn.refresh_traffic_keys().unwrap();
        client.say(b"ping").await;
        let mut got = [0; 4];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
        // The answer has the server's own update before it.
        server.write_all(b"pong").await.unwrap();
        assert_eq!(client.hear(4).await, b"pong");
    }
}

/// How many tickets `client` has got.
fn tickets(client: &Raw) -> u32 {
    match &client.conn {
        rustls::Connection::Client(conn) => conn.tls13_tickets_received(),
        rustls::Connection::Server(_) => panic!("it is a client"),
    }
}

#[tokio::test]
async fn tickets_go_out_with_the_first_answer() {
    let world = World::new();
    let config = std::sync::Arc::new(Raw::client_config(&world.authority));
    for answers in [true, false] {
        let (near, far) = StreamIo::pair(64 * 1024);
        let mut client = Raw::client(&config, near);
        let flow = support::flow(StreamIo::pair(1).0);
        let accept = world.server.accept(far, &flow.info);
        let (shaken, accepted) = tokio::join!(client.shake(), accept);
        shaken.unwrap();
        let mut server = accepted.unwrap().0;
        // The server waits, reads, and watches, none of which is an answer.
        let waits = poll_fn(|cx| Poll::Ready(server.link().poll_readable(cx).is_pending()));
        assert!(waits.await);
        client.say(b"question").await;
        let mut got = [0; 8];
        server.read_exact(&mut got).await.unwrap();
        let waits = poll_fn(|cx| Poll::Ready(server.link().poll_reset(cx).is_pending()));
        assert!(waits.await);
        poll_fn(|cx| server.link().poll_writable(cx)).await.unwrap();
        assert!(client.io.link().is_quiet());
        if answers {
            server.write_all(b"answer").await.unwrap();
        } else {
            server.flush().await.unwrap();
        }
        client.take().await.unwrap();
        assert_eq!(tickets(&client), 2, "one read brings both, and the answer");
        if answers {
            assert_eq!(client.hear(6).await, b"answer");
        }
    }
}

#[tokio::test]
async fn readiness_holds_nothing_and_loses_nothing() {
    let world = World::new();
    for pair in [StreamIo::pair(64 * 1024), sockets().await] {
        let Session { near, far, .. } = world.session("localhost", pair).await.unwrap();
        let (near, far) = (near.into_parts().0, far.into_parts().0);
        let pending = poll_fn(|cx| Poll::Ready(far.poll_readable(cx).is_pending())).await;
        assert!(pending && far.is_quiet());
        let sent = pattern(40_000);
        let mut done = 0;
        let write = poll_fn(|cx| near.poll_write_all(cx, &sent, &mut done));
        let read = async {
            let mut got = Vec::new();
            while got.len() < sent.len() {
                poll_fn(|cx| far.poll_readable(cx)).await.unwrap();
                assert!(!far.is_quiet());
                let mut buffer = [0; 700];
                let n = poll_fn(|cx| far.poll_read(cx, &mut buffer)).await.unwrap();
                got.extend_from_slice(&buffer[..n]);
                // A write between two reads of one record does not mix them up.
                poll_fn(|cx| far.poll_write(cx, b"!")).await.unwrap();
            }
            got
        };
        let (wrote, got) = tokio::join!(write, read);
        wrote.unwrap();
        assert!(got == sent);
        assert!(far.is_quiet());
        let mut buffer = [0; 1000];
        assert!(poll_fn(|cx| near.poll_read(cx, &mut buffer)).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn an_idle_client_is_quiet_while_tickets_come_and_not_when_the_server_goes() {
    // The client reads nothing between its handshake and being idle: the tickets are still on their way.
    let world = World::new();
    for pair in [StreamIo::pair(64 * 1024), sockets().await] {
        let Session { near, mut far, .. } = world.session("localhost", pair).await.unwrap();
        let near = near.into_parts().0;
        assert!(near.is_quiet(), "with two tickets waiting");
        far.write_all(b"!").await.unwrap();
        far.flush().await.unwrap();
        poll_fn(|cx| near.poll_readable(cx)).await.unwrap();
        assert!(!near.is_quiet(), "it talks");
    }
    for cut in [false, true] {
        for pair in [StreamIo::pair(64 * 1024), sockets().await] {
            let Session { near, mut far, .. } = world.session("localhost", pair).await.unwrap();
            let near = near.into_parts().0;
            if !cut {
                far.shutdown().await.unwrap();
            }
            drop(far);
            poll_fn(|cx| near.poll_readable(cx)).await.unwrap();
            assert!(!near.is_quiet(), "it is gone, cut: {cut}");
        }
    }
}

#[tokio::test]
async fn only_a_client_that_is_gone_is_reported_as_reset() {
    let world = World::new();
    let Session { near, far, .. } = world.session("localhost", sockets().await).await.unwrap();
    let far = far.into_parts().0;
    assert!(poll_fn(|cx| Poll::Ready(far.poll_reset(cx).is_pending())).await);
    near.link().abort(0);
    drop(near);
    poll_fn(|cx| far.poll_reset(cx)).await;

    // One that has ended its half, or has sent more, may still wait for its answer.
    for more in [false, true] {
        let Session { mut near, far, .. } =
            world.session("localhost", sockets().await).await.unwrap();
        let far = far.into_parts().0;
        if more {
            near.write_all(b"more").await.unwrap();
        }
        near.shutdown().await.unwrap();
        poll_fn(|cx| far.poll_readable(cx)).await.unwrap();
        assert!(poll_fn(|cx| Poll::Ready(far.poll_reset(cx).is_pending())).await);
    }
}

/// What an idle session takes beside its keys; whoever makes it larger should know.
#[test]
fn a_session_is_small() {
    assert!(
        size_of::<oxy_tls::TlsIo>() <= 1280,
        "{}",
        size_of::<oxy_tls::TlsIo>()
    );
}
