//! Casts give what PyTorch gives.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tensorlift_device::double::StagedDevice;
use tensorlift_device::{Device, HostDevice};
use tensorlift_loader::{Cast, DtypePolicy, LoadOptions, plan};
use tensorlift_tensor_meta::{Catalog, Dtype, ErrorKind, Extent, Layout, Record, ShardId, View};

use super::Sample;

const FLOATS: [Dtype; 9] = [
    Dtype::F64,
    Dtype::F32,
    Dtype::F16,
    Dtype::BF16,
    Dtype::F8E4M3,
    Dtype::F8E5M2,
    Dtype::F8E4M3Fnuz,
    Dtype::F8E5M2Fnuz,
    Dtype::F8E8M0,
];
const LOWER_HALVES: [u32; 10] = [
    0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xF000, 0xFFFF,
];
const LOWER_BITS: [u64; 5] = [0, 1, 0x0FFF_FFFF, 0x1000_0000, 0x1000_0001];

/// What PyTorch made of the same inputs; `fixtures/write_dtype_values.py` wrote it.
#[derive(serde::Deserialize)]
struct Expected {
    sha256: BTreeMap<String, String>,
}

/// The inputs that `fixtures/write_dtype_values.py` describes.
fn inputs(dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F64 => doubles(),
        Dtype::F32 => singles()
            .iter()
            .flat_map(|bits| bits.to_le_bytes())
            .collect(),
        Dtype::F16 | Dtype::BF16 => (0..=u16::MAX).flat_map(u16::to_le_bytes).collect(),
        _ => (0..=u8::MAX).collect(),
    }
}

fn singles() -> Vec<u32> {
    let patterns = |half: &u32| {
        let half = *half;
        (0..1u32 << 16).map(move |upper| upper << 16 | half)
    };
    LOWER_HALVES.iter().flat_map(patterns).collect()
}

fn doubles() -> Vec<u8> {
    let numbers = singles().into_iter().map(f32::from_bits);
    let numbers = numbers.filter(|number| !number.is_nan()).step_by(8);
    let numbers: Vec<u64> = numbers
        .map(|number| f64::from(number).to_bits())
        .chain((0..1 << 12).map(|upper| upper << 52))
        .collect();
    let mut bytes = Vec::new();
    for bits in LOWER_BITS {
        bytes.extend(
            numbers
                .iter()
                .flat_map(|number| (number + bits).to_le_bytes()),
        );
    }
    bytes
}

fn convert(from: Dtype, to: Dtype, bytes: &[u8]) -> Vec<u8> {
    let cast = Cast::between(from, to).unwrap();
    let mut converted = vec![0; cast.converted_len(bytes.len() as u64) as usize];
    cast.convert(bytes, &mut converted);
    converted
}

/// Whether each element is NaN.
fn nans(dtype: Dtype, bytes: &[u8]) -> Vec<bool> {
    let widened = match dtype {
        Dtype::F64 => bytes.to_vec(),
        _ => convert(dtype, Dtype::F64, bytes),
    };
    let elements = widened.chunks_exact(8);
    elements
        .map(|element| f64::from_le_bytes(element.try_into().unwrap()).is_nan())
        .collect()
}

#[test]
fn every_value_is_the_one_that_pytorch_gives() {
    let expected: Expected = serde_json::from_str(include_str!("dtype_values.json")).unwrap();
    let mut differing = Vec::new();
    for from in FLOATS {
        for to in FLOATS.into_iter().filter(|to| *to != from) {
            let mut converted = convert(from, to, &inputs(from));
            let nans = nans(to, &converted);
            for (element, is_nan) in converted.chunks_exact_mut(to.alignment()).zip(nans) {
                if is_nan {
                    element.fill(0xFF);
                }
            }
            let digest = Sha256::digest(&converted);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let pair = format!("{from} {to}");
            if expected.sha256[&pair] != digest {
                differing.push(pair);
            }
        }
    }
    assert_eq!(expected.sha256.len(), 72);
    assert!(differing.is_empty(), "{differing:?} differ");
}

#[test]
fn nan_stays_nan() {
    let has_nan = |dtype: Dtype| nans(dtype, &inputs(dtype)).contains(&true);
    assert!(FLOATS.into_iter().all(has_nan));
    for from in FLOATS {
        let nans_before = nans(from, &inputs(from));
        for to in FLOATS.into_iter().filter(|to| *to != from) {
            let after = nans(to, &convert(from, to, &inputs(from)));
            let lost = nans_before
                .iter()
                .zip(&after)
                .filter(|(was, is)| **was && !**is);
            assert_eq!(lost.count(), 0, "{from} to {to}");
        }
    }
}

