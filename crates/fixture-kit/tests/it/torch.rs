use std::io::{Cursor, Read};

use proptest::prelude::*;
use tensorlift_fixture_kit::torch::{ByteOrderRecord, LegacyOptions, ZipOptions};
use tensorlift_fixture_kit::zip::{RawArchive, RawEntry};
use tensorlift_fixture_kit::{CheckpointSpec, Format, arbitrary_spec_of, presets};
use tensorlift_tensor_meta::{ByteOrder, Dtype};
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

fn open(bytes: &[u8]) -> ZipArchive<Cursor<&[u8]>> {
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let mut archive = ZipArchive::with_config(config, Cursor::new(bytes)).unwrap();
    assert!(!archive.has_duplicate_names());
    assert!(!archive.has_overlapping_entries().unwrap());
    archive
}

/// The bytes of an entry; the `zip` crate checks the CRC.
fn entry(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut entry = archive.by_name(name).unwrap();
    entry.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Reads every shard's archive with the `zip` crate.
fn assert_archives_are_sound(spec: &CheckpointSpec, options: &ZipOptions) {
    for shard in 0..spec.shards {
        let bytes = spec.shard_bytes(shard);
        let mut archive = open(&bytes);
        let names: Vec<String> = archive
            .file_names()
            .map(|name| name.unwrap().into_owned())
            .collect();
        let prefix = format!("{}/", options.root);
        for name in &names {
            assert!(name.starts_with(&prefix), "{name}");
            let inflated = entry(&mut archive, name);
            let entry = archive.by_name(name).unwrap();
            let expected = if options.deflated {
                CompressionMethod::Deflated
            } else {
                CompressionMethod::Stored
            };
            assert_eq!(entry.compression(), expected);
            if options.alignment > 0 && !inflated.is_empty() {
                assert_eq!(entry.data_start().unwrap() % options.alignment, 0, "{name}");
            }
        }
        let pickle = entry(&mut archive, &format!("{prefix}data.pkl"));
        assert_eq!(pickle[..2], [0x80, options.protocol]);
        assert_eq!(pickle.last(), Some(&b'.'));
        let order = names.contains(&format!("{prefix}byteorder"));
        assert_eq!(order, options.byte_order_record == ByteOrderRecord::Honest);
    }
}

#[test]
fn storages_hold_the_tensors_and_tied_ones_share() {
    let spec = CheckpointSpec::new(Format::torch_zip())
        .tensor("a", Dtype::F32, [2, 3])
        .tied("b", "a")
        .tensor("c", Dtype::U16, [5]);
    let bytes = spec.to_bytes();
    let mut archive = open(&bytes);
    let expected = spec.expected();
    assert_eq!(entry(&mut archive, "archive/data/0"), expected[0].bytes);
    assert_eq!(expected[0].bytes, expected[1].bytes);
    assert_eq!(entry(&mut archive, "archive/data/1"), expected[2].bytes);
    assert!(archive.by_name("archive/data/2").is_err());
}

#[test]
fn big_endian_storages_are_swapped() {
    let spec = |byte_order| {
        CheckpointSpec::new(Format::TorchZip(ZipOptions {
            byte_order,
            ..Default::default()
        }))
        .tensor("w", Dtype::F32, [4])
    };
    let (little, big) = (spec(ByteOrder::Little), spec(ByteOrder::Big));
    assert_eq!(little.expected()[0].bytes, big.expected()[0].bytes);
    let (little, big) = (little.to_bytes(), big.to_bytes());
    let mut swapped = entry(&mut open(&big), "archive/data/0");
    swapped.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    assert_eq!(swapped, entry(&mut open(&little), "archive/data/0"));
    assert_eq!(entry(&mut open(&big), "archive/byteorder"), b"big");
}

#[test]
fn any_length_of_the_root_name() {
    for length in 1..=120 {
        let options = ZipOptions {
            root: "r".repeat(length),
            ..Default::default()
        };
        let spec = presets::assorted(Format::TorchZip(options.clone()));
        assert_archives_are_sound(&spec, &options);
    }
}

#[test]
fn nested_names_are_listed_depth_first() {
    let options = ZipOptions {
        nested: true,
        wrapper: Some("state_dict".to_owned()),
        ..Default::default()
    };
    let spec = CheckpointSpec::new(Format::TorchZip(options))
        .tensor("a.x", Dtype::U8, [1])
        .tensor("b", Dtype::U8, [1])
        .tensor("a.y", Dtype::U8, [1])
        .tensor("b.z", Dtype::U8, [1]);
    let names: Vec<String> = spec
        .expected()
        .into_iter()
        .map(|tensor| tensor.name)
        .collect();
    let listed = ["a.x", "a.y", "b", "b.z"].map(|name| format!("state_dict.{name}"));
    assert_eq!(names, listed);
}

#[test]
fn many_entries_get_zip64_records() {
    let spec = presets::many_tiny(Format::torch_zip(), 70_000);
    let bytes = spec.to_bytes();
    let archive = open(&bytes);
    assert_eq!(archive.len(), 70_000 + 6);
}

#[test]
fn legacy_storages_follow_the_pickles() {
    let spec = CheckpointSpec::new(Format::TorchLegacy(LegacyOptions::default()))
        .tensor("a", Dtype::F32, [3])
        .tensor("b", Dtype::I8, [2]);
    let bytes = spec.to_bytes();
    let expected = spec.expected();
    let mut tail = 3u64.to_le_bytes().to_vec();
    tail.extend(&expected[0].bytes);
    tail.extend(2u64.to_le_bytes());
    tail.extend(&expected[1].bytes);
    assert!(bytes.ends_with(&tail));
    assert!(bytes.starts_with(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."));
}

#[test]
fn raw_archives_say_what_they_are_told() {
    let archive = RawArchive {
        entries: vec![
            RawEntry::stored("a", b"first"),
            RawEntry::deflated("b", &[7; 1000]),
        ],
        ..Default::default()
    };
    let bytes = archive.bytes();
    let mut honest = open(&bytes);
    assert_eq!(entry(&mut honest, "a"), b"first");
    assert_eq!(entry(&mut honest, "b"), [7; 1000]);

    let mut lying = archive;
    lying.entries[0] = lying.entries[0]
        .clone()
        .listed_as(|header| header.crc32 ^= 1);
    let bytes = lying.bytes();
    let mut lying = open(&bytes);
    let mut found = Vec::new();
    let read = lying.by_name("a").unwrap().read_to_end(&mut found);
    assert!(read.is_err(), "the checksum differs");
}

proptest! {
    #[test]
    fn any_archive_is_sound(
        spec in arbitrary_spec_of(Format::torch_zip()),
        alignment in prop::sample::select(vec![0, 1, 64, 4096]),
        deflated: bool,
        protocol in 2..=5u8,
        nested: bool,
    ) {
        let options = ZipOptions { alignment, deflated, protocol, nested, ..Default::default() };
        let mut spec = spec;
        spec.format = Format::TorchZip(options.clone());
        assert_archives_are_sound(&spec, &options);
        let expected = spec.expected();
        let listed = |name: &String| expected.iter().any(|tensor| tensor.name == *name);
        prop_assert!(spec.tensors.iter().all(|tensor| listed(&tensor.name)));
    }
}
