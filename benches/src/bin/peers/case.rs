//! What is measured.

use clap::ValueEnum;

use crate::load::{Method, Shape};

/// A kind of load, the same for every peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Case {
    /// GET of 1 KiB, 64 keep-alive connections.
    #[value(name = "get-1k")]
    Get1k,
    /// GET of 64 KiB, 32 keep-alive connections.
    #[value(name = "get-64k")]
    Get64k,
    /// GET of 1 MiB, 8 keep-alive connections.
    #[value(name = "get-1m")]
    Get1m,
    /// POST of 1 MiB, 8 keep-alive connections.
    #[value(name = "post-1m")]
    Post1m,
    /// GET of 1 KiB, each on a new connection, 64 at a time.
    Conn,
    /// GET of 1 MiB through a layer 4 proxy, 8 connections.
    #[value(name = "l4-1m")]
    L41m,
    /// Memory of 5,000 connections that have made one request each.
    Idle,
    /// GET of 1 KiB at a fixed rate (`--rate`), 64 keep-alive connections.
    #[value(name = "rate-1k")]
    Rate1k,
}

impl Case {
    /// What runs when no case is named: all but the one that needs a rate chosen.
    pub(crate) const DEFAULT: [Self; 7] = [
        Self::Get1k,
        Self::Get64k,
        Self::Get1m,
        Self::Post1m,
        Self::Conn,
        Self::L41m,
        Self::Idle,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get1k => "get-1k",
            Self::Get64k => "get-64k",
            Self::Get1m => "get-1m",
            Self::Post1m => "post-1m",
            Self::Conn => "conn",
            Self::L41m => "l4-1m",
            Self::Idle => "idle",
            Self::Rate1k => "rate-1k",
        }
    }

    /// Whether the proxies run as layer 4 proxies.
    pub(crate) fn layer_4(self) -> bool {
        self == Self::L41m
    }

    /// How requests are offered.
    pub(crate) fn shape(self) -> Shape {
        match self {
            Self::Conn => Shape::Fresh,
            Self::Idle => Shape::Idle,
            Self::Rate1k => Shape::Rate,
            _ => Shape::Closed,
        }
    }

    /// What is asked for.
    pub(crate) fn method(self) -> Method {
        if self == Self::Post1m {
            Method::Post
        } else {
            Method::Get
        }
    }

    /// Length of the body.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Get1k | Self::Conn | Self::Idle | Self::Rate1k => 1 << 10,
            Self::Get64k => 64 << 10,
            Self::Get1m | Self::Post1m | Self::L41m => 1 << 20,
        }
    }

    /// Connections open at a time.
    pub(crate) fn connections(self) -> usize {
        match self {
            Self::Get1k | Self::Conn | Self::Rate1k => 64,
            Self::Get64k => 32,
            Self::Get1m | Self::Post1m | Self::L41m => 8,
            Self::Idle => 5000,
        }
    }
}
