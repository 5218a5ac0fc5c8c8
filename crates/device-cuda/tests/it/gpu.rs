//! What only a GPU can tell. Without one, each test says that it did not run.

use tensorlift_device::{Device, Group, conformance};
use tensorlift_device_cuda::{CudaBuffer, CudaDevice};

/// The first device, or a line that there is none.
fn gpu() -> Option<CudaDevice> {
    let device = CudaDevice::new(0).and_then(|device| device.wait().map(|()| device));
    match device {
        Ok(device) => Some(device),
        Err(error) => {
            println!("not run: no GPU ({error})");
            None
        }
    }
}

fn bytes(group: &dyn Group) -> Vec<u8> {
    CudaBuffer::of(group).unwrap().to_host().unwrap()
}

#[test]
fn a_gpu_conforms() {
    if let Some(device) = gpu() {
        conformance::check(&device, bytes);
        println!("{}", device.report().unwrap());
    }
}

#[test]
fn a_gpu_conforms_with_one_small_lane() {
    if gpu().is_some() {
        let device = CudaDevice::options(0).lanes(1).slot_bytes(4096);
        conformance::check(&device.build().unwrap(), bytes);
    }
}

#[test]
fn a_gpu_refuses_more_than_it_has() {
    if let Some(device) = gpu() {
        let free = device.free_bytes().unwrap();
        assert!(device.reserve(free / 2).is_ok());
        assert!(device.reserve(u64::MAX).is_err());
    }
}
