use std::fmt;

use serde::{Serialize, Serializer};

/// How the bytes of a storage are read.
///
/// Options ask for one, reports name one, and both write it as [`name`](Self::name) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReaderKind {
    /// Positional reads through the page cache.
    Buffered,
    /// Positional reads past the page cache (`O_DIRECT`).
    Direct,
    /// As [`Direct`](Self::Direct), by several requests of io_uring at once.
    Uring,
    /// A mapping of the file.
    Map,
    /// Bytes that were in memory already.
    Memory,
    /// A storage of another crate, by its own name.
    Other(&'static str),
}

impl ReaderKind {
    /// The name in options and reports: `buffered`, `direct`, `uring`, `map`, `memory`, or the
    /// storage's own.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ReaderKind::Buffered => "buffered",
            ReaderKind::Direct => "direct",
            ReaderKind::Uring => "uring",
            ReaderKind::Map => "map",
            ReaderKind::Memory => "memory",
            ReaderKind::Other(name) => name,
        }
    }

    /// Whether the bytes go past the page cache, so that reading leaves nothing there.
    #[must_use]
    pub const fn bypasses_page_cache(self) -> bool {
        matches!(self, ReaderKind::Direct | ReaderKind::Uring)
    }
}

impl fmt::Display for ReaderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for ReaderKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Any text: storages of other crates have names of their own.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for ReaderKind {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ReaderKind".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "How bytes are read: buffered, direct, uring, map, memory, or the name \
                            of a storage of another program.",
            "type": "string",
        })
    }
}
