//! HTTP for the Oxy proxy framework.
