//! The load generator: offers requests, checks every answer, and reads the
//! proxy's usage at both edges of the measured window.

mod client;
mod fleet;
mod h2;
mod histogram;
mod request;
mod tally;
mod tls;
mod wire;

use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustix::thread::set_current_timer_slack;
use serde::{Deserialize, Serialize};

use self::fleet::Fleet;
use self::histogram::Histogram;
pub(crate) use self::request::Method;
use self::tally::Tally;
pub(crate) use self::tls::{Group, SERVER_NAME};
use oxy_benches::usage::{self, Processor, Threads};

/// How requests are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// Every connection sends its next request when it has its answer.
    Closed,
    /// The same, on a new connection each time.
    Fresh,
    /// Requests are due at a fixed rate, whether or not earlier ones are answered.
    Rate,
    /// Each connection makes one request and then rests.
    Idle,
}

/// What one run of the load generator does.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Where the proxy listens.
    #[arg(long)]
    pub(crate) target: SocketAddr,
    /// The proxy's process.
    #[arg(long)]
    pub(crate) pid: u32,
    /// How requests are offered.
    #[arg(long, value_enum)]
    pub(crate) shape: Shape,
    /// What is asked for.
    #[arg(long, value_enum)]
    pub(crate) method: Method,
    /// Length of the body, in the direction of the method.
    #[arg(long)]
    pub(crate) size: usize,
    /// Connections open at a time.
    #[arg(long)]
    pub(crate) connections: usize,
    /// Connections that have made one request and rest beside those; HTTP/1.1 only.
    #[arg(long, default_value_t = 0)]
    pub(crate) resting: usize,
    /// Spread requests over so many routes; HTTP/1.1 only.
    #[arg(long)]
    pub(crate) routes: Option<NonZeroUsize>,
    /// Speak TLS, with this key exchange.
    #[arg(long, value_enum)]
    pub(crate) tls: Option<Group>,
    /// Speak HTTP/2, with so many streams on each connection.
    #[arg(long)]
    pub(crate) streams: Option<usize>,
    /// Seconds before the measured window.
    #[arg(long)]
    pub(crate) warmup: f64,
    /// Seconds of the measured window.
    #[arg(long)]
    pub(crate) seconds: f64,
    /// Requests per second, for the shape that has a rate.
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
}

/// What one run measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Answers within the window.
    pub(crate) requests: u64,
    /// Length of the window.
    pub(crate) seconds: f64,
    /// The proxy's processor time within the window, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// How long it waited for its core within the window.
    pub(crate) waited_ns: u64,
    /// The same for each of its threads that ran, the busiest first.
    pub(crate) threads_ns: Vec<u64>,
    /// How much of its time the kernel took, as far as ticks can tell.
    pub(crate) kernel_ns: Option<f64>,
    /// How often it gave its core away, or lost it, within the window.
    pub(crate) switches: u64,
    /// Requests each second that were offered, where a rate was.
    pub(crate) offered: Option<f64>,
    /// Latency percentiles, in microseconds.
    pub(crate) p50_us: f64,
    /// See [`p50_us`](Self::p50_us).
    pub(crate) p99_us: f64,
    /// See [`p50_us`](Self::p50_us).
    pub(crate) p999_us: f64,
    /// Answers with another status, length or content than expected.
    pub(crate) wrong: u64,
    /// Connections that failed or broke within an exchange.
    pub(crate) errors: u64,
    /// Resident memory at the end of the window.
    pub(crate) rss_bytes: u64,
    /// Growth of resident memory for each idle connection.
    pub(crate) idle_bytes: Option<f64>,
    /// The proxy's descriptors beyond one for each idle connection.
    pub(crate) extra_files: Option<usize>,
}

/// Runs the load and prints its sample as JSON.
pub(crate) fn run(load: &Load) -> Result<(), Box<dyn Error>> {
    let sample = match (load.shape, load.streams) {
        (Shape::Closed, Some(streams)) => h2::closed(load, streams)?,
        (_, Some(_)) => return Err("HTTP/2 has the closed shape only".into()),
        (Shape::Closed | Shape::Fresh, None) => closed(load)?,
        (Shape::Rate, None) => rated(load)?,
        (Shape::Idle, None) => idle(load)?,
    };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// The measured window: closed until the warm-up is over.
struct Window<'a> {
    load: &'a Load,
    opens: Instant,
    opened: Option<(Instant, Processor, Threads)>,
    latency: Histogram,
}

impl<'a> Window<'a> {
    fn new(load: &'a Load) -> Self {
        let opens = Instant::now() + Duration::from_secs_f64(load.warmup);
        Self {
            load,
            opens,
            opened: None,
            latency: Histogram::default(),
        }
    }

    /// Opens the window when it is time; `true` once it is over.
    fn tick(&mut self, now: Instant) -> std::io::Result<bool> {
        if let Some((at, ..)) = &self.opened {
            return Ok(now.duration_since(*at).as_secs_f64() >= self.load.seconds);
        }
        if now >= self.opens {
            let threads = Threads::of(self.load.pid)?;
            self.opened = Some((now, usage::processor(self.load.pid)?, threads));
        }
        Ok(false)
    }

    fn record(&mut self, latency: Duration) {
        if self.opened.is_some() {
            self.latency.record(latency);
        }
    }

