use super::super::Group;
use super::super::parts::STORAGE;
use super::{changed, listed, offset_of};
use crate::zip::RawEntry;

pub(super) fn add(group: &mut Group<'_>) {
    group.refused("overlap-same", "two entries are the same bytes", || {
        changed(|archive| {
            let twin = archive.entries[STORAGE].clone();
            let offset = offset_of(archive, STORAGE);
            let mut twin = twin.listed_as(|header| header.name = b"archive/data/1".to_vec());
            twin.local = None;
            twin.bytes.clear();
            twin.descriptor.clear();
            let twin = RawEntry {
                lies_about_offset: true,
                ..twin
            };
            let twin = twin.listed_as(|header| header.offset = offset);
            archive.entries.push(twin);
        })
    });
    group.refused("overlap-next", "an entry reaches into the next one", || {
        listed(STORAGE, |header| {
            header.size += 60;
            header.compressed += 60;
        })
    });
    group.refused(
        "past-directory",
        "an entry reaches into the directory",
        || {
            changed(|archive| {
                archive.entries.swap(STORAGE, 3);
                archive.entries[3] = archive.entries[3].clone().listed_as(|header| {
                    header.size += 100;
                    header.compressed += 100;
                });
            })
        },
    );
    group.refused(
        "past-end",
        "an entry reaches past the end of the file",
        || {
            listed(STORAGE, |header| {
                header.size = 1 << 20;
                header.compressed = 1 << 20;
            })
        },
    );
    for (name, size) in [
        ("size-32-bits", u64::from(u32::MAX) - 1),
        ("size-signed", 1 << 63),
        ("size-max", u64::MAX),
    ] {
        let why = format!("an entry is declared to have {size} bytes");
        group.refused(name, &why, move || {
            listed(STORAGE, |header| {
                header.size = size;
                header.compressed = size;
            })
        });
    }
    for (name, offset) in [
        ("offset-off-by-one", 1u64),
        ("offset-in-directory", 700),
        ("offset-past-end", 1 << 20),
        ("offset-signed", 1 << 63),
        ("offset-max", u64::MAX),
        ("offset-wraps", u64::MAX - 29),
    ] {
        let why = format!("an entry is declared to be at {offset}, where none is");
        group.refused(name, &why, move || {
            listed(STORAGE, |header| header.offset = offset)
        });
    }
    group.refused(
        "offset-of-other",
        "the storage's offset is that of the pickle",
        || {
            changed(|archive| {
                let entry = archive.entries[STORAGE].clone();
                let entry = RawEntry {
                    lies_about_offset: true,
                    ..entry
                };
                archive.entries[STORAGE] = entry.listed_as(|header| header.offset = 0);
            })
        },
    );
}
