use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::parts::{BYTE_ORDER, PICKLE, STORAGE, archive, cuts, state, weight, weight_bytes};
use super::{Case, Group};
use crate::content;
use crate::zip::{
    DEFLATED, EndRecords, EntryHeader, FLAG_DESCRIPTOR, FLAG_ENCRYPTED, RawArchive, RawEntry,
    deflate,
};

/// Adds zip archives that lie, and odd ones that do not.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "zip",
        file_name: "pytorch_model.bin",
        all,
    };
    sound(&mut group);
    names(&mut group);
    placement(&mut group);
    headers(&mut group);
    compression(&mut group);
    end_records(&mut group);
    byte_orders(&mut group);
    damage(&mut group);
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
        ended(|end| end.comment = b"written by a second hand".to_vec())
    });
    group.loads(
        "no-zip64",
        "the archive has no zip64 records",
        weight(),
        || ended(|end| end.zip64 = false),
    );
    group.loads(
        "no-descriptors",
        "sizes stand before the bytes",
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
        "entries of other kinds stand beside",
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
            move || listed(entry, |header| header.crc32 ^= 0xdead_beef),
        );
    }
}

fn names(group: &mut Group<'_>) {
    for (name, entry) in [("duplicate-storage", STORAGE), ("duplicate-pickle", PICKLE)] {
        group.refused(name, "two entries have one name", move || {
            changed(|archive| {
                let again = archive.entries[entry].clone();
                archive.entries.push(again);
            })
        });
    }
    group.refused(
        "duplicate-other-bytes",
        "two storages have one name and other bytes",
        || {
            changed(|archive| {
                archive
                    .entries
                    .push(RawEntry::stored("archive/data/0", &[9; 16]));
            })
        },
    );
    group.refused("no-pickle", "there is no data.pkl", || {
        changed(|archive| {
            archive.entries.remove(PICKLE);
        })
    });
    group.refused("pickle-folder", "data.pkl is a folder", || {
        changed(|archive| archive.entries[PICKLE] = RawEntry::stored("archive/data.pkl/", b""))
    });
    group.refused("pickle-empty", "data.pkl is empty", || {
        changed(|archive| archive.entries[PICKLE] = RawEntry::stored("archive/data.pkl", b""))
    });
    group.refused("storage-missing", "the storage is not there", || {
        changed(|archive| {
            archive.entries.remove(STORAGE);
        })
    });
    group.refused(
        "storage-elsewhere",
        "the storage lies under another root folder",
        || {
            changed(|archive| {
                archive.entries[STORAGE] = RawEntry::stored("other/data/0", &weight_bytes());
            })
        },
    );
    for (name, extra) in [
        ("name-parent", "../evil"),
        ("name-parent-within", "archive/../../evil"),
        ("name-absolute", "/tmp/hostile-canary"),
        ("name-backslash", "archive\\data\\0"),
        ("name-drive", "C:/evil"),
        ("name-empty", ""),
        ("name-nul", "archive/data/0\0.txt"),
        ("name-other-case", "ARCHIVE/DATA/0"),
        ("name-two-slashes", "archive//data/0"),
    ] {
        let why = format!("an entry is called {extra:?}");
        group.either(name, &why, move || {
            changed(|archive| archive.entries.push(RawEntry::stored(extra, b"evil")))
        });
    }
    for (name, root) in [
        ("root-parent", "../"),
        ("root-none", ""),
        ("root-absolute", "/archive/"),
        ("root-nested", "a/b/"),
        ("root-backslash", "archive\\"),
    ] {
        let why = format!("the root folder is {root:?}");
        group.either(name, &why, move || renamed(root).bytes());
    }
    group.either(
        "two-roots",
        "two root folders hold a checkpoint each",
        || changed(|archive| archive.entries.extend(renamed("other/").entries)),
    );
    group.either("name-not-utf8", "an entry's name is not UTF-8", || {
        changed(|archive| {
            let name = b"archive/\xff\xfe".to_vec();
            archive.entries.push(RawEntry::stored(name, b"x"));
        })
    });
}

