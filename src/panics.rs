//! Reads the message of a caught panic. tract can panic, so its callers catch panics and report the message.
//! Catching does not belong here.

/// The message of a caught panic; `no message` when it holds no text.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
