//! Measurements of Oxy: the side-by-side harness (`src/bin/peers`) and, in
//! `benches/`, the micro benches.
//!
//! Nothing here is a dependency of the proxy; see `README.md` for how to run it.

pub mod messages;
