use std::fmt;

/// A pattern for the names of tensors and modules.
///
/// It matches a name, and everything below a name: `encoder.layer.1` matches
/// `encoder.layer.1.weight`, not `encoder.layer.10`.
/// `*` matches any characters, dots included; the empty pattern matches every name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of literal characters; a pattern with more is more specific.
    #[must_use]
    pub fn literals(&self) -> usize {
        self.0.chars().filter(|c| *c != '*').count()
    }

    /// Whether it matches a name, or a module that the name is in.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let modules = name.match_indices('.').map(|(dot, _)| &name[..dot]);
        let mut candidates = modules.chain(std::iter::once(name));
        match self.0.contains('*') {
            false => candidates.any(|candidate| candidate == self.0),
            true => candidates.any(|candidate| self.matches_whole(candidate)),
        }
    }

    /// Whether it matches exactly this name.
    #[must_use]
    pub fn matches_whole(&self, name: &str) -> bool {
        self.captures(name).is_some()
    }

    /// The text that each `*` matches in this name; each but the last is as short as possible.
    #[must_use]
    pub fn captures<'n>(&self, name: &'n str) -> Option<Vec<&'n str>> {
        let mut parts = self.0.split('*');
        // Splitting gives at least one part.
        let mut rest = name.strip_prefix(parts.next().unwrap_or(""))?;
        let Some(last) = parts.next_back() else {
            return rest.is_empty().then(Vec::new);
        };
        let mut captures = Vec::new();
        for part in parts {
            let at = rest.find(part)?;
            captures.push(&rest[..at]);
            rest = &rest[at + part.len()..];
        }
        captures.push(rest.strip_suffix(last)?);
        Some(captures)
    }

    /// The name that the pattern is with each `*` replaced in turn.
    #[must_use]
    pub fn expand(&self, captures: &[&str]) -> String {
        let mut name = String::with_capacity(self.0.len());
        let mut captures = captures.iter();
        for (index, part) in self.0.split('*').enumerate() {
            if index > 0 {
                name.push_str(captures.next().copied().unwrap_or(""));
            }
            name.push_str(part);
        }
        name
    }

    /// How many `*` it has.
    #[must_use]
    pub fn wildcards(&self) -> usize {
        self.0.matches('*').count()
    }
}

impl<S: Into<String>> From<S> for Pattern {
    fn from(pattern: S) -> Self {
        Self::new(pattern)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_a_name_and_what_is_below_it() {
        let cases = [
            ("", "a.b", true),
            ("a", "a", true),
            ("a", "a.b", true),
            ("a", "ab", false),
            ("a.1", "a.10.w", false),
            ("a.*.w", "a.10.w", true),
            ("a.*.w", "a.10.wx", false),
            ("a.*.w", "a.10.w.x", true),
            ("*.bias", "a.b.bias", true),
            ("*.bias", "bias", false),
            ("*a*a*", "aa", true),
            ("*a*a*", "a", false),
            ("*", "x", true),
        ];
        for (pattern, name, expected) in cases {
            let found = Pattern::new(pattern).matches(name);
            assert_eq!(found, expected, "{pattern:?} {name:?}");
        }
    }

    #[test]
    fn what_stars_stand_for_goes_into_another_pattern() {
        let from = Pattern::new("encoder.*.attn.*");
        let captures = from.captures("encoder.3.attn.q.weight").unwrap();
        assert_eq!(captures, ["3", "q.weight"]);
        let to = Pattern::new("layers.*.attention.*");
        assert_eq!(to.expand(&captures), "layers.3.attention.q.weight");
        assert_eq!(from.captures("encoder.3.mlp"), None);
        assert_eq!(Pattern::new("x").captures("x"), Some(Vec::new()));
    }
}
