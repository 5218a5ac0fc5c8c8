//! Which devices there are, and what opening one costs.

use tensorlift_device::{Device, DeviceError, GroupRequest};
use tensorlift_device_cuda::{CudaDevice, Gds, GdsReport, survey};
use tensorlift_fake_cuda::harness::Fake;

use crate::drive::{noise, options, round_trip};

#[test]
fn no_driver_is_a_typed_error() {
    // Not in a child: this is the machine as it is. With a driver there is nothing to see here.
    match CudaDevice::new(usize::MAX) {
        Err(DeviceError::DriverMissing { device, library }) => {
            assert_eq!(device, format!("cuda:{}", usize::MAX));
            assert!(library.contains("libcuda.so.1"));
            assert!(matches!(survey(), Err(DeviceError::DriverMissing { .. })));
        }
        Ok(_) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_driver_that_lacks_a_call_is_a_typed_error() {
    Fake::new("opening::a_driver_that_lacks_a_call_is_a_typed_error")
        .lacking("cuMemAlloc_v2")
        .run(|_| match CudaDevice::new(0) {
            Err(DeviceError::Unavailable { reason, .. }) => {
                assert!(reason.contains("cuMemAlloc_v2"), "{reason}");
            }
            other => panic!("{other:?}"),
        });
}

#[test]
fn no_device_and_a_wrong_number_are_typed_errors() {
    Fake::new("opening::no_device_and_a_wrong_number_are_typed_errors").run(|control| {
        // The number is not looked at before the driver is needed.
        let device = CudaDevice::new(1).unwrap();
        match device.wait() {
            Err(DeviceError::Unavailable { device, reason }) => {
                assert_eq!(device, "cuda:1");
                assert!(reason.contains("there are 1 CUDA devices"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        for error in [
            device.reserve(0).unwrap_err(),
            device.free_bytes().unwrap_err(),
            device.report().unwrap_err(),
        ] {
            assert!(error.to_string().contains("1 is not among them"), "{error}");
        }
        let found = survey().unwrap();
        assert_eq!(found.driver_version, 13_000);
        assert_eq!(found.devices.len(), 1);
        assert_eq!(found.devices[0].memory, 1 << 30);
        control.set("devices", 0);
        let none = CudaDevice::new(0).unwrap().wait().unwrap_err().to_string();
        assert!(none.contains("CUDA_ERROR_NO_DEVICE"), "{none}");
    });
}

#[test]
fn lanes_are_made_by_the_first_load_that_can_use_them_and_never_again() {
    Fake::new("opening::lanes_are_made_by_the_first_load_that_can_use_them_and_never_again").run(
        |control| {
            let device = options(0).lanes(4).build().unwrap();
            assert_eq!(control.counts().pinned_bytes, 0);
            let load = |len| {
                let source = noise(len, 1);
                assert!(round_trip(&device, &source).unwrap() == source);
            };
            // A byte needs a lane, which has two slots of 8 KiB.
            for (len, lanes, registered) in [(1, 1, 1), (30_000, 2, 2), (500_000, 4, 3)] {
                for _ in 0..3 {
                    load(len);
                    let counts = control.counts();
                    assert_eq!(counts.pinned_bytes, lanes * 2 * 8192);
                    assert_eq!((counts.streams, counts.events), (lanes + 1, lanes * 2));
                    assert_eq!(control.calls()["cuMemHostRegister_v2"], registered);
                }
            }
            let report = device.report().unwrap();
            assert_eq!((report.lanes, report.pinned_bytes), (4, 4 * 2 * 8192));
            assert_eq!(report.pinned_by, Some("cuMemHostRegister"));
            drop(device);
            assert!(control.counts().is_clean());
        },
    );
}

#[test]
fn less_memory_that_can_be_pinned_makes_fewer_lanes() {
    Fake::new("opening::less_memory_that_can_be_pinned_makes_fewer_lanes")
        .set("register_most", 5 * 8192)
        .run(|control| {
            let device = options(0).lanes(8).build().unwrap();
            let source = noise(300_000, 2);
            for _ in 0..2 {
                assert!(round_trip(&device, &source).unwrap() == source);
            }
            assert_eq!(device.report().unwrap().lanes, 2);
            assert_eq!(control.counts().pinned_bytes, 2 * 2 * 8192);
            // 8, 4 and 2 lanes were tried, once.
            assert_eq!(control.calls()["cuMemHostRegister_v2"], 3);
            assert_eq!(control.counts().pageable_copies, 0);
        });
}

#[test]
fn memory_that_cannot_be_registered_is_allocated_by_the_driver() {
    Fake::new("opening::memory_that_cannot_be_registered_is_allocated_by_the_driver")
        .set("host_register", 0)
        .run(|control| {
            let device = options(0).build().unwrap();
            let source = noise(30_000, 2);
            assert_eq!(round_trip(&device, &source).unwrap(), source);
            assert_eq!(device.report().unwrap().pinned_by, Some("cuMemHostAlloc"));
            assert_eq!(device.report().unwrap().lanes, 2);
            assert_eq!(control.counts().pageable_copies, 0);
            drop(device);
            control.fail("cuMemHostAlloc", 1, 2);
            let device = options(0).build().unwrap();
            let error = device.reserve(1).unwrap_err();
            assert!(matches!(error, DeviceError::Failed { .. }), "{error}");
        });
}

#[test]
fn options_become_rules() {
    Fake::new("opening::options_become_rules").run(|_| {
        let device = options(0)
            .tensor_alignment(200)
            .one_dtype(true)
            .group_bytes(1 << 20)
            .gds(Gds::Off)
            .build()
            .unwrap();
        let rules = device.rules();
        assert_eq!((rules.tensor_alignment, rules.max_bytes), (256, 1 << 20));
        assert!(rules.one_dtype);
        assert_eq!(device.name(), "cuda:0");
        assert_eq!(device.report().unwrap().gds, GdsReport::NotAsked);
        let text = device.report().unwrap().to_string();
        assert!(text.contains("no host memory pinned yet"), "{text}");
        let plain = options(0).build().unwrap().rules();
        assert_eq!((plain.tensor_alignment, plain.max_bytes), (16, u64::MAX));
    });
}

#[test]
fn too_much_is_refused_before_a_byte_is_read() {
    Fake::new("opening::too_much_is_refused_before_a_byte_is_read")
        .set("memory", 100_000)
        .run(|control| {
            let device = options(0).build().unwrap();
            device.reserve(100_000).unwrap();
            match device.reserve(100_001) {
                Err(DeviceError::OutOfMemory { needed, free, .. }) => {
                    assert_eq!((needed, free), (100_001, 100_000));
                }
                other => panic!("{other:?}"),
            }
            let request = |bytes| GroupRequest::new(bytes);
            let half = device.allocate(&request(60_000)).unwrap();
            match device.allocate(&request(60_000)) {
                Err(DeviceError::OutOfMemory { needed, free, .. }) => {
                    assert_eq!((needed, free), (60_000, 40_000));
                }
                other => panic!("{other:?}"),
            }
            drop(half);
            device.reserve(100_000).unwrap();
            assert!(!control.calls().contains_key("cuMemAllocAsync"));
        });
}

#[test]
fn the_context_of_the_calling_thread_is_left_as_it_was() {
    use tensorlift_device_cuda::cudarc::driver::result::ctx;
    Fake::new("opening::the_context_of_the_calling_thread_is_left_as_it_was")
        .set("devices", 2)
        .run(|_| {
            let device = options(1).build().unwrap();
            device.wait().unwrap();
            // None was current.
            assert_eq!(ctx::get_current(), Ok(None));
            let other = tensorlift_device_cuda::cudarc::driver::CudaContext::new(0).unwrap();
            let source = noise(10_000, 3);
            assert_eq!(round_trip(&device, &source).unwrap(), source);
            drop(device);
            assert_eq!(ctx::get_current(), Ok(Some(other.cu_ctx())));
        });
}
