//! What is said once everything listens.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use oxy_core::onramp::ListenAddr;

use crate::settings::{AccessLogSettings, Kind, Listener, LogFormat, LogPath};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// A line for each address.
    Addresses,
    /// That, and what to try.
    Tour,
}

/// What listens at an address.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Reverse,
    Forward,
    Relay,
    Admin,
}

impl What {
    pub(super) fn of(listener: &Listener) -> Self {
        match &listener.kind {
            Kind::Http(http) if http.forward => Self::Forward,
            Kind::Http(_) => Self::Reverse,
            Kind::Relay(_) => Self::Relay,
        }
    }
}

/// An address on which something listens.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) what: What,
    pub(super) address: ListenAddr,
    /// Where the certificate is that clients are to trust, if it was made for this process.
    pub(super) authority: Option<PathBuf>,
}

impl Greeting {
    /// Says it on the standard output, or on the standard error if the output is to have JSON only.
    pub(super) fn say(self, places: &[Place], log: &AccessLogSettings) {
        let text = self.text(places);
        let json = log.format == LogFormat::Json && log.path == LogPath::Stdout;
        // A proxy does not end because nobody reads its greeting.
        let _ = if json {
            std::io::stderr().write_all(text.as_bytes())
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
    }

    fn text(self, places: &[Place]) -> String {
        let mut text = String::new();
        for place in places {
            let Place {
                name,
                address,
                authority,
                ..
            } = place;
            let _ = writeln!(text, "listening on {address} ({name})");
            if let (Some(ca), Some(at)) = (authority, address.socket_addr()) {
                // Which name the certificate is for is in the settings; on loopback the address is one in the tour's.
                let ca = ca.display();
                let _ = match place.what {
                    What::Reverse => writeln!(text, "    curl --cacert {ca} https://{at}/"),
                    _ => writeln!(text, "    clients are to trust {ca}"),
                };
            } else if let (Self::Tour, Some(at)) = (self, address.socket_addr()) {
                let _ = match place.what {
                    What::Reverse => writeln!(text, "    curl http://{at}/"),
                    What::Forward => writeln!(text, "    curl -x http://{at} http://example.com/"),
                    What::Admin => writeln!(text, "    curl http://{at}/metrics"),
                    What::Relay => Ok(()),
                };
            }
        }
        if self == Self::Tour {
            text.push_str("Ctrl-C stops it. `oxy --help` says what else there is.\n");
        }
        text
    }
}
