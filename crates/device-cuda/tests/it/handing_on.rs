//! Loaded memory in the hands of others: cudarc, DLPack.

// A deleter is called as a framework would.
#![allow(unsafe_code)]

use std::sync::Arc;

use tensorlift_device::Group;
use tensorlift_device_cuda::CudaBuffer;
use tensorlift_device_cuda::cudarc::driver::{CudaContext, CudaStream};
use tensorlift_device_cuda::dlpack::{
    self, DlManagedTensor, DlManagedTensorVersioned, DlpackError,
};
use tensorlift_fake_cuda::harness::Fake;
use tensorlift_tensor_meta::{Dtype, Layout};

use crate::drive::{Manner, buffer, fill, noise, options, straight};

fn loaded(source: &[u8]) -> CudaBuffer {
    let device = options(0).build().unwrap();
    let chunks = straight(source.len(), 8192);
    let group: Box<dyn Group> =
        fill(&device, source, &chunks, source.len(), Manner::default()).unwrap();
    buffer(group.as_ref())
}

fn stream() -> Arc<CudaStream> {
    CudaContext::new(0).unwrap().new_stream().unwrap()
}

#[test]
fn slices_of_cudarc_share_the_memory() {
    Fake::new("handing_on::slices_of_cudarc_share_the_memory").run(|control| {
        let source = noise(20_000, 1);
        let memory = loaded(&source);
        let stream = stream();
        let whole = memory.slice::<u8>(0..20_000, &stream).unwrap();
        let floats = memory.slice::<f32>(400..4400, &stream).unwrap();
        drop(memory);
        assert_eq!(floats.len(), 1000);
        assert!(stream.clone_dtoh(&*whole).unwrap() == source);
        let part = stream.clone_dtoh(&floats.slice(10..20)).unwrap();
        let bytes: Vec<u8> = part.iter().flat_map(|float| float.to_ne_bytes()).collect();
        assert_eq!(bytes, source[440..480]);
        drop(whole);
        assert_eq!(control.counts().allocations, 1);
        drop(floats);
        assert_eq!(control.counts().allocations, 0);
    });
}

#[test]
fn reading_back_waits_for_pinned_memory_too() {
    use tensorlift_device_cuda::cudarc::driver::sys;
    Fake::new("handing_on::reading_back_waits_for_pinned_memory_too")
        .set("copy_delay_us", 3000)
        .run(|_| {
            let source = noise(8192, 7);
            let memory = loaded(&source);
            let context = CudaContext::new(0).unwrap();
            let mut pinned = vec![0u8; 8192];
            let start = pinned.as_mut_ptr().cast();
            // SAFETY: the memory is alive until it is unregistered, below.
            unsafe { sys::cuMemHostRegister_v2(start, 8192, 0) }
                .result()
                .unwrap();
            for _ in 0..5 {
                pinned.fill(0);
                memory.read(0, &mut pinned).unwrap();
                assert!(pinned == source);
            }
            context.bind_to_thread().unwrap();
            // SAFETY: registered above.
            unsafe { sys::cuMemHostUnregister(start) }.result().unwrap();
        });
}

#[test]
fn memory_is_freed_after_foreign_work() {
    Fake::new("handing_on::memory_is_freed_after_foreign_work")
        .set("copy_delay_us", 3000)
        .run(|control| {
            let source = noise(8192, 2);
            let memory = loaded(&source);
            let stream = stream();
            let slice = memory.slice::<u8>(0..8192, &stream).unwrap();
            let mut copy = stream.alloc_zeros::<u8>(8192).unwrap();
            for _ in 0..10 {
                stream.memcpy_dtod(&*slice, &mut copy).unwrap();
            }
            // The copies have not run yet.
            drop((slice, memory));
            assert!(stream.clone_dtoh(&copy).unwrap() == source);
            assert_eq!(control.violations(), "");
            drop(copy);
            stream.synchronize().unwrap();
        });
}

