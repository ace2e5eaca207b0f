//! Any number of bytes, out of a few.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use oxy_core::Error;

/// What is sent again and again. As large as what a socket usually takes at a time.
static BLOCK: [u8; 128 * 1024] = [b'.'; 128 * 1024];

/// A body of so many bytes, none of which is in memory more than once.
#[derive(Debug)]
pub(super) struct Filler(pub(super) u64);

impl Body for Filler {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let count = usize::try_from(self.0)
            .unwrap_or(usize::MAX)
            .min(BLOCK.len());
        if count == 0 {
            return Poll::Ready(None);
        }
        self.0 -= count as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BLOCK[..count])))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}