fn placement(group: &mut Group<'_>) {
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
    group.refused(
        "overlap-next",
        "an entry reaches into the one behind it",
        || {
            listed(STORAGE, |header| {
                header.size += 60;
                header.compressed += 60;
            })
        },
    );
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
        let why = format!("an entry is said to be at {offset}, where none is");
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

fn headers(group: &mut Group<'_>) {
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
        "sizes are said to be in a zip64 field that is not there",
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
            changed(|archive| {
                archive.entries[STORAGE] = archive.entries[STORAGE].clone().listed_as(|header| {
                    // Written before any field that the assembler adds: none is needed.
                    header.extra = vec![1, 0, 4, 0, 0, 0, 0, 0];
                });
            })
            .pipe(|mut bytes| {
                let storage = nth(&bytes, b"PK\x01\x02", STORAGE).expect("there is a directory");
                bytes[storage + 20..storage + 28].copy_from_slice(&[0xff; 8]);
                bytes
            })
        },
    );

    group.either(
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
    group.either(
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
    group.either(
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
    group.either(
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
    group.either(
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
    group.either(
        "descriptor-missing",
        "the data descriptor is not there",
        || changed(|archive| archive.entries[STORAGE].descriptor.clear()),
    );
    group.either(
        "extra-broken",
        "an extra field is longer than all extra fields",
        || {
            listed(STORAGE, |header| {
                header.extra = vec![b'F', b'B', 0xff, 0xff];
            })
        },
    );
    group.either(
        "unlisted-entry",
        "an entry stands in the file that the directory does not list",
        || {
            changed(|archive| {
                let mut hidden = RawEntry::stored("archive/data/1", b"hidden");
                hidden.listed = None;
                archive.entries.insert(1, hidden);
            })
        },
    );
    group.either("split-size", "stored, but the two sizes differ", || {
        listed(STORAGE, |header| header.size = 1 << 30)
    });
}

/// The rest of a chain that begins with a value.
trait Pipe: Sized {
    fn pipe<T>(self, next: impl FnOnce(Self) -> T) -> T {
        next(self)
    }
}

impl Pipe for Vec<u8> {}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    nth(bytes, needle, 0)
}

fn nth(bytes: &[u8], needle: &[u8], n: usize) -> Option<usize> {
    let mut places = bytes.windows(needle.len()).enumerate();
    let mut found = places.by_ref().filter(|(_, window)| *window == needle);
    found.nth(n).map(|(place, _)| place)
}

fn compression(group: &mut Group<'_>) {
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
    group.refused("inflate-broken", "a storage is no deflate stream", || {
        changed(|archive| {
            let mut entry = RawEntry::deflated("archive/data/0", &weight_bytes());
            entry.bytes.fill(0xff);
            archive.entries[STORAGE] = entry;
        })
    });
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
        "the pickle is said to inflate to 2^62 bytes",
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

fn end_records(group: &mut Group<'_>) {
    type Change = fn(&mut EndRecords);
    let refused: [(&str, &str, Change); 9] = [
        (
            "end-offset-past-end",
            "the directory is said to begin past the end",
            |end| end.directory_offset = 1 << 40,
        ),
        (
            "end-offset-max",
            "the directory is said to begin at the last number",
            |end| end.directory_offset = u64::MAX,
        ),
        (
            "end-offset-zero",
            "the directory is said to begin at the first entry",
            |end| end.directory_offset = 0,
        ),
        (
            "end-offset-off-by-one",
            "the directory is said to begin a byte later",
            |end| end.directory_offset += 1,
        ),
        (
            "end-entries-more",
            "there are said to be more entries than there are",
            |end| end.entries += 1,
        ),
        (
            "end-entries-million",
            "there are said to be 1,000,000 entries",
            |end| end.entries = 1_000_000,
        ),
        (
            "end-entries-max",
            "there are said to be 2^64 - 1 entries",
            |end| end.entries = u64::MAX,
        ),
        (
            "locator-past-end",
            "the zip64 record is said to be past the end",
            |end| end.zip64_offset = Some(1 << 40),
        ),
        (
            "locator-max",
            "the zip64 record is said to be at the last number",
            |end| end.zip64_offset = Some(u64::MAX),
        ),
    ];
    for (name, why, change) in refused {
        // Only zip64 records hold the large ones, so the older record alone cannot save a reader.
        group.refused(name, why, move || hide_small(ended(change)));
    }
    let either: [(&str, &str, Change); 7] = [
        (
            "end-size-zero",
            "the directory is said to be empty",
            |end| end.directory_size = 0,
        ),
        (
            "end-size-more",
            "the directory is said to be longer than it is",
            |end| end.directory_size += 1,
        ),
        (
            "end-size-less",
            "the directory is said to be shorter than it is",
            |end| end.directory_size -= 1,
        ),
        (
            "end-size-max",
            "the directory is said to have 2^64 - 1 bytes",
            |end| end.directory_size = u64::MAX,
        ),
        (
            "end-entries-fewer",
            "the last entry is not counted",
            |end| end.entries -= 1,
        ),
        (
            "locator-zero",
            "the zip64 record is said to be the first entry",
            |end| end.zip64_offset = Some(0),
        ),
        (
            "comment-with-signature",
            "the comment looks like another end record",
            |end| {
                end.comment = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
            },
        ),
    ];
    for (name, why, change) in either {
        group.either(name, why, move || ended(change));
    }
    group.refused("end-missing", "the end records are not there", || {
        let mut bytes = archive().bytes();
        let end = find(&bytes, b"PK\x06\x06").expect("there is a zip64 record");
        bytes.truncate(end);
        bytes
    });
    group.refused("end-only", "the end record alone", || {
        let bytes = archive().bytes();
        bytes[find(&bytes, b"PK\x05\x06").expect("there is an end record")..].to_vec()
    });
    group.either(
        "end-comment-long",
        "the comment is said to be longer than the file",
        || {
            let mut bytes = archive().bytes();
            let len = bytes.len();
            bytes[len - 2..].copy_from_slice(&[0xff; 2]);
            bytes
        },
    );
    group.either(
        "end-disks",
        "the archive is said to be split over disks",
        || {
            let mut bytes = archive().bytes();
            let end = find(&bytes, b"PK\x05\x06").expect("there is an end record");
            bytes[end + 4..end + 8].copy_from_slice(&[7, 0, 7, 0]);
            bytes
        },
    );
    group.either(
        "end-counts-differ",
        "the two end records count differently",
        || {
            let mut bytes = archive().bytes();
            let end = find(&bytes, b"PK\x05\x06").expect("there is an end record");
            bytes[end + 8..end + 12].copy_from_slice(&[1, 0, 1, 0]);
            bytes
        },
    );
    group.either("bytes-behind", "1,000 bytes follow the end record", || {
        changed(|archive| archive.suffix = vec![b'x'; 1000])
    });
    group.either(
        "bytes-before",
        "100 bytes stand before the first entry",
        || changed(|archive| archive.prefix = vec![b'x'; 100]),
    );
    group.either(
        "bytes-before-unaware",
        "100 bytes stand before an archive that does not know of them",
        || {
            let mut bytes = vec![b'x'; 100];
            bytes.extend(archive().bytes());
            bytes
        },
    );
    group.either(
        "bytes-between",
        "100 bytes stand before the directory",
        || changed(|archive| archive.before_directory = vec![b'x'; 100]),
    );
    group.either("two-archives", "two archives follow each other", || {
        let mut bytes = archive().bytes();
        bytes.extend(archive().bytes());
        bytes
    });
}

/// Makes the older end record defer to the zip64 record in every number.
fn hide_small(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = find(&bytes, b"PK\x05\x06").expect("there is an end record");
    bytes[end + 8..end + 20].fill(0xff);
    bytes
}

fn byte_orders(group: &mut Group<'_>) {
    for (name, record) in [
        ("byteorder-unknown", "middle"),
        ("byteorder-empty", ""),
        ("byteorder-case", "LITTLE"),
        ("byteorder-longer", "little-endian"),
    ] {
        let why = format!("the byte order is {record:?}");
        group.refused(name, &why, move || {
            changed(|archive| {
                let record = record.as_bytes();
                archive.entries[BYTE_ORDER] = RawEntry::stored("archive/byteorder", record);
            })
        });
    }
    group.loads(
        "byteorder-big",
        "the storages are big-endian and the archive says so",
        weight(),
        || {
            changed(|archive| {
                archive.entries[BYTE_ORDER] = RawEntry::stored("archive/byteorder", b"big");
                let mut bytes = weight_bytes();
                bytes.chunks_exact_mut(4).for_each(<[u8]>::reverse);
                archive.entries[STORAGE] = RawEntry::stored("archive/data/0", &bytes);
            })
        },
    );
    group.either("version-future", "the version is 99999999999", || {
        changed(|archive| {
            archive.entries[3] = RawEntry::stored("archive/version", b"99999999999\n");
        })
    });
    group.either("version-text", "the version is no number", || {
        changed(|archive| archive.entries[3] = RawEntry::stored("archive/version", b"new"))
    });
    group.either("version-missing", "the version record is not there", || {
        changed(|archive| {
            archive.entries.remove(3);
        })
    });
    group.either(
        "alignment-text",
        "the alignment record is no number",
        || {
            changed(|archive| {
                let record = RawEntry::stored("archive/.storage_alignment", b"wide");
                archive.entries.push(record);
            })
        },
    );
}

fn damage(group: &mut Group<'_>) {
    let whole = archive().bytes();
    for cut in cuts(whole.len(), 40).into_iter().skip(1) {
        let whole = whole.clone();
        group.refused(
            &format!("cut-{cut}"),
            &format!("only the first {cut} bytes are there"),
            move || whole[..cut].to_vec(),
        );
    }
    for round in 0..48u64 {
        let whole = whole.clone();
        let place = (content::stream(0xf11b, round) % whole.len() as u64) as usize;
        let flip = 1 << (round % 8);
        let why = format!("bit {} of byte {place} is flipped", round % 8);
        group.either(&format!("flip-{round}"), &why, move || {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            bytes
        });
    }
    // A deflated archive has other places to break.
    let deflated = || {
        changed(|archive| {
            archive.entries[PICKLE] = RawEntry::deflated("archive/data.pkl", &state());
        })
    };
    for round in 0..16u64 {
        let first = deflated()
            .windows(8)
            .position(|window| window == b"data.pkl");
        let first = first.expect("the pickle's name") + 8;
        let place =
            first + (content::stream(0xdef1, round) % deflate(&state()).len() as u64) as usize;
        let why = format!("a bit of byte {place}, in a deflate stream, is flipped");
        group.either(&format!("flip-deflated-{round}"), &why, move || {
            let mut bytes = deflated();
            bytes[place] ^= 1 << (round % 8);
            bytes
        });
    }
}
