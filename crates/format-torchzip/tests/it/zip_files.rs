//! Archives as `torch.save` writes them.

use tensorlift_format_torchzip::{Error, Format, ReadOptions, TorchFile, read};
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::{Dtype, Entry, ErrorKind, Source};

use crate::oracle::resolve;
use crate::write::{Pickle, View, archive, entries_under, stored};

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn open(bytes: &[u8]) -> Result<TorchFile, Error> {
    read(&MemoryStorage::new(bytes.to_vec()), &ReadOptions::default())
}

fn tensor(bytes: &[u8], file: &TorchFile, name: &str) -> Vec<u8> {
    let entry = file
        .catalog()
        .get(name)
        .unwrap_or_else(|| panic!("{name} is missing"));
    let storage = MemoryStorage::new(bytes.to_vec());
    resolve(&storage, file.catalog(), entry).unwrap()
}

/// `{"w": 2x3, "t": its transpose, "nested": {"x": w again, "n": 3}}` over one storage.
fn sample() -> Vec<u8> {
    let (mut w, mut s) = (0, 0);
    let wide = View {
        offset: 0,
        shape: &[2, 3],
        strides: &[3, 1],
    };
    Pickle::new()
        .global("collections", "OrderedDict")
        .raw(b")R(")
        .text("w")
        .tensor("Float", "0", 6, wide)
        .put(&mut w)
        .text("t")
        .global("torch._utils", "_rebuild_tensor_v2")
        .raw(b"(")
        .storage("Float", "0", 6)
        .put(&mut s)
        .int(0)
        .sizes(&[3, 2])
        .sizes(&[1, 3])
        .raw(b"\x88N")
        .raw(b"tR")
        .text("nested")
        .raw(b"}(")
        .text("x")
        .get(w)
        .text("n")
        .int(3)
        .raw(b"uu")
        .stop()
}

#[test]
fn names_views_and_ties() {
    let values = [1., 2., 3., 4., 5., 6.];
    let bytes = archive("archive", &sample(), &[("0", &floats(&values))]);
    let file = open(&bytes).unwrap();
    assert_eq!(file.format(), Format::Zip);
    let names: Vec<_> = file.catalog().entries().iter().map(Entry::name).collect();
    assert_eq!(names, ["w", "t", "nested.x"]);
    assert_eq!(tensor(&bytes, &file, "w"), floats(&values));
    assert_eq!(tensor(&bytes, &file, "nested.x"), floats(&values));
    assert_eq!(
        tensor(&bytes, &file, "t"),
        floats(&[1., 4., 2., 5., 3., 6.])
    );
    assert_eq!(file.catalog().records().len(), 1);
    let flags: Vec<_> = file
        .catalog()
        .entries()
        .iter()
        .map(Entry::requires_grad)
        .collect();
    assert_eq!(flags, [false, true, false]);
    assert_eq!(
        file.state().unwrap().to_string(),
        r#"{"nested": {"n": 3, "x": {"$tensor": "w"}}, "t": {"$tensor": "t"}, "w": {"$tensor": "w"}}"#
    );
}

#[test]
fn any_root_folder() {
    let expected = floats(&[1., 2., 3., 4., 5., 6.]);
    let long: Vec<String> = (1..=120).map(|len| "r".repeat(len)).collect();
    let odd = ["модель".to_owned(), "a b".to_owned(), "ü.pt".to_owned()];
    for root in long.iter().chain(&odd) {
        let bytes = archive(root, &sample(), &[("0", &expected)]);
        let file = open(&bytes).unwrap_or_else(|error| panic!("{root}: {error}"));
        assert_eq!(tensor(&bytes, &file, "w"), expected, "{root}");
    }
}

#[test]
fn deflated_entries_are_records_too() {
    let values = floats(&[1., 2., 3., 4., 5., 6.]);
    let stored_file = archive("a", &sample(), &[("0", &values)]);
    // The crate is built without a compressor, so the archive is packed by hand.
    let packed = crate::write::deflated("a", &[("data.pkl", &sample()), ("data/0", &values)]);
    let (plain, deflated) = (open(&stored_file).unwrap(), open(&packed).unwrap());
    assert!(matches!(
        deflated.catalog().records()[0].source,
        Source::Deflated { len: 24, .. }
    ));
    for entry in plain.catalog().entries() {
        let name = entry.name();
        assert_eq!(
            tensor(&packed, &deflated, name),
            tensor(&stored_file, &plain, name)
        );
    }
}

#[test]
fn untyped_storages_count_bytes() {
    let pickle = Pickle::new()
        .raw(b"}")
        .text("u")
        .global("torch._utils", "_rebuild_tensor_v3")
        .raw(b"(")
        .raw(b"(")
        .text("storage")
        .global("torch.storage", "UntypedStorage")
        .text("0")
        .text("cpu")
        .int(8)
        .raw(b"tQ")
        .int(1)
        .sizes(&[3])
        .sizes(&[1])
        .raw(b"\x89N")
        .global("torch", "uint16")
        .raw(b"tRs")
        .stop();
    let bytes = archive("a", &pickle, &[("0", &[1, 0, 2, 0, 3, 0, 4, 0])]);
    let file = open(&bytes).unwrap();
    assert_eq!(file.catalog().entries()[0].dtype(), Dtype::U16);
    assert_eq!(tensor(&bytes, &file, "u"), [2, 0, 3, 0, 4, 0]);
}

