//! The way out: which addresses may be dialled, and how.

pub mod policy;

pub use policy::{Cidr, EgressPolicy};
