use super::super::Group;
use super::super::parts::{
    BYTE_ORDER, PICKLE, STORAGE, archive, cuts, state, weight, weight_bytes,
};
use super::changed;
use crate::content;
use crate::zip::{RawEntry, deflate};

pub(super) fn add(group: &mut Group<'_>) {
    let whole = archive().bytes();
    for cut in cuts(whole.len(), 40).into_iter().skip(1) {
        let whole = whole.clone();
        group.refused(
            &format!("cut-{cut}"),
            &format!("only the first {cut} bytes are there"),
            move || whole[..cut].to_vec(),
        );
    }
    for round in 0..48u64 {
        let whole = whole.clone();
        let place = (content::stream(0xf11b, round) % whole.len() as u64) as usize;
        let flip = 1 << (round % 8);
        let why = format!("bit {} of byte {place} is flipped", round % 8);
        group.either(&format!("flip-{round}"), &why, move || {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            bytes
        });
    }
    // A deflated archive has other places to break.
    let deflated = || {
        changed(|archive| {
            archive.entries[PICKLE] = RawEntry::deflated("archive/data.pkl", &state());
        })
    };
    for round in 0..16u64 {
        let first = deflated()
            .windows(8)
            .position(|window| window == b"data.pkl");
        let first = first.expect("the pickle's name") + 8;
        let place =
            first + (content::stream(0xdef1, round) % deflate(&state()).len() as u64) as usize;
        let why = format!("a bit of byte {place}, in a deflate stream, is flipped");
        group.either(&format!("flip-deflated-{round}"), &why, move || {
            let mut bytes = deflated();
            bytes[place] ^= 1 << (round % 8);
            bytes
        });
    }
}
pub(super) fn byte_orders(group: &mut Group<'_>) {
    for (name, record) in [
        ("byteorder-unknown", "middle"),
        ("byteorder-empty", ""),
        ("byteorder-case", "LITTLE"),
        ("byteorder-longer", "little-endian"),
    ] {
        let why = format!("the byte order is {record:?}");
        group.refused(name, &why, move || {
            changed(|archive| {
                let record = record.as_bytes();
                archive.entries[BYTE_ORDER] = RawEntry::stored("archive/byteorder", record);
            })
        });
    }
    group.loads(
        "byteorder-big",
        "the storages are big-endian and the archive says so",
        weight(),
        || {
            changed(|archive| {
                archive.entries[BYTE_ORDER] = RawEntry::stored("archive/byteorder", b"big");
                let mut bytes = weight_bytes();
                bytes.chunks_exact_mut(4).for_each(<[u8]>::reverse);
                archive.entries[STORAGE] = RawEntry::stored("archive/data/0", &bytes);
            })
        },
    );
    group.either("version-future", "the version is 99999999999", || {
        changed(|archive| {
            archive.entries[3] = RawEntry::stored("archive/version", b"99999999999\n");
        })
    });
    group.either("version-text", "the version is not a number", || {
        changed(|archive| archive.entries[3] = RawEntry::stored("archive/version", b"new"))
    });
    group.either("version-missing", "the version record is missing", || {
        changed(|archive| {
            archive.entries.remove(3);
        })
    });
    group.either(
        "alignment-text",
        "the alignment record is not a number",
        || {
            changed(|archive| {
                let record = RawEntry::stored("archive/.storage_alignment", b"wide");
                archive.entries.push(record);
            })
        },
    );
}