proptest! {
    /// In place or not, in blocks or not, aligned or not: the same bytes.
    #[test]
    fn in_place_is_as_from_one_buffer_to_another(
        from in prop::sample::select(&FLOATS[..]),
        to in prop::sample::select(&FLOATS[..]),
        elements in 0usize..1500,
        shift in 0usize..8,
    ) {
        let Some(cast) = Cast::between(from, to) else {
            return Ok(());
        };
        let (read, written) = (from.alignment(), to.alignment());
        let bytes: Vec<u8> = (0..elements * read).map(|i| (i * 37 % 251) as u8).collect();
        let expected = convert(from, to, &bytes);
        let mut room = vec![0xAA; shift + elements * read.max(written)];
        let first = if written > read { room.len() - bytes.len() } else { shift };
        room[first..][..bytes.len()].copy_from_slice(&bytes);
        cast.convert_in_place(&mut room[shift..]);
        prop_assert_eq!(&room[shift..][..expected.len()], &expected[..]);
    }
}

/// Quantized tensors, their scales and integers are kept, and the plan lists them.
#[test]
fn what_is_no_plain_float_is_kept_and_listed() {
    let tensors = [
        ("a.weight", Dtype::F8E4M3),
        ("a.weight_scale_inv", Dtype::F32),
        ("a.bias", Dtype::F32),
        ("q", Dtype::QInt8),
        ("q.scale", Dtype::F64),
        ("logit_scale", Dtype::F32),
        ("ids", Dtype::I64),
        ("half", Dtype::BF16),
    ];
    let (catalog, _) = one_after_another(tensors.map(|(name, dtype)| (name, dtype, 4)));
    let options = LoadOptions::default().dtype(DtypePolicy::To(Dtype::BF16));
    let rules = [HostDevice::new().rules()];
    let plan = plan(&catalog, |_| Some(0), &rules, &options).unwrap();
    let names = |positions: &[usize]| -> Vec<String> {
        let name = |position: &usize| catalog.entries()[*position].name().to_owned();
        positions.iter().map(name).collect()
    };
    assert_eq!(
        names(&plan.kept),
        ["a.weight", "a.weight_scale_inv", "q", "q.scale", "ids"]
    );
    let converted = plan
        .places
        .iter()
        .filter(|place| place.dtype != catalog.entries()[place.entry].dtype());
    let converted: Vec<usize> = converted.map(|place| place.entry).collect();
    assert_eq!(names(&converted), ["a.bias", "logit_scale"]);
}

/// A file of vectors, and its length.
fn one_after_another<'a>(
    tensors: impl IntoIterator<Item = (&'a str, Dtype, usize)>,
) -> (Catalog, u64) {
    let mut builder = Catalog::builder();
    let mut offset = 0;
    for (name, dtype, elements) in tensors {
        let layout = Layout::contiguous([elements]).unwrap();
        let len = layout.span_bytes(dtype).unwrap();
        let record = Record::stored(Extent::new(ShardId::FIRST, offset, len));
        let record = builder.record(record).unwrap();
        builder
            .entry(name, dtype, layout, View::whole(record))
            .unwrap();
        offset += len;
    }
    (builder.finish(), offset)
}

/// The report names what is not converted, and counts what crosses to a device after conversion.
#[test]
fn reports_name_what_is_kept_and_count_the_bus() {
    let sizes = [("weight", Dtype::F32, 5000), ("ids", Dtype::I64, 100)];
    let (catalog, bytes) = one_after_another(sizes);
    let sample = Sample {
        catalog,
        shards: vec![vec![0; bytes as usize]],
    };
    for (to, element) in [(Dtype::BF16, 2), (Dtype::F64, 8)] {
        let options = LoadOptions::default().dtype(DtypePolicy::To(to));
        let device = StagedDevice::new(2, 4096);
        let staged = sample.load(&sample.shards(), device, &options).unwrap();
        let report = staged.report();
        let kept: Vec<_> = (report.kept.iter())
            .map(|kept| (kept.name.as_str(), kept.dtype))
            .collect();
        assert_eq!(kept, [("ids", Dtype::I64)]);
        assert_eq!(report.bytes_over_bus, 5000 * element + 800);
        let host = sample.load(&sample.shards(), HostDevice::new(), &options);
        assert_eq!(host.unwrap().report().bytes_over_bus, 0);
    }
}

#[test]
fn conversions_that_make_no_sense_are_refused() {
    let mut builder = Catalog::builder();
    let record = builder
        .record(Record::stored(Extent::new(ShardId::FIRST, 0, 8)))
        .unwrap();
    let layout = Layout::contiguous([1]).unwrap();
    builder
        .entry("ids", Dtype::I64, layout, View::whole(record))
        .unwrap();
    let catalog = builder.finish();
    let error = DtypePolicy::To(Dtype::F8E4M3).casts(&catalog).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    let error = DtypePolicy::by(|_| Dtype::F32).casts(&catalog).unwrap_err();
    assert_eq!(
        (error.kind(), error.tensor()),
        (ErrorKind::Unsupported, Some("ids"))
    );
}
