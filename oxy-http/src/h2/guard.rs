//! What a peer may make a connection do besides carrying messages.
//!
//! HTTP/2 has frames that cost their sender next to nothing and their receiver a little: pings, settings, resets, windows
//! that open by a byte. Each is fine, a flood of them is an attack (CVE-2019-9512 and its siblings, CVE-2023-44487,
//! CVE-2025-8671, VU#421644). A [`Guard`] reads the frames that come in before the `h2` crate does, and the headers of those
//! that go out, and keeps two accounts: one of control frames, one of streams that were opened for nothing. Time earns
//! credit on both, and so does the work that gives a reason for such frames. Whoever runs out of it is told to calm down,
//! and let go (RFC 9113 section 10.5). Who breaks the [`Rules`] is told so, and let go as well.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use ::h2::Reason;

use super::PREFACE;
use super::frame::{
    CONTINUATION, DATA, FLAG_ONE, GOAWAY, HEADERS, Head, PING, PRIORITY, PRIORITY_UPDATE,
    PUSH_PROMISE, RST_STREAM, SETTINGS, Seen, WINDOW_UPDATE, Walker,
};
use super::rules::{MAX_FRAME, Rules};
use crate::options::HttpOptions;

/// How many control frames may come at once: a browser that loads a page sends a few per request, and none has more than a
/// hundred requests under way. At some 100 ns each, all of them take a tenth of a millisecond.
const CONTROL: u32 = 1000;

/// How many control frames a second are nobody's business: gRPC's keep-alive is a ping in ten seconds, and a tunnel that
/// is fed in small pieces still gets along on what our own frames earn. Ten thousand connections that send all they may are
/// 1,000,000 frames a second, or a tenth of a core.
const CONTROL_PER_SECOND: u32 = 100;

/// What a message that has gone out whole earns: its two windows, a ping, and a change of its priority.
const PER_MESSAGE: u32 = 4;

/// What a DATA frame that has gone out earns: clients there are that open both windows for each, however little it
/// carries, and gRPC's clients measure the path with a ping when data comes.
const PER_DATA: u32 = 3;

/// For how many octets of payload that has gone out a control frame is in order: a client that opens both windows for each
/// KiB that it reads.
const PER_BYTES: u32 = 512;

/// What settings cost, and a goodbye: the `h2` crate goes through all streams for either. No client changes its settings
/// twenty times a second.
const COSTLY: u32 = 4;

/// What DATA costs that carries nothing and ends nothing. A few clients flush with it; the `h2` crate takes a hundred in a
/// connection's life.
const EMPTY: u32 = 10;

/// How many streams may be given up at once: all that may be open, twice over, because a browser that is navigated away
/// twice does that; but not fewer than this.
const RESETS: u32 = 256;

/// How many streams may be given up a second by a client that has nothing answered. Each may have cost an origin a request;
/// a person who types in a search box resets one per key.
const RESETS_PER_SECOND: u32 = 25;

/// What a stream costs that we have to reset for the client's fault (CVE-2025-8671): twice one that it resets itself, so
/// that an error page of ours does not pay for it.
const PROVOKED: u32 = 2;

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flood {
    /// `RST_STREAM`: streams that are opened to be given up (CVE-2023-44487).
    Reset,
    /// SETTINGS (CVE-2019-9515).
    Settings,
    /// PING (CVE-2019-9512).
    Ping,
    /// CONTINUATION (VU#421644).
    Continuation,
    /// DATA without a byte (CVE-2019-9518).
    Empty,
    /// `WINDOW_UPDATE` (CVE-2019-9511).
    Window,
    /// PRIORITY and `PRIORITY_UPDATE` (CVE-2019-9513).
    Priority,
    /// Frames of no known type.
    Unknown,
    /// What the `h2` crate has noticed: small DATA frames, header sections that are far too large.
    Other,
    /// Streams that we have to reset for the client's fault: malformed requests, more streams than are allowed
    /// (CVE-2025-8671).
    Provoked,
    /// GOAWAY.
    Goaway,
}

impl Flood {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Reset,
        Self::Settings,
        Self::Ping,
        Self::Continuation,
        Self::Empty,
        Self::Window,
        Self::Priority,
        Self::Unknown,
        Self::Other,
        Self::Provoked,
        Self::Goaway,
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
            Self::Provoked => "provoked",
            Self::Goaway => "goaway",
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

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Flood(Flood),
    Violation(Reason),
}

