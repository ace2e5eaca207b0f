//! What was found, for as long as it holds; and one lookup at a time for each name.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{Answer, DynLookup, Family, Found, ResolveOptions};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::target::HostName;

/// How many entries are looked at for one to give up. The map's order is random, so this approximates "the one
/// that expires first" (16 put it into the first sixteenth, mostly) without a list to keep in order.
const SAMPLE: usize = 16;
/// How long a stale answer is used before it is asked for again: 30 seconds (RFC 8767 section 4).
const STALE_TTL: Duration = Duration::from_secs(30);
/// How long it holds that there is no address when the server does not say: short, as it may be the server's fault.
const NO_SOA_TTL: Duration = Duration::from_secs(5);

type Key = (HostName, Family);
/// What a lookup came to. An error is shared by all who waited.
type Outcome = Result<Arc<Answer>, Arc<Error>>;

pub(super) struct Cache {
    state: Arc<Mutex<State>>,
    limits: Limits,
}

#[derive(Clone, Copy)]
struct Limits {
    entries: usize,
    lookups: usize,
    min_ttl: Duration,
    max_ttl: Duration,
    max_negative_ttl: Duration,
    failure_ttl: Duration,
    serve_stale: Option<Duration>,
    deadline: Duration,
}

#[derive(Default)]
struct State {
    known: HashMap<Key, Known>,
    flying: HashMap<Key, watch::Receiver<Option<Outcome>>>,
}

struct Known {
    outcome: Outcome,
    /// When it is to be asked again.
    expires: Instant,
    /// The end of the answer's own time, from which its staleness counts.
    fresh_until: Instant,
}

impl Cache {
    pub(super) fn new(options: &ResolveOptions) -> Self {
        Self {
            state: Arc::default(),
            limits: Limits {
                entries: options.cache_entries,
                lookups: options.max_lookups,
                min_ttl: options.min_ttl,
                // `clamp` panics when the bounds are the wrong way round.
                max_ttl: options.max_ttl.max(options.min_ttl),
                max_negative_ttl: options.max_negative_ttl,
                failure_ttl: options.failure_ttl,
                serve_stale: options.serve_stale,
                deadline: options.deadline,
            },
        }
    }

    /// The answer that is known, or the one of a lookup that is on its way or is started.
    pub(super) async fn get(
        &self,
        name: &HostName,
        family: Family,
        source: &Arc<dyn DynLookup>,
    ) -> Result<Arc<Answer>> {
        let key = (name.clone(), family);
        let mut departure = None;
        let mut flight = {
            let mut state = lock(&self.state);
            if let Some(known) = state.known.get(&key)
                && known.expires > Instant::now()
            {
                return known.outcome.clone().map_err(shared);
            }
            let flying = state.flying.len();
            match state.flying.entry(key) {
                MapEntry::Occupied(entry) => entry.get().clone(),
                MapEntry::Vacant(_) if flying >= self.limits.lookups => {
                    return Err(Error::local(ErrorKind::Overloaded)
                        .context("too many lookups are on their way")
                        .retry(Retry::Safe));
                }
                MapEntry::Vacant(entry) => {
                    let (landing, flight) = watch::channel(None);
                    let key = entry.key().clone();
                    entry.insert(flight.clone());
                    departure = Some(Flight {
                        key,
                        state: Arc::downgrade(&self.state),
                        limits: self.limits,
                        landing,
                    });
                    flight
                }
            }
        };
        if let Some(departure) = departure {
            // In a task of its own, so that whoever asked first may leave without taking the others along. Not
            // under the lock: a runtime that is shutting down drops the task here and now, and its end takes it.
            tokio::spawn(departure.run(Arc::clone(source)));
        }
        match flight.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone().map_err(shared),
            // The task ended without a word: its runtime is shutting down, or the lookup panicked.
            _ => Err(Error::local(ErrorKind::Dns)
                .context("a lookup was abandoned")
                .retry(Retry::Safe)),
        }
    }
}

