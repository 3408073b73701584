//! What all kinds of input have in common.

/// A kind of input, as `model.json` describes it.
pub(super) trait InputKind {
    /// Checks what the field types do not. The error starts with the name of a field of the kind, and says what was
    /// expected and received.
    fn validate(&self) -> Result<(), String>;
}
