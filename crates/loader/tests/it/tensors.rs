//! Typed access to loaded tensors.

use half::bf16;
use tensorlift_device::{HostDevice, NullDevice};
use tensorlift_loader::LoadOptions;
use tensorlift_tensor_meta::{Catalog, Dtype, ErrorKind, Extent, Layout, Record, ShardId, View};

use super::Sample;

fn sample() -> Sample {
    let floats = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let mut bytes: Vec<u8> = floats
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    bytes.extend([0, 1, 2]);
    let mut builder = Catalog::builder();
    let shard = Extent::new(ShardId::FIRST, 0, 27);
    let record = builder.record(Record::stored(shard)).unwrap();
    let matrix = Layout::contiguous([2, 3]).unwrap();
    let transposed = Layout::strided([3, 2], [1, 3]).unwrap();
    let endless = Layout::strided([1 << 44], [0]).unwrap();
    let mut add = |name: &str, dtype, layout, offset| {
        builder
            .entry(name, dtype, layout, View::at(record, offset))
            .unwrap();
    };
    add("matrix", Dtype::F32, matrix, 0);
    add("transposed", Dtype::F32, transposed, 0);
    add("endless", Dtype::F32, endless, 4);
    add("truth", Dtype::Bool, Layout::contiguous([2]).unwrap(), 24);
    add("lie", Dtype::Bool, Layout::contiguous([3]).unwrap(), 24);
    add("half", Dtype::BF16, Layout::contiguous([2]).unwrap(), 0);
    Sample {
        catalog: builder.finish(),
        shards: vec![bytes],
    }
}

#[test]
fn typed_access_checks_dtype_layout_and_bits() {
    let sample = sample();
    let loaded = sample.load(&sample.shards(), HostDevice::new(), &LoadOptions::default());
    let loaded = loaded.unwrap();
    let tensor = |name: &str| loaded.tensor(name).unwrap();
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    assert_eq!(tensor("matrix").as_slice::<f32>().unwrap(), values);
    assert_eq!(tensor("half").as_slice::<bf16>().unwrap()[1], bf16::ONE);
    assert_eq!(tensor("truth").as_slice::<bool>().unwrap(), [false, true]);

    let wrong = tensor("matrix").as_slice::<f64>().unwrap_err();
    assert_eq!(
        (wrong.kind(), wrong.tensor()),
        (ErrorKind::Misuse, Some("matrix"))
    );
    assert_eq!(
        tensor("lie").as_slice::<bool>().unwrap_err().kind(),
        ErrorKind::Malformed
    );
    assert_eq!(
        tensor("transposed").as_slice::<f32>().unwrap_err().kind(),
        ErrorKind::Misuse
    );

    let contiguous = tensor("transposed").to_contiguous().unwrap();
    assert!(contiguous.is_contiguous() && contiguous.shape() == [3, 2]);
    assert_eq!(
        contiguous.as_slice::<f32>().unwrap(),
        [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
    );
}

#[test]
fn a_view_far_larger_than_its_bytes_costs_nothing_until_it_is_spread() {
    let sample = sample();
    let loaded = sample.load(&sample.shards(), HostDevice::new(), &LoadOptions::default());
    let loaded = loaded.unwrap();
    let endless = loaded.tensor("endless").unwrap();
    assert_eq!(endless.as_bytes().unwrap(), 2.0f32.to_le_bytes());
    let error = endless.to_contiguous().unwrap_err();
    assert_eq!(
        (error.kind(), error.tensor()),
        (ErrorKind::Device, Some("endless"))
    );
}

#[test]
fn tensors_keep_their_memory_alive_and_cross_threads() {
    fn crosses<T: Clone + Send + Sync + 'static>(_: &T) {}
    let sample = sample();
    let loaded = sample.load(&sample.shards(), HostDevice::new(), &LoadOptions::default());
    let tensor = loaded.unwrap().into_iter().next().unwrap();
    crosses(&tensor);
    let sum = std::thread::spawn(move || tensor.as_slice::<f32>().unwrap().iter().sum::<f32>());
    assert_eq!(sum.join().unwrap(), 21.0);
}

#[test]
fn names_that_are_not_there_are_told_apart() {
    let sample = sample();
    let loaded = sample.load(&sample.shards(), HostDevice::new(), &LoadOptions::default());
    let loaded = loaded.unwrap();
    let error = loaded.tensor("matrx").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("\"matrix\""), "{error}");
    assert!(
        !loaded
            .tensor("zzz")
            .unwrap_err()
            .to_string()
            .contains("alike")
    );
}

#[test]
fn what_the_host_cannot_read_is_refused() {
    let sample = sample();
    let loaded = sample
        .load(&sample.shards(), NullDevice, &LoadOptions::default())
        .unwrap();
    let error = loaded.tensor("matrix").unwrap().as_bytes().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
}
