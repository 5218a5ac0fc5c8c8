use serde::Serialize;
use tensorlift_storage::{Storage, os};

use crate::options::Mode;
use crate::reader::WARM;

/// What a load that copies leaves in the page cache.
///
/// A mapping is the page cache, so [`Mode::Map`] leaves there what it maps.
/// What was read of a file's description before the load (some dozen pages) stays, too, unless all
/// is given up.
/// Pages of files that live in memory (tmpfs), that others have mapped or that are not written yet
/// always stay: the kernel passes them over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PageCache {
    /// Whatever the reader puts there. The default.
    #[default]
    Keep,
    /// Nothing of the shards that were read: their pages are given up once the last byte of a
    /// shard is in place, those that were there before too.
    DropAfter,
    /// What was there before: files are read past the page cache, also where it would be faster.
    ///
    /// Where that cannot be (the file system has no direct reads, buffered ones were asked for),
    /// files that were there nearly whole stay, others go as with [`PageCache::DropAfter`].
    Bypass,
}

impl PageCache {
    /// Gives the pages of a shard up, where that was asked for.
    pub(crate) fn apply(self, storage: &dyn Storage, mode: Mode, cached: Option<os::Residency>) {
        let past_cache = storage.reader().bypasses_page_cache();
        let was_warm = cached.is_some_and(|cached| cached.share() >= WARM);
        let gives_up = match self {
            PageCache::Keep => false,
            PageCache::DropAfter => true,
            PageCache::Bypass => !past_cache && !was_warm,
        };
        if !gives_up || mode == Mode::Map {
            return;
        }
        // Only a hint, so a refusal is no failure of the load.
        if let Some(local) = storage.as_local()
            && let Ok(Some(file)) = local.file()
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
