//! A line on its way to the end of what was logged before.
//!
//! What every line has gets there without `format_args!`, which takes several times as long.

use std::fmt::Display;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use oxy_core::{AddressText, Host, Target};

use super::time::digits;

/// Room that most lines fit in.
const USUAL: usize = 512;

pub(super) struct Line<'a>(&'a mut Vec<u8>);

impl<'a> Line<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        out.reserve(USUAL);
        Self(out)
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.text(itoa::Buffer::new().format(number));
    }

    /// In seconds, with microseconds.
    #[inline]
    pub(super) fn length(&mut self, length: Duration) {
        match length.as_secs() {
            0 => self.text("0"),
            seconds => self.number(seconds),
        }
        let mut text = *b".000000";
        digits(length.subsec_micros(), &mut text[1..]);
        self.bytes(&text);
    }

    pub(super) fn ip(&mut self, ip: IpAddr) {
        self.bytes(AddressText::from(ip).as_bytes());
    }

    pub(super) fn address(&mut self, address: SocketAddr) {
        self.bytes(AddressText::from(address).as_bytes());
    }

    pub(super) fn target(&mut self, target: &Target) {
        match target {
            Target::Tcp {
                host: Host::Ip(ip),
                port,
            } => self.address((*ip, *port).into()),
            target => self.shown(target),
        }
    }

    pub(super) fn shown(&mut self, value: &dyn Display) {
        // Writing to memory does not fail.
        let _ = write!(self.0, "{value}");
    }

    pub(super) fn end(self) {
        self.0.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Line<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Line::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_short_cut_looks_as_it_is_displayed() {
        for text in [
            "127.0.0.1:80",
            "[::1]:80",
            "a.example:80",
            "udp://127.0.0.1:53",
            "unix:/a b",
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(written(|line| line.target(&target)), target.to_string());
        }
    }

    #[test]
    fn lengths_of_time_have_microseconds() {
        for (nanos, text) in [(0, "0.000000"), (10_000_001_999, "10.000001")] {
            let length = Duration::from_nanos(nanos);
            assert_eq!(written(|line| line.length(length)), text);
        }
    }
}
