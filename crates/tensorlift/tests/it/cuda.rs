//! Whole checkpoints to a GPU, over the double of the driver, which is not CUDA.

use std::path::Path;

use tensorlift::cuda::{CudaBuffer, CudaDevice, Gds, contiguous};
use tensorlift::{Checkpoint, ErrorKind, Loaded, Slice};
use tensorlift_fake_cuda::harness::Fake;
use tensorlift_fixture_kit::{CheckpointSpec, ExpectedTensor, Format, presets};
use tensorlift_tensor_meta::Dtype;

/// Pinned memory that tests can afford.
fn device(gds: Gds) -> CudaDevice {
    let options = CudaDevice::options(0).lanes(2).slot_bytes(64 << 10);
    options.gds(gds).build().unwrap()
}

/// A folder on the disk of the build: what lies in memory has no direct reads, nor cuFile's.
fn folder() -> tempfile::TempDir {
    let own = std::env::current_exe().unwrap();
    tempfile::tempdir_in(own.parent().unwrap()).unwrap()
}

fn load(path: &Path, device: CudaDevice) -> Loaded {
    let checkpoint = Checkpoint::open(path).unwrap();
    checkpoint.loader().place_on(device).load().unwrap()
}

fn check(loaded: &Loaded, expected: &[ExpectedTensor]) {
    assert_eq!(loaded.tensors().len(), expected.len());
    for expected in expected {
        let tensor = loaded.tensor(&expected.name).unwrap();
        let buffer = CudaBuffer::of(&**tensor.group()).expect("a tensor on the GPU");
        let mut bytes = vec![0; tensor.span_bytes()];
        buffer.read(tensor.offset(), &mut bytes).unwrap();
        assert!(bytes == expected.bytes, "{} differs", expected.name);
        assert!(
            tensor.as_bytes().is_err(),
            "the host cannot read it in place"
        );
    }
}

#[test]
fn both_formats_arrive_whole_single_and_sharded() {
    Fake::new("cuda::both_formats_arrive_whole_single_and_sharded")
        .with_cufile()
        .run(|control| {
            for format in [Format::safetensors(), Format::torch_zip()] {
                let specs = [
                    presets::large(format.clone(), 3 << 20),
                    presets::many_tiny(format, 200).shards(3),
                ];
                for spec in &specs {
                    let folder = folder();
                    let written = spec.write(folder.path()).unwrap();
                    for gds in [Gds::Off, Gds::Auto, Gds::On] {
                        let loaded = load(&written.path, device(gds));
                        check(&loaded, &spec.expected());
                        assert_eq!(loaded.report().devices, ["cuda:0"]);
                        let pulled = loaded.report().files.iter().any(|it| it.pulled_by_device);
                        assert_eq!(pulled, gds == Gds::On);
                    }
                }
            }
            assert_eq!(control.counts().pageable_copies, 0);
        });
}

#[test]
fn files_are_opened_and_parsed_while_the_driver_starts() {
    Fake::new("cuda::files_are_opened_and_parsed_while_the_driver_starts").run(|control| {
        for format in [Format::safetensors(), Format::torch_zip()] {
            let spec = presets::many_tiny(format, 200).shards(3);
            let folder = folder();
            let written = spec.write(folder.path()).unwrap();
            // The context is there only once the headers were read; one that is waited for before
            // fails.
            control.close_gate("cuDevicePrimaryCtxRetain");
            let device = device(Gds::Auto);
            let checkpoint = Checkpoint::open(&written.path).unwrap();
            assert_eq!(checkpoint.catalog().len(), 200);
            let loader = checkpoint.loader().place_on(device);
            loader.plan().unwrap();
            control.open_gate();
            check(&loader.load().unwrap(), &spec.expected());
        }
    });
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_before_a_byte_is_read() {
    Fake::new("cuda::a_checkpoint_that_does_not_fit_is_refused_before_a_byte_is_read")
        .set("memory", 1 << 20)
        .run(|control| {
            let spec = presets::large(Format::safetensors(), 3 << 20);
            let checkpoint = Checkpoint::from_bytes(spec.to_bytes()).unwrap();
            let loader = checkpoint.loader().place_on(device(Gds::Off));
            let error = loader.load().unwrap_err().to_string();
            assert!(error.contains(&(1u64 << 20).to_string()), "{error}");
            assert!(!control.calls().contains_key("cuMemcpyHtoDAsync_v2"));
        });
}

#[test]
fn a_rank_gets_its_share_and_keeps_nothing_else() {
    Fake::new("cuda::a_rank_gets_its_share_and_keeps_nothing_else")
        .set("copy_delay_us", 20)
        .run(|control| {
            let shape = [5, 7, 400];
            let spec = CheckpointSpec::new(Format::safetensors()).tensor("t", Dtype::BF16, shape);
            let whole = &spec.expected()[0].bytes;
            let device = device(Gds::Off);
            for (dim, rank) in (0..3).flat_map(|dim| (0..3).map(move |rank| (dim, rank))) {
                let slice = Slice::rank(dim, rank, 3);
                let checkpoint = Checkpoint::from_bytes(spec.to_bytes()).unwrap();
                let share = checkpoint.sliced(|_| Some(slice)).unwrap();
                let loaded = share.loader().place_on(device.clone()).load().unwrap();
                let share = contiguous(loaded.tensor("t").unwrap()).unwrap();
                drop(loaded);
                assert_eq!(control.counts().device_bytes, share.len() as u64);
                let expected = crate::shares::share(whole, &shape, 2, slice);
                assert!(share.to_host().unwrap() == expected, "{slice:?}");
            }
        });
}

#[test]
fn a_copy_without_gaps_may_fail() {
    Fake::new("cuda::a_copy_without_gaps_may_fail").run(|control| {
        let spec = CheckpointSpec::new(Format::safetensors()).tensor("t", Dtype::F32, [10, 40]);
        let checkpoint = Checkpoint::from_bytes(spec.to_bytes()).unwrap();
        let loaded = checkpoint
            .loader()
            .place_on(device(Gds::Off))
            .load()
            .unwrap();
        let tensor = loaded.tensor("t").unwrap();
        for call in ["cuMemAlloc_v2", "cuMemcpy2DAsync_v2", "cuStreamSynchronize"] {
            // `CUDA_ERROR_UNKNOWN`.
            control.fail(call, 1, 999);
            assert!(contiguous(tensor).is_err(), "{call}");
            control.forget_faults();
            assert_eq!(control.counts().allocations, 1, "{call}");
        }
        let host = checkpoint.loader().load().unwrap();
        let error = contiguous(host.tensor("t").unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
    });
}
