//! The reference of all settings, made from their types.

/// The reference.
pub fn text() -> String {
    String::new()
}
