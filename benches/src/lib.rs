//! Measurements of Oxy: the side-by-side harness (`src/bin/peers`), the load
//! test (`src/bin/soak`) and, in `benches/`, the micro benches. The library has
//! what the programs share.
//!
//! Nothing here is a dependency of the proxy; see `README.md` for how to run it.

pub mod binary;
pub mod child;
pub mod exchange;
pub mod head;
pub mod messages;
pub mod pattern;
pub mod pinned;
pub mod usage;
