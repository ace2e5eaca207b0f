//! Requests and responses as hooks see them: `http` types that are built when somebody asks.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::LocalKey;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
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
pub struct Lazy<M: Message>(Spared<Box<Inner<M>>>);

/// In one place, so that a message is moved as a pointer.
pub(crate) struct Inner<M: Message> {
    raw: Option<Raw<M::Index>>,
    /// Where the body is until the message is built.
    body: Mutex<Body>,
    built: OnceLock<M>,
    changed: bool,
}

impl<M: Message> Default for Inner<M> {
    fn default() -> Self {
        Self {
            raw: None,
            body: Mutex::default(),
            built: OnceLock::new(),
            changed: false,
        }
    }
}

impl<M: Message> Spare for Box<Inner<M>> {
    fn renew(&mut self) -> bool {
        if let Some(built) = self.built.get_mut() {
            // HTTP/2 takes a map of the request and needs one for the response.
            drop(Spared::new(std::mem::take(built.headers())));
        }
        **self = Inner::default();
        true
    }

    fn spares() -> &'static LocalKey<RefCell<Vec<Self>>> {
        M::spares()
    }
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
    Built(Lazy<M>),
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
pub trait Message: sealed::Sealed + Sized + 'static {
    #[doc(hidden)]
    type Index: Spare;
    #[doc(hidden)]
    fn build(index: &Self::Index, head: &Bytes, body: Body) -> Self;
    #[doc(hidden)]
    fn head_len(index: &Self::Index) -> usize;
    #[doc(hidden)]
    fn body(&mut self) -> &mut Body;
    #[doc(hidden)]
    fn headers(&mut self) -> &mut HeaderMap;
    #[doc(hidden)]
    #[expect(private_interfaces, reason = "for this crate alone")]
    fn spares() -> &'static LocalKey<RefCell<Vec<Box<Inner<Self>>>>>;
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

    fn headers(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    #[expect(
        clippy::vec_box,
        private_interfaces,
        reason = "handed out as boxes, which move as pointers, and to this crate alone"
    )]
    fn spares() -> &'static LocalKey<RefCell<Vec<Box<Inner<Self>>>>> {
        thread_local!(static SPARES: RefCell<Vec<Box<Inner<Request<Body>>>>> = const { RefCell::new(Vec::new()) });
        &SPARES
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

    fn headers(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    #[expect(
        clippy::vec_box,
        private_interfaces,
        reason = "handed out as boxes, which move as pointers, and to this crate alone"
    )]
    fn spares() -> &'static LocalKey<RefCell<Vec<Box<Inner<Self>>>>> {
        thread_local!(static SPARES: RefCell<Vec<Box<Inner<Response<Body>>>>> = const { RefCell::new(Vec::new()) });
        &SPARES
    }
}

impl<M: Message> Lazy<M> {
    pub(crate) fn raw(buffer: Buffer, index: Spared<M::Index>, body: Body) -> Self {
        let mut inner = Spared::<Box<Inner<M>>>::take();
        inner.raw = Some(Raw { buffer, index });
        inner.body = Mutex::new(body);
        Self(inner)
    }

    /// The raw head, unless the message has been changed.
    pub(crate) fn head(&self) -> Option<(&M::Index, &[u8])> {
        let raw = self.0.raw.as_ref().filter(|_| !self.0.changed)?;
        Some((&raw.index, raw.buffer.filled()))
    }

    /// The head and the body, apart.
    pub(crate) fn into_parts(mut self) -> (Head<M>, Body) {
        let inner = &mut **self.0;
        let is_built = inner.built.get().is_some();
        let body = match inner.built.get_mut() {
            Some(built) => built.body(),
            None => inner.body.get_mut().unwrap_or_else(PoisonError::into_inner),
        };
        let body = body.take();
        // One that has been changed is what was made of it; and one that is not built is raw.
        match inner.raw.take_if(|_| !inner.changed) {
            Some(mut raw) => {
                if is_built {
                    // What lies behind the head was given to the body when it was built.
                    raw.buffer.truncate(M::head_len(&raw.index));
                }
                (Head::Raw(raw), body)
            }
            None => (Head::Built(self), body),
        }
    }

    /// The body alone, without counting as a change of the head; for reading it whole or tapping it.
    pub fn body_only(&mut self) -> &mut Body {
        let inner = &mut **self.0;
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
                return M::build(&M::Index::default(), &Bytes::new(), body);
            };
            let head_len = M::head_len(&raw.index).min(raw.buffer.len());
            let (head, ahead) = raw.buffer.filled().split_at(head_len);
            let mut message = M::build(&raw.index, &Bytes::copy_from_slice(head), body);
            if let Some(incoming) = message.body().as_incoming() {
                let mut buffer = Buffer::new();
                buffer.put(ahead);
                incoming.give(buffer);
            }
            message
        })
    }
}

impl<M: Message> From<M> for Lazy<M> {
    fn from(built: M) -> Self {
        let mut inner = Spared::<Box<Inner<M>>>::take();
        inner.built = OnceLock::from(built);
        inner.changed = true;
        Self(inner)
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
        let inner = &mut **self.0;
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
