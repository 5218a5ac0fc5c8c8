//! Everything over the double of the driver, which is not CUDA; what only a GPU can tell is behind
//! the feature `gpu-tests`.

#[cfg(target_os = "linux")]
mod drive;
#[cfg(target_os = "linux")]
mod engine;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod files;
#[cfg(feature = "gpu-tests")]
mod gpu;
#[cfg(target_os = "linux")]
mod handing_on;
#[cfg(target_os = "linux")]
mod loads;
#[cfg(target_os = "linux")]
mod opening;
#[cfg(target_os = "linux")]
mod path;
#[cfg(target_os = "linux")]
mod through_loader;
#[cfg(target_os = "linux")]
mod waits;