impl Verdict {
    /// What the peer is told.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Flood(_) => Reason::ENHANCE_YOUR_CALM,
            Self::Violation(reason) => reason,
        }
    }
}

/// Reads the frames of a connection.
#[derive(Debug)]
pub(crate) struct Guard {
    inbound: Walker,
    outbound: Walker,
    rules: Rules,
    /// How many CONTINUATION frames this header section has, and how many it may have.
    continuations: u32,
    most_continuations: u32,
    /// The largest header section that is taken.
    largest: usize,
    control: Account,
    resets: Account,
    /// Octets that have gone out and earned nothing yet.
    bytes: u32,
    verdict: Option<Verdict>,
}

impl Guard {
    /// A guard on what a client sends, preface first.
    pub(crate) fn of_client(options: &HttpOptions, now: Instant) -> Self {
        let inbound = Walker::after(PREFACE.len());
        Self::new(inbound, Walker::default(), Rules::of_client(), options, now)
    }

    /// A guard on what a server sends.
    pub(crate) fn of_server(options: &HttpOptions, now: Instant) -> Self {
        let outbound = Walker::after(PREFACE.len());
        let inbound = Walker::default();
        Self::new(inbound, outbound, Rules::of_server(), options, now)
    }

    fn new(
        inbound: Walker,
        outbound: Walker,
        rules: Rules,
        options: &HttpOptions,
        now: Instant,
    ) -> Self {
        let resets = resets(options.http2.max_streams);
        Self {
            inbound,
            outbound,
            rules,
            continuations: 0,
            most_continuations: continuations(options.head.max_head),
            largest: options.head.max_head,
            control: Account::new(CONTROL, CONTROL_PER_SECOND, now),
            resets: Account::new(resets, RESETS_PER_SECOND, now),
            bytes: 0,
            verdict: None,
        }
    }

    /// Looks at bytes that have come in, and tells how many of them may be passed on. It is all of them, or so few that
    /// the frame which the peer is to be let go for is not whole.
    pub(crate) fn look(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.verdict.is_none() {
            let (n, seen) = self.inbound.step(&bytes[at..]);
            at += n;
            let judged = match seen {
                Seen::Nothing => Ok(()),
                Seen::Head(head) => {
                    self.inbound.want(Rules::wanted(&head));
                    let judged = self.head(&head, &now);
                    if judged.is_ok() && head.length == 0 {
                        self.payload(&head, &[], &now)
                    } else {
                        judged
                    }
                }
                Seen::Payload(head, payload) => self.payload(&head, &payload, &now),
            };
            if let Err(verdict) = judged {
                self.verdict = Some(verdict);
                at -= 1;
            }
        }
        if self.verdict.is_none() {
            bytes.len()
        } else {
            at
        }
    }

    /// Looks at bytes that have gone out.
    pub(crate) fn sent(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) {
        while !bytes.is_empty() {
            let (n, seen) = self.outbound.step(bytes);
            bytes = &bytes[n..];
            match seen {
                Seen::Nothing => {}
                Seen::Head(head) => {
                    self.outbound
                        .want(if head.kind == RST_STREAM { 4 } else { 0 });
                    self.earn(&head);
                }
                Seen::Payload(_, code) => {
                    if is_their_fault(&code) && self.resets.spend(PROVOKED, now()).is_err() {
                        let flood = Verdict::Flood(Flood::Provoked);
                        self.verdict.get_or_insert(flood);
                    }
                }
            }
        }
    }

    /// What the peer is to be let go for, if it is.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Which header section of the connection is being read, if one is: it has begun and not ended.
    pub(crate) fn section(&self) -> Option<u32> {
        self.rules.block()
    }

