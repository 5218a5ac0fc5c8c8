//! Broken and malicious files: an error of the right kind, and never a panic.

use proptest::prelude::*;
use tensorlift_format_torchzip::{Error, ReadOptions, TorchFile, read};
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::{ErrorKind, Limits, Source};

use crate::oracle::resolve;
use crate::write::{Pickle, RawEntry, archive, finish};

fn open(bytes: Vec<u8>) -> Result<TorchFile, Error> {
    read(&MemoryStorage::new(bytes), &ReadOptions::default())
}

fn sample() -> Vec<u8> {
    let pickle = Pickle::new().raw(b"}(").text("a").vector("Byte", "0", 3);
    let pickle = pickle.text("b").vector("Short", "1", 2).raw(b"u").stop();
    archive("model", &pickle, &[("0", b"abc"), ("1", b"wxyz")])
}

/// Reads a file to its last byte, wherever that is allowed.
fn read_all(bytes: Vec<u8>) {
    let storage = MemoryStorage::new(bytes);
    if let Ok(file) = read(&storage, &ReadOptions::default()) {
        for entry in file.catalog().entries() {
            // Packed bytes that lie are for whoever unpacks them.
            let packed = matches!(file.catalog().record(entry).source, Source::Deflated { .. });
            if !packed && entry.byte_len() < 1 << 20 {
                resolve(&storage, file.catalog(), entry);
            }
        }
        // An error is an answer too.
        let _ = file.state();
    }
}

