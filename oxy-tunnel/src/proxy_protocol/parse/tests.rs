use proptest::prelude::*;

use super::*;
use crate::proxy_protocol::Ssl;

const MAX: usize = FIXED + 65_535;

fn read(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    parse(bytes, MAX)
}

/// What `bytes` are, after more bytes behind them and every beginning of them have been found to be what they must be.
fn header(bytes: &[u8]) -> Header {
    for end in 0..bytes.len() {
        assert_eq!(read(&bytes[..end]), Ok(Parsed::More), "the first {end}");
    }
    let followed = [bytes, b"\r\nGET / HTTP/1.1"].concat();
    let whole = read(bytes).unwrap();
    assert_eq!(read(&followed).unwrap(), whole);
    match whole {
        Parsed::Header { header, len } => {
            assert_eq!(len, bytes.len());
            header
        }
        other => panic!("{other:?}"),
    }
}

fn stream(source: &str, destination: &str) -> Addresses {
    Addresses::Ip {
        transport: Transport::Stream,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

#[test]
fn lines_are_read_at_every_split() {
    let cases = [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
            stream("192.0.2.1:56324", "198.51.100.7:443"),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            stream("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        (
            "PROXY TCP6 2001:db8::1 ::1 0 1\r\n",
            stream("[2001:db8::1]:0", "[::1]:1"),
        ),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            stream(
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ),
        ("PROXY UNKNOWN\r\n", Addresses::Unknown),
        ("PROXY UNKNOWN a \t\0 b\r\n", Addresses::Unknown),
    ];
    for (line, addresses) in cases {
        assert_eq!(
            header(line.as_bytes()),
            Header::new(Version::V1, addresses),
            "{line}"
        );
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 16));
    assert_eq!(longest.len(), MAX_LINE);
    header(longest.as_bytes());
}

#[test]
fn lines_that_are_not_as_the_grammar_says_are_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 02\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
        "PROXY TCP6 [::1] [::2] 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UNKNOWN a\nb\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(HeaderError::Line), "{line:?}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    for end in 0..MAX_LINE {
        assert_eq!(read(&endless.as_bytes()[..end]), Ok(Parsed::More));
    }
    for end in MAX_LINE..endless.len() {
        let read = read(&endless.as_bytes()[..end]);
        assert_eq!(read, Err(HeaderError::Long));
    }
    assert_eq!(parse(b"PROXY UNKNOWN\r\n", 10), Err(HeaderError::Long));
}

#[test]
fn what_begins_otherwise_is_none() {
    for first in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PROPFIND / HTTP/1.1\r\n",
        b"proxy TCP4 ",
        b"PROXY\tTCP4",
        b"\x16\x03\x01",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\r\n\r\nGET",
        b"\0",
    ] {
        assert_eq!(read(first), Ok(Parsed::Not), "{first:?}");
    }
    assert_eq!(read(b""), Ok(Parsed::More));
    assert_eq!(read(b"PRO"), Ok(Parsed::More));
    assert_eq!(read(b"\r\n"), Ok(Parsed::More));
}

/// A header of version 2 made by hand.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family][..], &len, rest].concat()
}

#[test]
fn binary_headers_are_read_at_every_split() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 0xbb];
    let addresses = stream("192.0.2.1:56324", "198.51.100.7:443");
    let read = header(&binary(0x21, 0x11, &v4));
    assert_eq!(read, Header::new(Version::V2, addresses));

    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
    let read = header(&binary(0x21, 0x22, &v6));
    let addresses = Addresses::Ip {
        transport: Transport::Datagram,
        source: "[::1]:3".parse().unwrap(),
        destination: "[::2]:4".parse().unwrap(),
    };
    assert_eq!(read.addresses, addresses);

    let mut unix = [0; 216];
    unix[..5].copy_from_slice(b"/a/b\0");
    unix[108] = b'/';
    let Addresses::Unix {
        transport,
        source,
        destination,
    } = header(&binary(0x21, 0x31, &unix)).addresses
    else {
        panic!("not Unix");
    };
    assert_eq!(transport, Transport::Stream);
    assert_eq!(
        (&source[..5], &destination[..2]),
        (&b"/a/b\0"[..], &b"/\0"[..])
    );

    // For nobody: what follows is anything.
    for family in [0, 0x11, 0x55, 0xff] {
        let read = header(&binary(0x20, family, b"anything"));
        assert_eq!(read, Header::local(Version::V2));
    }
    let read = header(&binary(0x21, 0, &[kind::NOOP, 0, 1, 7]));
    assert_eq!(read.addresses, Addresses::Unknown);
    assert_eq!(read.tlvs.get(kind::NOOP), Some(&[7][..]));
}

