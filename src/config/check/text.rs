//! A file's text, or why it has none in words that help: people save files as they come.

use std::path::Path;

/// The text of a file.
///
/// # Errors
/// Why it cannot be read: for what is no UTF-8, which line and byte.
pub(super) fn text_of(path: &Path) -> Result<String, String> {
    let place = path.display();
    let bytes = std::fs::read(path).map_err(|e| format!("{place} cannot be read: {e}"))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let bytes = e.into_bytes();
        if matches!(bytes.as_slice(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
            return format!("{place} is UTF-16: save it as UTF-8");
        }
        let line = 1 + bytes[..at].iter().filter(|b| **b == b'\n').count();
        let byte = bytes.get(at).copied().unwrap_or_default();
        format!(
            "{place}: line {line} has a byte that is not UTF-8 (0x{byte:02X}): save it as UTF-8"
        )
    })
}