    /// Whether what has gone out ends with a frame's end.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.outbound.is_between_frames()
    }

    fn rule(&mut self, judge: impl FnOnce(&mut Rules) -> Result<(), Reason>) -> Judged {
        judge(&mut self.rules).map_err(Verdict::Violation)
    }

    fn head(&mut self, head: &Head, now: &impl Fn() -> Instant) -> Judged {
        self.rule(|rules| rules.head(head))?;
        if head.kind == CONTINUATION {
            self.continuations += 1;
            if self.continuations > self.most_continuations {
                return Err(Verdict::Flood(Flood::Continuation));
            }
            return Ok(());
        }
        self.continuations = 0;
        let (cost, flood) = match head.kind {
            // What they begin is bounded by the number of streams, and what is acknowledged by what we have asked; of data
            // the `h2` crate keeps an account.
            DATA if head.length > 0 || head.has(FLAG_ONE) => return Ok(()),
            SETTINGS if head.has(FLAG_ONE) => return Ok(()),
            HEADERS | PUSH_PROMISE => return Ok(()),
            RST_STREAM => {
                let paid = self.resets.spend(1, now());
                return paid.map_err(|Spent| Verdict::Flood(Flood::Reset));
            }
            DATA => (EMPTY, Flood::Empty),
            SETTINGS => (COSTLY, Flood::Settings),
            GOAWAY => (COSTLY, Flood::Goaway),
            PING => (1, Flood::Ping),
            WINDOW_UPDATE => (1, Flood::Window),
            PRIORITY | PRIORITY_UPDATE => (1, Flood::Priority),
            _ => (1, Flood::Unknown),
        };
        self.pay(cost, flood, now)
    }

    fn pay(&mut self, cost: u32, flood: Flood, now: &impl Fn() -> Instant) -> Judged {
        // Time is asked for only where it may matter.
        let paid = if self.control.is_low() {
            self.control.spend(cost, now())
        } else {
            self.control.pay(cost)
        };
        paid.map_err(|Spent| Verdict::Flood(flood))
    }

    fn payload(&mut self, head: &Head, payload: &[u8], now: &impl Fn() -> Instant) -> Judged {
        self.rule(|rules| rules.payload(head, payload))?;
        // It is answered with 431 at best, after it has been decompressed for nothing: a block can be a thousandth of it.
        if self.rules.size(head) > self.largest {
            let paid = self.resets.spend(PROVOKED, now());
            paid.map_err(|Spent| Verdict::Flood(Flood::Provoked))?;
        }
        match payload {
            [padding, ..]
                if head.kind == DATA
                    && usize::from(*padding) + 1 == head.length
                    && !head.has(FLAG_ONE) =>
            {
                self.pay(EMPTY, Flood::Empty, now)
            }
            _ => Ok(()),
        }
    }

    fn earn(&mut self, sent: &Head) {
        let mut earned = 0;
        if sent.kind == DATA && sent.length > 0 {
            let bytes = u64::from(self.bytes) + sent.length as u64;
            self.bytes = (bytes % u64::from(PER_BYTES)) as u32;
            earned += PER_DATA + u32::try_from(bytes / u64::from(PER_BYTES)).unwrap_or(CONTROL);
        }
        // A response to a client, a request to a server.
        if matches!(sent.kind, DATA | HEADERS) && sent.has(FLAG_ONE) {
            earned += PER_MESSAGE;
            self.resets.earn(1);
        }
        if earned > 0 {
            self.control.earn(earned);
        }
    }
}

type Judged = Result<(), Verdict>;

/// Whether a stream is reset for something that the peer has done.
fn is_their_fault(code: &[u8]) -> bool {
    let Ok(code) = code.try_into().map(u32::from_be_bytes) else {
        return false;
    };
    matches!(
        Reason::from(code),
        Reason::PROTOCOL_ERROR
            | Reason::FLOW_CONTROL_ERROR
            | Reason::STREAM_CLOSED
            | Reason::FRAME_SIZE_ERROR
            | Reason::REFUSED_STREAM
            | Reason::ENHANCE_YOUR_CALM
    )
}

/// How many streams a client that may have `streams` open may give up at once.
pub(crate) fn resets(streams: u32) -> u32 {
    streams.saturating_mul(2).max(RESETS)
}

/// How many CONTINUATION frames a header section may take (VU#421644) of which `most` octets are taken: what it takes in
/// frames of the largest size that is always allowed, a quarter more, and no fewer than five. It is what the `h2` crate
/// takes, which does not count it.
fn continuations(most: usize) -> u32 {
    let least = most / MAX_FRAME;
    u32::try_from(least + least / 4).unwrap_or(u32::MAX).max(5)
}

/// Credit that is spent by frames and earned by time and work.
#[derive(Debug)]
struct Account {
    credit: u32,
    most: u32,
    per_second: u32,
    since: Instant,
}

/// The credit does not suffice.
#[derive(Debug, PartialEq, Eq)]
struct Spent;

impl Account {
    fn new(most: u32, per_second: u32, since: Instant) -> Self {
        Self {
            credit: most,
            most,
            per_second,
            since,
        }
    }

