//! Where callgrind begins and ends to count: on the way into and out of functions that it finds by their names.

use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What the functions of this module are called.
pub(crate) const NAMES: [&str; 2] = ["toggle::counted_work", "toggle::uncounted_poll"];

/// Runs what is to be counted.
pub(crate) fn counted(mut work: impl FnMut()) {
    counted_work(&mut work);
}

#[inline(never)]
fn counted_work(work: &mut dyn FnMut()) {
    work();
    // What follows a call keeps it from becoming a jump, of which callgrind would not see the return.
    black_box(());
}

/// Polls what stands around the counted, in the midst of it.
pub(crate) struct Uncounted<F>(pub(crate) Pin<Box<F>>);

impl<F: Future<Output = ()>> Future for Uncounted<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        uncounted_poll(self.0.as_mut(), cx)
    }
}

#[inline(never)]
fn uncounted_poll(work: Pin<&mut dyn Future<Output = ()>>, cx: &mut Context<'_>) -> Poll<()> {
    let done = work.poll(cx);
    black_box(done)
}
