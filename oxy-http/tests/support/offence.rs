//! What a client does wrong over HTTP/2, and what it is told.

use super::h2::{H2, Outcome, code, get};
use super::{Bench, eventually};

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// GOAWAY with this code, and the end of the connection.
    Goaway(u32),
    /// `RST_STREAM` with this code; the connection goes on.
    Reset(u32),
    /// A response with this status; the connection goes on.
    Status(u16),
    /// Nothing: the connection goes on.
    Fine,
}

/// What is sent on a connection of its own; where a stream is concerned, it is the first.
pub struct Offence {
    name: &'static str,
    /// What is answered first.
    before: Vec<u8>,
    bytes: Vec<u8>,
    want: Want,
}

impl Offence {
    pub fn new(name: &'static str, bytes: impl Into<Vec<u8>>, want: Want) -> Self {
        Self {
            name,
            before: Vec::new(),
            bytes: bytes.into(),
            want,
        }
    }

    /// It is sent once this has been answered.
    pub fn after(mut self, before: Vec<u8>) -> Self {
        self.before = before;
        self
    }

    fn wrong(&self, bench: &Bench) -> Option<String> {
        let mut client = H2::connect(bench.address());
        if !self.before.is_empty() {
            client.send(&self.before);
            client.status(1);
        }
        // What is large may find the connection closed already.
        let _ = client.peer.try_send(&self.bytes);
        let (stream, expected) = match self.want {
            Want::Goaway(code) => (1, Outcome::Goaway(code)),
            Want::Reset(code) => (1, Outcome::Reset(code)),
            Want::Status(status) => (1, Outcome::Response(status, Vec::new())),
            Want::Fine => (1001, Outcome::Response(200, Vec::new())),
        };
        if self.want == Want::Fine {
            client.send(get(stream));
        }
        let mut outcome = client.outcome(stream);
        if let Outcome::Response(_, body) = &mut outcome {
            body.clear();
        }
        if outcome != expected {
            return Some(format!("{}: {outcome:?}, not {expected:?}", self.name));
        }
        if !matches!(self.want, Want::Goaway(_)) && client.ask(2001) != 200 {
            return Some(format!("{}: the connection does not go on", self.name));
        }
        None
    }
}

/// Commits all of these, each on a connection of its own, and says which did not come out as they should.
pub fn judge(bench: &Bench, offences: &[Offence]) {
    let wrong: Vec<_> = offences.iter().filter_map(|o| o.wrong(bench)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(eventually(|| bench.flows() == 0));
}
