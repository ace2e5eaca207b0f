//! HTTP for the Oxy proxy framework.

pub mod h1;
pub mod limits;
pub mod semantics;
