//! A look at JSON before it is parsed.

/// How deep arrays and objects may lie in each other. What clients send is four deep; what is passed on unread must not
/// overflow the stack of whoever parses it with recursion.
const MAX_DEPTH: usize = 32;

/// Whether arrays and objects are nested deeper than [`MAX_DEPTH`].
pub(crate) fn is_too_deep(text: &str) -> bool {
    // Nearly every message has fewer brackets in all than may be nested, and this count is fast.
    opening(text) > MAX_DEPTH && depth(text) > MAX_DEPTH
}

/// How many opening brackets there are, those in strings too.
fn opening(text: &str) -> usize {
    // The two differ in one bit. Counted in bytes, a chunk at a time, so that the compiler takes many at once.
    let count = |chunk: &[u8]| chunk.iter().fold(0_u8, |sum, byte| sum + u8::from(byte | 0x20 == b'{'));
    text.as_bytes().chunks(usize::from(u8::MAX)).map(|chunk| usize::from(count(chunk))).sum()
}

/// The deepest nesting, brackets in strings left out.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert_eq!(depth(r#"{"a":[[1],{"b":"[[[[\"[[["}]}"#), 3);
        assert!(!is_too_deep(&"[]".repeat(100)));
        assert!(!is_too_deep(&format!("\"{}\"", "[".repeat(100))));
        assert!(is_too_deep(&"[".repeat(33)));
        assert!(!is_too_deep(&"[".repeat(32)));
        assert!(is_too_deep(&format!(r#"{{"a":"\\",{}"#, "[".repeat(33))));
    }
}
