//! Several devices, and the shares of several ranks.

use std::sync::Arc;

use tensorlift::{Checkpoint, Device, HostDevice, LoadOptions, Placement, Slice};
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

fn spec() -> CheckpointSpec {
    CheckpointSpec::new(Format::safetensors())
        .tensor("rows", Dtype::F32, [10, 4000])
        .tensor("columns", Dtype::BF16, [6, 7, 50])
        .tensor("whole", Dtype::U8, [3])
}

/// The bytes of the share, element by element.
pub(crate) fn share(bytes: &[u8], shape: &[usize], element: usize, slice: Slice) -> Vec<u8> {
    let inner: usize = shape[slice.dim() + 1..].iter().product::<usize>() * element;
    let range = slice.indices(shape[slice.dim()]);
    let mut out = Vec::new();
    for block in bytes.chunks(shape[slice.dim()] * inner) {
        out.extend(&block[range.start * inner..range.end * inner]);
    }
    out
}

#[test]
fn ranks_get_their_shares_and_read_no_other_rows() {
    let spec = spec();
    let bytes = spec.to_bytes();
    let mut rows_read = 0;
    for rank in 0..3 {
        let slice_of = |name: &str| match name {
            "rows" => Some(Slice::rank(0, rank, 3)),
            "columns" => Some(Slice::rank(1, rank, 3)),
            _ => None,
        };
        let checkpoint = Checkpoint::from_bytes(bytes.clone()).unwrap();
        let checkpoint = checkpoint.sliced(|entry| slice_of(entry.name())).unwrap();
        let loaded = checkpoint.loader().load().unwrap();
        for expected in spec.expected() {
            let tensor = loaded
                .tensor(&expected.name)
                .unwrap()
                .to_contiguous()
                .unwrap();
            let bytes = match slice_of(&expected.name) {
                Some(slice) => {
                    let element = expected.dtype.byte_len().unwrap();
                    share(&expected.bytes, &expected.shape, element, slice)
                }
                None => expected.bytes,
            };
            assert_eq!(
                tensor.as_bytes().unwrap(),
                bytes,
                "{} of {rank}",
                expected.name
            );
        }
        let rows = checkpoint.loader().select_names(["rows"]).load().unwrap();
        rows_read += rows.report().bytes_read;
    }
    assert_eq!(rows_read, 10 * 4000 * 4);
    let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
    let wrong = checkpoint.sliced(|_| Some(Slice::rank(1, 0, 2)));
    assert_eq!(wrong.unwrap_err().kind(), tensorlift::ErrorKind::Misuse);
}

#[test]
fn a_file_for_several_devices_is_read_once() {
    let spec = spec();
    let checkpoint = Checkpoint::from_bytes(spec.to_bytes()).unwrap();
    let hosts: Vec<Arc<dyn Device>> = (0..2)
        .map(|_| Arc::new(HostDevice::new()) as Arc<dyn Device>)
        .collect();
    let placement = Placement::by_prefix(hosts, [("", 0), ("columns", 1)]).unwrap();
    let loaded = checkpoint
        .loader()
        .options(LoadOptions::default().merge_gap_bytes(0))
        .place(placement)
        .load()
        .unwrap();
    assert_eq!(loaded.report().bytes_read, spec.total_bytes());
    assert_eq!(loaded.report().groups, 2);
    for expected in spec.expected() {
        let tensor = loaded.tensor(&expected.name).unwrap();
        assert_eq!(tensor.as_bytes().unwrap(), expected.bytes);
    }
}
