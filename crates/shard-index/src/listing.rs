use std::fmt;
use std::path::{Path, PathBuf};

/// How many items a message shows; the error itself holds all of them.
const SHOWN: usize = 7;

/// Items in a row, cut short with a count.
pub(crate) struct Listing<'a, T, F>(&'a [T], F);

type Show<T> = fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result;

impl<'a, T, F: Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result> Listing<'a, T, F> {
    pub(crate) fn with(items: &'a [T], show: F) -> Self {
        Self(items, show)
    }
}

impl<'a, T: fmt::Display> Listing<'a, T, Show<T>> {
    pub(crate) fn plain(items: &'a [T]) -> Self {
        Self(items, T::fmt)
    }
}

impl<'a, T: fmt::Debug> Listing<'a, T, Show<T>> {
    pub(crate) fn quoted(items: &'a [T]) -> Self {
        Self(items, T::fmt)
    }
}

impl<'a> Listing<'a, PathBuf, Show<PathBuf>> {
    /// File names without their folders, quoted, since they can contain anything.
    pub(crate) fn names(paths: &'a [PathBuf]) -> Self {
        Self(paths, |path, f| write!(f, "{:?}", name(path)))
    }
}

impl<T, F: Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for Listing<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listing(items, show) = self;
        for (position, item) in items.iter().take(SHOWN).enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            show(item, f)?;
        }
        match items.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// The last component, or the whole path where it has none.
pub(crate) fn name(path: &Path) -> &Path {
    path.file_name().map_or(path, Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted() {
        let numbers: Vec<u32> = (1..=1000).collect();
        let shown = Listing::plain(&numbers).to_string();
        assert_eq!(shown, "1, 2, 3, 4, 5, 6, 7 and 993 more");
        assert_eq!(Listing::plain(&numbers[..2]).to_string(), "1, 2");
        assert_eq!(Listing::quoted(&["a\n"]).to_string(), r#""a\n""#);
    }
}
