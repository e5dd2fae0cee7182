//! Lists of what is allowed: exact texts, or beginnings and ends marked with a star.

/// A list of patterns; an empty one allows everything.
///
/// A pattern with one `*` stands for any text in its place; without one it is meant literally.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<String>);

impl AllowList {
    /// A list of these patterns.
    #[must_use]
    pub const fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    /// Whether there are no patterns.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a text is allowed.
    #[must_use]
    pub fn allows(&self, text: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| matches(pattern, text))
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_in_its_place() {
        let list = |patterns: &[&str]| AllowList::new(patterns.iter().map(|&pattern| pattern.to_owned()).collect());
        assert!(list(&[]).allows("anything"));
        let some = list(&["https://a.example", "https://*.b.example", "KEY/*"]);
        for good in ["https://a.example", "https://x.b.example", "https://.b.example", "KEY/", "KEY/live"] {
            assert!(some.allows(good), "{good}");
        }
        for bad in ["", "https://a.example.evil", "https://b.example", "http://a.example", "KEY", "key/live"] {
            assert!(!some.allows(bad), "{bad}");
        }
        assert!(!list(&["aba*aba"]).allows("aba"));
    }
}
