//! The time of day, as logs write it.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A time as RFC 3339 has it: UTC, with milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp(SystemTime);

const DAY: u64 = 86_400;

/// How long one reading of the time of day is good for: a clock that is set is followed a second later, and one that is
/// slewed is not half a millisecond off by then.
const GOOD_FOR: Duration = Duration::from_secs(1);

thread_local! {
    /// A moment, and the time of day that it was: a line then takes one reading of a clock, not two.
    static ANCHOR: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };

    /// The second that was written last, and its text: all but the last digits of most stamps are those of the one before.
    static LAST: Cell<(u64, Text)> = const { Cell::new((0, EPOCH)) };
}

type Text = [u8; 24];

const EPOCH: Text = *b"1970-01-01T00:00:00.000Z";

impl Stamp {
    /// The time of day at `at`, which is now or was a moment ago.
    pub(super) fn of(at: Instant) -> Self {
        if let Some((then, time)) = ANCHOR.get()
            && let Some(since) = at.checked_duration_since(then)
            && since < GOOD_FOR
        {
            return Self(time + since);
        }
        let now = SystemTime::now();
        ANCHOR.set(Some((at, now)));
        Self(now)
    }

    pub(super) fn text(self) -> Text {
        // A clock that is set to before 1970 is shown as 1970.
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (last, mut text) = LAST.get();
        if last != since.as_secs() {
            text = second(since.as_secs());
            LAST.set((since.as_secs(), text));
        }
        digits(since.subsec_millis(), &mut text[20..23]);
        text
    }
}

/// A second since 1970 as text.
fn second(seconds: u64) -> Text {
    let (year, month, day) = date(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    let mut text = EPOCH;
    let fields = [
        (year, 0..4),
        (month, 5..7),
        (day, 8..10),
        (hour, 11..13),
        (minute, 14..16),
        (second, 17..19),
    ];
    for (number, place) in fields {
        digits(number as u32, &mut text[place]);
    }
    text
}

/// Fills `place` with the last digits of `number`. The formatting of the standard library knows more and takes several times
/// as long, for each line.
#[inline]
pub(super) fn digits(mut number: u32, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01: the leap day is then the last of its year, and 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_the_time_of_day() {
        let before = SystemTime::now();
        let start = Instant::now();
        // Each from the last reading, or from one that is too old.
        for after in [0, 1, 999, 1000, 5000, 5001] {
            let Stamp(time) = Stamp::of(start + Duration::from_millis(after));
            assert!(time >= before);
            let since = time.duration_since(before).unwrap();
            let patience = Duration::from_secs(60);
            assert!(since < Duration::from_millis(after) + patience, "{since:?}");
        }
        let (anchor, time) = ANCHOR.get().unwrap();
        assert_eq!(anchor, start + Duration::from_secs(5));
        let Stamp(later) = Stamp::of(anchor + Duration::from_millis(7));
        assert_eq!(later, time + Duration::from_millis(7));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let at = UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(Stamp(at).text(), *text.as_bytes());
        }
    }
}
