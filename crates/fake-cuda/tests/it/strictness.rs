//! What the double must catch, driven through its C interface.

use libloading::{Library, Symbol};
use tensorlift_fake_cuda::harness::{Control, Fake};

/// The driver's calls that these tests make, by their C types.
struct Driver {
    library: Library,
}

macro_rules! calls {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        #[allow(non_snake_case)]
        impl Driver {
            $(fn $name(&self, $($argument: $type),*) -> u32 {
                type Call = extern "C" fn($($type),*) -> u32;
                // SAFETY: the type is that of the symbol.
                let call: Symbol<'_, Call> = unsafe { self.library.get(stringify!($name)) }.unwrap();
                call($($argument),*)
            })*
        }
    };
}

calls! {
    cuInit(flags: u32);
    cuDevicePrimaryCtxRetain(context: *mut usize, device: i32);
    cuDevicePrimaryCtxRelease_v2(device: i32);
    cuCtxSetCurrent(context: usize);
    cuStreamCreate(stream: *mut usize, flags: u32);
    cuStreamDestroy_v2(stream: usize);
    cuStreamSynchronize(stream: usize);
    cuStreamWaitEvent(stream: usize, event: usize, flags: u32);
    cuEventCreate(event: *mut usize, flags: u32);
    cuEventDestroy_v2(event: usize);
    cuEventRecord(event: usize, stream: usize);
    cuMemAlloc_v2(address: *mut u64, len: usize);
    cuMemFree_v2(address: u64);
    cuMemAllocAsync(address: *mut u64, len: usize, stream: usize);
    cuMemHostRegister_v2(start: usize, len: usize, flags: u32);
    cuMemHostUnregister(start: usize);
    cuMemcpyHtoDAsync_v2(to: u64, from: usize, len: usize, stream: usize);
    cuMemcpyDtoHAsync_v2(to: usize, from: u64, len: usize, stream: usize);
}

impl Driver {
    fn open() -> Self {
        // SAFETY: the double runs no code when it is loaded.
        let library = unsafe { Library::new("libcuda.so.1") }.unwrap();
        let driver = Self { library };
        assert_eq!(driver.cuInit(0), 0);
        let mut context = 0;
        assert_eq!(driver.cuDevicePrimaryCtxRetain(&raw mut context, 0), 0);
        assert_eq!(driver.cuCtxSetCurrent(context), 0);
        driver
    }

    fn close(&self) {
        assert_eq!(self.cuDevicePrimaryCtxRelease_v2(0), 0);
    }

    fn stream(&self) -> usize {
        let mut stream = 0;
        assert_eq!(self.cuStreamCreate(&raw mut stream, 1), 0);
        stream
    }

    fn download(&self, from: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let to = bytes.as_mut_ptr().addr();
        assert_eq!(self.cuMemcpyDtoHAsync_v2(to, from, len, 0), 0);
        bytes
    }
}

/// Runs a misuse and checks that it was seen; what it leaves is not looked at.
fn sees(control: &Control, part: &str) {
    let seen = control.violations();
    assert!(seen.contains(part), "{part:?} not in {seen:?}");
}

