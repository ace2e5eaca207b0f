//! Happy Eyeballs version 2 (RFC 8305): the race between the addresses of a name.
//!
//! It opens no socket itself but calls what it is given, so that its timing is tested on a virtual clock.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The times of the race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "settings",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct Pace {
    /// How long IPv4 addresses wait for the IPv6 ones, which have not been answered yet. Default: 50 ms (RFC 8305
    /// section 8, "Resolution Delay").
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub resolution_delay: Duration,
    /// How long an attempt is alone before the next one is started. Default: 250 ms; taken to be at least 100 ms,
    /// below which a handshake across an ocean would always cost a second connection, and at most 2 s (RFC 8305
    /// section 8, "Connection Attempt Delay").
    #[cfg_attr(feature = "settings", serde(with = "crate::settings::Span"))]
    pub attempt_delay: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            resolution_delay: Duration::from_millis(50),
            attempt_delay: Duration::from_millis(250),
        }
    }
}

/// The recommended bounds of RFC 8305 section 8.
const ATTEMPT_DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How many addresses of a family are tried: whoever owns a zone must not make one request into a thousand
/// connections, and at 250 ms each no time limit leaves room for more.
const FAMILY_MAX: usize = 8;
/// How long an address that failed is tried last: a broken path then costs one attempt's delay a minute.
const GRUDGE: Duration = Duration::from_secs(60);
/// How many such addresses are remembered, about 64 KiB.
const GRUDGES_MAX: usize = 1024;

/// Which addresses have lately failed, or were slower than the next attempt; they are tried after the others.
///
/// A clone is another handle to the same memory. It is a hint, so it forgets everything when it is full.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<HashMap<SocketAddr, Instant>>>);

impl Memory {
    fn is_bad(&self, addr: SocketAddr) -> bool {
        self.lock()
            .get(&addr)
            .is_some_and(|until| *until > Instant::now())
    }

    fn bad(&self, addr: SocketAddr) {
        let mut map = self.lock();
        if map.len() >= GRUDGES_MAX {
            let now = Instant::now();
            map.retain(|_, until| *until > now);
            if map.len() >= GRUDGES_MAX {
                map.clear();
            }
        }
        map.insert(addr, Instant::now() + GRUDGE);
    }

    fn good(&self, addr: SocketAddr) {
        self.lock().remove(&addr);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Races connections to what `six` and `four` resolve to, and returns the first that is there, and to where.
///
/// IPv6 goes first, then the families take turns ("First Address Family Count" 1); within one the order is that of
/// the answer, but for what [`Memory`] holds against an address. The next attempt starts when the last one has been
/// alone for a while or has failed. An answer that comes late joins in. There is no time limit on the whole.
///
/// Cancel safe: dropping it drops all attempts, as winning drops all others.
///
/// # Errors
///
/// The most telling of the attempts' errors, or `None` when there was no address to try.
pub async fn race<T, F>(
    six: impl Future<Output = Vec<SocketAddr>>,
    four: impl Future<Output = Vec<SocketAddr>>,
    pace: Pace,
    memory: &Memory,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(T, SocketAddr), Option<io::Error>>
where
    F: Future<Output = io::Result<T>>,
{
    let mut six = pin!(six);
    let mut four = pin!(four);
    let (mut six_open, mut four_open) = (true, true);
    let mut timer = pin!(sleep_until(Instant::now()));
    let mut queue = Queue::default();
    let mut error = None;
    // When the next attempt may start. Without one so far, that is when IPv4 has waited long enough.
    let mut next_at = None;
    let attempt_delay = pace.attempt_delay.clamp(ATTEMPT_DELAY.0, ATTEMPT_DELAY.1);
    let mut attempts: Attempts<'_, F> = Attempts {
        running: Vec::new(),
        memory,
        slow: attempt_delay,
    };
    let mut started = false;

    poll_fn(|cx| {
        loop {
            if six_open && let Poll::Ready(addrs) = six.as_mut().poll(cx) {
                six_open = false;
                queue.fill(SIX, addrs, memory);
            }
            if four_open && let Poll::Ready(addrs) = four.as_mut().poll(cx) {
                four_open = false;
                queue.fill(FOUR, addrs, memory);
            }
            let mut at = 0;
            while let Some(attempt) = attempts.running.get_mut(at) {
                match attempt.future.as_mut().poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(connection)) => {
                        let addr = attempts.running.swap_remove(at).addr;
                        memory.good(addr);
                        return Poll::Ready(Ok((connection, addr)));
                    }
                    Poll::Ready(Err(failure)) => {
                        let addr = attempts.running.swap_remove(at).addr;
                        if !is_ours(&failure) {
                            memory.bad(addr);
                        }
                        if error.as_ref().is_none_or(is_vague) {
                            error = Some(failure);
                        }
                        next_at = None;
                    }
                }
            }
            if queue.is_empty() {
                if six_open || four_open || !attempts.running.is_empty() {
                    return Poll::Pending;
                }
                return Poll::Ready(Err(error.take()));
            }
            let now = Instant::now();
            if !started && six_open {
                next_at.get_or_insert(now + pace.resolution_delay);
            } else if !started {
                next_at = None;
            }
            if let Some(at) = next_at
                && at > now
            {
                if timer.deadline() != at {
                    timer.as_mut().reset(at);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            if let Some(addr) = queue.pop() {
                started = true;
                next_at = Some(now + attempt_delay);
                attempts.running.push(Attempt {
                    addr,
                    since: now,
                    future: Box::pin(connect(addr)),
                });
            }
        }
    })
    .await
}

/// An error of this machine, which says nothing about the address.
fn is_ours(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL)
    )
}

