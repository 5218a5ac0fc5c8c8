use super::super::Group;
use super::super::parts::{archive, weight};
use super::{changed, ended, find};
use crate::zip::EndRecords;

pub(super) fn add(group: &mut Group<'_>) {
    type Change = fn(&mut EndRecords);
    let refused: [(&str, &str, Change); 9] = [
        (
            "end-offset-past-end",
            "the directory is declared to begin past the end",
            |end| end.directory_offset = 1 << 40,
        ),
        (
            "end-offset-max",
            "the directory is declared to begin at the last number",
            |end| end.directory_offset = u64::MAX,
        ),
        (
            "end-offset-zero",
            "the directory is declared to begin at the first entry",
            |end| end.directory_offset = 0,
        ),
        (
            "end-offset-off-by-one",
            "the directory is declared to begin a byte later",
            |end| end.directory_offset += 1,
        ),
        (
            "end-entries-more",
            "there are declared to be more entries than there are",
            |end| end.entries += 1,
        ),
        (
            "end-entries-million",
            "there are declared to be 1,000,000 entries",
            |end| end.entries = 1_000_000,
        ),
        (
            "end-entries-max",
            "there are declared to be 2^64 - 1 entries",
            |end| end.entries = u64::MAX,
        ),
        (
            "locator-past-end",
            "the zip64 record is declared to be past the end",
            |end| end.zip64_offset = Some(1 << 40),
        ),
        (
            "locator-max",
            "the zip64 record is declared to be at the last number",
            |end| end.zip64_offset = Some(u64::MAX),
        ),
    ];
    for (name, why, change) in refused {
        // Only zip64 records hold the large ones, so the older record alone cannot save a reader.
        group.refused(name, why, move || hide_small(ended(change)));
    }
    let told_twice: [(&str, &str, Change); 9] = [
        (
            "end-size-zero",
            "the directory is declared to be empty",
            |end| end.directory_size = 0,
        ),
        (
            "end-size-40-bits",
            "the directory is declared to have 2^40 bytes",
            |end| end.directory_size = 1 << 40,
        ),
        (
            "end-offset-less",
            "the directory is declared to begin a byte earlier",
            |end| end.directory_offset -= 1,
        ),
        (
            "end-size-more",
            "the directory is declared to be longer than it is",
            |end| end.directory_size += 1,
        ),
        (
            "end-size-less",
            "the directory is declared to be shorter than it is",
            |end| end.directory_size -= 1,
        ),
        (
            "end-size-max",
            "the directory is declared to have 2^64 - 1 bytes",
            |end| end.directory_size = u64::MAX,
        ),
        (
            "end-entries-fewer",
            "the last entry is not counted",
            |end| end.entries -= 1,
        ),
        (
            "locator-zero",
            "the zip64 record is declared to be the first entry",
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
    for (name, why, change) in told_twice {
        group.refused(name, why, move || ended(change));
        // Said by the zip64 record alone, and by the older record alone.
        let has_comment = name.starts_with("comment");
        if !has_comment {
            let deferred = format!("{name}-deferred");
            group.refused(&deferred, why, move || hide_small(ended(change)));
        }
        // Some are what another one is in 32 bits.
        let is_wide = matches!(name, "end-size-max" | "end-size-40-bits");
        if !has_comment && !name.starts_with("locator") && !is_wide {
            let why = format!("{why}, and there is no zip64 record");
            let older = format!("{name}-no-zip64");
            group.refused(&older, &why, move || {
                ended(|end| {
                    change(end);
                    end.zip64 = false;
                })
            });
        }
    }
    group.refused("end-missing", "the end records are missing", || {
        let mut bytes = archive().bytes();
        let end = find(&bytes, b"PK\x06\x06").expect("there is a zip64 record");
        bytes.truncate(end);
        bytes
    });
    group.refused("end-only", "the end record alone", || {
        let bytes = archive().bytes();
        bytes[find(&bytes, b"PK\x05\x06").expect("there is an end record")..].to_vec()
    });
    group.refused(
        "end-comment-long",
        "the comment is declared to be longer than the file",
        || {
            let mut bytes = archive().bytes();
            let len = bytes.len();
            bytes[len - 2..].copy_from_slice(&[0xff; 2]);
            bytes
        },
    );
    group.refused(
        "end-disks",
        "the archive is declared to be split over disks",
        || {
            let mut bytes = archive().bytes();
            let end = find(&bytes, b"PK\x05\x06").expect("there is an end record");
            bytes[end + 4..end + 8].copy_from_slice(&[7, 0, 7, 0]);
            bytes
        },
    );
    group.refused(
        "end-counts-differ",
        "the two end records count differently",
        || {
            let mut bytes = archive().bytes();
            let end = find(&bytes, b"PK\x05\x06").expect("there is an end record");
            bytes[end + 8..end + 12].copy_from_slice(&[1, 0, 1, 0]);
            bytes
        },
    );
    for (name, why, suffix) in [
        (
            "bytes-behind",
            "1,000 bytes follow the end record",
            vec![b'x'; 1000],
        ),
        (
            "zeros-behind",
            "60,000 zeros follow the end record",
            vec![0; 60_000],
        ),
        (
            "newline-behind",
            "a line end follows the end record",
            b"\n".to_vec(),
        ),
    ] {
        group.loads(name, why, weight(), move || {
            changed(|archive| archive.suffix = suffix.clone())
        });
    }
    group.refused(
        "zeros-far-behind",
        "more zeros follow the end record than readers search for it",
        || changed(|archive| archive.suffix = vec![0; 70_000]),
    );
    group.refused("half-zeros", "the second half of the file is zeros", || {
        let mut bytes = archive().bytes();
        let half = bytes.len() / 2;
        bytes[half..].fill(0);
        bytes
    });
    group.refused(
        "archive-in-comment",
        "the comment is another archive, whose end record readers find first",
        || {
            let inner = archive().bytes();
            ended(|end| end.comment = inner)
        },
    );
    group.refused(
        "cut-archive-behind",
        "another archive follows, whose end is missing",
        || {
            let mut bytes = archive().bytes();
            bytes.extend(&archive().bytes()[..300]);
            bytes
        },
    );
    group.refused(
        "end-record-behind",
        "another end record follows, of an archive without entries",
        || {
            let mut bytes = archive().bytes();
            bytes.extend_from_slice(b"PK\x05\x06");
            bytes.resize(bytes.len() + 18, 0);
            bytes
        },
    );
    group.refused(
        "bytes-before",
        "100 bytes are before the first entry",
        || changed(|archive| archive.prefix = vec![b'x'; 100]),
    );
    group.refused(
        "bytes-before-unaware",
        "100 bytes are before an archive whose offsets do not count them",
        || {
            let mut bytes = vec![b'x'; 100];
            bytes.extend(archive().bytes());
            bytes
        },
    );
    group.loads(
        "bytes-between",
        "100 bytes are before the directory",
        weight(),
        || changed(|archive| archive.before_directory = vec![b'x'; 100]),
    );
    group.refused("two-archives", "two archives follow each other", || {
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