#[test]
fn big_endian_archives_are_swapped() {
    let pickle = Pickle::new()
        .raw(b"}")
        .text("w")
        .vector("Float", "0", 1)
        .raw(b"s")
        .stop();
    let entries: [(&str, &[u8]); 3] = [
        ("data.pkl", &pickle),
        ("byteorder", b"big"),
        ("data/0", &1.5f32.to_be_bytes()),
    ];
    let bytes = entries_under("a", &entries, stored());
    let file = open(&bytes).unwrap();
    assert_eq!(tensor(&bytes, &file, "w"), 1.5f32.to_le_bytes());
    let odd = entries_under(
        "a",
        &[entries[0], ("byteorder", b"pdp"), entries[2]],
        stored(),
    );
    assert!(matches!(open(&odd), Err(Error::ByteOrder { .. })));
}

#[test]
fn a_missing_storage_is_an_error() {
    let bytes = archive("a", &sample(), &[("1", &[0; 24])]);
    let error: tensorlift_tensor_meta::Error = open(&bytes).unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(error.tensor(), Some("w"));
    let short = archive("a", &sample(), &[("0", &[0; 20])]);
    assert!(
        open(&short)
            .unwrap_err()
            .to_string()
            .contains("24 bytes, found 20")
    );
}

#[test]
fn no_tensors_says_what_is_there() {
    let pickle = Pickle::new()
        .raw(b"}")
        .text("epoch")
        .int(3)
        .raw(b"s")
        .stop();
    let file = open(&archive("a", &pickle, &[])).unwrap();
    assert!(file.catalog().is_empty());
    let (_, state) = file.into_parts();
    assert_eq!(state.summary(), "a dict with the key \"epoch\"");
}

#[test]
fn more_entries_than_zip32_counts() {
    let count = 66_000;
    let keys: Vec<String> = (0..count).map(|key| key.to_string()).collect();
    let mut pickle = Pickle::new().raw(b"}(");
    for key in &keys {
        pickle = pickle.text(key).vector("Byte", key, 1);
    }
    let pickle = pickle.raw(b"u").stop();
    let storages: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &[7][..])).collect();
    let bytes = archive("a", &pickle, &storages);
    let file = open(&bytes).unwrap();
    assert_eq!(file.catalog().len(), count);
    assert_eq!(tensor(&bytes, &file, "65999"), [7]);
}

/// From a few thousand entries on, their headers are read by a thread of their own.
#[test]
fn headers_of_many_entries_are_checked_as_those_of_few_are() {
    let keys: Vec<String> = (0..3000).map(|key| key.to_string()).collect();
    let values = floats(&[1., 2., 3., 4., 5., 6.]);
    for count in [1, 100, 3000] {
        let storages: Vec<_> = keys[..count].iter().map(|key| (&**key, &*values)).collect();
        let mut bytes = archive("archive", &sample(), &storages);
        let file = open(&bytes).unwrap();
        assert_eq!(tensor(&bytes, &file, "w"), values);

        // The first place with the name is the entry's own header, the second the directory.
        let name = format!("archive/data/{}", count - 1);
        let mut places = bytes.windows(name.len());
        let place = places.position(|bytes| bytes == name.as_bytes()).unwrap();
        bytes[place] = b'X';
        let error = open(&bytes).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("Xrchive/data/"), "{count} entries: {text}");
        assert_eq!(
            tensorlift_tensor_meta::Error::from(error).kind(),
            ErrorKind::Malformed
        );
    }
}

/// The sample with many more storages of that many bytes.
pub(crate) fn many(count: usize, byte_len: usize) -> Vec<u8> {
    let keys: Vec<String> = (0..count).map(|key| key.to_string()).collect();
    let values = floats(&[1., 2., 3., 4., 5., 6.]);
    let large = vec![0; byte_len];
    let mut storages: Vec<_> = keys.iter().map(|key| (&**key, &*large)).collect();
    storages[0].1 = &values;
    archive("archive", &sample(), &storages)
}

/// Where each header is waited for, several threads wait for them.
#[test]
fn headers_on_slow_storage_are_found_and_checked_alike() {
    // Each far from the next, so that each header is a read of its own.
    let mut bytes = many(300, 20_000);
    let slow = |bytes: &[u8]| {
        let latency = std::time::Duration::from_micros(200);
        let storage = MemoryStorage::new(bytes.to_vec());
        // A wrapper has no slice to look into.
        let storage = tensorlift_storage::wrap::Slow::new(storage, latency, u64::MAX);
        read(&storage, &ReadOptions::default())
    };
    let file = slow(&bytes).unwrap();
    assert_eq!(file.catalog(), open(&bytes).unwrap().catalog());

    let name = b"archive/data/299";
    let place = bytes.windows(name.len()).position(|bytes| bytes == name);
    bytes[place.unwrap()] = b'X';
    let (here, there) = (open(&bytes).unwrap_err(), slow(&bytes).unwrap_err());
    assert_eq!(here.to_string(), there.to_string());
}
