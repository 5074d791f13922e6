//! Values of options: what people write, checked before anything starts.

/// `K=V` with a non-empty key.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((k, v)) if !k.trim().is_empty() => Ok((k.trim().to_owned(), v.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// The mask of a prefix; longer than 32 is 32.
pub fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32u32.saturating_sub(prefix.into())).unwrap_or(0)
}
