use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::super::Group;
use super::super::parts::{BYTE_ORDER, PICKLE, STORAGE, state, weight, weight_bytes};
use super::changed;
use crate::zip::{DEFLATED, EntryHeader, FLAG_DESCRIPTOR, RawEntry};

pub(super) fn add(group: &mut Group<'_>) {
    let deflated = |name: &'static str, bytes: &[u8], size: u64| {
        let mut entry = RawEntry::deflated(name, bytes);
        for header in [&mut entry.local, &mut entry.listed].into_iter().flatten() {
            header.size = size;
        }
        entry
    };
    group.loads("deflated", "all entries are compressed", weight(), || {
        changed(|archive| {
            archive.entries[PICKLE] = RawEntry::deflated("archive/data.pkl", &state());
            archive.entries[STORAGE] = RawEntry::deflated("archive/data/0", &weight_bytes());
        })
    });
    group.refused(
        "inflates-to-more",
        "a storage inflates to more than is declared",
        move || {
            changed(|archive| archive.entries[STORAGE] = deflated("archive/data/0", &[0; 4096], 16))
        },
    );
    group.refused(
        "inflates-to-less",
        "a storage inflates to less than is declared",
        move || {
            changed(|archive| archive.entries[STORAGE] = deflated("archive/data/0", &[0; 8], 16))
        },
    );
    group.refused(
        "inflate-broken",
        "a storage is not a deflate stream",
        || {
            changed(|archive| {
                let mut entry = RawEntry::deflated("archive/data/0", &weight_bytes());
                entry.bytes.fill(0xff);
                archive.entries[STORAGE] = entry;
            })
        },
    );
    group.refused("inflate-cut", "a deflate stream is cut", || {
        changed(|archive| {
            let mut entry = RawEntry::deflated("archive/data/0", &weight_bytes());
            let half = entry.bytes.len() / 2;
            entry.bytes.truncate(half);
            for header in [&mut entry.local, &mut entry.listed].into_iter().flatten() {
                header.compressed = half as u64;
            }
            archive.entries[STORAGE] = entry;
        })
    });
    group.refused(
        "storage-bomb",
        "a storage of 16 bytes inflates to 256 MiB and says so",
        || changed(|archive| archive.entries[STORAGE] = bomb("archive/data/0", None)),
    );
    group.refused(
        "storage-bomb-lies",
        "a storage inflates to 256 MiB and says 16",
        || changed(|archive| archive.entries[STORAGE] = bomb("archive/data/0", Some(16))),
    );
    group.refused(
        "pickle-bomb",
        "the pickle inflates to 256 MiB of zeros and says so",
        || changed(|archive| archive.entries[PICKLE] = bomb("archive/data.pkl", None)),
    );
    group.refused(
        "pickle-bomb-lies",
        "the pickle inflates to 256 MiB of zeros and says 100",
        || changed(|archive| archive.entries[PICKLE] = bomb("archive/data.pkl", Some(100))),
    );
    group.refused(
        "pickle-size-lies",
        "the pickle is declared to inflate to 2^62 bytes",
        move || {
            changed(|archive| {
                archive.entries[PICKLE] = deflated("archive/data.pkl", &state(), 1 << 62);
            })
        },
    );
    group.either(
        "record-bomb",
        "a record that nobody needs inflates to 256 MiB",
        || changed(|archive| archive.entries.push(bomb("archive/notes", None))),
    );
    group.refused(
        "byteorder-bomb",
        "the byte order record inflates to 256 MiB",
        || changed(|archive| archive.entries[BYTE_ORDER] = bomb("archive/byteorder", None)),
    );
}

/// An entry of 256 MiB of zeros in about 256 KiB, saying `declared` or the truth.
fn bomb(name: &str, declared: Option<u64>) -> RawEntry {
    const BLOCK: usize = 1 << 20;
    const BLOCKS: usize = 256;
    static COMPRESSED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        for _ in 0..BLOCKS {
            encoder.write_all(&[0; BLOCK]).expect("memory takes all");
        }
        encoder.finish().expect("memory takes all")
    });
    let mut header = EntryHeader::stored(name, &[]);
    header.method = DEFLATED;
    header.flags |= FLAG_DESCRIPTOR;
    header.compressed = COMPRESSED.len() as u64;
    header.size = declared.unwrap_or((BLOCK * BLOCKS) as u64);
    RawEntry::of(header, &COMPRESSED)
}
