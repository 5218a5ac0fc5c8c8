use super::super::Group;
use super::super::parts::{PICKLE, STORAGE, archive};
use super::{changed, find, listed, nth, offset_of};
use crate::zip::{EntryHeader, FLAG_DESCRIPTOR, FLAG_ENCRYPTED, RawEntry};

pub(super) fn add(group: &mut Group<'_>) {
    for (name, entry) in [("encrypted-storage", STORAGE), ("encrypted-pickle", PICKLE)] {
        group.refused(name, "an entry is encrypted", move || {
            changed(|archive| {
                let entry = &mut archive.entries[entry];
                for header in [&mut entry.local, &mut entry.listed].into_iter().flatten() {
                    header.flags |= FLAG_ENCRYPTED;
                }
            })
        });
    }
    for method in [1u16, 6, 9, 12, 14, 93, 95, 99, 0xffff] {
        let why = format!("an entry has the compression method {method}");
        group.refused(&format!("method-{method}"), &why, move || {
            changed(|archive| {
                let entry = &mut archive.entries[STORAGE];
                for header in [&mut entry.local, &mut entry.listed].into_iter().flatten() {
                    header.method = method;
                }
            })
        });
    }
    group.refused(
        "local-signature",
        "the local header has no signature",
        || {
            let mut bytes = archive().bytes();
            let offset = offset_of(&archive(), STORAGE) as usize;
            bytes[offset..offset + 4].copy_from_slice(b"XXXX");
            bytes
        },
    );
    group.refused(
        "local-name-length",
        "the local header's name reaches past the file",
        || {
            let mut bytes = archive().bytes();
            let offset = offset_of(&archive(), STORAGE) as usize + 26;
            bytes[offset..offset + 4].copy_from_slice(&[0xff; 4]);
            bytes
        },
    );
    group.refused(
        "directory-signature",
        "a header of the directory has no signature",
        || {
            let mut bytes = archive().bytes();
            let first = find(&bytes, b"PK\x01\x02").expect("there is a directory");
            bytes[first..first + 4].copy_from_slice(b"XXXX");
            bytes
        },
    );
    for (name, field) in [
        ("directory-name-length", 28),
        ("directory-extra-length", 30),
        ("directory-comment-length", 32),
    ] {
        group.refused(
            name,
            "a length in the directory reaches past it",
            move || {
                let mut bytes = archive().bytes();
                let first = find(&bytes, b"PK\x01\x02").expect("there is a directory") + field;
                bytes[first..first + 2].copy_from_slice(&[0xff; 2]);
                bytes
            },
        );
    }
    group.refused(
        "zip64-extra-missing",
        "sizes are declared to be in a zip64 field that is missing",
        || {
            let mut bytes = archive().bytes();
            let storage = nth(&bytes, b"PK\x01\x02", STORAGE).expect("there is a directory");
            bytes[storage + 20..storage + 28].copy_from_slice(&[0xff; 8]);
            bytes
        },
    );
    group.refused(
        "zip64-extra-cut",
        "the zip64 field is shorter than what it must hold",
        || {
            let mut bytes = listed(STORAGE, |header| {
                header.extra = vec![1, 0, 4, 0, 0, 0, 0, 0];
            });
            let storage = nth(&bytes, b"PK\x01\x02", STORAGE).expect("there is a directory");
            bytes[storage + 20..storage + 28].copy_from_slice(&[0xff; 8]);
            bytes
        },
    );

    group.refused(
        "local-name-differs",
        "the local header has another name",
        || {
            changed(|archive| {
                archive.entries[STORAGE] = archive.entries[STORAGE]
                    .clone()
                    .local_as(|header| header.name = b"archive/data/9".to_vec());
            })
        },
    );
    group.refused(
        "local-sizes-differ",
        "the local header has other sizes",
        || {
            changed(|archive| {
                archive.entries[STORAGE] = archive.entries[STORAGE].clone().local_as(|header| {
                    header.flags &= !FLAG_DESCRIPTOR;
                    header.size = 1 << 30;
                    header.compressed = 1 << 30;
                });
            })
        },
    );
    group.refused(
        "local-method-differs",
        "the local header says that the bytes are deflated",
        || {
            changed(|archive| {
                archive.entries[STORAGE] = archive.entries[STORAGE]
                    .clone()
                    .local_as(|header| header.method = 8);
            })
        },
    );
    group.refused(
        "local-encrypted",
        "only the local header says that the entry is encrypted",
        || {
            changed(|archive| {
                archive.entries[STORAGE] = archive.entries[STORAGE]
                    .clone()
                    .local_as(|header| header.flags |= FLAG_ENCRYPTED);
            })
        },
    );
    group.refused(
        "descriptor-lies",
        "the data descriptor has other sizes and another CRC",
        || {
            changed(|archive| {
                let mut header = EntryHeader::stored("", &[]);
                header.crc32 = 1;
                header.size = 4;
                header.compressed = 4;
                archive.entries[STORAGE].descriptor = header.descriptor();
            })
        },
    );
    group.refused(
        "descriptor-missing",
        "the data descriptor is missing",
        || changed(|archive| archive.entries[STORAGE].descriptor.clear()),
    );
    group.refused(
        "extra-broken",
        "an extra field is longer than all extra fields",
        || {
            listed(STORAGE, |header| {
                header.extra = vec![b'F', b'B', 0xff, 0xff];
            })
        },
    );
    group.refused(
        "local-crc-differs",
        "the local header has another CRC-32 and no descriptor follows",
        || {
            changed(|archive| {
                let entry = &mut archive.entries[STORAGE];
                for header in [&mut entry.local, &mut entry.listed].into_iter().flatten() {
                    header.flags &= !FLAG_DESCRIPTOR;
                }
                entry.descriptor.clear();
                *entry = entry.clone().local_as(|header| header.crc32 ^= 1);
            })
        },
    );
    group.refused(
        "extra-unicode-path",
        "an extra field gives the entry another name, which some readers take",
        || {
            listed(STORAGE, |header| {
                let name = b"archive/data/9";
                let mut field = vec![1];
                field.extend_from_slice(&crc32fast::hash(&header.name).to_le_bytes());
                field.extend_from_slice(name);
                header.extra = vec![0x75, 0x70, field.len() as u8, 0];
                header.extra.extend_from_slice(&field);
            })
        },
    );
    group.refused(
        "unlisted-entry-first",
        "the first entry of the file is one that the directory does not list",
        || {
            changed(|archive| {
                let mut hidden = RawEntry::stored("archive/data/1", b"hidden");
                hidden.listed = None;
                archive.entries.insert(0, hidden);
            })
        },
    );
    group.refused(
        "unlisted-entry-last",
        "the last entry of the file is one that the directory does not list",
        || {
            changed(|archive| {
                let mut hidden = RawEntry::stored("archive/data/1", b"hidden");
                hidden.listed = None;
                archive.entries.push(hidden);
            })
        },
    );
    group.refused(
        "unlisted-entry",
        "the file has an entry that the directory does not list",
        || {
            changed(|archive| {
                let mut hidden = RawEntry::stored("archive/data/1", b"hidden");
                hidden.listed = None;
                archive.entries.insert(1, hidden);
            })
        },
    );
    group.refused("split-size", "stored, but the two sizes differ", || {
        listed(STORAGE, |header| header.size = 1 << 30)
    });
}
