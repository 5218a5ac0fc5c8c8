//! When GPUDirect Storage can pay: opening cuFile takes 0.38 to 0.57 s in each
//! process.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Smaller loads end before cuFile is open.
pub(crate) const LEAST_BYTES: usize = 4 << 30;

/// A kind of file system that cuFile reads directly, by the `f_type` of statfs(2).
struct FileSystem {
    magic: u64,
    /// Whether it lies on a block device of this machine.
    is_local: bool,
}

/// The file systems on which NVIDIA supports GPUDirect Storage, as far as Linux and their vendors
/// publish their magic numbers.
const FILE_SYSTEMS: [FileSystem; 6] = [
    // ext4
    FileSystem {
        magic: 0xef53,
        is_local: true,
    },
    // XFS
    FileSystem {
        magic: 0x5846_5342,
        is_local: true,
    },
    // NFS, over RDMA
    FileSystem {
        magic: 0x6969,
        is_local: false,
    },
    // Lustre
    FileSystem {
        magic: 0x0bd0_0bd0,
        is_local: false,
    },
    // IBM Storage Scale (GPFS)
    FileSystem {
        magic: 0x4750_4653,
        is_local: false,
    },
    // BeeGFS
    FileSystem {
        magic: 0x1983_0326,
        is_local: false,
    },
];

/// How cuFile can reach storage directly on this system, if at all.
pub(crate) fn system() -> Option<&'static str> {
    system_below(Path::new("/"))
}

fn system_below(root: &Path) -> Option<&'static str> {
    if root.join("proc/driver/nvidia-fs").exists() {
        return Some("the kernel module nvidia-fs");
    }
    // A GPU whose memory the kernel lends to other devices.
    let devices = fs::read_dir(root.join("sys/bus/pci/devices")).ok()?;
    let lends = |device: &Path| {
        let vendor = fs::read_to_string(device.join("vendor")).unwrap_or_default();
        vendor.trim() == "0x10de" && device.join("p2pmem/size").exists()
    };
    let mut devices = devices.flatten();
    let found = devices.any(|device| lends(&device.path()));
    found.then_some("the kernel's peer-to-peer DMA")
}

/// Whether a file lies where cuFile can read it directly, or why not.
pub(crate) fn file(file: &File) -> Result<(), String> {
    let found = rustix::fs::fstatfs(file).map_err(|error| error.to_string())?;
    let device = file.metadata().map_err(|error| error.to_string())?.dev();
    // The type is signed, or of 32 bits, on some systems.
    let magic = found.f_type as u64 & 0xffff_ffff;
    let known = FILE_SYSTEMS.iter().find(|known| known.magic == magic);
    match known {
        None => Err(format!(
            "cuFile does not read its file system (type {magic:#x}) directly"
        )),
        Some(known) if known.is_local && !is_block_device(device) => {
            Err("it is not on a block device of this machine".into())
        }
        Some(_) => Ok(()),
    }
}

fn is_block_device(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Path::new(&format!("/sys/dev/block/{major}:{minor}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_asked_by_its_files() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(system_below(root.path()), None);
        let gpu = root.path().join("sys/bus/pci/devices/0000:01:00.0");
        fs::create_dir_all(gpu.join("p2pmem")).unwrap();
        fs::write(gpu.join("p2pmem/size"), "1").unwrap();
        fs::write(gpu.join("vendor"), "0x8086\n").unwrap();
        assert_eq!(system_below(root.path()), None);
        fs::write(gpu.join("vendor"), "0x10de\n").unwrap();
        let found = system_below(root.path()).unwrap();
        assert!(found.contains("peer-to-peer"), "{found}");
        fs::create_dir_all(root.path().join("proc/driver/nvidia-fs")).unwrap();
        let found = system_below(root.path()).unwrap();
        assert!(found.contains("nvidia-fs"), "{found}");
    }

    #[test]
    fn memory_and_pipes_are_no_storage() {
        if let Ok(shared) = tempfile::tempfile_in("/dev/shm") {
            assert!(file(&shared).unwrap_err().contains("0x1021994"));
        }
        let own = File::open("/proc/self/exe").unwrap();
        // Wherever it lies: the answer is one of the two.
        drop(file(&own));
        let proc = File::open("/proc/self/status").unwrap();
        assert!(file(&proc).unwrap_err().contains("0x9fa0"));
    }
}
