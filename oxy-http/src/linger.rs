//! Closing a connection so that the peer can read what was said last.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use oxy_core::Link;
use oxy_core::buffer::Buffer;
use oxy_core::clock::Alarm;

/// Says that nothing more will come, and reads for a while what still does: bytes that nobody reads would turn the close
/// into a reset, which takes from the peer what it has not read yet (RFC 9112 section 9.6).
pub(crate) async fn linger(link: &Link, alarm: &Alarm, limit: Duration) {
    part(link, alarm, limit).await;
    poll_fn(|cx| {
        loop {
            if link.poll_readable(cx).is_pending() {
                return alarm.poll_expired(cx);
            }
            let mut buffer = Buffer::new();
            match link.poll_read(cx, buffer.spare()) {
                Poll::Ready(Ok(n)) if n > 0 && !alarm.expired() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return alarm.poll_expired(cx),
            }
        }
    })
    .await;
}

/// Says that nothing more will come. What is no socket may have something to say first, and wait: TLS says that this is
/// the end, and without that a response that ends with its connection looks cut (RFC 8446 section 6.1).
pub(crate) async fn part(link: &Link, alarm: &Alarm, limit: Duration) {
    alarm.set(limit);
    poll_fn(|cx| match link.poll_shutdown(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => alarm.poll_expired(cx),
    })
    .await;
}
