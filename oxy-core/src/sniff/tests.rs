use super::tls::{Parsed, parse, parse_message};
use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn vec8(body: &[u8]) -> Vec<u8> {
    [&[body.len() as u8], body].concat()
}

fn vec16(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes(), body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), &vec16(body)[..]].concat()
}

fn message_with(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[7; 32],
        &vec8(&[9; 32]),
        &vec16(&[0x0a, 0x0a, 0x13, 0x01]),
        &vec8(&[0]),
        &vec16(&extensions.concat()),
    ]
    .concat();
    let len = (body.len() as u32).to_be_bytes();
    [&[1], &len[1..], &body].concat()
}

fn sni(name: &str) -> Vec<u8> {
    extension(0, &vec16(&[&[0], &vec16(name.as_bytes())[..]].concat()))
}

fn message() -> Vec<u8> {
    message_with(&[
        extension(0x3a3a, &[]),
        sni("Example.COM"),
        extension(
            16,
            &vec16(&[vec8(&[0x1a, 0x1a]), vec8(b"h2"), vec8(b"http/1.1")].concat()),
        ),
        extension(13, &vec16(&[0x4a, 0x4a, 4, 3, 8, 4])),
        extension(43, &vec8(&[0x2a, 0x2a, 3, 4, 3, 3])),
        extension(21, &[0; 400]),
    ])
}

/// `message` in records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1], &vec16(part)[..]].concat();
    message.chunks(size).flat_map(record).collect()
}

fn expected() -> ClientHello {
    ClientHello {
        server_name: Some("example.com".into()),
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        versions: vec![0x0304, 0x0303],
        cipher_suites: vec![0x1301],
        extensions: vec![0, 16, 13, 43, 21],
        signature_algorithms: vec![0x0403, 0x0804],
        encrypted: false,
    }
}

#[test]
fn a_hello_is_read_whatever_records_it_comes_in_and_not_a_byte_too_early() {
    for size in [10, 17, 100, 300, 16_384] {
        let bytes = records(&message(), size);
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), Parsed::More, "{len} of {size}");
        }
        assert_eq!(parse(&bytes), Parsed::Hello(Box::new(expected())), "{size}");
        let more = [&bytes[..], b"early data"].concat();
        assert_eq!(parse(&more), Parsed::Hello(Box::new(expected())));
    }
    let hello = Parsed::Hello(Box::new(expected()));
    assert_eq!(parse_message(&message()), hello);
}

#[test]
fn what_lies_about_its_lengths_is_no_hello() {
    assert_eq!(
        parse(&records(&message(), 1)),
        Parsed::Not,
        "too many records"
    );
    assert_eq!(parse(&[22, 3, 1, 0, 0]), Parsed::Not, "an empty record");
    assert_eq!(parse(&[22, 3, 1, 0x40, 1]), Parsed::Not, "a large record");
    assert_eq!(
        parse(&[22, 3, 1, 0, 4, 1, 0, 0x40, 1]),
        Parsed::Not,
        "a large hello"
    );
    assert_eq!(parse(&[22, 3, 1, 0, 4, 2]), Parsed::Not, "a ServerHello");
    let twice = message_with(&[sni("a.test"), sni("b.test")]);
    assert_eq!(parse_message(&twice), Parsed::Not);
    let bad = [
        extension(0, &[0]),
        extension(0, &vec16(&[0, 0, 9, b'x'])),
        sni(""),
        sni("a b"),
        extension(16, &vec16(&[0])),
        extension(16, &[0, 0, 1]),
        extension(43, &vec8(&[3])),
        extension(13, &vec16(&[4])),
        extension(13, &[0]),
        [extension(0xfe0d, &[]), extension(0xfe0d, &[])].concat(),
        (100..400).flat_map(|kind| extension(kind, &[])).collect(),
    ];
    for bad in bad {
        assert_eq!(
            parse_message(&message_with(std::slice::from_ref(&bad))),
            Parsed::Not,
            "{bad:?}"
        );
    }
    // Every length field in turn says too much or too little; none of it may do more than fail.
    let good = message();
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            let _ = parse_message(&bytes);
        }
    }
}

#[test]
fn a_fingerprint_is_of_what_was_read() {
    let Parsed::Hello(hello) = parse(&records(&message(), 50)) else {
        panic!("no hello");
    };
    // By hand: SHA-256 of "1301", and of "000d,0015,002b_0403,0804".
    assert_eq!(hello.ja4(), "t13d0105h2_0f2cb44170f4_e0b9a5db47b5");
}

