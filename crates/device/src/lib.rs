//! Where tensor bytes end: the device seam, host memory and a null device.
