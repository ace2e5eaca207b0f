//! What a peer may make a connection do besides carrying messages.
//!
//! HTTP/2 has frames that cost their sender next to nothing and their receiver a little: pings, settings, resets, windows
//! that open by a byte. Each is fine, a flood of them is an attack (CVE-2019-9512 and its siblings, CVE-2023-44487,
//! CVE-2025-8671, VU#421644). A [`Guard`] reads the frame headers that come in and keeps an account: such frames cost
//! credit; time, payload and answered requests earn it. Whoever runs out of it is told to calm down, and let go (RFC 9113
//! section 10.5).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::PREFACE;

/// What a connection may spend at once. A browser that is navigated away resets a hundred streams in one go.
const CREDIT: u32 = 1000;

/// What a second earns: a ping and a window a hundredth of a second are what nobody needs.
const PER_SECOND: u32 = 100;

/// What an answered request earns: a window, and what belongs to a request in other ways.
const PER_ANSWER: u32 = 4;

/// For how many bytes of payload, either way, a frame that is not payload is in order.
const PER_BYTES: u32 = 512;

/// What a reset costs: it has made us open a stream, ask an origin, and give up on both.
const RESET: u32 = 4;

/// How many CONTINUATION frames one header section may take (VU#421644): the sections that we take fit into four frames of
/// the smallest size that a peer may be bound to.
const CONTINUATIONS: u32 = 8;

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flood {
    /// RST_STREAM: streams that are opened to be given up (CVE-2023-44487).
    Reset,
    /// SETTINGS (CVE-2019-9515).
    Settings,
    /// PING (CVE-2019-9512).
    Ping,
    /// CONTINUATION (VU#421644).
    Continuation,
    /// DATA without a byte (CVE-2019-9518).
    Empty,
    /// WINDOW_UPDATE (CVE-2019-9511, CVE-2025-8671).
    Window,
    /// PRIORITY and PRIORITY_UPDATE (CVE-2019-9513).
    Priority,
    /// Frames of no known type.
    Unknown,
    /// What the `h2` crate has noticed: errors on streams that we have to reset (CVE-2025-8671), small DATA frames, header
    /// sections that are far too large.
    Other,
}

impl Flood {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Reset,
        Self::Settings,
        Self::Ping,
        Self::Continuation,
        Self::Empty,
        Self::Window,
        Self::Priority,
        Self::Unknown,
        Self::Other,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Settings => "settings",
            Self::Ping => "ping",
            Self::Continuation => "continuation",
            Self::Empty => "empty",
            Self::Window => "window",
            Self::Priority => "priority",
            Self::Unknown => "unknown",
            Self::Other => "other",
        }
    }

    /// How many connections of this process have been let go for it. Written when that happens, and never else.
    pub fn count(self) -> u64 {
        COUNTS[self as usize].load(Relaxed)
    }

    pub(crate) fn note(self) {
        COUNTS[self as usize].fetch_add(1, Relaxed);
    }
}

static COUNTS: [AtomicU64; Flood::ALL.len()] = [const { AtomicU64::new(0) }; Flood::ALL.len()];

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a flood of HTTP/2 frames ({})", self.name())
    }
}

impl std::error::Error for Flood {}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// RFC 9218 section 7.1.
const PRIORITY_UPDATE: u8 = 16;

/// END_STREAM of DATA, ACK of SETTINGS and PING.
const FLAG_ONE: u8 = 1;

const HEADER: usize = 9;

/// Reads the frame headers in the bytes that come in.
#[derive(Debug)]
pub(crate) struct Guard {
    /// How much of the preface is still to come.
    preface: usize,
    /// A frame header that has come in part.
    header: [u8; HEADER],
    known: usize,
    /// How much is left of the frame that came last.
    payload: usize,
    continuations: u32,
    credit: u32,
    /// Bytes that have earned nothing yet.
    bytes: u32,
    since: Instant,
    flood: Option<Flood>,
}

impl Guard {
    /// A guard on what a client sends, preface first.
    pub(crate) fn of_client(now: Instant) -> Self {
        Self {
            preface: PREFACE.len(),
            ..Self::of_server(now)
        }
    }

    /// A guard on what a server sends.
    pub(crate) fn of_server(now: Instant) -> Self {
        Self {
            preface: 0,
            header: [0; HEADER],
            known: 0,
            payload: 0,
            continuations: 0,
            credit: CREDIT,
            bytes: 0,
            since: now,
            flood: None,
        }
    }

    /// Looks at bytes that have come in.
    pub(crate) fn look(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) {
        while !bytes.is_empty() {
            let skip = self.preface.max(self.payload).min(bytes.len());
            if skip > 0 {
                self.preface = self.preface.saturating_sub(skip);
                self.payload = self.payload.saturating_sub(skip);
                bytes = &bytes[skip..];
                continue;
            }
            let n = (HEADER - self.known).min(bytes.len());
            self.header[self.known..self.known + n].copy_from_slice(&bytes[..n]);
            self.known += n;
            bytes = &bytes[n..];
            if self.known == HEADER {
                self.known = 0;
                self.judge(&now);
            }
        }
    }

    /// Bytes of ours have gone out, payload for the most part.
    pub(crate) fn sent(&mut self, n: usize) {
        self.earn_by_bytes(n);
    }

    /// A request has been answered.
    pub(crate) fn answered(&mut self) {
        self.earn(PER_ANSWER);
    }

    /// What the peer has overdone, if it has.
    pub(crate) fn flood(&self) -> Option<Flood> {
        self.flood
    }