#[test]
fn a_whole_group_can_be_given_away() {
    Fake::new("handing_on::a_whole_group_can_be_given_away").run(|control| {
        let source = noise(8000, 3);
        let memory = loaded(&source);
        let stream = stream();
        let shared = memory.clone();
        let (memory, error) = memory.into_slice::<f64>(&stream).unwrap_err();
        assert!(format!("{error:?}").contains("shared"), "{error:?}");
        drop(shared);
        let slice = memory.into_slice::<f64>(&stream).unwrap();
        assert_eq!(slice.len(), 1000);
        assert_eq!(control.counts().allocations, 1);
        drop(slice);
        stream.synchronize().unwrap();
        assert_eq!(control.counts().allocations, 0);
    });
}

#[test]
fn what_is_no_slice_is_a_typed_error() {
    Fake::new("handing_on::what_is_no_slice_is_a_typed_error")
        .set("devices", 2)
        .run(|_| {
            let memory = loaded(&noise(1001, 4));
            let stream = stream();
            for range in [0..1002, 1..9, 0..7, 1001..1001, 1002..1004] {
                assert!(
                    memory.slice::<u32>(range.clone(), &stream).is_err(),
                    "{range:?}"
                );
            }
            #[allow(clippy::reversed_empty_ranges)]
            let reversed = 8..4;
            assert!(memory.slice::<u32>(reversed, &stream).is_err());
            let other = CudaContext::new(1).unwrap().new_stream().unwrap();
            assert!(memory.slice::<u8>(0..8, &other).is_err());
            let (memory, _) = memory.into_slice::<u32>(&stream).unwrap_err();
            assert_eq!(memory.len(), 1001);
            assert_eq!(memory.ordinal(), 0);
            assert_eq!(memory.context(), stream.context().cu_ctx());
        });
}

#[test]
fn dlpack_keeps_the_memory_until_the_deleter() {
    Fake::new("handing_on::dlpack_keeps_the_memory_until_the_deleter").run(|control| {
        let source = noise(8000, 5);
        let memory = loaded(&source);
        let layout = Layout::strided([10, 20], [1, 10]).unwrap();
        let versioned = memory
            .dlpack::<DlManagedTensorVersioned>(400, Dtype::BF16, &layout)
            .unwrap();
        let plain = memory
            .dlpack::<DlManagedTensor>(0, Dtype::F32, &Layout::contiguous([2000]).unwrap())
            .unwrap();
        let address = memory.address();
        drop(memory);
        let seen = &versioned.managed().tensor;
        assert_eq!(seen.data.addr() as u64, address + 400);
        assert_eq!((seen.device.kind, seen.device.id), (dlpack::CUDA, 0));
        assert_eq!(
            (seen.dtype.code, seen.dtype.bits, seen.dtype.lanes),
            (4, 16, 1)
        );
        // SAFETY: both point to two values each.
        let (shape, strides) = unsafe {
            (
                std::slice::from_raw_parts(seen.shape, 2),
                std::slice::from_raw_parts(seen.strides, 2),
            )
        };
        assert_eq!((shape, strides), ([10, 20].as_slice(), [1, 10].as_slice()));
        let taken = versioned.into_raw();
        drop(plain);
        assert_eq!(control.counts().allocations, 1);
        // SAFETY: taken once, given back once.
        unsafe { (*taken).deleter.unwrap()(taken) };
        assert_eq!(control.counts().allocations, 0);
    });
}

#[test]
fn a_tensor_outside_its_group_is_not_exported() {
    Fake::new("handing_on::a_tensor_outside_its_group_is_not_exported").run(|_| {
        let memory = loaded(&noise(100, 6));
        let export = |start, layout: &Layout| {
            let exported = memory.dlpack::<DlManagedTensor>(start, Dtype::F32, layout);
            exported.map(drop)
        };
        let outside = |start| Err(DlpackError::Outside { start, len: 100 });
        let layout = Layout::contiguous([25]).unwrap();
        assert_eq!(export(0, &layout), Ok(()));
        assert_eq!(export(4, &layout), outside(4));
        assert_eq!(export(usize::MAX, &layout), outside(usize::MAX));
        let strided = Layout::strided([2], [25]).unwrap();
        assert_eq!(export(0, &strided), outside(0));
        let none = Layout::contiguous([0, 7]).unwrap();
        assert_eq!(export(100, &none), Ok(()));
        assert_eq!(export(101, &none), outside(101));
    });
}