/// An error that any other one says more than: that there is no way for the family at all.
fn is_vague(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
    )
}

const SIX: usize = 0;
const FOUR: usize = 1;

/// The addresses that are still to be tried.
#[derive(Default)]
struct Queue {
    families: [VecDeque<(SocketAddr, bool)>; 2],
    /// Whose turn it is: [`SIX`], which is 0, at first.
    turn: usize,
}

impl Queue {
    fn fill(&mut self, family: usize, addrs: Vec<SocketAddr>, memory: &Memory) {
        let queue = &mut self.families[family];
        queue.extend(
            addrs
                .into_iter()
                .take(FAMILY_MAX)
                .map(|addr| (addr, memory.is_bad(addr))),
        );
        // The sort is stable.
        queue.make_contiguous().sort_by_key(|(_, bad)| *bad);
    }

    fn is_empty(&self) -> bool {
        self.families.iter().all(VecDeque::is_empty)
    }

    fn pop(&mut self) -> Option<SocketAddr> {
        let head = |family: usize| self.families[family].front().map(|(_, bad)| *bad);
        let family = match (head(self.turn), head(1 - self.turn)) {
            (None, _) | (Some(true), Some(false)) => 1 - self.turn,
            _ => self.turn,
        };
        self.turn = 1 - family;
        self.families[family].pop_front().map(|(addr, _)| addr)
    }
}

struct Attempt<F> {
    addr: SocketAddr,
    since: Instant,
    future: Pin<Box<F>>,
}

struct Attempts<'a, F> {
    running: Vec<Attempt<F>>,
    memory: &'a Memory,
    slow: Duration,
}

