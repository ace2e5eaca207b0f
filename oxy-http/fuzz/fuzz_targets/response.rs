//! A response that is accepted can be built, and is forwarded with the same meaning.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use oxy_fuzz::Plain;
use oxy_http::h1::index::ResponseIndex;
use oxy_http::h1::parse::{self, MethodKind, Parse};
use oxy_http::limits::HeadLimits;
use oxy_http::semantics::{ForwardPolicy, ResponseHead, ResponseHop, forward_response};

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (choice, cut, data) = input;
    let method =
        [MethodKind::Other, MethodKind::Head, MethodKind::Connect][usize::from(choice) % 3];
    let limits = HeadLimits::default();
    let mut index = ResponseIndex::default();
    let whole = parse::response(data, &limits, method, &mut index);

    let mut other = ResponseIndex::default();
    match parse::response(
        &data[..usize::from(cut) * data.len() / 256],
        &limits,
        method,
        &mut other,
    ) {
        Ok(Parse::Complete) => assert!(whole == Ok(Parse::Complete) && other == index),
        Ok(Parse::Partial) => {}
        Err(_) => assert!(whole.is_err()),
    }
    if whole != Ok(Parse::Complete) {
        return;
    }

    assert!(index.head_len <= data.len());
    for field in &index.fields {
        assert!(
            field.name().range().end <= field.value().range().start
                && field.value().range().end < index.head_len
        );
    }
    Plain::read(&data[..index.head_len]);
    let parts = index
        .parts(&Bytes::copy_from_slice(data))
        .expect("what was accepted can be built");
    assert_eq!(parts.headers.len(), index.fields.len());

    let hop = ResponseHop {
        minor: choice / 3 % 2,
        head: method == MethodKind::Head,
        keep_alive: choice / 6 % 2 == 0,
        date: b"Thu, 01 Jan 1970 00:00:00 GMT",
        upgrade: None,
    };
    let policy = ForwardPolicy::default();
    let mut out = Vec::new();
    let framed = forward_response(
        &ResponseHead::indexed(&index, data),
        &hop,
        &policy,
        &mut out,
    );
    let mut again = ResponseIndex::default();
    let room = HeadLimits {
        max_head: usize::MAX,
        max_fields: 1000,
        ..limits
    };
    assert_eq!(
        parse::response(&out, &room, method, &mut again),
        Ok(Parse::Complete)
    );
    assert_eq!((again.head_len, again.status), (out.len(), index.status));
    assert_eq!(again.reason.of(&out), index.reason.of(data));
    let sent = Plain::read(&out);
    sent.assert_no_hop_fields();
    if method == MethodKind::Other {
        assert_eq!(again.framing, framed.framing);
        if !matches!(index.status, 100..200 | 204 | 304) {
            sent.assert_framing(framed.framing);
        }
    }
    if index.status >= 200 && method != MethodKind::Connect {
        assert_eq!(again.keep_alive, framed.keep_alive);
    }
});