    fn finish(self, tally: Tally) -> Result<Sample, Box<dyn Error>> {
        let after = usage::processor(self.load.pid)?;
        let (at, before, threads) = self.opened.ok_or("the window never opened")?;
        let used = after - before;
        Ok(Sample {
            requests: self.latency.count(),
            seconds: at.elapsed().as_secs_f64(),
            cpu_ns: used.ran_ns,
            threads_ns: Threads::of(self.load.pid)?.since(&threads),
            waited_ns: used.waited_ns,
            kernel_ns: used.kernel_ns(),
            switches: used.slept + used.preempted,
            p50_us: self.latency.percentile_us(0.5),
            p99_us: self.latency.percentile_us(0.99),
            p999_us: self.latency.percentile_us(0.999),
            wrong: tally.wrong,
            errors: tally.errors,
            rss_bytes: usage::rss_bytes(self.load.pid)?,
            ..Sample::default()
        })
    }
}

fn closed(load: &Load) -> Result<Sample, Box<dyn Error>> {
    let mut resting = Fleet::new(&Load {
        connections: load.resting,
        ..load.clone()
    })?;
    resting.settle()?;
    let mut fleet = Fleet::new(load)?;
    if load.shape == Shape::Closed && load.connections > fleet::OPENING {
        fleet.settle()?; // a listener's backlog does not take them all at once
    }
    let mut window = Window::new(load);
    for slot in 0..load.connections {
        fleet.launch(slot)?;
    }
    loop {
        for index in 0..fleet.wait(Duration::from_millis(10))? {
            let Some(done) = fleet.turn(index)? else {
                continue;
            };
            if let Some(latency) = done.latency {
                window.record(latency);
            }
            if load.shape == Shape::Fresh {
                fleet.close(done.slot);
            }
            fleet.launch(done.slot)?;
        }
        if window.tick(Instant::now())? {
            let mut sample = window.finish(fleet.tally)?;
            while resting.look(Duration::ZERO)? {}
            sample.errors += resting.tally.errors;
            sample.wrong += resting.tally.wrong;
            return Ok(sample);
        }
    }
}

/// Latency counts from the moment a request was due, so that a proxy that
/// stalls is charged for every request that it kept waiting.
fn rated(load: &Load) -> Result<Sample, Box<dyn Error>> {
    // The kernel lets timers go off 50 us late unless told otherwise: that would be in the latency of each request.
    set_current_timer_slack(Some(NonZeroU64::MIN))?;
    let mut fleet = Fleet::new(load)?;
    let mut window = Window::new(load);
    let mut idle: Vec<usize> = (0..load.connections).rev().collect();
    let mut due_of = vec![Instant::now(); load.connections];
    let mut overdue = VecDeque::new();
    let gap = Duration::from_secs_f64(1.0 / load.rate);
    let mut due = Instant::now();
    loop {
        let now = Instant::now();
        if window.tick(now)? {
            // What is still unanswered has waited at least this long, and is no answer.
            let unanswered = overdue.len() as u64;
            for at in overdue {
                window.record(now.duration_since(at));
            }
            let mut sample = window.finish(fleet.tally)?;
            sample.requests = sample.requests.saturating_sub(unanswered);
            sample.offered = Some(load.rate);
            return Ok(sample);
        }
        while due <= now {
            overdue.push_back(due);
            due += gap;
        }
        while !overdue.is_empty()
            && let Some(slot) = idle.pop()
        {
            if let Some(at) = overdue.pop_front() {
                due_of[slot] = at;
                fleet.launch(slot)?;
            }
        }
        for index in 0..fleet.wait(due.saturating_duration_since(Instant::now()))? {
            let Some(done) = fleet.turn(index)? else {
                continue;
            };
            if done.latency.is_some() {
                window.record(due_of[done.slot].elapsed());
            }
            idle.push(done.slot);
        }
    }
}

fn idle(load: &Load) -> Result<Sample, Box<dyn Error>> {
    // What the first connections make the proxy allocate once is not the cost of a connection.
    let warm = Load {
        shape: Shape::Closed,
        connections: fleet::OPENING,
        seconds: 0.2,
        ..load.clone()
    };
    let mut sample = closed(&warm)?;
    std::thread::sleep(Duration::from_millis(500));
    let before = usage::rss_bytes(load.pid)?;

    let mut fleet = Fleet::new(load)?;
    fleet.settle()?;
    let rest = Instant::now();
    while rest.elapsed().as_secs_f64() < load.seconds {
        fleet.look(Duration::from_millis(100))?;
    }
    let after = usage::rss_bytes(load.pid)?;
    sample.errors += fleet.tally.errors;
    sample.wrong += fleet.tally.wrong;
    sample.rss_bytes = after;
    sample.idle_bytes = Some((after as f64 - before as f64) / load.connections as f64);
    sample.extra_files = Some(usage::open_files(load.pid)?.saturating_sub(load.connections));
    Ok(sample)
}

#[cfg(test)]
impl Load {
    /// One connection that asks nobody for 1 KiB.
    pub(crate) fn for_tests(shape: Shape) -> Self {
        Self {
            target: SocketAddr::from(([127, 0, 0, 1], 0)),
            pid: std::process::id(),
            shape,
            method: Method::Get,
            size: 1024,
            connections: 1,
            resting: 0,
            routes: None,
            tls: None,
            streams: None,
            warmup: 0.0,
            seconds: 1.0,
            rate: 1.0,
        }
    }
}
