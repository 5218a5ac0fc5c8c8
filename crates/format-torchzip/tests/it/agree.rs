//! Where other crates read the same bytes, the answers agree.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_pickle::{DeOptions, HashableValue, SerOptions, Value};
use tensorlift_format_torchzip::{ReadOptions, read};
use tensorlift_storage::MemoryStorage;
use tensorlift_tensor_meta::Source;

use crate::write::{Pickle, archive};

proptest! {
    #[test]
    fn bare_pickles_as_serde_pickle_reads_them(value in value(), protocol in prop::bool::ANY) {
        let options = match protocol {
            true => SerOptions::new(),
            false => SerOptions::new().proto_v2(),
        };
        // What is no container is refused.
        let value = Value::List(vec![value]);
        let bytes = serde_pickle::value_to_vec(&value, options).unwrap();
        // What has no mark of a protocol is told by its first opcodes; short ones cannot be.
        let file = read(&MemoryStorage::new(bytes.clone()), &ReadOptions::default()).unwrap();
        let theirs = serde_pickle::value_from_slice(&bytes, DeOptions::new()).unwrap();
        prop_assert_eq!(file.state().unwrap(), theirs);
    }

    #[test]
    fn archives_as_the_zip_crate_reads_them(
        root in "[a-z\u{430}-\u{44f}]{1,30}",
        storages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..12),
    ) {
        let keys: Vec<String> = (0..storages.len()).map(|key| key.to_string()).collect();
        let mut pickle = Pickle::new().raw(b"}(");
        for (key, bytes) in keys.iter().zip(&storages) {
            pickle = pickle.text(key).vector("Byte", key, bytes.len() as i64);
        }
        let records: Vec<(&str, &[u8])> =
            keys.iter().map(String::as_str).zip(storages.iter().map(Vec::as_slice)).collect();
        let bytes = archive(&root, &pickle.raw(b"u").stop(), &records);
        let file = read(&MemoryStorage::new(bytes.clone()), &ReadOptions::default()).unwrap();
        let mut theirs = zip::ZipArchive::new(std::io::Cursor::new(bytes.as_slice())).unwrap();
        for entry in file.catalog().entries() {
            let name = format!("{root}/data/{}", entry.name());
            let their = theirs.by_name(&name).unwrap();
            let record = file.catalog().record(entry);
            let Source::Stored(extent) = record.source else { panic!("{name} is not stored") };
            prop_assert_eq!(Some(extent.offset), their.data_start());
            prop_assert_eq!(extent.len, their.size());
            prop_assert_eq!(record.declared_crc32, Some(their.crc32()));
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        any::<i32>().prop_map(|value| Value::F64(f64::from(value) / 8.0)),
        ".{0,12}".prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Tuple),
            prop::collection::vec(any::<i64>(), 0..8).prop_map(|items| {
                Value::Set(items.into_iter().map(HashableValue::I64).collect())
            }),
            prop::collection::vec((".{0,8}", inner), 0..8).prop_map(|pairs| {
                let pairs: BTreeMap<_, _> = pairs
                    .into_iter()
                    .map(|(key, value)| (HashableValue::String(key), value))
                    .collect();
                Value::Dict(pairs)
            }),
        ]
    })
}
