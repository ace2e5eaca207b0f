//! Thread-local spares: the vectors that heads are written into, the indexes that heads are parsed into, and what messages
//! are kept in. Last in, first out, so that they stay warm; an idle connection holds none.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

use http::HeaderMap;

use crate::h1::index::{RequestIndex, ResponseIndex};

/// What can be kept for later use.
pub(crate) trait Spare: Default + 'static {
    /// Makes it as good as new, or says that it has grown too large to keep.
    fn renew(&mut self) -> bool;
    /// This thread's spares.
    fn spares() -> &'static LocalKey<RefCell<Vec<Self>>>;
}

/// More spares than this are forgotten: as many as a busy worker has exchanges under way.
const KEPT: usize = 128;

/// A value that goes back to its thread's spares.
pub(crate) struct Spared<T: Spare>(Option<T>);

impl<T: Spare> Spared<T> {
    pub(crate) fn take() -> Self {
        let spare = T::spares().try_with(|spares| spares.borrow_mut().pop());
        Self(Some(spare.ok().flatten().unwrap_or_default()))
    }

    /// Makes a spare of `value` once it is dropped.
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value, for good.
    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().unwrap_or_default()
    }
}

impl<T: Spare> Drop for Spared<T> {
    fn drop(&mut self) {
        let Some(mut value) = self.0.take() else {
            return;
        };
        if value.renew() {
            // At thread exit the spares may be gone already.
            let _ = T::spares().try_with(|spares| {
                let mut spares = spares.borrow_mut();
                if spares.len() < KEPT {
                    spares.push(value);
                }
            });
        }
    }
}

impl<T: Spare> Deref for Spared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("taken out only when dropped"),
        }
    }
}

impl<T: Spare> DerefMut for Spared<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(value) => value,
            None => unreachable!("taken out only when dropped"),
        }
    }
}

impl<T: Spare + fmt::Debug> fmt::Debug for Spared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes that are written out.
pub(crate) type Out = Spared<Vec<u8>>;

impl Spare for Vec<u8> {
    fn renew(&mut self) -> bool {
        self.clear();
        // A head that was larger than this was unusual: its memory is better given back.
        self.capacity() <= 4 * 1024
    }

    fn spares() -> &'static LocalKey<RefCell<Vec<Self>>> {
        thread_local!(static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) });
        &SPARES
    }
}

impl Spare for Box<RequestIndex> {
    fn renew(&mut self) -> bool {
        self.clear();
        self.fields.capacity() <= 256
    }

    #[expect(
        clippy::vec_box,
        reason = "handed out as boxes, which move as pointers"
    )]
    fn spares() -> &'static LocalKey<RefCell<Vec<Self>>> {
        thread_local!(static SPARES: RefCell<Vec<Box<RequestIndex>>> = const { RefCell::new(Vec::new()) });
        &SPARES
    }
}

impl Spare for Box<ResponseIndex> {
    fn renew(&mut self) -> bool {
        self.clear();
        self.fields.capacity() <= 256
    }

    #[expect(
        clippy::vec_box,
        reason = "handed out as boxes, which move as pointers"
    )]
    fn spares() -> &'static LocalKey<RefCell<Vec<Self>>> {
        thread_local!(static SPARES: RefCell<Vec<Box<ResponseIndex>>> = const { RefCell::new(Vec::new()) });
        &SPARES
    }
}

impl Spare for HeaderMap {
    fn renew(&mut self) -> bool {
        self.clear();
        // None, or more than most messages have any use for.
        (1..=64).contains(&self.capacity())
    }

    fn spares() -> &'static LocalKey<RefCell<Vec<Self>>> {
        thread_local!(static SPARES: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) });
        &SPARES
    }
}