#[test]
fn binary_headers_that_break_rules_are_refused() {
    let v4 = [0; 12];
    let with = |tlvs: &[u8]| binary(0x21, 0x11, &[&v4, tlvs].concat());
    let cases = [
        (binary(0x11, 0x11, &v4), HeaderError::Version),
        (binary(0x31, 0x11, &v4), HeaderError::Version),
        (binary(0x22, 0x11, &v4), HeaderError::Command),
        (binary(0x2f, 0x11, &v4), HeaderError::Command),
        (binary(0x21, 0x10, &v4), HeaderError::Family),
        (binary(0x21, 0x01, &v4), HeaderError::Family),
        (binary(0x21, 0x13, &v4), HeaderError::Family),
        (binary(0x21, 0x41, &v4), HeaderError::Family),
        (binary(0x21, 0x11, &v4[..11]), HeaderError::Short),
        (binary(0x21, 0x21, &[0; 35]), HeaderError::Short),
        (binary(0x21, 0x31, &[0; 215]), HeaderError::Short),
        (with(&[kind::NOOP]), HeaderError::Tlv),
        (with(&[kind::NOOP, 0]), HeaderError::Tlv),
        (with(&[kind::NOOP, 0, 1]), HeaderError::Tlv),
        (with(&[kind::NOOP, 0xff, 0xff, 0]), HeaderError::Tlv),
        (with(&[kind::AUTHORITY, 0, 1, 0xff]), HeaderError::Tlv),
        (with(&[kind::NETNS, 0, 1, 0xff]), HeaderError::Tlv),
        (with(&[kind::CRC32C, 0, 1, 0]), HeaderError::Tlv),
        (with(&[kind::SSL, 0, 4, 0, 0, 0, 0]), HeaderError::Tlv),
        (
            with(&[kind::SSL, 0, 7, 1, 0, 0, 0, 0, kind::SSL_CN, 0]),
            HeaderError::Tlv,
        ),
        (
            with(&[&[kind::UNIQUE_ID, 0, 129][..], &[0; 129]].concat()),
            HeaderError::Tlv,
        ),
        (
            with(&[kind::CRC32C, 0, 4, 0, 0, 0, 0]),
            HeaderError::Checksum,
        ),
    ];
    for (i, (bytes, error)) in cases.into_iter().enumerate() {
        assert_eq!(read(&bytes), Err(error), "{i}");
    }
    // The bound holds before anything has come that must be kept.
    let long = binary(0x21, 0x11, &[0; 100]);
    assert_eq!(parse(&long[..FIXED], 115), Err(HeaderError::Long));
    assert_eq!(parse(&long[..FIXED], 116), Ok(Parsed::More));
    let most = binary(0x20, 0, &vec![0; 65_535]);
    assert!(matches!(read(&most), Ok(Parsed::Header { len: MAX, .. })));
}

#[test]
fn a_checksum_covers_every_byte() {
    let mut header = Header::new(Version::V2, stream("192.0.2.1:1", "192.0.2.2:2"));
    header.checksum = true;
    header.tlvs.push(kind::ALPN, b"h2").unwrap();
    let bytes = header.write().unwrap();
    assert_eq!(
        read(&bytes),
        Ok(Parsed::Header {
            len: bytes.len(),
            header
        })
    );
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let read = read(&changed);
            let accepted = matches!(&read, Ok(Parsed::Header { header, .. }) if header.checksum);
            assert!(!accepted, "bit {bit} of byte {at}");
        }
    }
    // The example of RFC 3720 appendix B.4: 32 bytes of zeros.
    assert_eq!(checksum(&[0; 32], 8), 0x8a91_36aa);
    let twice = [&bytes[..], &bytes[bytes.len() - 7..]].concat();
    let mut twice = twice;
    twice[15] += 7;
    assert_eq!(read(&twice), Err(HeaderError::Checksum));
}

#[test]
fn values_are_found_by_their_types() {
    let mut ssl = Ssl {
        client: Ssl::TLS | Ssl::CERT_CONN,
        verify: 0,
        ..Ssl::default()
    };
    ssl.tlvs.push(kind::SSL_VERSION, b"TLSv1.3").unwrap();
    ssl.tlvs
        .push(kind::SSL_CN, "b\u{fc}cher".as_bytes())
        .unwrap();
    let mut header = Header::new(Version::V2, Addresses::Unknown);
    header.tlvs.push(kind::AUTHORITY, b"example.com").unwrap();
    header.tlvs.push(kind::SSL, &ssl.write()).unwrap();
    header.tlvs.push(kind::UNIQUE_ID, &[0; 128]).unwrap();
    header.tlvs.push(kind::NETNS, b"blue").unwrap();
    header.tlvs.push(0xe0, b"").unwrap();
    let read = super::tests::header(&header.write().unwrap());
    assert_eq!(read, header);
    assert_eq!(read.tlvs.authority(), Some("example.com"));
    assert_eq!(read.tlvs.netns(), Some("blue"));
    assert_eq!(read.tlvs.ssl(), Some(ssl));
    assert_eq!(read.tlvs.get(0xe0), Some(&[][..]));
    assert_eq!(read.tlvs.get(kind::ALPN), None);
    assert_eq!(read.tlvs.iter().count(), 5);
    assert!(
        !format!("{read:?}").contains("example"),
        "values are private"
    );

    let mut tlvs = header.tlvs.clone();
    assert_eq!(tlvs.push(kind::CRC32C, &[0; 4]), Err(HeaderError::Tlv));
    assert_eq!(tlvs.push(kind::UNIQUE_ID, &[0; 129]), Err(HeaderError::Tlv));
    assert_eq!(
        tlvs.push(kind::NOOP, &vec![0; 65_536]),
        Err(HeaderError::Long)
    );
    assert_eq!(tlvs, header.tlvs);
    header.tlvs.push(kind::NOOP, &vec![0; 65_400]).unwrap();
    assert_eq!(header.write(), Err(HeaderError::Long));
}

