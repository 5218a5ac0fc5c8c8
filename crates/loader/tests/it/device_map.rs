//! Which tensors go to which device.

use proptest::prelude::*;
use tensorlift_loader::{DeviceKey, DeviceMap, DeviceMapOptions, DeviceMemory, Division};
use tensorlift_tensor_meta::{Catalog, Dtype, ErrorKind, Extent, Layout, Record, ShardId, View};

const GPU: DeviceKey = DeviceKey::Cuda(0);
const CPU: DeviceKey = DeviceKey::Cpu;

/// Tensors of these sizes in KiB; one without a size shares the record of the one before it.
fn catalog(tensors: &[(&str, Option<u64>)]) -> Catalog {
    let mut builder = Catalog::builder();
    let (mut offset, mut record, mut len) = (0, None, 0);
    for (name, kib) in tensors {
        if let Some(kib) = kib {
            len = kib * 1024;
            let extent = Extent::new(ShardId::FIRST, offset, len);
            record = Some(builder.record(Record::stored(extent)).unwrap());
            offset += len;
        }
        let layout = Layout::contiguous([len as usize]).unwrap();
        let view = View::whole(record.unwrap());
        builder.entry(*name, Dtype::U8, layout, view).unwrap();
    }
    builder.finish()
}

fn memory(gpu_kib: u64, cpu_kib: u64) -> [DeviceMemory; 2] {
    [
        DeviceMemory::new(GPU, gpu_kib * 1024),
        DeviceMemory::new(CPU, cpu_kib * 1024),
    ]
}

fn names(map: &DeviceMap) -> Vec<&str> {
    map.units().iter().map(|unit| unit.name.as_str()).collect()
}

#[test]
fn layers_stay_whole_and_come_in_natural_order() {
    let catalog = catalog(&[
        ("layers.10.a.weight", Some(4)),
        ("layers.2.a.weight", Some(4)),
        ("layers.2.b.weight", Some(4)),
        ("embed.weight", Some(4)),
        ("scale", Some(1)),
    ]);
    let options = DeviceMapOptions::default().division(Division::Sequential);
    let map = DeviceMap::new(&catalog, &memory(8, 100), &options).unwrap();
    assert_eq!(names(&map), ["embed", "layers.2", "layers.10", "scale"]);
    // The layer of 8 KiB does not fit beside the embedding, and nothing behind it goes back.
    assert_eq!(map.device_of("embed.weight"), Some(GPU));
    assert_eq!(map.device_of("layers.2.b.weight"), Some(CPU));
    assert_eq!(map.device_of("scale"), Some(CPU));
    assert_eq!(map.device_of("none"), None);
    let bytes: Vec<u64> = map.devices().iter().map(|device| device.bytes).collect();
    assert_eq!(bytes, [4 * 1024, 13 * 1024]);
}

#[test]
fn tensors_of_one_record_and_tied_ones_stay_together() {
    let catalog = catalog(&[
        ("embed.weight", Some(8)),
        ("head.weight", None),
        ("a.weight", Some(4)),
        ("b.weight", Some(4)),
    ]);
    let options = DeviceMapOptions::default().tie(["a.weight", "b.weight"]);
    let map = DeviceMap::new(&catalog, &memory(8, 8), &options).unwrap();
    assert_eq!(names(&map), ["a", "embed"]);
    assert_eq!(map.units()[1].tensors, 2);
    // What is shared counts once.
    assert_eq!(map.units()[1].bytes, 8 * 1024);
    assert_ne!(map.device_of("a.weight"), map.device_of("head.weight"));
}

#[test]
fn auto_uses_the_host_only_if_the_gpus_are_too_small() {
    let catalog = catalog(&[("a.w", Some(4)), ("b.w", Some(4)), ("c.w", Some(4))]);
    let options = DeviceMapOptions::default();
    let map = DeviceMap::new(&catalog, &memory(12, 100), &options).unwrap();
    assert_eq!(map.devices()[1].bytes, 0);
    let map = DeviceMap::new(&catalog, &memory(8, 100), &options).unwrap();
    assert_eq!(map.devices()[1].bytes, 4 * 1024);
    let options = options.division(Division::Balanced);
    let map = DeviceMap::new(&catalog, &memory(12, 100), &options).unwrap();
    assert_eq!(map.devices()[0].bytes, 8 * 1024);
}

#[test]
fn the_pattern_that_fixes_most_characters_decides() {
    let catalog = catalog(&[
        ("layers.1.w", Some(1)),
        ("layers.10.w", Some(1)),
        ("x", Some(1)),
    ]);
    let options = DeviceMapOptions::default()
        .fix("", CPU)
        .fix("layers.*", GPU)
        .fix("layers.10", CPU);
    let map = DeviceMap::new(&catalog, &memory(9, 9), &options).unwrap();
    let devices = ["layers.1.w", "layers.10.w", "x"].map(|name| map.device_of(name).unwrap());
    assert_eq!(devices, [GPU, CPU, CPU]);
}

