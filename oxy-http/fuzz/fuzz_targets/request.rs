//! A request that is accepted can be built, and is forwarded with the same meaning.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use oxy_fuzz::Plain;
use oxy_http::h1::index::{Framing, RequestIndex};
use oxy_http::h1::parse::{self, Parse};
use oxy_http::limits::HeadLimits;
use oxy_http::semantics::{
    ForwardPolicy, Forwarding, Outcome, RequestHead, RequestHop, forward_request,
};

fuzz_target!(|data: &[u8]| {
    let limits = HeadLimits::default();
    let mut index = RequestIndex::default();
    let whole = parse::request(data, &limits, &mut index);

    // No prefix is taken for a head that the whole is not.
    let mut other = RequestIndex::default();
    let cut = data
        .first()
        .map_or(0, |&byte| usize::from(byte) * data.len() / 256);
    match parse::request(&data[..cut], &limits, &mut other) {
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
    assert_ne!(index.framing, Framing::UntilClose);
    let lead = data
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let received = Plain::read(&data[lead..index.head_len]);
    assert!(received.all("host").len() <= 1);

    let head = Bytes::copy_from_slice(data);
    let parts = index.parts(&head).expect("what was accepted can be built");
    assert_eq!(parts.headers.len(), index.fields.len());

    let policy = ForwardPolicy {
        x_forwarded: Forwarding::Append,
        forwarded: Forwarding::Append,
        instance: "fuzz".parse().ok(),
        ..ForwardPolicy::default()
    };
    let hop = RequestHop {
        client: "192.0.2.1".parse().ok(),
        upstream: b"up",
        ..RequestHop::default()
    };
    let mut out = Vec::new();
    if forward_request(&RequestHead::indexed(&index, data), &hop, &policy, &mut out)
        == Outcome::Forward
    {
        check(&out, &index);
        let sent = Plain::read(&out);
        if index.target_authority.is_empty()
            && !(index.minor == 0 && index.authority(data).is_empty())
        {
            assert_eq!(sent.all("host"), [index.authority(data)]);
        }
        let target = sent.start.split(' ').nth(1).expect("a target");
        assert!(target.as_bytes().ends_with(index.path.of(data)) || index.path.is_empty());
    }
    let mut out = Vec::new();
    let request = http::Request::from_parts(parts, ());
    if forward_request(
        &RequestHead::of_request(&request, index.framing),
        &hop,
        &policy,
        &mut out,
    ) == Outcome::Forward
    {
        check(&out, &index);
    }
});

fn check(out: &[u8], index: &RequestIndex) {
    let limits = HeadLimits {
        max_head: usize::MAX,
        max_target: usize::MAX,
        max_fields: 1000,
    };
    let mut again = RequestIndex::default();
    assert_eq!(
        parse::request(out, &limits, &mut again),
        Ok(Parse::Complete),
        "{:?}",
        String::from_utf8_lossy(out)
    );
    assert_eq!(again.head_len, out.len());
    assert_eq!(again.framing, index.framing);
    assert_eq!(again.expect_continue, index.expect_continue);
    assert!(!again.upgrade && again.keep_alive && again.minor == 1);
    let sent = Plain::read(out);
    sent.assert_framing(index.framing);
    sent.assert_no_hop_fields();
    assert_eq!(sent.all("host").len(), 1);
}
