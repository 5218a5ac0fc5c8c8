//! An archive is what its end record says, whole; a file of pickles is read to its end.

use std::io::{Cursor, Read, Seek, SeekFrom, Write};

use proptest::prelude::*;
use tensorlift_format_torchzip::{
    ArchiveProblem, EntryProblem, Error, Format, Policy, ReadOptions, TorchFile, Unclaimed,
    UnclaimedPlace, read,
};
use tensorlift_storage::{FileStorage, MemoryStorage, StorageExt};
use tensorlift_tensor_meta::Source;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::write::{Pickle, archive};

fn open(bytes: &[u8]) -> Result<TorchFile, Error> {
    read(&MemoryStorage::new(bytes.to_vec()), &ReadOptions::default())
}

fn open_strictly(bytes: &[u8]) -> Result<TorchFile, Error> {
    let mut options = ReadOptions::default();
    options.policy = Policy::Strict;
    read(&MemoryStorage::new(bytes.to_vec()), &options)
}

/// `{"w": …}` over the storage `0`.
fn pickle() -> Vec<u8> {
    let pickle = Pickle::new().raw(b"}").text("w").vector("Byte", "0", 3);
    pickle.raw(b"s").stop()
}

fn sample() -> Vec<u8> {
    archive("archive", &pickle(), &[("0", b"abc")])
}

fn position(bytes: &[u8], needle: &[u8]) -> usize {
    let found = bytes.windows(needle.len()).position(|it| it == needle);
    found.expect("the needle is there")
}

/// Asserts that a file loads with these bytes named, and that the strict policy refuses it.
fn names_unclaimed(bytes: &[u8], expected: (u64, u64, UnclaimedPlace, bool)) {
    let file = open(bytes).unwrap();
    let found: Vec<_> = file
        .unclaimed()
        .iter()
        .map(|it: &Unclaimed| (it.offset, it.byte_len, it.place, it.zeros))
        .collect();
    assert_eq!(found, [expected]);
    let error = open_strictly(bytes).unwrap_err();
    assert!(
        matches!(error, Error::Unclaimed(it) if it.offset == expected.0),
        "{error}"
    );
}

#[test]
fn a_sound_archive_claims_every_byte() {
    let file = open_strictly(&sample()).unwrap();
    assert!(file.unclaimed().is_empty());
}

#[test]
fn bytes_behind_an_archive_are_named() {
    let sound = sample();
    let len = sound.len() as u64;
    let place = UnclaimedPlace::Archive;
    for (behind, zeros) in [
        (&b"\n"[..], false),
        (&b"\r\n"[..], false),
        (&[0], true),
        (&[0; 4096], true),
        (&[0; 65_000], true),
        (b"PK", false),
        (b"text", false),
    ] {
        let file = [&sound[..], behind].concat();
        names_unclaimed(&file, (len, behind.len() as u64, place, zeros));
    }
}

#[test]
fn zeros_that_hide_the_end_are_counted() {
    let sound = sample();
    for zeros in [65_536u64, 70_000, 3 << 20] {
        let mut file = sound.clone();
        let end = file.len() as u64 + zeros;
        file.resize(end as usize, 0);
        // The end record ends in a comment length of zero.
        let found = match open(&file) {
            Err(Error::ZerosAtEnd { zeros, len }) if len == end => zeros,
            other => panic!("{other:?}"),
        };
        assert!((zeros..zeros + 8).contains(&found), "{found}");
    }
    let mut half = sound.clone();
    let middle = half.len() / 2;
    half[middle..].fill(0);
    assert!(matches!(open(&half), Err(Error::ZerosAtEnd { .. })));
}

#[test]
fn comments_are_legal_and_end_in_the_file() {
    let with_comment = |comment: &[u8], declared: usize| {
        let mut file = sample();
        let at = file.len() - 2;
        file[at..].copy_from_slice(&(declared as u16).to_le_bytes());
        file.extend_from_slice(comment);
        file
    };
    let full = vec![b'c'; 65_535];
    for comment in [&b"c"[..], b"PK\x03\x04", b"PK\x01\x02", &[0; 100], &full] {
        let file = open_strictly(&with_comment(comment, comment.len())).unwrap();
        assert!(file.unclaimed().is_empty());
    }
    let len = sample().len() as u64;
    let place = UnclaimedPlace::Archive;
    names_unclaimed(&with_comment(b"note\0\0", 4), (len + 4, 2, place, true));
    let error = open(&with_comment(b"note", 5)).unwrap_err();
    assert!(
        matches!(error, Error::Archive(ArchiveProblem::CommentPastEnd { .. })),
        "{error}"
    );
}

