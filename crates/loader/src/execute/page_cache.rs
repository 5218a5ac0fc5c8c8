//! What a load leaves in the page cache.

use tensorlift_storage::{Storage, os};

use super::reader::WARM_SHARE;
use crate::options::{Mode, PageCache};

/// Drops the pages of a shard that was read, if the options ask for it.
pub(super) fn apply(
    policy: PageCache,
    storage: &dyn Storage,
    mode: Mode,
    cached_before: Option<os::Residency>,
) {
    let past_cache = storage.reader().bypasses_page_cache();
    let was_warm = cached_before.is_some_and(|cached| cached.share() >= WARM_SHARE);
    let drops = match policy {
        PageCache::Keep => false,
        PageCache::DropAfter => true,
        PageCache::Bypass => !past_cache && !was_warm,
    };
    if !drops || mode == Mode::Map {
        return;
    }
    // This is advice, so a refusal does not fail the load.
    if let Some(local) = storage.as_local()
        && let Ok(Some(file)) = local.file()
        && let Err(error) = os::forget_pages(&file)
    {
        tracing::debug!(%error, "pages stay in the cache");
    }
}