    fn judge(&mut self, now: &impl Fn() -> Instant) {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        self.payload = length;
        if kind == CONTINUATION {
            self.continuations += 1;
            if self.continuations > CONTINUATIONS {
                self.flood.get_or_insert(Flood::Continuation);
            }
            return;
        }
        self.continuations = 0;
        let acked = flags & FLAG_ONE != 0;
        match kind {
            DATA if length > 0 => self.earn_by_bytes(length),
            SETTINGS | PING if acked => {}
            // What they begin is bounded by the number of streams; what they end with is earned by the answer.
            DATA if acked => {}
            HEADERS | PUSH_PROMISE | GOAWAY => {}
            DATA => self.spend(1, Flood::Empty, now),
            SETTINGS => self.spend(RESET, Flood::Settings, now),
            PING => self.spend(1, Flood::Ping, now),
            RST_STREAM => self.spend(RESET, Flood::Reset, now),
            WINDOW_UPDATE => self.spend(1, Flood::Window, now),
            PRIORITY | PRIORITY_UPDATE => self.spend(1, Flood::Priority, now),
            _ => self.spend(1, Flood::Unknown, now),
        }
    }

    fn earn_by_bytes(&mut self, n: usize) {
        let bytes = u64::from(self.bytes) + n as u64;
        self.bytes = (bytes % u64::from(PER_BYTES)) as u32;
        self.earn(u32::try_from(bytes / u64::from(PER_BYTES)).unwrap_or(CREDIT));
    }

    fn earn(&mut self, n: u32) {
        self.credit = self.credit.saturating_add(n).min(CREDIT);
    }

    fn spend(&mut self, cost: u32, flood: Flood, now: &impl Fn() -> Instant) {
        if self.credit < CREDIT / 2 {
            // Time is asked for only where it may matter.
            let now = now();
            let millis = now.saturating_duration_since(self.since).as_millis();
            let earned = u32::try_from(millis * u128::from(PER_SECOND) / 1000).unwrap_or(CREDIT);
            if earned > 0 {
                self.since = now;
                self.earn(earned);
            }
        }
        match self.credit.checked_sub(cost) {
            Some(credit) => self.credit = credit,
            None => {
                self.flood.get_or_insert(flood);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = (payload as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEADER + payload, 0xff);
        frame
    }

    fn guard() -> (Guard, Instant) {
        let start = Instant::now();
        (Guard::of_client(start), start)
    }

    /// How many of `frame` it takes within a moment, up to `most`.
    fn takes(frame: &[u8], most: usize) -> (usize, Option<Flood>) {
        let (mut guard, start) = guard();
        guard.look(PREFACE, || start);
        for n in 0..most {
            guard.look(frame, || start);
            if guard.flood().is_some() {
                return (n, guard.flood());
            }
        }
        (most, None)
    }

    #[test]
    fn floods_are_told_from_each_other_and_from_work() {
        for (kind, flags, payload, flood, n) in [
            (PING, 0, 8, Flood::Ping, 1000),
            (SETTINGS, 0, 6, Flood::Settings, 250),
            (RST_STREAM, 0, 4, Flood::Reset, 250),
            (WINDOW_UPDATE, 0, 4, Flood::Window, 1000),
            (PRIORITY, 0, 5, Flood::Priority, 1000),
            (PRIORITY_UPDATE, 0, 9, Flood::Priority, 1000),
            (DATA, 0, 0, Flood::Empty, 1000),
            (0xbe, 0, 100, Flood::Unknown, 1000),
            (CONTINUATION, 0, 1, Flood::Continuation, 8),
        ] {
            let frame = frame(kind, flags, payload);
            assert_eq!(takes(&frame, 5000), (n, Some(flood)), "{flood:?}");
        }
        for (kind, flags, payload) in [
            (PING, FLAG_ONE, 8),
            (SETTINGS, FLAG_ONE, 0),
            (DATA, 0, 1),
            (DATA, FLAG_ONE, 0),
            (HEADERS, 5, 30),
        ] {
            assert_eq!(takes(&frame(kind, flags, payload), 5000), (5000, None));
        }
    }

    #[test]
    fn time_payload_and_answers_earn_credit() {
        let (mut guard, start) = guard();
        guard.look(PREFACE, || start);
        // A ping each 10 ms for a minute.
        for n in 0..6000 {
            guard.look(&frame(PING, 0, 8), || start + Duration::from_millis(10) * n);
        }
        assert_eq!(guard.flood(), None);
        let (mut guard, start) = self::guard();
        guard.look(PREFACE, || start);
        // A window for each KiB that we send.
        for _ in 0..100_000 {
            guard.sent(1024);
            guard.look(&frame(WINDOW_UPDATE, 0, 4), || start);
        }
        assert_eq!(guard.flood(), None);
        // One stream in two is given up.
        for _ in 0..10_000 {
            guard.answered();
            guard.look(&frame(RST_STREAM, 0, 4), || start);
        }
        assert_eq!(guard.flood(), None);
    }

    #[test]
    fn how_the_bytes_are_cut_does_not_matter() {
        let mut bytes = PREFACE.to_vec();
        for _ in 0..251 {
            bytes.extend(frame(HEADERS, 5, 30));
            bytes.extend(frame(RST_STREAM, 0, 4));
        }
        for cut in [1, 2, 3, 5, 8, 9, 10, 13, 64, bytes.len()] {
            let (mut guard, start) = guard();
            for part in bytes.chunks(cut) {
                guard.look(part, || start);
            }
            assert_eq!(guard.flood(), Some(Flood::Reset), "{cut}");
        }
    }
}