#[test]
fn other_archives_and_prefixes_are_refused() {
    let (first, second) = (sample(), archive("other", &pickle(), &[("0", b"xyz")]));
    let two = [&first[..], &second].concat();
    let expected = first.len() as u64;
    match open(&two) {
        Err(Error::Archive(ArchiveProblem::SecondArchive { offset })) => {
            assert_eq!(offset, expected);
            // The remedy: each part is an archive.
            let (head, tail) = two.split_at(offset as usize);
            assert_eq!((head, tail), (&first[..], &second[..]));
        }
        other => panic!("{other:?}"),
    }
    let prefixed = [b"#!/bin/sh\n", &first[..]].concat();
    // A prefix that looks like nothing known is no PyTorch file at all.
    assert!(open(&prefixed).is_err());
    let cut = [&first[..], &second[..second.len() - 60]].concat();
    let error = open(&cut).unwrap_err();
    assert!(
        matches!(error, Error::Archive(ArchiveProblem::Unlisted { .. })),
        "{error}"
    );
    // The end record of one in the comment of another.
    let mut within = first.clone();
    let at = within.len() - 2;
    within[at..].copy_from_slice(&(second.len() as u16).to_le_bytes());
    within.extend_from_slice(&second);
    let error = open(&within).unwrap_err();
    assert!(
        matches!(error, Error::Archive(ArchiveProblem::SecondArchive { .. })),
        "{error}"
    );
}

#[test]
fn every_number_of_the_end_record_counts() {
    let sound = sample();
    let end = sound.len() - 22;
    for field in (4..22).step_by(2) {
        for change in [1u16, 0x8000, u16::MAX] {
            let mut file = sound.clone();
            let at = end + field;
            let number = u16::from_le_bytes([file[at], file[at + 1]]);
            let changed = number.wrapping_add(change);
            file[at..at + 2].copy_from_slice(&changed.to_le_bytes());
            assert!(open(&file).is_err(), "bytes {field} and on are {changed}");
        }
    }
}

/// The sample with zip64 end records, as PyTorch writes them.
fn with_zip64() -> Vec<u8> {
    let mut file = sample();
    let end = file.split_off(file.len() - 22);
    let number = |at: usize, len: usize| {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&end[at..at + len]);
        u64::from_le_bytes(bytes)
    };
    let start = file.len() as u64;
    file.extend_from_slice(b"PK\x06\x06");
    file.extend_from_slice(&44u64.to_le_bytes());
    file.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for value in [number(8, 2), number(10, 2), number(12, 4), number(16, 4)] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    file.extend_from_slice(&start.to_le_bytes());
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(&end);
    file
}

#[test]
fn every_number_of_the_zip64_records_counts() {
    let sound = with_zip64();
    assert!(open_strictly(&sound).is_ok());
    let record = sound.len() - 22 - 20 - 56;
    // Length, disks, both counts, length and offset of the directory; then the locator.
    for (field, len) in [
        (4, 8),
        (16, 4),
        (20, 4),
        (24, 8),
        (32, 8),
        (40, 8),
        (48, 8),
        (60, 4),
        (64, 8),
    ] {
        for bit in 0..len * 8 {
            let mut file = sound.clone();
            file[record + field + bit / 8] ^= 1 << (bit % 8);
            assert!(open(&file).is_err(), "bit {bit} of the field at {field}");
        }
    }
    // The older record may defer to the newer one, but not contradict it.
    let end = sound.len() - 22;
    let mut deferring = sound.clone();
    deferring[end + 8..end + 20].fill(0xff);
    assert!(open_strictly(&deferring).is_ok());
    let mut file = sound.clone();
    file[end + 10] += 1;
    let error = open(&file).unwrap_err();
    assert!(
        matches!(error, Error::Archive(ArchiveProblem::EndsDisagree { .. })),
        "{error}"
    );
}

