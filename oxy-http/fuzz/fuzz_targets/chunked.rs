//! A chunked body means the same however it is split, and what is written again means the same too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxy_http::h1::Reject;
use oxy_http::h1::chunked::{Decoder, Step, Trailers};
use oxy_http::h1::write;
use oxy_http::limits::ChunkLimits;
use oxy_http::semantics::write_trailers;

#[derive(Debug, PartialEq)]
struct Body {
    payload: Vec<u8>,
    trailers: Option<Box<Trailers>>,
    consumed: usize,
    done: bool,
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, data) = input;
    let limits = ChunkLimits {
        max_line: 64,
        max_extensions: 128,
        max_trailers: 128,
        max_trailer_fields: 4,
    };
    let whole = decode([data], &limits);
    assert_eq!(
        decode(data.chunks(usize::from(size).max(1)), &limits),
        whole
    );

    let mut buf = data.to_vec();
    match (Decoder::new().compact(&mut buf, &limits), &whole) {
        (Ok(all), Ok(body)) => {
            assert_eq!(&buf[..all.payload], &body.payload[..]);
            assert_eq!((all.consumed, all.done), (body.consumed, body.done));
            assert_eq!(all.trailers, body.trailers);
            assert_eq!(buf[all.consumed..], data[all.consumed..]);
        }
        (Err(one), Err(other)) => assert_eq!(one, *other),
        (one, other) => panic!("{one:?} but {other:?}"),
    }

    let Ok(body) = whole else { return };
    if body.done {
        let mut wire = Vec::new();
        if !body.payload.is_empty() {
            write::chunk_head(body.payload.len() as u64, &mut wire);
            wire.extend_from_slice(&body.payload);
            wire.extend_from_slice(write::CRLF);
        }
        write_trailers(&body.trailers.unwrap_or_default(), &mut wire);
        let again = decode([&wire[..]], &ChunkLimits::default()).expect("our own chunks are good");
        assert!(again.done && again.consumed == wire.len() && again.payload == body.payload);
    }
});

fn decode<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &ChunkLimits,
) -> Result<Body, Reject> {
    let mut decoder = Decoder::new();
    let mut body = Body {
        payload: Vec::new(),
        trailers: None,
        consumed: 0,
        done: false,
    };
    for mut piece in pieces {
        loop {
            let (consumed, step) = decoder.decode(piece, limits)?;
            body.consumed += consumed;
            match step {
                Step::Data(range) => body.payload.extend_from_slice(&piece[range]),
                Step::NeedMore => break,
                Step::Done(trailers) => {
                    return Ok(Body {
                        trailers,
                        done: true,
                        ..body
                    });
                }
            }
            piece = &piece[consumed..];
        }
    }
    Ok(body)
}
