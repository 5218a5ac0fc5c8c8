//! Inputs that say how a sound archive around a pickle is to look.
//!
//! Bytes that are mutated at random hardly ever stay an archive; these always are one, so that
//! what changes is the pickle in it and the records that it names.
//!
//! An input is a byte of [flags](Flags), the number of records, two bytes of length for each, two
//! bytes of length of `constants.pkl` if there is one, then `data.pkl`, then `constants.pkl`.

use tensorlift_fixture_kit::zip::{RawArchive, RawEntry};

/// The most records of an archive, and their longest in bytes.
const RECORDS: usize = 12;
const RECORD_BYTES: usize = 4096;

/// What the first byte says.
#[derive(Clone, Copy, Debug)]
pub struct Flags(pub u8);

impl Flags {
    /// The pickles are compressed.
    pub const DEFLATED_PICKLE: u8 = 1;
    /// The records are compressed.
    pub const DEFLATED_RECORDS: u8 = 2;
    /// `byteorder` is there.
    pub const BYTE_ORDER: u8 = 4;
    /// `byteorder` says big-endian.
    pub const BIG_ENDIAN: u8 = 8;
    /// `constants.pkl` and its records are there.
    pub const CONSTANTS: u8 = 16;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

/// The archive that an input describes, or `None` if it is too short.
#[must_use]
pub fn archive(input: &[u8]) -> Option<Vec<u8>> {
    let (&[flags, count], rest) = input.split_first_chunk()?;
    let flags = Flags(flags);
    let count = usize::from(count) % (RECORDS + 1);
    let (lens, rest) = rest.split_at_checked(2 * count)?;
    let lens = lens
        .chunks_exact(2)
        .map(|len| usize::from(len[0]) | usize::from(len[1]) << 8);
    let lens: Vec<usize> = lens.map(|len| len % (RECORD_BYTES + 1)).collect();
    let (data, constants) = match flags.has(Flags::CONSTANTS) {
        true => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
            rest.split_at(rest.len() - len)
        }
        false => (rest, &[][..]),
    };
    let mut archive = RawArchive::default();
    let mut add = |name: String, bytes: &[u8], deflated: bool| {
        let name = format!("archive/{name}");
        archive.entries.push(match deflated {
            true => RawEntry::deflated(name, bytes),
            false => RawEntry::stored(name, bytes),
        });
    };
    add("data.pkl".into(), data, flags.has(Flags::DEFLATED_PICKLE));
    if flags.has(Flags::BYTE_ORDER) {
        let order = if flags.has(Flags::BIG_ENDIAN) {
            "big"
        } else {
            "little"
        };
        add("byteorder".into(), order.as_bytes(), false);
    }
    let folders: &[&str] = if flags.has(Flags::CONSTANTS) {
        add(
            "constants.pkl".into(),
            constants,
            flags.has(Flags::DEFLATED_PICKLE),
        );
        &["data", "constants"]
    } else {
        &["data"]
    };
    for folder in folders {
        for (key, &len) in lens.iter().enumerate() {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + key) as u8).collect();
            add(
                format!("{folder}/{key}"),
                &bytes,
                flags.has(Flags::DEFLATED_RECORDS),
            );
        }
    }
    Some(archive.bytes())
}

/// An input for these pickles and the lengths of the records that `data.pkl` names.
#[must_use]
pub fn input(data: &[u8], constants: Option<&[u8]>, lens: &[u64]) -> Vec<u8> {
    let flags = constants.map_or(0, |_| Flags::CONSTANTS);
    let lens = &lens[..lens.len().min(RECORDS)];
    let mut input = vec![flags, lens.len() as u8];
    for &len in lens {
        let len = len.min(RECORD_BYTES as u64) as u16;
        input.extend(len.to_le_bytes());
    }
    if let Some(constants) = constants {
        input.extend((constants.len() as u16).to_le_bytes());
    }
    input.extend(data);
    input.extend(constants.unwrap_or_default());
    input
}