#[test]
fn bytes_between_entries_are_named_unless_they_are_an_entry() {
    let sound = sample();
    let directory = position(&sound, b"PK\x01\x02");
    let between = |bytes: &[u8]| {
        let mut file = sound.clone();
        file.splice(directory..directory, bytes.iter().copied());
        let offset = file.len() - 6;
        let moved = (directory + bytes.len()) as u32;
        file[offset..offset + 4].copy_from_slice(&moved.to_le_bytes());
        file
    };
    let place = UnclaimedPlace::Entry;
    let large = vec![0; 200_000];
    for (bytes, zeros) in [(&b"text"[..], false), (&[0; 7], true), (&large, true)] {
        let expected = (directory as u64, bytes.len() as u64, place, zeros);
        names_unclaimed(&between(bytes), expected);
    }
    // Wherever a record begins, across two pieces of what is looked through too.
    for before in [
        0, 1, 65_533, 65_534, 65_535, 65_536, 131_066, 131_070, 150_000,
    ] {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(b"PK\x03\x04");
        bytes.resize(200_000, 0);
        match open(&between(&bytes)) {
            Err(Error::Archive(ArchiveProblem::Unlisted { offset, .. })) => {
                assert_eq!(offset, (directory + before) as u64);
            }
            other => panic!("{before}: {other:?}"),
        }
    }
}

