//! The stream relay, over sockets and over in-memory streams.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may"
)]

use std::time::{Duration, Instant};

use oxy_core::relay::{self, Fault, RelayOptions, Transfer};
use oxy_core::{ErrorKind, Result, Side, StreamIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (left, right) = tokio::join!(TcpStream::connect(address), listener.accept());
    (left.unwrap(), right.unwrap().0)
}

async fn relayed(options: RelayOptions) -> (TcpStream, TcpStream, JoinHandle<Result<()>>) {
    let ((client, near), (far, server)) = (tcp_pair().await, tcp_pair().await);
    let task = tokio::spawn(async move { relay::stream(near.into(), far.into(), &options).await });
    (client, server, task)
}

fn options(change: impl FnOnce(&mut RelayOptions)) -> RelayOptions {
    let mut options = RelayOptions::default();
    change(&mut options);
    options
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn what_was_read_to_look_at_it_goes_first() {
    let ((mut client, near), (far, mut server)) = (tcp_pair().await, tcp_pair().await);
    client.write_all(b"hello world").await.unwrap();
    let mut near = StreamIo::from(near);
    assert!(near.peek(5).await.unwrap().starts_with(b"hello"));
    let task =
        tokio::spawn(
            async move { relay::stream(near, far.into(), &RelayOptions::default()).await },
        );
    let mut got = [0; 11];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello world");
    drop((client, server));
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_side_may_end_while_the_other_goes_on() {
    let (mut client, mut server, task) = relayed(RelayOptions::default()).await;
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"request");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"answer");
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn bulk_arrives_whole_both_ways_at_once() {
    for low_water in [true, false] {
        let (client, server, task) = relayed(options(|o| o.low_water = low_water)).await;
        let data = pattern(9_000_001);
        let run = |socket: TcpStream| {
            let data = data.clone();
            async move {
                let (mut read, mut write) = socket.into_split();
                let mut got = Vec::new();
                let wrote = async {
                    write.write_all(&data).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let ((), n) = tokio::join!(wrote, read.read_to_end(&mut got));
                n.unwrap();
                assert!(got == data);
            }
        };
        tokio::join!(run(client), run(server));
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn in_memory_streams_are_copied() {
    let ((mut client, near), (far, mut server)) = (StreamIo::pair(7000), tcp_pair().await);
    let task =
        tokio::spawn(
            async move { relay::stream(near, far.into(), &RelayOptions::default()).await },
        );
    let data = pattern(3_000_000);
    let mut got = Vec::new();
    let sent = async {
        client.write_all(&data).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let ((), n) = tokio::join!(sent, server.read_to_end(&mut got));
    n.unwrap();
    assert!(got == data);
    let mut back = Vec::new();
    let answered = async {
        server.write_all(&data).await.unwrap();
        drop(server);
    };
    let ((), n) = tokio::join!(answered, client.read_to_end(&mut back));
    n.unwrap();
    assert!(back == data);
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_trickle_after_a_burst_is_not_held_back_for_long() {
    let (mut client, mut server, _task) = relayed(RelayOptions::default()).await;
    let sender = tokio::spawn(async move {
        server.write_all(&pattern(8 << 20)).await.unwrap();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.write_all(&[7; 100]).await.unwrap();
        }
        server
    });
    let mut burst = vec![0; 8 << 20];
    client.read_exact(&mut burst).await.unwrap();
    let start = Instant::now();
    let mut got = [0; 500];
    client.read_exact(&mut got).await.unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    // The mark is gone: from now on nothing waits.
    let mut server = sender.await.unwrap();
    let start = Instant::now();
    server.write_all(b"x").await.unwrap();
    client.read_exact(&mut got[..1]).await.unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(90),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn silence_ends_it_by_an_abort_and_any_byte_extends_it() {
    let (mut client, mut server, task) =
        relayed(options(|o| o.idle = Duration::from_millis(500))).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.write_all(b"x").await.unwrap();
    }
    let mut got = [0; 4];
    client.read_exact(&mut got).await.unwrap();
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::Timeout, Side::Local)
    );
    let reset = client.read(&mut got).await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(server.read(&mut got).await.is_err());
}

#[tokio::test]
async fn the_total_and_the_half_closed_time_hold() {
    let (mut client, _server, task) =
        relayed(options(|o| o.total = Some(Duration::from_millis(300)))).await;
    let busy = tokio::spawn(async move {
        while client.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(task.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    busy.await.unwrap();

    let (mut client, _server, task) = relayed(options(|o| {
        o.half_closed = Some(Duration::from_millis(200));
    }))
    .await;
    client.shutdown().await.unwrap();
    assert_eq!(task.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_reset_of_one_side_is_a_reset_of_the_other() {
    for from_client in [true, false] {
        let (client, server, task) = relayed(RelayOptions::default()).await;
        let (dying, mut other, side) = if from_client {
            (client, server, Side::Down)
        } else {
            (server, client, Side::Up)
        };
        socket2::SockRef::from(&dying)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(dying);
        let error = task.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.side()), (ErrorKind::Closed, side));
        let reset = other.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn dropping_the_relay_resets_both() {
    let (mut client, mut server, task) = relayed(RelayOptions::default()).await;
    client.write_all(b"x").await.unwrap();
    server.read_exact(&mut [0]).await.unwrap();
    task.abort();
    assert!(client.read(&mut [0]).await.is_err());
    assert!(server.read(&mut [0]).await.is_err());
}

#[tokio::test]
async fn a_side_that_takes_no_more_is_still_heard() {
    let (mut client, mut server, task) = relayed(RelayOptions::default()).await;
    server.write_all(b"too large").await.unwrap();
    server.shutdown().await.unwrap();
    let mut got = [0; 9];
    client.read_exact(&mut got).await.unwrap();
    // The server goes away without reading: writing to it fails from now on.
    drop(server);
    for _ in 0..3 {
        let _ = client.write_all(&[0; 1000]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.read(&mut got).await.unwrap(), 0);
    let error = task.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.side()), (ErrorKind::Closed, Side::Up));
}

#[tokio::test]
async fn a_transfer_stops_where_it_is_told_to_and_says_if_it_ended_early() {
    for total in [10, 100_000, 1 << 20] {
        let ((mut source, from), (to, mut sink)) = (tcp_pair().await, tcp_pair().await);
        let (from, to) = (StreamIo::from(from), StreamIo::from(to));
        let data = pattern(total + 5);
        let writer = tokio::spawn({
            let data = data.clone();
            async move { source.write_all(&data).await.map(|()| source) }
        });
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            sink.read_to_end(&mut got).await.map(|_| got)
        });
        let options = RelayOptions::default();
        let transfer = |left| Transfer::new(from.link().clone(), to.link().clone(), left, &options);
        let mut first = transfer(Some(total as u64));
        let moved = std::future::poll_fn(|cx| first.poll(cx)).await.unwrap();
        assert_eq!(moved, total as u64);
        drop(writer.await.unwrap().unwrap());
        let mut rest = transfer(Some(100));
        let moved = std::future::poll_fn(|cx| rest.poll(cx)).await.unwrap();
        assert_eq!(moved, 5, "it ended early");
        drop((first, rest, from, to));
        assert!(reader.await.unwrap().unwrap() == data);
    }
}

#[tokio::test]
async fn a_transfer_names_the_side_that_failed() {
    let ((source, from), (to, sink)) = (tcp_pair().await, tcp_pair().await);
    let (from, to) = (StreamIo::from(from), StreamIo::from(to));
    drop(sink);
    let mut transfer = Transfer::new(
        from.link().clone(),
        to.link().clone(),
        None,
        &RelayOptions::default(),
    );
    let mut source = source;
    let failed = tokio::join!(std::future::poll_fn(|cx| transfer.poll(cx)), async {
        for _ in 0..3 {
            source.write_all(&[0; 100]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .0;
    assert!(matches!(failed, Err(Fault::To(_))), "{failed:?}");
}