#[test]
fn what_version_1_cannot_say_is_unknown_or_an_error() {
    let mut header = Header::new(Version::V1, stream("192.0.2.1:1", "[::1]:2"));
    assert_eq!(header.write(), Err(HeaderError::Family));
    header.addresses =
        Addresses::stream("192.0.2.1:1".parse().unwrap(), "[::1]:2".parse().unwrap());
    let line = header.write().unwrap();
    assert_eq!(line, b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n");
    header.addresses = Addresses::stream(
        "[::ffff:192.0.2.1]:1".parse().unwrap(),
        "192.0.2.2:2".parse().unwrap(),
    );
    let line = header.write().unwrap();
    assert_eq!(line, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    header.local = true;
    assert_eq!(header.write().unwrap(), b"PROXY UNKNOWN\r\n");
    header.tlvs.push(kind::NOOP, b"").unwrap();
    assert_eq!(header.write(), Err(HeaderError::NoTlvs));
}

fn any_addresses() -> impl Strategy<Value = Addresses> {
    let transport = || prop_oneof![Just(Transport::Stream), Just(Transport::Datagram)];
    let v4 = (
        transport(),
        any::<([u8; 4], u16)>(),
        any::<([u8; 4], u16)>(),
    )
        .prop_map(|(transport, source, destination)| Addresses::Ip {
            transport,
            source: source.into(),
            destination: destination.into(),
        });
    let v6 = (
        transport(),
        any::<([u8; 16], u16)>(),
        any::<([u8; 16], u16)>(),
    )
        .prop_map(|(transport, source, destination)| Addresses::Ip {
            transport,
            source: source.into(),
            destination: destination.into(),
        });
    let unix = (transport(), any::<[u8; 27]>()).prop_map(|(transport, bytes)| {
        let mut name = [0; 108];
        name[..27].copy_from_slice(&bytes);
        Addresses::Unix {
            transport,
            source: Box::new(name),
            destination: Box::new(name),
        }
    });
    prop_oneof![Just(Addresses::Unknown), v4, v6, unix]
}

fn any_header() -> impl Strategy<Value = Header> {
    let tlvs = proptest::collection::vec((any::<u8>(), ".{0,40}"), 0..6);
    (any_addresses(), tlvs, any::<bool>()).prop_map(|(addresses, tlvs, checksum)| {
        let mut header = Header::new(Version::V2, addresses);
        for (kind, value) in tlvs {
            // Those that are not what their type says are left out.
            let _ = header.tlvs.push(kind, value.as_bytes());
        }
        header.checksum = checksum;
        header
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(header in any_header(), rest: Vec<u8>) {
        let bytes = header.write().unwrap();
        let len = bytes.len();
        let all = [&bytes[..], &rest].concat();
        prop_assert_eq!(read(&all), Ok(Parsed::Header { header, len }));
        prop_assert_eq!(read(&bytes[..len - 1]), Ok(Parsed::More));
    }

    #[test]
    fn lines_that_are_written_read_the_same(addresses in any_addresses()) {
        let line = Header::new(Version::V1, addresses.clone()).write().unwrap();
        let said = match addresses {
            Addresses::Ip { transport: Transport::Stream, .. } => addresses,
            _ => Addresses::Unknown,
        };
        prop_assert!(line.len() <= MAX_LINE);
        prop_assert_eq!(super::tests::header(&line), Header::new(Version::V1, said));
    }

    #[test]
    fn nothing_makes_it_panic(bytes: Vec<u8>, text: bool, max in 0..300_usize) {
        let _ = parse(&bytes, max);
        let signature: &[u8] = if text { WORD } else { SIGNATURE };
        if let Ok(Parsed::Header { len, .. }) = parse(&[signature, &bytes].concat(), max) {
            prop_assert!(len <= max && len <= signature.len() + bytes.len());
        }
    }

    #[test]
    fn hostile_bytes_behind_the_addresses_do_not_make_it_panic(
        family in prop_oneof![Just(0_u8), Just(0x11), Just(0x21), Just(0x31), any::<u8>()],
        rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = read(&binary(0x21, family, &rest));
    }
}
