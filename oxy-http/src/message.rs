//! Requests and responses as hooks see them: `http` types that are built when somebody asks.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use oxy_core::buffer::Buffer;

use crate::body::Body;
use crate::h1::index::{RequestIndex, ResponseIndex};
use crate::scratch::{Spare, Spared};

/// A request: an [`http::Request`], built from the bytes that came in on first use.
pub type Req = Lazy<Request<Body>>;

/// A response: an [`http::Response`], built from the bytes that came in on first use.
pub type Res = Lazy<Response<Body>>;

/// A message that is built when it is first dereferenced.
///
/// A message that nobody looks at is passed on from its bytes; one that is borrowed mutably is passed on from what was
/// made of it.
pub struct Lazy<M: Message>(Box<Inner<M>>);

/// In one place, so that a message is moved as a pointer.
struct Inner<M: Message> {
    raw: Option<Raw<M::Index>>,
    /// Where the body is until the message is built.
    body: Mutex<Body>,
    built: OnceLock<Box<M>>,
    changed: bool,
}

/// The bytes of a head and where its parts are in them. What lies behind the head belongs to the body.
pub(crate) struct Raw<I: Spare> {
    pub(crate) buffer: Buffer,
    pub(crate) index: Spared<I>,
}

/// A head, in whichever form it was left.
pub(crate) enum Head<M: Message> {
    Raw(Raw<M::Index>),
    /// Without its body.
    Built(Box<M>),
}

mod sealed {
    pub trait Sealed {}
    impl<B> Sealed for http::Request<B> {}
    impl<B> Sealed for http::Response<B> {}
}

/// What [`Lazy`] can hold: `http::Request<Body>` and `http::Response<Body>`.
#[expect(
    private_bounds,
    reason = "sealed: the bound names what only this crate makes"
)]
pub trait Message: sealed::Sealed + Sized {
    #[doc(hidden)]
    type Index: Spare;
    #[doc(hidden)]
    fn build(index: &Self::Index, head: &Bytes, body: Body) -> Self;
    #[doc(hidden)]
    fn head_len(index: &Self::Index) -> usize;
    #[doc(hidden)]
    fn body(&mut self) -> &mut Body;
}

impl Message for Request<Body> {
    type Index = Box<RequestIndex>;

    fn build(index: &Box<RequestIndex>, head: &Bytes, body: Body) -> Self {
        match index.parts(head) {
            Ok(parts) => Self::from_parts(parts, body),
            // The parser lets nothing pass that cannot be built; were it to, the application sees an empty request.
            Err(_) => Self::new(body),
        }
    }

    fn head_len(index: &Box<RequestIndex>) -> usize {
        index.head_len
    }

    fn body(&mut self) -> &mut Body {
        self.body_mut()
    }
}

impl Message for Response<Body> {
    type Index = Box<ResponseIndex>;

    fn build(index: &Box<ResponseIndex>, head: &Bytes, body: Body) -> Self {
        match index.parts(head) {
            Ok(parts) => Self::from_parts(parts, body),
            Err(_) => Self::new(body),
        }
    }

    fn head_len(index: &Box<ResponseIndex>) -> usize {
        index.head_len
    }

    fn body(&mut self) -> &mut Body {
        self.body_mut()
    }
}

impl<M: Message> Lazy<M> {
    pub(crate) fn raw(buffer: Buffer, index: Spared<M::Index>, body: Body) -> Self {
        Self(Box::new(Inner {
            raw: Some(Raw { buffer, index }),
            body: Mutex::new(body),
            built: OnceLock::new(),
            changed: false,
        }))
    }

    /// The raw head, unless the message has been changed.
    pub(crate) fn head(&self) -> Option<(&M::Index, &[u8])> {
        let raw = self.0.raw.as_ref().filter(|_| !self.0.changed)?;
        Some((&raw.index, raw.buffer.filled()))
    }

    /// The head and the body, apart.
    pub(crate) fn into_parts(self) -> (Head<M>, Body) {
        let Inner {
            raw,
            body,
            built,
            changed,
        } = *self.0;
        let body = body.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (built.into_inner(), raw) {
            (Some(mut built), raw) => {
                let body = built.body().take();
                match raw.filter(|_| !changed) {
                    Some(mut raw) => {
                        // What lies behind the head was given to the body when it was built.
                        raw.buffer.truncate(M::head_len(&raw.index));
                        (Head::Raw(raw), body)
                    }
                    None => (Head::Built(built), body),
                }
            }
            (None, Some(raw)) => (Head::Raw(raw), body),
            // Not reached: a message is made raw or built.
            (None, None) => {
                let empty = M::build(&M::Index::default(), &Bytes::new(), Body::empty());
                (Head::Built(Box::new(empty)), body)
            }
        }
    }

    /// The body alone, without counting as a change of the head; for reading it whole or tapping it.
    pub fn body_only(&mut self) -> &mut Body {
        let inner = &mut *self.0;
        inner.build();
        match inner.built.get_mut() {
            Some(built) => built.body(),
            None => inner.body.get_mut().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl<M: Message> Inner<M> {
    fn build(&self) -> &M {
        self.built.get_or_init(|| {
            let body =
                std::mem::take(&mut *self.body.lock().unwrap_or_else(PoisonError::into_inner));
            let Some(raw) = &self.raw else {
                return Box::new(M::build(&M::Index::default(), &Bytes::new(), body));
            };
            let head_len = M::head_len(&raw.index).min(raw.buffer.len());
            let (head, ahead) = raw.buffer.filled().split_at(head_len);
            let mut message = M::build(&raw.index, &Bytes::copy_from_slice(head), body);
            if let Some(incoming) = message.body().as_incoming() {
                let mut buffer = Buffer::new();
                buffer.put(ahead);
                incoming.give(buffer);
            }
            Box::new(message)
        })
    }
}

impl<M: Message> From<M> for Lazy<M> {
    fn from(built: M) -> Self {
        Self(Box::new(Inner {
            raw: None,
            body: Mutex::default(),
            built: OnceLock::from(Box::new(built)),
            changed: true,
        }))
    }
}

impl<M: Message> Deref for Lazy<M> {
    type Target = M;

    fn deref(&self) -> &M {
        self.0.build()
    }
}

impl<M: Message> DerefMut for Lazy<M> {
    fn deref_mut(&mut self) -> &mut M {
        let inner = &mut *self.0;
        inner.build();
        inner.changed = true;
        match inner.built.get_mut() {
            Some(built) => built,
            None => unreachable!("built above"),
        }
    }
}

impl<M: Message> fmt::Debug for Lazy<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.built.get().is_some() {
            "Lazy(built)"
        } else {
            "Lazy(raw)"
        })
    }
}