    fn is_low(&self) -> bool {
        self.credit < self.most / 2
    }

    fn earn(&mut self, n: u32) {
        self.credit = self.credit.saturating_add(n).min(self.most);
    }

    /// Spends, after what time has earned.
    fn spend(&mut self, cost: u32, now: Instant) -> Result<(), Spent> {
        let millis = now.saturating_duration_since(self.since).as_millis();
        let earned = millis * u128::from(self.per_second) / 1000;
        if earned > 0 {
            self.since = now;
            self.earn(u32::try_from(earned).unwrap_or(self.most));
        }
        self.pay(cost)
    }

    fn pay(&mut self, cost: u32) -> Result<(), Spent> {
        self.credit = self.credit.checked_sub(cost).ok_or(Spent)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use super::super::frame::{END_HEADERS, HEADER, PADDED};

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// A guard that has seen a client's preface, settings and first request.
    fn guard() -> (Guard, Instant) {
        let start = Instant::now();
        let mut guard = Guard::of_client(&HttpOptions::default(), start);
        let hello = [
            PREFACE.to_vec(),
            frame(SETTINGS, 0, 0, &[]),
            frame(HEADERS, END_HEADERS, 1, &[0x82]),
        ];
        for part in &hello {
            assert_eq!(guard.look(part, || start), part.len());
        }
        (guard, start)
    }

    /// How many of `frame` it takes within a moment, up to `most`.
    fn takes(frame: &[u8], most: usize) -> (usize, Option<Verdict>) {
        let (mut guard, start) = guard();
        // The settings of the greeting have been paid for.
        guard.control.earn(COSTLY);
        for n in 0..most {
            if guard.look(frame, || start) < frame.len() {
                return (n, guard.verdict());
            }
        }
        (most, guard.verdict())
    }

    #[test]
    fn floods_are_told_from_each_other_and_from_work() {
        let one = 1_u32.to_be_bytes();
        for (kind, flags, stream, payload, flood, n) in [
            (PING, 0, 0, [0; 8].as_slice(), Flood::Ping, 1000),
            (PING, FLAG_ONE, 0, &[0; 8], Flood::Ping, 1000),
            (SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0], Flood::Settings, 250),
            (RST_STREAM, 0, 1, &one, Flood::Reset, 256),
            (WINDOW_UPDATE, 0, 0, &one, Flood::Window, 1000),
            (PRIORITY, 0, 1, &[0; 5], Flood::Priority, 1000),
            (PRIORITY_UPDATE, 0, 0, &one, Flood::Priority, 1000),
            (DATA, 0, 1, &[], Flood::Empty, 100),
            (DATA, PADDED, 1, &[3, 0, 0, 0], Flood::Empty, 100),
            (0xbe, 0, 1, &[0; 100], Flood::Unknown, 1000),
            (GOAWAY, 0, 0, &[0; 8], Flood::Goaway, 250),
        ] {
            let (taken, verdict) = takes(&frame(kind, flags, stream, payload), 5000);
            assert_eq!(verdict, Some(Verdict::Flood(flood)));
            assert_eq!(taken, n, "{flood:?}");
        }
        for (kind, flags, payload) in [(SETTINGS, FLAG_ONE, [].as_slice()), (DATA, 0, b"1")] {
            let stream = u32::from(kind == DATA);
            let frame = frame(kind, flags, stream, payload);
            assert_eq!(takes(&frame, 5000), (5000, None));
        }
    }

    #[test]
    fn sections_in_many_frames_are_a_flood() {
        let (mut guard, start) = guard();
        guard.look(&frame(HEADERS, 0, 3, &[]), || start);
        assert_eq!(guard.section(), Some(2));
        for _ in 0..5 {
            guard.look(&frame(CONTINUATION, 0, 3, &[0x82]), || start);
        }
        assert_eq!(guard.verdict(), None);
        guard.look(&frame(CONTINUATION, 4, 3, &[]), || start);
        let flood = Verdict::Flood(Flood::Continuation);
        assert_eq!(guard.verdict(), Some(flood));
    }

