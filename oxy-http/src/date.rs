//! The Date field's value (RFC 9110 section 6.6.1), made once a second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

struct Date {
    second: u64,
    text: String,
}

thread_local! {
    static NOW: RefCell<Date> = const { RefCell::new(Date { second: 0, text: String::new() }) };
}

/// Calls `f` with the time as Date has it.
pub(crate) fn with<T>(f: impl FnOnce(&[u8]) -> T) -> T {
    let second = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec;
    let second = u64::try_from(second).unwrap_or(0);
    NOW.with_borrow_mut(|date| {
        if date.second != second {
            date.second = second;
            let at: SystemTime = UNIX_EPOCH + Duration::from_secs(second);
            date.text = httpdate::fmt_http_date(at);
        }
        f(date.text.as_bytes())
    })
}