impl<F> Drop for Attempts<'_, F> {
    /// Those that have lost by more than the delay have as good as failed: most likely their packets vanish.
    fn drop(&mut self) {
        let now = Instant::now();
        for attempt in self
            .running
            .iter()
            .filter(|attempt| attempt.since + self.slow <= now)
        {
            self.memory.bad(attempt.addr);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::{pending, ready};

    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn addr(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 443)
    }

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| addr(text)).collect()
    }

    async fn after(ms: u32, addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
        sleep(MS * ms).await;
        addrs
    }

    /// A network where each address answers after a time, and what was tried on it, when.
    struct Net {
        script: Vec<(&'static str, u32, Result<(), i32>)>,
        began: Instant,
        tried: RefCell<Vec<(String, u128)>>,
    }

    impl Net {
        /// Addresses that are not in `script` never answer.
        fn new(script: Vec<(&'static str, u32, Result<(), i32>)>) -> Self {
            Self {
                script,
                began: Instant::now(),
                tried: RefCell::default(),
            }
        }

        async fn connect(&self, to: SocketAddr) -> io::Result<()> {
            let at = self.began.elapsed().as_millis();
            self.tried.borrow_mut().push((to.ip().to_string(), at));
            match self.script.iter().find(|(ip, ..)| addr(ip) == to) {
                None => pending().await,
                Some((_, ms, result)) => {
                    sleep(MS * *ms).await;
                    result.map_err(io::Error::from_raw_os_error)
                }
            }
        }

        fn tried(&self) -> Vec<(String, u128)> {
            self.tried.borrow().clone()
        }

        fn elapsed(&self) -> u128 {
            self.began.elapsed().as_millis()
        }
    }

    fn tries(list: &[(&str, u128)]) -> Vec<(String, u128)> {
        list.iter()
            .map(|(ip, at)| ((*ip).to_owned(), *at))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn six_goes_first_and_wins_when_it_answers() {
        let net = Net::new(vec![("::6", 200, Ok(()))]);
        let (six, four) = (ready(addrs(&["::6"])), ready(addrs(&["1.1.1.1"])));
        let won = race(six, four, Pace::default(), &Memory::default(), |to| {
            net.connect(to)
        })
        .await;
        assert_eq!(won.unwrap().1, addr("::6"));
        assert_eq!(net.tried(), tries(&[("::6", 0)]));
    }

    #[tokio::test(start_paused = true)]
    async fn families_take_turns_one_delay_apart() {
        let net = Net::new(vec![("1.1.1.2", 10, Ok(()))]);
        let (six, four) = (
            ready(addrs(&["::6", "::7", "::8"])),
            ready(addrs(&["1.1.1.1", "1.1.1.2"])),
        );
        let won = race(six, four, Pace::default(), &Memory::default(), |to| {
            net.connect(to)
        })
        .await;
        assert_eq!(won.unwrap().1, addr("1.1.1.2"));
        assert_eq!(
            net.tried(),
            tries(&[("::6", 0), ("1.1.1.1", 250), ("::7", 500), ("1.1.1.2", 750)])
        );
        assert_eq!(net.elapsed(), 760);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_at_once() {
        let net = Net::new(vec![
            ("::6", 30, Err(libc::ECONNREFUSED)),
            ("1.1.1.1", 5, Ok(())),
        ]);
        let (six, four) = (ready(addrs(&["::6"])), ready(addrs(&["1.1.1.1"])));
        race(six, four, Pace::default(), &Memory::default(), |to| {
            net.connect(to)
        })
        .await
        .unwrap();
        assert_eq!(net.tried(), tries(&[("::6", 0), ("1.1.1.1", 30)]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_is_overtaken_may_still_win() {
        let net = Net::new(vec![("::6", 300, Ok(())), ("1.1.1.1", 100, Ok(()))]);
        let (six, four) = (ready(addrs(&["::6"])), ready(addrs(&["1.1.1.1"])));
        let won = race(six, four, Pace::default(), &Memory::default(), |to| {
            net.connect(to)
        })
        .await;
        assert_eq!((won.unwrap().1, net.elapsed()), (addr("::6"), 300));
    }

    #[tokio::test(start_paused = true)]
    async fn four_waits_for_the_resolution_delay_only() {
        let net = Net::new(vec![("1.1.1.1", 10, Ok(()))]);
        let four = after(5, addrs(&["1.1.1.1"]));
        race(pending(), four, Pace::default(), &Memory::default(), |to| {
            net.connect(to)
        })
        .await
        .unwrap();
        assert_eq!(net.tried(), tries(&[("1.1.1.1", 55)]));
    }

    #[tokio::test(start_paused = true)]
    async fn four_does_not_wait_for_a_six_that_is_not_there() {
        let net = Net::new(vec![("1.1.1.1", 10, Ok(()))]);
        let (six, four) = (after(20, Vec::new()), ready(addrs(&["1.1.1.1"])));
        race(six, four, Pace::default(), &Memory::default(), |to| {
            net.connect(to)
        })
        .await
        .unwrap();
        assert_eq!(net.tried(), tries(&[("1.1.1.1", 20)]));
    }

    #[tokio::test(start_paused = true)]
    async fn six_within_the_resolution_delay_goes_first() {
        let net = Net::new(vec![("::6", 10, Ok(()))]);
        let (six, four) = (after(40, addrs(&["::6"])), ready(addrs(&["1.1.1.1"])));
        race(six, four, Pace::default(), &Memory::default(), |to| {
            net.connect(to)
        })
        .await
        .unwrap();
        assert_eq!(net.tried(), tries(&[("::6", 40)]));
    }

    #[tokio::test(start_paused = true)]
    async fn six_does_not_wait_for_four_and_a_late_answer_joins_in() {
        let net = Net::new(vec![("1.1.1.1", 10, Ok(()))]);
        let (six, four) = (ready(addrs(&["::6"])), after(400, addrs(&["1.1.1.1"])));
        race(six, four, Pace::default(), &Memory::default(), |to| {
            net.connect(to)
        })
        .await
        .unwrap();
        assert_eq!(net.tried(), tries(&[("::6", 0), ("1.1.1.1", 400)]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_late_answer_is_awaited_when_all_else_has_failed() {
        let net = Net::new(vec![
            ("::6", 1, Err(libc::ENETUNREACH)),
            ("1.1.1.1", 10, Ok(())),
        ]);
        let (six, four) = (ready(addrs(&["::6"])), after(30, addrs(&["1.1.1.1"])));
        race(six, four, Pace::default(), &Memory::default(), |to| {
            net.connect(to)
        })
        .await
        .unwrap();
        assert_eq!(net.tried(), tries(&[("::6", 0), ("1.1.1.1", 30)]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_most_telling_error_is_reported() {
        let net = Net::new(vec![
            ("::6", 1, Err(libc::ENETUNREACH)),
            ("1.1.1.1", 10, Err(libc::ECONNREFUSED)),
        ]);
        let (six, four) = (ready(addrs(&["::6"])), ready(addrs(&["1.1.1.1"])));
        let lost = race(six, four, Pace::default(), &Memory::default(), |to| {
            net.connect(to)
        })
        .await;
        assert_eq!(
            lost.unwrap_err().unwrap().kind(),
            io::ErrorKind::ConnectionRefused
        );
        let none = race(
            ready(vec![]),
            ready(vec![]),
            Pace::default(),
            &Memory::default(),
            |to| net.connect(to),
        )
        .await;
        assert!(none.unwrap_err().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_is_kept_within_the_bounds_of_the_standard() {
        let net = Net::new(vec![("1.1.1.1", 10, Ok(()))]);
        let pace = Pace {
            attempt_delay: Duration::ZERO,
            ..Pace::default()
        };
        let (six, four) = (ready(addrs(&["::6"])), ready(addrs(&["1.1.1.1"])));
        race(six, four, pace, &Memory::default(), |to| net.connect(to))
            .await
            .unwrap();
        assert_eq!(net.tried(), tries(&[("::6", 0), ("1.1.1.1", 100)]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_or_vanished_is_tried_last_for_a_while() {
        let memory = Memory::default();
        let go = async || {
            let net = Net::new(vec![
                ("1.1.1.1", 0, Err(libc::ECONNREFUSED)),
                ("1.1.1.2", 10, Ok(())),
            ]);
            let (six, four) = (
                ready(addrs(&["::6"])),
                ready(addrs(&["1.1.1.1", "1.1.1.2"])),
            );
            race(six, four, Pace::default(), &memory, |to| net.connect(to))
                .await
                .unwrap();
            net.tried()
        };
        let first = go().await;
        assert_eq!(
            first,
            tries(&[("::6", 0), ("1.1.1.1", 250), ("1.1.1.2", 250)])
        );
        assert_eq!(go().await, tries(&[("1.1.1.2", 0)]));
        advance(GRUDGE).await;
        assert_eq!(go().await, first);
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_errors_are_not_held_against_an_address() {
        let memory = Memory::default();
        let net = Net::new(vec![("1.1.1.1", 0, Err(libc::EMFILE))]);
        race(
            ready(vec![]),
            ready(addrs(&["1.1.1.1"])),
            Pace::default(),
            &memory,
            |to| net.connect(to),
        )
        .await
        .unwrap_err();
        assert!(!memory.is_bad(addr("1.1.1.1")));
    }

    #[tokio::test(start_paused = true)]
    async fn tries_and_memory_are_bounded() {
        let memory = Memory::default();
        let net = Net::new(vec![]);
        let many: Vec<_> = (0..100).map(|n| addr(&format!("1.1.1.{n}"))).collect();
        let run = race(ready(vec![]), ready(many), Pace::default(), &memory, |to| {
            net.connect(to)
        });
        timeout(Duration::from_secs(60), run).await.unwrap_err();
        assert_eq!(net.tried().len(), FAMILY_MAX);
        for n in 0..3000_u32 {
            memory.bad(SocketAddr::new(std::net::Ipv4Addr::from_bits(n).into(), 1));
        }
        assert!(memory.lock().len() <= GRUDGES_MAX);
    }
}
