//! What a request is, worked out from its number by both ends alike.

use std::fmt;

use oxy_benches::pattern;

/// The longest body.
const SIZE_MAX: u64 = 256 << 10;

/// One body in so many is empty.
const EMPTY_EVERY: u64 = 10;

/// Of a thousand requests, so many are given up by the client halfway.
const GIVEN_UP: u64 = 5;

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunked,
    /// By the end of the connection; for responses only.
    Close,
}

/// A body: the bytes that both ends know, and how they are sent.
#[derive(Clone, Copy)]
pub(crate) struct Content {
    pub(crate) framing: Framing,
    pub(crate) bytes: &'static [u8],
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} bytes", self.framing, self.bytes.len())
    }
}

/// When the origin answers an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Once it has all of it.
    After,
    /// Before it has read any of it.
    Early,
}

/// Where the origin resets the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    /// Before a byte of the response, having read so many parts in 256 of the upload.
    BeforeHead(u64),
    /// Within the response's head.
    MidHead,
    /// After so many parts in 256 of the response's body.
    MidBody(u64),
    /// After the whole exchange, when the proxy has the connection in its pool.
    Idle,
}

/// A request, and what the origin does with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// `None` is a GET.
    pub(crate) upload: Option<Content>,
    pub(crate) answer: Answer,
    pub(crate) response: Content,
    pub(crate) reset: Option<Reset>,
    /// After how many milliseconds the client gives up, if it does.
    pub(crate) gives_up: Option<u64>,
}

impl Plan {
    /// That of request `id`, if the origin resets so many requests in a hundred.
    pub(crate) fn of(id: u64, reset_percent: f64) -> Self {
        let mut draw = Draw::new(id);
        let size = draw.size();
        let shift = pattern::shift_of(draw.next());
        let bytes = pattern::body(size, shift).unwrap_or_default();
        let upload = draw.one_in(2).then(|| Content {
            framing: draw.framing(false),
            bytes,
        });
        let answer = if upload.is_some() && draw.one_in(8) {
            Answer::Early
        } else {
            Answer::After
        };
        let response = Content {
            framing: draw.framing(answer == Answer::After),
            bytes,
        };
        let resets = (draw.below(1_000_000) as f64) < reset_percent * 1e4;
        let part = draw.below(256);
        let reset = match draw.below(4) {
            _ if !resets => None,
            0 => Some(Reset::BeforeHead(part)),
            1 => Some(Reset::MidHead),
            2 => Some(Reset::MidBody(part)),
            _ => Some(Reset::Idle),
        };
        let gives_up = (draw.below(1000) < GIVEN_UP).then(|| draw.below(30));
        Self {
            upload,
            answer,
            response,
            reset,
            gives_up,
        }
    }
}

/// Pseudo-random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    /// A series of its own for each `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (splitmix64, whose neighbouring seeds have nothing in common).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Small ones are as likely as large ones, by powers of two.
    fn size(&mut self) -> usize {
        if self.one_in(EMPTY_EVERY) {
            return 0;
        }
        let power = self.below(u64::from(SIZE_MAX.ilog2()) + 1);
        let size = (1 << power) + self.below(1 << power);
        size.min(SIZE_MAX) as usize
    }

    fn framing(&mut self, may_close: bool) -> Framing {
        match self.below(16) {
            0 if may_close => Framing::Close,
            0..8 => Framing::Length,
            _ => Framing::Chunked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_draw_the_same_and_all_kinds_come_up() {
        let plans: Vec<_> = (0..100_000).map(|id| Plan::of(id, 1.0)).collect();
        let again = Plan::of(77, 1.0);
        assert_eq!(plans[77].response.bytes, again.response.bytes);
        assert_eq!(plans[77].reset, again.reset);
        let resets = plans.iter().filter(|plan| plan.reset.is_some()).count();
        assert!((800..1200).contains(&resets), "{resets}");
        let empty = plans.iter().filter(|plan| plan.response.bytes.is_empty());
        assert!(empty.count() > 8000);
        let longest = plans.iter().map(|plan| plan.response.bytes.len()).max();
        assert_eq!(longest, Some(256 << 10));
        for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
            assert!(plans.iter().any(|plan| plan.response.framing == framing));
        }
        assert!(plans.iter().any(|plan| plan.answer == Answer::Early));
    }
}
