//! Entries that are read together.

use std::borrow::Cow;

use tensorlift_tensor_meta::Extent;

use super::layout::Wanted;

/// Reading a page or less of unwanted bytes costs nothing measurable.
const FREE_GAP_BYTES: u64 = 4096;

/// Cuts entries, sorted by place, into runs of one read each.
pub(super) fn runs<'s, 'a>(
    mut sorted: &'s [Wanted<'a>],
    merge_gap: u64,
    max_bytes: u64,
) -> impl Iterator<Item = &'s [Wanted<'a>]> {
    std::iter::from_fn(move || {
        let first = sorted.first()?.extent();
        let (start, mut end) = (first.offset, first.end());
        // Read of the run so far: what is wanted, and the gaps that are not free.
        let (mut useful, mut wasted) = (first.len, 0);
        let mut len = 1;
        for next in &sorted[1..] {
            let next = next.extent();
            let gap = next.offset.saturating_sub(end);
            let cost = if gap > FREE_GAP_BYTES { gap } else { 0 };
            let fresh = next.end().saturating_sub(end.max(next.offset));
            // Gaps beyond the free ones never exceed the wanted bytes.
            let pays = gap <= merge_gap && wasted + cost <= useful + fresh;
            let longest = end.max(next.end()) - start;
            if (gap > 0 && !pays) || longest > max_bytes {
                break;
            }
            useful += fresh;
            wasted += cost;
            end = end.max(next.end());
            len += 1;
        }
        let (run, rest) = sorted.split_at(len);
        sorted = rest;
        Some(run)
    })
}

/// The extent that covers a run.
pub(super) fn covering(run: &[Wanted<'_>]) -> Extent {
    let Extent { shard, offset, .. } = run[0].extent();
    let end = run
        .iter()
        .map(|wanted| wanted.extent().end())
        .max()
        .unwrap_or(offset);
    Extent::new(shard, offset, end - offset)
}

/// Those for which `holds` is true and the others; nothing is copied where all are alike.
pub(super) fn split<'s, 'a>(
    wanted: &'s [Wanted<'a>],
    holds: impl Fn(&Wanted<'a>) -> bool,
) -> (Cow<'s, [Wanted<'a>]>, Cow<'s, [Wanted<'a>]>) {
    let none = || Cow::Borrowed(&[][..]);
    let alike = match wanted.first() {
        None => return (none(), none()),
        Some(first) => holds(first),
    };
    if wanted.iter().all(|wanted| holds(wanted) == alike) {
        return match alike {
            true => (Cow::Borrowed(wanted), none()),
            false => (none(), Cow::Borrowed(wanted)),
        };
    }
    let (yes, no): (Vec<_>, Vec<_>) = wanted.iter().partition(|wanted| holds(wanted));
    (Cow::Owned(yes), Cow::Owned(no))
}