#[test]
fn contradictions_name_all_culprits() {
    let catalog = catalog(&[("layers.0.a", Some(1)), ("layers.0.b", Some(1))]);
    let refused = |options: DeviceMapOptions| {
        let error = DeviceMap::new(&catalog, &memory(9, 9), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        error.to_string()
    };
    let error = refused(DeviceMapOptions::default().fix("*.a", GPU).fix("*.b", CPU));
    assert!(
        error.contains("\"layers.0.a\" = 0, \"layers.0.b\" = cpu"),
        "{error}"
    );
    let error = refused(DeviceMapOptions::default().fix("*.a", GPU).fix("*.a", CPU));
    assert!(error.contains("\"*.a\" = 0, \"*.a\" = cpu"), "{error}");
    let options = DeviceMapOptions::default();
    let error = refused(
        options
            .fix("", DeviceKey::Cuda(3))
            .fix("x", DeviceKey::Cuda(4)),
    );
    assert!(
        error.contains("device 3, ") && error.contains("device 4, "),
        "{error}"
    );
    let twice = [memory(1, 1), memory(1, 1)].concat();
    assert!(DeviceMap::new(&catalog, &twice, &DeviceMapOptions::default()).is_err());
    assert!(DeviceMap::new(&catalog, &[], &DeviceMapOptions::default()).is_err());
}

#[test]
fn contradictions_of_several_units_are_told_together() {
    let names: Vec<String> = (0..12)
        .flat_map(|layer| ["a", "b"].map(|name| format!("layers.{layer}.{name}")))
        .collect();
    let tensors: Vec<_> = names.iter().map(|name| (name.as_str(), Some(1))).collect();
    let options = DeviceMapOptions::default().fix("*.a", GPU).fix("*.b", CPU);
    let error = DeviceMap::new(&catalog(&tensors), &memory(99, 99), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    let error = error.to_string();
    assert!(
        error.contains("layers.0.a") && error.contains("layers.1.b"),
        "{error}"
    );
    assert!(error.ends_with("; and 2 more"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_with_the_units_at_fault() {
    let catalog = catalog(&[("layers.0.a", Some(20)), ("x", Some(1))]);
    let refused = |gpu, cpu| {
        let options = DeviceMapOptions::default();
        let error = DeviceMap::new(&catalog, &memory(gpu, cpu), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        error.to_string()
    };
    let error = refused(10, 15);
    assert!(error.contains("no device holds layers.0"), "{error}");
    let error = refused(20, 0);
    assert!(error.contains("no division fits"), "{error}");
}

#[test]
fn converted_tensors_count_with_their_new_size() {
    let catalog = catalog(&[("a", Some(8)), ("b", Some(8))]);
    let options = DeviceMapOptions::default().bytes_of(|entry| Some(entry.byte_len() / 2));
    let map = DeviceMap::new(&catalog, &memory(8, 0), &options).unwrap();
    assert_eq!(map.devices()[0].bytes, 8 * 1024);
}

proptest! {
    /// Every tensor has a place, no device holds more than it may, and units are whole.
    #[test]
    fn no_device_is_overfull(
        sizes in prop::collection::vec((0u64..8, 0u64..9, any::<bool>()), 1..20),
        gpu in 0u64..60,
        cpu in 0u64..60,
        division in prop::sample::select(vec![Division::Auto, Division::Balanced, Division::Sequential]),
    ) {
        let tensors: Vec<(String, Option<u64>)> = sizes
            .iter()
            .enumerate()
            .map(|(index, (layer, kib, shared))| {
                let name = format!("layers.{layer}.{index}");
                (name, (index == 0 || !shared).then_some(*kib))
            })
            .collect();
        let named: Vec<_> = tensors.iter().map(|(name, kib)| (name.as_str(), *kib)).collect();
        let catalog = catalog(&named);
        let options = DeviceMapOptions::default().division(division);
        if let Ok(map) = DeviceMap::new(&catalog, &memory(gpu, cpu), &options) {
            for device in map.devices() {
                prop_assert!(device.bytes <= device.max_bytes);
            }
            let mut of_layer = std::collections::HashMap::new();
            for (name, _) in &named {
                let device = map.device_of(name);
                prop_assert!(device.is_some());
                let layer = name.rsplit_once('.').unwrap().0;
                prop_assert_eq!(*of_layer.entry(layer).or_insert(device), device);
            }
        }
    }
}
