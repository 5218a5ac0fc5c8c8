//! Files that a device reads itself.

#[cfg(target_os = "linux")]
mod cufile;
#[cfg(not(target_os = "linux"))]
mod none;
#[cfg(target_os = "linux")]
mod per_file;
#[cfg(target_os = "linux")]
mod reach;

#[cfg(target_os = "linux")]
pub(crate) use cufile::Files;
#[cfg(not(target_os = "linux"))]
pub(crate) use none::Files;

/// How cuFile could reach storage directly on this system, if at all.
pub(crate) fn direct_storage() -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    return reach::system();
    #[cfg(not(target_os = "linux"))]
    None
}
