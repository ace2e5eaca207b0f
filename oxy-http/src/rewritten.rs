//! A body that is changed as it passes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use oxy_core::Error;

use crate::body::Body;

/// What [`Body::rewrite`] makes.
pub(crate) struct Rewritten<F> {
    body: Body,
    change: F,
    trailers: Option<HeaderMap>,
    /// Whether `change` has been told of the end.
    ended: bool,
}

impl<F> Rewritten<F> {
    pub(crate) fn new(body: Body, change: F) -> Self {
        Self {
            body,
            change,
            trailers: None,
            ended: false,
        }
    }
}

// Nothing in it is ever pinned in place.
impl<F> Unpin for Rewritten<F> {}

impl<F: FnMut(Option<Bytes>) -> Bytes> http_body::Body for Rewritten<F> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        while !this.ended {
            let piece = match ready!(Pin::new(&mut this.body).poll_frame(cx)?) {
                Some(frame) => match frame.into_data() {
                    Ok(data) => Some(data),
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        None
                    }
                },
                None => None,
            };
            this.ended = piece.is_none();
            let data = (this.change)(piece);
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        Poll::Ready(this.trailers.take().map(Frame::trailers).map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::collections::VecDeque;

    struct Frames(VecDeque<Frame<Bytes>>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    /// A body in pieces, with a trailer at its end.
    fn pieces(pieces: &'static [&'static str]) -> Body {
        let data = pieces
            .iter()
            .map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        Body::wrap(Frames(data.chain([Frame::trailers(trailers)]).collect()))
    }

    #[tokio::test]
    async fn what_is_kept_back_comes_before_the_trailers() {
        let mut kept = Vec::new();
        // Lets pass what was there before, so that something is always kept.
        let mut body = pieces(&["ab", "", "c", "def"]);
        body.rewrite(move |piece| match piece {
            Some(piece) => std::mem::replace(&mut kept, piece.to_ascii_uppercase()).into(),
            None => std::mem::take(&mut kept).into(),
        });
        assert_eq!(body.length(), None);
        let all = body.collect().await.unwrap();
        assert_eq!(all.trailers().unwrap()["x-sum"], "1");
        assert_eq!(all.to_bytes(), "ABCDEF");
    }

    #[tokio::test]
    async fn an_empty_body_may_become_one() {
        let mut body = Body::empty();
        body.rewrite(|piece| match piece {
            Some(piece) => piece,
            None => Bytes::from_static(b"end"),
        });
        assert_eq!(body.buffer(10).await.unwrap(), "end");
        let mut body = Body::from("x");
        body.rewrite(Option::unwrap_or_default);
        assert_eq!(body.buffer(10).await.unwrap(), "x");
    }
}
