use serde::Serialize;
use tensorlift_storage::{Storage, os};

use crate::options::Mode;

/// What a load leaves in the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PageCache {
    /// Whatever the reader puts there. The default.
    #[default]
    Keep,
    /// Nothing of the shards that were read: their pages are given up once the last byte of a
    /// shard is in place, those that were there before too.
    DropAfter,
    /// Nothing new: files are read past the page cache; where that cannot be, as with
    /// [`PageCache::DropAfter`].
    Bypass,
}

impl PageCache {
    /// Gives the pages of a shard up, where that was asked for.
    ///
    /// Pages of files that live in memory (tmpfs) and those that others have mapped stay: the
    /// kernel passes them over.
    pub(crate) fn apply(self, storage: &dyn Storage, mode: Mode) {
        let leaves_pages = match self {
            PageCache::Keep => false,
            PageCache::DropAfter => true,
            PageCache::Bypass => !matches!(storage.reader(), "direct" | "uring"),
        };
        if !leaves_pages || mode == Mode::Map {
            return;
        }
        // Only a hint, so a refusal is no failure of the load.
        if let Ok(Some(file)) = storage.file()
            && let Err(error) = os::forget_pages(&file)
        {
            tracing::debug!(%error, "pages stay in the cache");
        }
    }
}

impl std::str::FromStr for PageCache {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "keep" => Ok(PageCache::Keep),
            "drop-after" => Ok(PageCache::DropAfter),
            "bypass" => Ok(PageCache::Bypass),
            _ => Err(format!(
                "expected keep, drop-after or bypass, found {name:?}"
            )),
        }
    }
}