#[test]
fn a_pinned_upload_reads_when_it_runs_and_a_pageable_one_at_once() {
    Fake::new("strictness::a_pinned_upload_reads_when_it_runs_and_a_pageable_one_at_once")
        .set("copy_delay_us", 20_000)
        .run(|control| {
            let driver = Driver::open();
            let stream = driver.stream();
            let mut memory = [0u64; 2];
            for address in &mut memory {
                assert_eq!(driver.cuMemAlloc_v2(address, 4096), 0);
            }
            let mut pinned = vec![1u8; 4096];
            let mut pageable = vec![1u8; 4096];
            let start = pinned.as_mut_ptr().addr();
            assert_eq!(driver.cuMemHostRegister_v2(start, 4096, 1), 0);
            // Something slow goes first, so that the bytes change before the copy runs.
            for _ in 0..20 {
                driver.cuMemcpyHtoDAsync_v2(memory[0], start, 4096, stream);
            }
            driver.cuMemcpyHtoDAsync_v2(memory[1], pageable.as_ptr().addr(), 4096, stream);
            pinned.fill(2);
            pageable.fill(2);
            assert_eq!(driver.cuStreamSynchronize(stream), 0);
            assert_eq!(driver.download(memory[0], 4096), [2; 4096]);
            assert_eq!(driver.download(memory[1], 4096), [1; 4096]);
            assert_eq!(control.counts().pageable_copies, 1);
            assert_eq!(driver.cuMemHostUnregister(start), 0);
            for address in memory {
                assert_eq!(driver.cuMemFree_v2(address), 0);
            }
            assert_eq!(driver.cuStreamDestroy_v2(stream), 0);
            driver.close();
        });
}

#[test]
fn a_copy_past_the_end_is_refused() {
    Fake::new("strictness::a_copy_past_the_end_is_refused").run(|_| {
        let driver = Driver::open();
        let mut memory = 0;
        assert_eq!(driver.cuMemAlloc_v2(&raw mut memory, 100), 0);
        let bytes = [7u8; 200];
        let from = bytes.as_ptr().addr();
        assert_eq!(driver.cuMemcpyHtoDAsync_v2(memory + 50, from, 50, 0), 0);
        assert_eq!(driver.cuMemcpyHtoDAsync_v2(memory + 51, from, 50, 0), 1);
        assert_eq!(driver.cuMemcpyHtoDAsync_v2(memory - 1, from, 1, 0), 1);
        assert_eq!(driver.cuStreamSynchronize(0), 0);
        assert_eq!(driver.cuMemFree_v2(memory), 0);
        assert_eq!(driver.cuMemFree_v2(memory), 1);
        driver.close();
    });
}

#[test]
fn freeing_under_a_copy_is_seen() {
    Fake::new("strictness::freeing_under_a_copy_is_seen")
        .allowing_misuse()
        .set("copy_delay_us", 20_000)
        .run(|control| {
            let driver = Driver::open();
            let stream = driver.stream();
            let mut memory = 0;
            assert_eq!(driver.cuMemAlloc_v2(&raw mut memory, 100), 0);
            let bytes = [7u8; 100];
            for _ in 0..5 {
                driver.cuMemcpyHtoDAsync_v2(memory, bytes.as_ptr().addr(), 100, stream);
            }
            assert_eq!(driver.cuMemFree_v2(memory), 0);
            assert_eq!(driver.cuStreamSynchronize(stream), 700);
            sees(control, "dead memory");
        });
}

#[test]
fn unpinning_under_a_copy_is_seen() {
    Fake::new("strictness::unpinning_under_a_copy_is_seen")
        .allowing_misuse()
        .set("copy_delay_us", 20_000)
        .run(|control| {
            let driver = Driver::open();
            let stream = driver.stream();
            let mut memory = 0;
            assert_eq!(driver.cuMemAlloc_v2(&raw mut memory, 4096), 0);
            let bytes = vec![7u8; 4096];
            let start = bytes.as_ptr().addr();
            assert_eq!(driver.cuMemHostRegister_v2(start, 4096, 1), 0);
            for _ in 0..5 {
                driver.cuMemcpyHtoDAsync_v2(memory, start, 4096, stream);
            }
            assert_eq!(driver.cuMemHostUnregister(start), 0);
            assert_eq!(driver.cuStreamSynchronize(stream), 700);
            sees(control, "pinned no more");
        });
}

