//! The way out: which addresses may be dialled, and how.

pub mod dial;
pub mod policy;
mod sockopt;

pub use dial::{DialOptions, Dialer};
pub use policy::{Cidr, EgressPolicy};