#[test]
fn a_client_without_extensions_speaks_its_legacy_version() {
    let mut message = message_with(&[]);
    message.truncate(message.len() - 2);
    message[3] -= 2;
    let Parsed::Hello(hello) = parse_message(&message) else {
        panic!("{:?}", parse_message(&message));
    };
    assert_eq!((hello.server_name, hello.versions), (None, vec![0x0303]));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_opinions_do_not_change(
        bytes in prop::collection::vec(any::<u8>(), 1..300),
        at in any::<prop::sample::Index>(),
        hello in any::<bool>(),
    ) {
        let bytes = if hello {
            let mut good = records(&message(), 90);
            let at = at.index(good.len());
            good[at] ^= bytes[0];
            good
        } else {
            bytes
        };
        let mut settled = None;
        for len in 1..=bytes.len() {
            let now = judge(&bytes[..len], &[]);
            if settled.is_some() {
                prop_assert_eq!(&settled, &now);
            }
            settled = now;
        }
    }
}

fn first_to_settle(bytes: &[u8]) -> (usize, Option<Sniffed>) {
    (1..=bytes.len())
        .find_map(|len| judge(&bytes[..len], &[]).map(|sniffed| (len, Some(sniffed))))
        .unwrap_or((bytes.len(), None))
}

#[test]
fn protocols_are_told_apart_at_the_earliest_byte() {
    for (bytes, len, is) in [
        (&b"GET / HTTP/1.1\r\n"[..], 5, Sniffed::Http1),
        (b"\r\nPOST /x HTTP/1.1\r\n", 8, Sniffed::Http1),
        (b"CONNECT a.test:443 HTTP/1.1\r\n", 9, Sniffed::Http1),
        (b"OPTIONS * HTTP/1.1\r\n", 9, Sniffed::Http1),
        (b"M-SEARCH * HTTP/1.1\r\n", 10, Sniffed::Http1),
        (HTTP2_PREFACE, 24, Sniffed::Http2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\nxx", 23, Sniffed::Unknown),
        (b"SSH-2.0-OpenSSH\r\n", 5, Sniffed::Unknown),
        (b"get / HTTP/1.1", 1, Sniffed::Unknown),
        (b"\x05\x01\x00", 1, Sniffed::Unknown),
        (b"\x16\x03\x09", 3, Sniffed::Unknown),
        (b"\r\n\r\n\r\n", 3, Sniffed::Unknown),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 25, Sniffed::Unknown),
    ] {
        assert_eq!(first_to_settle(bytes), (len, Some(is)), "{bytes:?}");
    }
}

const LIMIT: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn a_byte_at_a_time_is_enough_and_nothing_is_consumed() {
    let tls = records(&message(), 200);
    for (bytes, is) in [
        (&tls[..], Sniffed::Tls(Box::new(expected()))),
        (b"GET / HTTP/1.1\r\n", Sniffed::Http1),
        (HTTP2_PREFACE, Sniffed::Http2),
    ] {
        let (mut client, mut server) = StreamIo::pair(1);
        let sent = bytes.to_vec();
        tokio::spawn(async move { client.write_all(&sent).await });
        assert_eq!(sniff(&mut server, LIMIT).await.unwrap(), is);
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_and_the_end_are_outcomes() {
    let (mut client, mut server) = StreamIo::pair(100);
    assert_eq!(sniff(&mut server, LIMIT).await.unwrap(), Sniffed::Silent);
    client.write_all(b"GE").await.unwrap();
    assert_eq!(sniff(&mut server, LIMIT).await.unwrap(), Sniffed::Unknown);
    drop(client);
    assert_eq!(sniff(&mut server, LIMIT).await.unwrap(), Sniffed::Ended);
    assert_eq!(server.take_prefix(), b"GE"[..]);
}

#[tokio::test]
async fn own_detectors_come_first_and_facts_are_kept() {
    let own = |first: &[u8]| match first {
        [b'G'] => Opinion::More,
        [b'G', b'E', ..] => Opinion::Is(Sniffed::Other("mine")),
        _ => Opinion::Not,
    };
    let (mut client, mut server) = StreamIo::pair(100);
    client.write_all(b"GET / HTTP/1.1").await.unwrap();
    let sniffed = sniff_with(&mut server, LIMIT, &[&own]).await.unwrap();
    assert_eq!(sniffed, Sniffed::Other("mine"));

    let (mut client, server) = StreamIo::pair(1000);
    client.write_all(&records(&message(), 1000)).await.unwrap();
    let origin = crate::Origin {
        listener: "test".into(),
        peer: None,
        local: None,
    };
    let mut flow = Flow::new(crate::Layer::Tcp, Carrier::Stream(server), origin);
    flow.sniff(LIMIT).await.unwrap();
    let hello = flow.info.facts.client_hello.get().unwrap();
    assert_eq!(hello.server_name.as_deref(), Some("example.com"));
}