/// A lookup that is on its way. However it ends, it is no longer listed as flying.
struct Flight {
    key: Key,
    state: Weak<Mutex<State>>,
    limits: Limits,
    landing: watch::Sender<Option<Outcome>>,
}

impl Flight {
    async fn run(self, source: Arc<dyn DynLookup>) {
        let (name, family) = &self.key;
        let result = match timeout(self.limits.deadline, source.lookup(name, *family)).await {
            Ok(result) => result,
            Err(_) => Err(Error::up(ErrorKind::Timeout)
                .context("resolving a name")
                .retry(Retry::Safe)),
        };
        let outcome = match self.state.upgrade() {
            Some(state) => self.limits.keep(&mut lock(&state), &self.key, result),
            None => return,
        };
        self.landing.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(state) = self.state.upgrade() {
            lock(&state).flying.remove(&self.key);
        }
    }
}

impl Limits {
    /// Remembers what a lookup came to, and says what those who wait are told.
    fn keep(&self, state: &mut State, key: &Key, result: Result<Found>) -> Outcome {
        let now = Instant::now();
        let known = match result {
            Ok(mut found) => {
                found.addrs.retain(|ip| key.1.has(ip));
                let ttl = if found.addrs.is_empty() {
                    found
                        .ttl
                        .unwrap_or(NO_SOA_TTL)
                        .max(self.min_ttl)
                        .min(self.max_negative_ttl)
                } else {
                    found
                        .ttl
                        .unwrap_or_default()
                        .clamp(self.min_ttl, self.max_ttl)
                };
                let expires = now + ttl;
                Known {
                    outcome: Ok(Arc::new(Answer {
                        addrs: found.addrs,
                        expires,
                    })),
                    expires,
                    fresh_until: expires,
                }
            }
            Err(error) => {
                if let Some(stale) = state.known.get(key).and_then(|old| self.stale(old, now)) {
                    stale
                } else {
                    // That this machine is overloaded now says nothing about the name.
                    let ttl = if error.kind() == ErrorKind::Overloaded {
                        Duration::ZERO
                    } else {
                        self.failure_ttl
                    };
                    Known {
                        outcome: Err(Arc::new(error)),
                        expires: now + ttl,
                        fresh_until: now,
                    }
                }
            }
        };
        let outcome = known.outcome.clone();
        if self.entries > 0 {
            if state.known.len() >= self.entries && !state.known.contains_key(key) {
                let victim = state
                    .known
                    .iter()
                    .take(SAMPLE)
                    .min_by_key(|(_, known)| known.expires);
                if let Some(victim) = victim.map(|(key, _)| key.clone()) {
                    state.known.remove(&victim);
                }
            }
            state.known.insert(key.clone(), known);
        }
        outcome
    }

    /// What is known already, once more, if it may still be served when no server answers (RFC 8767 section 5).
    fn stale(&self, old: &Known, now: Instant) -> Option<Known> {
        let until = old.fresh_until + self.serve_stale?;
        let answer = old
            .outcome
            .as_ref()
            .ok()
            .filter(|answer| !answer.addrs.is_empty() && now < until)?;
        let expires = (now + STALE_TTL).min(until);
        let answer = Answer {
            addrs: answer.addrs.clone(),
            expires,
        };
        Some(Known {
            outcome: Ok(Arc::new(answer)),
            expires,
            fresh_until: old.fresh_until,
        })
    }
}

/// No code that holds the lock can panic half-way, so a poisoned one is as good as any.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error like the one that several have waited for.
fn shared(error: Arc<Error>) -> Error {
    let copy = Error::new(error.kind(), error.side()).retry(error.retryable());
    let copy = match error.what() {
        Some(what) => copy.context(what),
        None => copy,
    };
    if std::error::Error::source(&*error).is_some() {
        copy.because(Cause(error))
    } else {
        copy
    }
}

/// The cause of an error that is shared.
struct Cause(Arc<Error>);

impl Cause {
    fn inner(&self) -> &(dyn std::error::Error + 'static) {
        std::error::Error::source(&*self.0).unwrap_or(&*self.0)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.inner(), f)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.inner(), f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner().source()
    }
}