    #[test]
    fn time_and_work_earn_credit() {
        let (mut guard, start) = guard();
        // A ping each 10 ms for a minute.
        for n in 0..6000 {
            guard.look(&frame(PING, 0, 0, &[0; 8]), || {
                start + Duration::from_millis(10) * n
            });
        }
        assert_eq!(guard.verdict(), None);
        let (mut guard, start) = self::guard();
        // Both windows and a ping for each small message of ours, or a window for each KiB.
        for n in 0..100_000 {
            let update = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
            let (length, windows) = if n % 2 == 0 { (5, 2) } else { (16_000, 16) };
            guard.sent(&frame(DATA, 0, 1, &vec![0; length]), || start);
            for _ in 0..windows {
                guard.look(&update, || start);
            }
            guard.look(&frame(PING, 0, 0, &[0; 8]), || start);
        }
        assert_eq!(guard.verdict(), None);
        // One request in two is given up.
        for n in 1..10_000 {
            guard.look(&frame(HEADERS, 5, 4 * n + 1, &[0x82]), || start);
            guard.look(&frame(HEADERS, 4, 4 * n + 3, &[0x82]), || start);
            guard.sent(&frame(HEADERS, 5, 4 * n + 1, &[0x88]), || start);
            guard.look(&frame(RST_STREAM, 0, 4 * n + 3, &[0, 0, 0, 8]), || start);
        }
        assert_eq!(guard.verdict(), None);
    }

    #[test]
    fn what_is_uploaded_does_not_pay_for_resets() {
        let (mut guard, start) = guard();
        for n in 1..300 {
            guard.look(&frame(HEADERS, 4, 2 * n + 1, &[0x82]), || start);
            guard.look(&frame(DATA, 0, 2 * n + 1, &[0; 16_384]), || start);
            guard.look(&frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]), || start);
        }
        let flood = Verdict::Flood(Flood::Reset);
        assert_eq!(guard.verdict(), Some(flood));
    }

    #[test]
    fn resets_that_were_provoked_are_a_flood() {
        let (mut guard, start) = guard();
        let mut n = 0;
        while guard.verdict().is_none() {
            n += 1;
            // Each with a page that says what is wrong.
            guard.sent(&frame(HEADERS, 5, 1, &[0x88]), || start);
            guard.sent(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 1]), || start);
        }
        assert_eq!(n, 256);
        assert_eq!(guard.verdict(), Some(Verdict::Flood(Flood::Provoked)));
        let (mut guard, start) = self::guard();
        for _ in 0..1000 {
            // An origin of ours has failed.
            guard.sent(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 2]), || start);
        }
        assert_eq!(guard.verdict(), None);
    }

    #[test]
    fn sections_that_are_too_large_are_a_flood() {
        let (mut guard, start) = guard();
        let entry = [&[0x40, 1, b'b', 0x7f, 0xa1, 0x1e][..], &[b'b'; 4000]].concat();
        for n in 1..=RESETS {
            assert_eq!(guard.verdict(), None);
            let block = [&entry[..], &[0xbe; 20]].concat();
            guard.look(&frame(HEADERS, 5, 2 * n + 1, &block), || start);
            // 431
            guard.sent(&frame(HEADERS, 5, 2 * n + 1, &[0x88]), || start);
        }
        assert_eq!(guard.verdict(), Some(Verdict::Flood(Flood::Provoked)));
    }

    #[test]
    fn what_is_wrong_is_not_passed_on_wherever_it_is_cut() {
        let hello = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        for (wrong, reason, header) in [
            (frame(PING, 0, 0, &[0; 7]), Reason::FRAME_SIZE_ERROR, true),
            (frame(DATA, 0, 1, b"x"), Reason::PROTOCOL_ERROR, true),
            (
                frame(HEADERS, 5, 1, &[0x82, 0xff, 0x80]),
                Reason::COMPRESSION_ERROR,
                false,
            ),
            (
                frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
                Reason::FLOW_CONTROL_ERROR,
                false,
            ),
            (
                frame(WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 0]),
                Reason::PROTOCOL_ERROR,
                false,
            ),
        ] {
            let all = [hello.clone(), wrong.clone(), frame(PING, 0, 0, &[0; 8])].concat();
            let whole = if header { HEADER } else { wrong.len() };
            for cut in 1..=all.len() {
                let now = Instant::now();
                let mut guard = Guard::of_client(&HttpOptions::default(), now);
                let mut passed = 0;
                for part in all.chunks(cut) {
                    let n = guard.look(part, || now);
                    passed += n;
                    if n < part.len() {
                        break;
                    }
                }
                assert_eq!(guard.verdict(), Some(Verdict::Violation(reason)));
                assert_eq!(passed, hello.len() + whole - 1, "{reason:?} at {cut}");
            }
        }
    }
}