#[test]
fn memory_is_another_streams_only_after_its_own_came_to_it() {
    Fake::new("strictness::memory_is_another_streams_only_after_its_own_came_to_it")
        .allowing_misuse()
        .set("copy_delay_us", 20_000)
        .run(|control| {
            let driver = Driver::open();
            let (own, other) = (driver.stream(), driver.stream());
            let bytes = [7u8; 100];
            let from = bytes.as_ptr().addr();
            let mut slow = 0;
            assert_eq!(driver.cuMemAlloc_v2(&raw mut slow, 100), 0);
            for _ in 0..20 {
                driver.cuMemcpyHtoDAsync_v2(slow, from, 100, own);
            }
            let mut memory = 0;
            assert_eq!(driver.cuMemAllocAsync(&raw mut memory, 100, own), 0);
            let mut event = 0;
            assert_eq!(driver.cuEventCreate(&raw mut event, 2), 0);
            assert_eq!(driver.cuEventRecord(event, own), 0);
            // With the wait all is well ...
            assert_eq!(driver.cuStreamWaitEvent(other, event, 0), 0);
            driver.cuMemcpyHtoDAsync_v2(memory, from, 100, other);
            assert_eq!(driver.cuStreamSynchronize(other), 0);
            assert_eq!(control.violations(), "");
            // ... and without it not.
            for _ in 0..20 {
                driver.cuMemcpyHtoDAsync_v2(slow, from, 100, own);
            }
            assert_eq!(driver.cuMemAllocAsync(&raw mut memory, 100, own), 0);
            driver.cuMemcpyHtoDAsync_v2(memory, from, 100, other);
            assert_eq!(driver.cuStreamSynchronize(other), 700);
            sees(control, "dead memory");
        });
}

#[test]
fn what_is_left_is_counted() {
    Fake::new("strictness::what_is_left_is_counted").run(|control| {
        let driver = Driver::open();
        let stream = driver.stream();
        let mut memory = 0;
        assert_eq!(driver.cuMemAlloc_v2(&raw mut memory, 100), 0);
        let bytes = [0u8; 64];
        let start = bytes.as_ptr().addr();
        assert_eq!(driver.cuMemHostRegister_v2(start, 64, 1), 0);
        let mut event = 0;
        assert_eq!(driver.cuEventCreate(&raw mut event, 2), 0);
        let counts = control.counts();
        assert_eq!((counts.contexts, counts.streams, counts.events), (1, 1, 1));
        assert_eq!((counts.allocations, counts.device_bytes), (1, 100));
        assert_eq!((counts.pinned_ranges, counts.pinned_bytes), (1, 64));
        assert!(!counts.is_clean());
        assert_eq!(driver.cuEventDestroy_v2(event), 0);
        assert_eq!(driver.cuMemHostUnregister(start), 0);
        assert_eq!(driver.cuMemFree_v2(memory), 0);
        assert_eq!(driver.cuStreamDestroy_v2(stream), 0);
        driver.close();
    });
}

#[test]
fn planned_failures_come_at_their_number_and_a_lost_device_stays_lost() {
    Fake::new("strictness::planned_failures_come_at_their_number_and_a_lost_device_stays_lost")
        .set("memory", 1000)
        .run(|control| {
            let driver = Driver::open();
            let mut memory = 0;
            assert_eq!(driver.cuMemAlloc_v2(&raw mut memory, 1001), 2);
            control.fail("cuMemAlloc_v2", 2, 999);
            assert_eq!(driver.cuMemAlloc_v2(&raw mut memory, 1000), 0);
            assert_eq!(driver.cuMemFree_v2(memory), 0);
            assert_eq!(driver.cuMemAlloc_v2(&raw mut memory, 1000), 999);
            assert_eq!(driver.cuMemAlloc_v2(&raw mut memory, 1000), 0);
            control.lose_device_at("cuStreamSynchronize", 1, 719);
            assert_eq!(driver.cuStreamSynchronize(0), 719);
            let mut more = 0;
            assert_eq!(driver.cuMemAlloc_v2(&raw mut more, 1), 719);
            // Releases do their work all the same.
            assert_eq!(driver.cuMemFree_v2(memory), 719);
            assert_eq!(driver.cuDevicePrimaryCtxRelease_v2(0), 719);
        });
}
