//! Numbers and signatures of the zip format, APPNOTE.TXT 6.3.10.

/// The signatures of the records, in the order of the sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16.
pub(super) const LOCAL_HEADER: &[u8; 4] = b"PK\x03\x04";
pub(super) const DIRECTORY_ENTRY: &[u8; 4] = b"PK\x01\x02";
pub(super) const ZIP64_END: &[u8; 4] = b"PK\x06\x06";
pub(super) const ZIP64_LOCATOR: &[u8; 4] = b"PK\x06\x07";
pub(super) const END: &[u8; 4] = b"PK\x05\x06";
pub(super) const DESCRIPTOR: &[u8; 4] = b"PK\x07\x08";

/// The compression methods that are read, section 4.4.5.
pub(super) const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;

/// The sizes are in a descriptor after the data, section 4.4.4.
pub(super) const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// The entry or its headers are encrypted.
pub(super) const FLAGS_ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
