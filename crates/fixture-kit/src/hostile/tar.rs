use super::legacy::{pickled, storage};
use super::parts::{weight, weight_bytes};
use super::{Case, Group};

/// Adds archives of the layout before the legacy format.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "tar",
        file_name: "pytorch_model.bin",
        all,
    };

    group.loads("plain", "nothing is wrong", weight(), || tar_of(&members()));
    for (index, name) in ["storages", "tensors", "pickle"].into_iter().enumerate() {
        let why = format!("the member {name} is missing");
        group.refused(&format!("no-{name}"), &why, move || {
            let mut members = members();
            members.remove(index);
            tar_of(&members)
        });
        let why = format!("the member {name} is empty");
        group.refused(&format!("empty-{name}"), &why, move || {
            let mut members = members();
            members[index].bytes.clear();
            tar_of(&members)
        });
        let why = format!("the member {name} is cut");
        group.refused(&format!("cut-{name}"), &why, move || {
            let mut members = members();
            let half = members[index].bytes.len() / 2;
            members[index].bytes.truncate(half);
            tar_of(&members)
        });
        let why = format!("the member {name} is a link to a file of the system");
        group.refused(&format!("link-{name}"), &why, move || {
            let mut members = members();
            members[index].kind = b'2';
            members[index].bytes.clear();
            tar_of(&members)
        });
        let why = format!("the member {name} is declared to be far longer than the file");
        group.refused(&format!("size-{name}"), &why, move || {
            let mut members = members();
            members[index].declared = Some("77777777777");
            tar_of(&members)
        });
    }
    for (name, why, layout) in [
        (
            "rank-negative",
            "the number of dimensions is negative",
            tar_layout(-1, &[2, 2], &[2, 1], 0),
        ),
        (
            "rank-huge",
            "there are 2^31 - 1 dimensions",
            tar_layout(i32::MAX, &[2, 2], &[2, 1], 0),
        ),
        (
            "size-past-end",
            "the tensor reaches past its storage",
            tar_layout(2, &[3, 2], &[2, 1], 0),
        ),
        (
            "offset-negative",
            "the offset is negative",
            tar_layout(2, &[2, 2], &[2, 1], -1),
        ),
        (
            "stride-negative",
            "a stride is negative",
            tar_layout(1, &[2], &[-1], 3),
        ),
        (
            "size-overflow",
            "the sizes overflow",
            tar_layout(2, &[1 << 40, 1 << 40], &[0, 1], 0),
        ),
    ] {
        group.refused(name, why, move || {
            let mut members = members();
            let tensors = &mut members[1].bytes;
            // The layout is the last 40 bytes: two dimensions.
            tensors.truncate(tensors.len() - tar_layout(2, &[2, 2], &[2, 1], 0).len());
            tensors.extend_from_slice(&layout);
            tar_of(&members)
        });
    }
    group.refused(
        "counts-lie",
        "there are declared to be 2^31 - 1 storages",
        || {
            let mut members = members();
            let one = pickled(|writer| {
                writer.int(1);
            });
            let mut storages = pickled(|writer| {
                writer.int(i64::from(i32::MAX));
            });
            storages.extend_from_slice(&members[0].bytes[one.len()..]);
            members[0].bytes = storages;
            tar_of(&members)
        },
    );
    group.either(
        "parent",
        "a member's name leads to the folder above",
        || {
            let mut members = members();
            members.push(member("../evil", b"evil".to_vec()));
            tar_of(&members)
        },
    );
    group.either("checksum", "a member's checksum is wrong", || {
        let mut tar = tar_of(&members());
        tar[150] ^= 1;
        tar
    });
}

/// A tar member: its name, its type and its bytes.
struct Member {
    name: &'static str,
    kind: u8,
    declared: Option<&'static str>,
    bytes: Vec<u8>,
}

fn member(name: &'static str, bytes: Vec<u8>) -> Member {
    Member {
        name,
        kind: b'0',
        declared: None,
        bytes,
    }
}

/// The three members of the old layout with the one tensor.
fn members() -> Vec<Member> {
    let mut storages = pickled(|writer| {
        writer.int(1);
    });
    storages.extend(pickled(|writer| {
        writer
            .int(11)
            .text("cpu")
            .global("torch", "FloatStorage")
            .tuple_of(3);
    }));
    storages.extend(storage(4, &weight_bytes()));
    storages.extend(pickled(|writer| {
        writer.empty_list();
    }));
    let mut tensors = pickled(|writer| {
        writer.int(1);
    });
    tensors.extend(pickled(|writer| {
        writer
            .int(21)
            .int(11)
            .global("torch", "FloatTensor")
            .tuple_of(3);
    }));
    tensors.extend(tar_layout(2, &[2, 2], &[2, 1], 0));
    let object = pickled(|writer| {
        writer
            .empty_dict()
            .text("weight")
            .int(21)
            .persistent_id()
            .op(b's');
    });
    vec![
        member("storages", storages),
        member("tensors", tensors),
        member("pickle", object),
    ]
}

/// Dimensions, sizes, strides and offset of a tensor of the old layout.
fn tar_layout(rank: i32, size: &[i64], stride: &[i64], offset: i64) -> Vec<u8> {
    let mut out = rank.to_le_bytes().to_vec();
    out.extend_from_slice(&[0; 4]);
    for value in size.iter().chain(stride).chain([&offset]) {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out
}

fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut tar = Vec::new();
    for member in members {
        let mut header = [0u8; 512];
        header[..member.name.len()].copy_from_slice(member.name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        let size = format!("{:011o}\0", member.bytes.len());
        header[124..136].copy_from_slice(size.as_bytes());
        if let Some(declared) = member.declared {
            header[124..124 + declared.len()].copy_from_slice(declared.as_bytes());
        }
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].fill(b' ');
        header[156] = member.kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(&member.bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}
