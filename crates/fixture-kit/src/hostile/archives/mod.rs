//! Zip archives that lie, and odd ones that do not.

mod compression;
mod damage;
mod end_records;
mod headers;
mod names;
mod placement;

use super::parts::{PICKLE, STORAGE, archive, weight};
use super::{Case, Group};
use crate::zip::{EndRecords, EntryHeader, FLAG_DESCRIPTOR, RawArchive, RawEntry};

/// Adds archives that lie, and odd ones that do not.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "zip",
        file_name: "pytorch_model.bin",
        all,
    };
    sound(&mut group);
    names::add(&mut group);
    placement::add(&mut group);
    headers::add(&mut group);
    compression::add(&mut group);
    end_records::add(&mut group);
    damage::byte_orders(&mut group);
    damage::add(&mut group);
}

fn changed(change: impl FnOnce(&mut RawArchive)) -> Vec<u8> {
    let mut archive = archive();
    change(&mut archive);
    archive.bytes()
}

/// The archive with the directory's header of one entry changed.
fn listed(entry: usize, change: impl FnOnce(&mut EntryHeader)) -> Vec<u8> {
    changed(|archive| {
        archive.entries[entry] = archive.entries[entry].clone().listed_as(change);
    })
}

fn ended(change: impl FnOnce(&mut EndRecords)) -> Vec<u8> {
    archive().bytes_with(change)
}

fn renamed(root: &str) -> RawArchive {
    let mut archive = archive();
    for entry in &mut archive.entries {
        for header in [&mut entry.local, &mut entry.listed].into_iter().flatten() {
            let name = String::from_utf8_lossy(&header.name).replace("archive/", root);
            header.name = name.into_bytes();
        }
    }
    archive
}

fn sound(group: &mut Group<'_>) {
    group.loads("plain", "nothing is wrong", weight(), || archive().bytes());
    group.loads("reversed", "the pickle comes last", weight(), || {
        changed(|archive| archive.entries.reverse())
    });
    group.loads(
        "folders",
        "folders have entries of their own",
        weight(),
        || {
            changed(|archive| {
                archive.entries.insert(0, RawEntry::stored("archive/", b""));
                archive
                    .entries
                    .insert(3, RawEntry::stored("archive/data/", b""));
            })
        },
    );
    group.loads("comment", "the archive has a comment", weight(), || {
        ended(|end| end.comment = b"written by another program".to_vec())
    });
    group.loads(
        "no-zip64",
        "the archive has no zip64 records",
        weight(),
        || ended(|end| end.zip64 = false),
    );
    group.loads(
        "descriptors-without-signature",
        "the records behind the bytes have no signature",
        weight(),
        || {
            changed(|archive| {
                for entry in &mut archive.entries {
                    entry.descriptor.drain(..4);
                }
            })
        },
    );
    group.loads(
        "descriptors-wide",
        "the records behind the bytes have sizes of eight bytes",
        weight(),
        || {
            changed(|archive| {
                for entry in &mut archive.entries {
                    let size = (entry.bytes.len() as u64).to_le_bytes();
                    entry.descriptor.truncate(8);
                    entry.descriptor.extend_from_slice(&[size, size].concat());
                }
            })
        },
    );
    group.loads(
        "no-descriptors",
        "sizes are before the bytes",
        weight(),
        || {
            changed(|archive| {
                for entry in &mut archive.entries {
                    for header in [&mut entry.local, &mut entry.listed].into_iter().flatten() {
                        header.flags &= !FLAG_DESCRIPTOR;
                    }
                    entry.descriptor.clear();
                }
            })
        },
    );
    group.loads(
        "other-records",
        "entries of other kinds are in the archive",
        weight(),
        || {
            changed(|archive| {
                let notes = RawEntry::stored("archive/notes/readme.txt", b"text");
                archive.entries.insert(1, notes);
            })
        },
    );
    for (name, root) in [
        ("root-non-ascii", "модель/"),
        ("root-spaces", "my model v1.0/"),
        ("root-dots", "a..b/"),
        ("root-21-bytes", "rrrrrrrrrrrrrrrrrrrrr/"),
    ] {
        let why = format!("the root folder is called {root:?}");
        group.loads(name, &why, weight(), move || renamed(root).bytes());
    }
    for (name, entry) in [("crc-of-storage", STORAGE), ("crc-of-pickle", PICKLE)] {
        group.loads(
            name,
            "the CRC-32 of an entry is wrong, as in files that PyTorch writes without it",
            weight(),
            move || {
                changed(|archive| {
                    let entry = &mut archive.entries[entry];
                    for header in [&mut entry.local, &mut entry.listed].into_iter().flatten() {
                        header.crc32 ^= 0xdead_beef;
                        entry.descriptor = header.descriptor();
                    }
                })
            },
        );
    }
}

/// Where an entry of an archive without prefix begins.
fn offset_of(archive: &RawArchive, entry: usize) -> u64 {
    let before = archive.entries[..entry].iter().map(|entry| {
        let local = entry
            .local
            .as_ref()
            .map_or(0, |header| header.local().len());
        local + entry.bytes.len() + entry.descriptor.len()
    });
    before.sum::<usize>() as u64
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    nth(bytes, needle, 0)
}

fn nth(bytes: &[u8], needle: &[u8], n: usize) -> Option<usize> {
    let mut places = bytes.windows(needle.len()).enumerate();
    let mut found = places.by_ref().filter(|(_, window)| *window == needle);
    found.nth(n).map(|(place, _)| place)
}