/// The error kind and text for a pickle alone.
fn fails(pickle: &[u8]) -> (ErrorKind, String) {
    let error = open(archive("a", pickle, &[])).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn any_truncation_is_an_error() {
    let whole = sample();
    for len in 0..whole.len() {
        assert!(open(whole[..len].to_vec()).is_err(), "{len}");
    }
}

#[test]
fn broken_pickles() {
    let cases: [(&[u8], &str); 24] = [
        (b"", "end within"),
        (b"\x80\x02N", "end within"),
        (b"\x80\x02\xff.", "0xff is no opcode"),
        (b"\x80\x09N.", "protocol up to 5, found 9"),
        (b"R.", "REDUCE needs more objects"),
        (b"t.", "TUPLE needs a mark"),
        (b"1.", "POP_MARK needs a mark"),
        (b"0.", "POP needs more"),
        (b"\x82\x01.", "EXT1 needs data from outside"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"h\x07.", "nothing was memorised as number 7"),
        (b"g12\n.", "number 12"),
        (b"K\x01K\x01K\x01s.", "SETITEM cannot be applied to a int"),
        (b"}Na.", "APPEND cannot be applied to a dict"),
        (b"K\x01Nb.", "BUILD cannot be applied to a int"),
        (b"X\x02\0\0\0\xff\xff.", "not UTF-8"),
        (b"\x95\xff\xff\0\0\0\0\0\0N.", "end within"),
        (b"K\x01K\x02\x93.", "STACK_GLOBAL"),
        (b"](Na.", "APPEND needs more"),
        (b"ca\nb\nNR.", "argument tuple"),
        (b"(o.", "OBJ needs more"),
        (b"}(Nu.", "as many values as keys"),
        (b"Iabc\n.", "expected an integer"),
        (b"T\xff\xff\xff\xff.", "a length of -1"),
    ];
    for (pickle, expected) in cases {
        let (kind, text) = fails(pickle);
        assert!(text.contains(expected), "{}: {text}", pickle.escape_ascii());
        assert_ne!(kind, ErrorKind::LimitExceeded, "{text}");
    }
}

#[test]
fn tensors_take_no_items() {
    for (items, opcode) in [
        (&b"NNs."[..], "SETITEM"),
        (b"Na.", "APPEND"),
        (b"(Ne.", "APPENDS"),
    ] {
        let mut pickle = Pickle::new().vector("Byte", "0", 3).stop();
        pickle.pop();
        let (_, text) = fails(&[&pickle, items].concat());
        assert!(text.contains(opcode), "{text}");
    }
}

#[test]
fn bombs_cross_a_limit() {
    let repeat = |byte: u8, count: usize| vec![byte; count];
    let cases: [Vec<u8>; 8] = [
        b"\x80\x02X\xff\xff\xff\xff.".to_vec(),
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.".to_vec(),
        b"\x80\x02\x8b\xff\xff\xff\x7f.".to_vec(),
        [b"L".to_vec(), repeat(b'9', 100_000), b"L\n.".to_vec()].concat(),
        [b"(".to_vec(), repeat(b']', 8_000_000), b"t.".to_vec()].concat(),
        [b"]".to_vec(), repeat(b'2', 30_000_000), b".".to_vec()].concat(),
        [repeat(b']', 20_000), repeat(b'a', 19_999), b".".to_vec()].concat(),
        [b")".to_vec(), repeat(0x85, 20_000), b".".to_vec()].concat(),
    ];
    for pickle in cases {
        let (kind, text) = fails(&pickle);
        assert_eq!(kind, ErrorKind::LimitExceeded, "{text}");
    }
}

#[test]
fn settable_limits() {
    let refused = |change: &dyn Fn(&mut Limits)| {
        let mut options = ReadOptions::default();
        change(&mut options.limits);
        let error = read(&MemoryStorage::new(sample()), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    };
    refused(&|limits| limits.tensors = 1);
    refused(&|limits| limits.rank = 0);
    refused(&|limits| limits.name_bytes = 0);
    refused(&|limits| limits.archive_entries = 3);
    refused(&|limits| limits.pickle_bytes = 10);
    refused(&|limits| limits.pickle_opcodes = 10);
    refused(&|limits| limits.pickle_objects = 10);
    refused(&|limits| limits.pickle_depth = 0);
    refused(&|limits| limits.pickle_string_bytes = 3);

    // Three bytes each, and more than that in memory.
    let integers = [b"(".to_vec(), b"M\0\x01".repeat(1000), b"t.".to_vec()].concat();
    assert!(open(integers.clone()).is_ok());
    let mut options = ReadOptions::default();
    options.limits.description_bytes = 0;
    let error = read(&MemoryStorage::new(integers), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
}

#[test]
fn deep_values_neither_recurse_nor_leave_as_state() {
    let deep = [b"]".repeat(5_000), b"a".repeat(4_999), b".".to_vec()].concat();
    let file = open(archive("a", &deep, &[])).unwrap();
    assert!(matches!(file.state(), Err(Error::State(_))));
}

#[test]
fn wrappers_of_themselves_end() {
    // A parameter whose data is the parameter.
    let mut own = 0;
    let pickle = Pickle::new()
        .global("torch.nn.parameter", "Parameter")
        .raw(b")\x81");
    let pickle = pickle
        .put(&mut own)
        .raw(b"(")
        .get(own)
        .raw(b"NN\x88Ntb")
        .stop();
    let (_, text) = fails(&pickle);
    assert!(text.contains("wraps tensors"), "{text}");
}

#[test]
fn zip_directories_that_lie() {
    let pickle = Pickle::new()
        .raw(b"}")
        .text("w")
        .vector("Byte", "0", 3)
        .raw(b"s")
        .stop();
    let entry = |name: &'static [u8], data: &'static [u8]| RawEntry {
        name,
        method: 0,
        flags: 0,
        crc: 0,
        size: data.len() as u32,
        packed_size: data.len() as u32,
        data,
    };
    let main = RawEntry {
        data: &pickle,
        size: pickle.len() as u32,
        packed_size: pickle.len() as u32,
        ..entry(b"a/data.pkl", b"")
    };
    let good = entry(b"a/data/0", b"abc");
    let build = |entries: &[RawEntry<'_>]| {
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        for entry in entries {
            entry.write(&mut file, &mut directory);
        }
        finish(file, &directory, entries.len() as u16)
    };
    assert_eq!(open(build(&[main, good])).unwrap().catalog().len(), 1);
    let cases = [
        (build(&[main, good, good]), "given twice"),
        (build(&[main, RawEntry { flags: 1, ..good }]), "encrypted"),
        (
            build(&[main, RawEntry { method: 12, ..good }]),
            "compression method",
        ),
        (build(&[main, RawEntry { size: 4, ..good }]), "found 4"),
        (
            build(&[
                main,
                RawEntry {
                    size: 4,
                    packed_size: 4,
                    ..good
                },
            ]),
            "reach past",
        ),
        (
            build(&[
                RawEntry {
                    method: 8,
                    size: 1 << 20,
                    ..main
                },
                good,
            ]),
            "cannot inflate",
        ),
        (build(&[main, good, entry(b"../x", b"")]), "`..`"),
        (
            build(&[RawEntry { method: 8, ..main }, good]),
            "deflate stream",
        ),
    ];
    for (bytes, expected) in cases {
        let error = open(bytes).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    // A second entry over the first one's bytes.
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    main.write(&mut file, &mut directory);
    let inner = file.len() as u32;
    let nested = RawEntry {
        packed_size: 60,
        size: 60,
        ..good
    };
    nested.write(&mut file, &mut directory);
    file.truncate(inner as usize + 38);
    let within = file.len() as u32;
    let hidden = entry(b"a/x", b"x");
    hidden.write(&mut file, &mut Vec::new());
    hidden.list(&mut directory, within);
    file.resize(file.len() + 60, 0);
    let error = open(finish(file, &directory, 3)).unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
    // An entry whose header is another's.
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    main.write(&mut file, &mut directory);
    good.list(&mut directory, 0);
    let error = open(finish(file, &directory, 2)).unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
}

#[test]
fn checksums_are_checked_when_asked_for() {
    let mut bytes = sample();
    let at = bytes.windows(4).position(|bytes| bytes == b"Byte").unwrap();
    // Another type of the same width, so that only the checksum can tell.
    bytes[at..at + 4].copy_from_slice(b"Char");
    assert!(open(bytes.clone()).is_ok());
    let mut options = ReadOptions::default();
    options.verify_crc = true;
    let error = read(&MemoryStorage::new(bytes), &options).unwrap_err();
    assert!(error.to_string().contains("model/data.pkl"), "{error}");
    assert!(error.to_string().contains("CRC-32"), "{error}");
}

proptest! {
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = sample();
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        read_all(bytes);
    }

    #[test]
    fn opcode_soup_never_panics(soup in prop::collection::vec(opcode(), 0..120)) {
        let mut pickle = b"\x80\x02".to_vec();
        pickle.extend(soup.into_iter().flatten());
        pickle.push(b'.');
        read_all(archive("a", &pickle, &[("0", b"abcdefgh")]));
        read_all(pickle);
    }

    #[test]
    fn legacy_soup_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
        read_all([magic.as_slice(), &bytes].concat());
    }

    #[test]
    fn tar_soup_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut file = vec![0; 512];
        file[..8].copy_from_slice(b"storages");
        file[124..136].copy_from_slice(b"00000000200\0");
        file.extend(bytes);
        read_all(file);
    }
}

/// An opcode with arguments that make sense more often than by chance.
fn opcode() -> impl Strategy<Value = Vec<u8>> {
    let fixed: Vec<Vec<u8>> = [
        &b"("[..],
        b"t",
        b")",
        b"]",
        b"}",
        b"e",
        b"u",
        b"s",
        b"a",
        b"R",
        b"b",
        b"Q",
        b"N",
        b"0",
        b"1",
        b"2",
        b"d",
        b"l",
        b"o",
        b"\x81",
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x88",
        b"\x89",
        b"\x8f",
        b"\x90",
        b"\x91",
        b"\x92",
        b"\x93",
        b"\x94",
        b"K\x00",
        b"K\x04",
        b"h\x00",
        b"h\x01",
        b"q\x00",
        b"q\x01",
        b"X\x01\0\0\x000",
        b"X\x07\0\0\0storage",
        b"X\x08\0\0\0_modules",
        b"C\x04abcd",
        b"P0\n",
        b"I-1\n",
        b"F1e400\n",
        b"\x8a\x01\xff",
        b"ctorch\nByteStorage\n",
        b"ctorch\nUntypedStorage\n",
        b"ctorch\nfloat32\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_tensor_v3\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch._utils\n_rebuild_qtensor\n",
        b"ctorch._utils\n_rebuild_sparse_tensor\n",
        b"ctorch._tensor\n_rebuild_from_type_v2\n",
        b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
        b"ctorch.nn.parameter\nParameter\n",
        b"ctorch.storage\n_load_from_bytes\n",
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy\ndtype\n",
        b"cnumpy.core.multiarray\nscalar\n",
        b"ccollections\nOrderedDict\n",
        b"c_codecs\nencode\n",
        b"cos\nsystem\n",
        b"ccopyreg\n_reconstructor\n",
    ]
    .iter()
    .map(|bytes| bytes.to_vec())
    .collect();
    prop_oneof![
        12 => prop::sample::select(fixed),
        1 => prop::collection::vec(any::<u8>(), 1..4),
        // A whole tensor, for the others to play with.
        1 => Just({
            let mut pickle = Pickle::default().vector("Byte", "0", 8).stop();
            pickle.pop();
            pickle
        }),
    ]
}