#[test]
fn names_that_other_readers_take_for_one_are_refused() {
    let twins = |names: [&str; 2]| {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file("a/data.pkl", options).unwrap();
        writer.write_all(b"\x80\x02}.").unwrap();
        for name in names {
            writer.start_file(name, options).unwrap();
        }
        open(&writer.finish().unwrap().into_inner())
    };
    for names in [
        ["a/data/a", "a/data/A"],
        ["a/DATA.pkl", "a/x"],
        ["a/x", "A/X"],
    ] {
        match twins(names) {
            Err(Error::Entry { problem, .. }) => {
                assert!(
                    matches!(problem, EntryProblem::Duplicate { .. }),
                    "{problem}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    // Classes of TorchScript may differ in case.
    assert!(twins(["a/code/net/Layer.py", "a/code/net/layer.py"]).is_ok());
    let mut file = sample();
    for _ in 0..2 {
        let at = position(&file, b"data.pkl");
        file[at + 2] = 0;
    }
    match open(&file) {
        Err(Error::Entry { problem, .. }) => assert_eq!(problem, EntryProblem::ZeroInName),
        other => panic!("{other:?}"),
    }
}

fn preamble(magic: &[u8]) -> Vec<u8> {
    [
        magic,
        b"\x80\x02M\xe9\x03.",
        b"\x80\x02}.",
        b"\x80\x02}.",
        b"\x80\x02].",
    ]
    .concat()
}

#[test]
fn the_magic_number_is_compared_by_value() {
    let magics: [&[u8]; 6] = [
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
        // With needless high bytes, and with a length of four bytes.
        b"\x80\x02\x8a\x0cl\xfc\x9cF\xf9 j\xa8P\x19\0\0.",
        b"\x80\x02\x8b\x0a\0\0\0l\xfc\x9cF\xf9 j\xa8P\x19.",
        // In a frame, and put into the memo.
        b"\x80\x04\x95\x0e\0\0\0\0\0\0\0\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\x94.",
        // As text, of protocols 0 and 1.
        b"L119547037146038801333356L\n.",
        b"I119547037146038801333356\n.",
    ];
    for magic in magics {
        let file = open(&preamble(magic)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(file.format(), Format::Legacy, "{}", magic.escape_ascii());
    }
    let sound = preamble(magics[0]);
    for bit in 4 * 8..14 * 8 {
        let mut file = sound.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        let error = open(&file).unwrap_err();
        assert!(matches!(error, Error::Magic { .. }), "bit {bit}: {error}");
    }
}

#[test]
fn a_root_that_is_no_container_is_an_error() {
    for (pickle, expected) in [
        (&b"\x80\x02N."[..], "None"),
        (b"\x80\x02\x88.", "bool"),
        (b"\x80\x02X\x03\0\0\0abc.", "str"),
        (b"\x80\x03C\x03abc.", "bytes"),
        (b"\x80\x02G\0\0\0\0\0\0\0\0.", "float"),
        (b"\x80\x02cos\nsystem\n.", "os.system"),
    ] {
        let error = open(pickle).unwrap_err();
        assert!(matches!(error, Error::NoContainer { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    for number in [
        &b"\x80\x02K\x03."[..],
        b"\x80\x02\x8a\x01\xff.",
        b"\x80\x02M\xe9\x03.",
    ] {
        assert!(matches!(open(number), Err(Error::Magic { .. })));
    }
    for pickle in [
        &b"\x80\x02}."[..],
        b"\x80\x02].",
        b"\x80\x02).",
        b"\x80\x04\x8f.",
    ] {
        assert!(open(pickle).is_ok(), "{}", pickle.escape_ascii());
    }
}

#[test]
fn a_second_object_is_refused_and_other_bytes_are_named() {
    let bare = b"\x80\x02}X\x01\0\0\0aK\x01s.";
    let legacy = preamble(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.");
    let seconds: [&[u8]; 4] = [bare, b"\x80\x02", b"(dp0\nS'a'\np1\nI1\ns.", &legacy];
    for (first, place) in [
        (&bare[..], UnclaimedPlace::Pickle),
        (&legacy, UnclaimedPlace::Storages),
    ] {
        for second in seconds {
            match open(&[first, second].concat()) {
                Err(Error::SecondObject { offset }) => assert_eq!(offset, first.len() as u64),
                other => panic!("{other:?}"),
            }
        }
        assert!(open_strictly(first).unwrap().unclaimed().is_empty());
        for (behind, zeros) in [
            (&b"\n"[..], false),
            (&[0], true),
            (&[0; 70_000], true),
            (b"##", false),
        ] {
            let expected = (first.len() as u64, behind.len() as u64, place, zeros);
            names_unclaimed(&[first, behind].concat(), expected);
        }
    }
    // The same within the pickle of an archive.
    let two = archive("a", &[pickle(), pickle()].concat(), &[("0", b"abc")]);
    assert!(matches!(open(&two), Err(Error::SecondObject { .. })));
    let padded = archive("a", &[&pickle()[..], &[0; 5]].concat(), &[("0", b"abc")]);
    let at = position(&padded, b"\0\0\0\0\0PK") as u64;
    names_unclaimed(&padded, (at, 5, UnclaimedPlace::Pickle, true));
}

/// Archives of every kind that the crate `zip` writes.
fn written() -> impl Strategy<Value = Vec<u8>> {
    let entry = (
        "[a-c/.]{1,6}",
        prop::collection::vec(0u8..4, 0..40),
        any::<bool>(),
    );
    let comment = prop::option::of("[a-z]{0,20}");
    (prop::collection::vec(entry, 0..5), comment).prop_map(|(entries, comment)| {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file("r/data.pkl", options).unwrap();
        writer.write_all(b"\x80\x02}.").unwrap();
        for (name, data, large) in entries {
            // A name that is given twice is left out.
            let options = options.large_file(large);
            if writer.start_file(format!("r/{name}"), options).is_ok() {
                writer.write_all(&data).unwrap();
            }
        }
        if let Some(comment) = comment {
            writer.set_comment(comment).unwrap();
        }
        writer.finish().unwrap().into_inner()
    })
}

proptest! {
    #[test]
    fn what_the_zip_crate_writes_is_read(file in written()) {
        let dots = position(&file, b"data.pkl");
        prop_assert!(dots > 0);
        match open_strictly(&file) {
            Ok(found) => prop_assert!(found.unclaimed().is_empty()),
            Err(Error::Entry { problem, .. }) => prop_assert_eq!(problem, EntryProblem::Escapes),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    /// Where both read a changed archive, they read the same bytes of the same entries.
    #[test]
    fn a_changed_archive_is_never_read_otherwise(
        back in 1usize..600,
        byte in any::<u8>(),
        second in any::<prop::sample::Index>(),
    ) {
        let mut file = archive("r", &pickle(), &[("0", b"abc"), ("1", b"xy")]);
        let at = file.len().saturating_sub(back);
        file[at] = byte;
        let at = second.index(file.len());
        file[at] ^= byte & 0x11;
        let (Ok(ours), Ok(mut theirs)) = (open(&file), zip::ZipArchive::new(Cursor::new(&file)))
        else {
            return Ok(());
        };
        for entry in ours.catalog().entries() {
            let record = ours.catalog().record(entry);
            let Source::Stored(extent) = record.source else { continue };
            let Ok(mut their) = theirs.by_name("r/data/0") else { continue };
            let mut bytes = Vec::new();
            // A wrong CRC-32 is an error there.
            if their.read_to_end(&mut bytes).is_ok() {
                let here = &file[extent.offset as usize..extent.end() as usize];
                prop_assert_eq!(here, bytes);
            }
        }
    }
}

/// An entry beyond 4 GiB: its sizes, and the offset of the one behind it, stand in zip64 fields.
#[test]
fn entries_beyond_four_gibibytes_are_read_from_a_sparse_file() {
    const LARGE: u64 = 5 << 30;
    let pickle = Pickle::new().raw(b"}(").text("large");
    let pickle = pickle.vector("Byte", "0", LARGE as i64);
    let pickle = pickle.text("small").vector("Byte", "1", 3).raw(b"u").stop();
    let mut file = tempfile::tempfile().unwrap();
    let mut directory = Vec::new();
    let mut at = 0u64;
    let mut add = |name: &[u8], data: &[u8], len: u64, crc32: u32| {
        let wide = |value: u64| value.min(u64::from(u32::MAX)) as u32;
        let (mut extra, mut local_extra) = (Vec::new(), Vec::new());
        if len > u64::from(u32::MAX) {
            extra = [len.to_le_bytes(), len.to_le_bytes()].concat();
            local_extra = [&[1, 0, 16, 0][..], &extra].concat();
        }
        if at > u64::from(u32::MAX) {
            extra.extend_from_slice(&at.to_le_bytes());
        }
        if !extra.is_empty() {
            extra.splice(..0, [1, 0, extra.len() as u8, 0]);
        }
        let fixed = |extra_len: usize| {
            let mut fixed = vec![45, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            for value in [crc32, wide(len), wide(len)] {
                fixed.extend_from_slice(&value.to_le_bytes());
            }
            fixed.extend_from_slice(&(name.len() as u16).to_le_bytes());
            fixed.extend_from_slice(&(extra_len as u16).to_le_bytes());
            fixed
        };
        directory.extend_from_slice(b"PK\x01\x02\x2d\x03");
        directory.extend_from_slice(&fixed(extra.len()));
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&wide(at).to_le_bytes());
        directory.extend_from_slice(name);
        directory.extend_from_slice(&extra);
        let local = fixed(local_extra.len());
        let local = [b"PK\x03\x04", &local[..], name, &local_extra, data].concat();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&local).unwrap();
        at += local.len() as u64 + (len - data.len() as u64);
        at
    };
    add(
        b"a/data.pkl",
        &pickle,
        pickle.len() as u64,
        crc32fast::hash(&pickle),
    );
    // The bytes that are not written are zero.
    add(b"a/data/0", b"first", LARGE, 0);
    let start = add(b"a/data/1", b"abc", 3, crc32fast::hash(b"abc"));
    let len = directory.len() as u64;
    let end64 = start + len;
    directory.extend_from_slice(b"PK\x06\x06");
    directory.extend_from_slice(&44u64.to_le_bytes());
    directory.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for value in [3, 3, len, start] {
        directory.extend_from_slice(&u64::to_le_bytes(value));
    }
    directory.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    directory.extend_from_slice(&end64.to_le_bytes());
    directory.extend_from_slice(b"\x01\0\0\0PK\x05\x06\0\0\0\0\x03\0\x03\0");
    directory.extend_from_slice(&(len as u32).to_le_bytes());
    directory.extend_from_slice(b"\xff\xff\xff\xff\0\0");
    file.seek(SeekFrom::Start(start)).unwrap();
    file.write_all(&directory).unwrap();

    let mut options = ReadOptions::default();
    options.policy = Policy::Strict;
    let storage = FileStorage::from_file(file).unwrap();
    let found = read(&storage, &options).unwrap();
    let bytes = |name: &str, len: usize| {
        let record = found.catalog().record(found.catalog().get(name).unwrap());
        let Source::Stored(extent) = record.source else {
            panic!("{name} is not stored");
        };
        let mut bytes = vec![0; len];
        storage.read_exact_at(extent.offset, &mut bytes).unwrap();
        (bytes, extent.len)
    };
    assert_eq!(bytes("large", 7), (b"first\0\0".to_vec(), LARGE));
    assert_eq!(bytes("small", 3), (b"abc".to_vec(), 3));
}
