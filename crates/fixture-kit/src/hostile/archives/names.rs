use super::super::Group;
use super::super::parts::{PICKLE, STORAGE, weight_bytes};
use super::{changed, renamed};
use crate::zip::RawEntry;

pub(super) fn add(group: &mut Group<'_>) {
    for (name, entry) in [("duplicate-storage", STORAGE), ("duplicate-pickle", PICKLE)] {
        group.refused(name, "two entries have one name", move || {
            changed(|archive| {
                let again = archive.entries[entry].clone();
                archive.entries.push(again);
            })
        });
    }
    group.refused(
        "duplicate-other-bytes",
        "two storages have one name and other bytes",
        || {
            changed(|archive| {
                archive
                    .entries
                    .push(RawEntry::stored("archive/data/0", &[9; 16]));
            })
        },
    );
    group.refused("no-pickle", "there is no data.pkl", || {
        changed(|archive| {
            archive.entries.remove(PICKLE);
        })
    });
    group.refused("pickle-folder", "data.pkl is a folder", || {
        changed(|archive| archive.entries[PICKLE] = RawEntry::stored("archive/data.pkl/", b""))
    });
    group.refused("pickle-empty", "data.pkl is empty", || {
        changed(|archive| archive.entries[PICKLE] = RawEntry::stored("archive/data.pkl", b""))
    });
    group.refused("storage-missing", "the storage is missing", || {
        changed(|archive| {
            archive.entries.remove(STORAGE);
        })
    });
    group.refused(
        "storage-elsewhere",
        "the storage lies under another root folder",
        || {
            changed(|archive| {
                archive.entries[STORAGE] = RawEntry::stored("other/data/0", &weight_bytes());
            })
        },
    );
    for (name, extra) in [
        ("name-parent", "../evil"),
        ("name-parent-within", "archive/../../evil"),
        ("name-absolute", "/hostile-canary"),
        ("name-backslash", "archive\\data\\0"),
        ("name-drive", "C:/evil"),
        ("name-empty", ""),
        ("name-two-slashes", "archive//data/0"),
    ] {
        let why = format!("an entry is called {extra:?}");
        group.either(name, &why, move || {
            changed(|archive| archive.entries.push(RawEntry::stored(extra, b"evil")))
        });
    }
    for (name, extra, why) in [
        (
            "name-nul",
            "archive/data/0\0.txt",
            "some readers end an entry's name at its zero byte, and see the storage's name",
        ),
        (
            "name-other-case",
            "ARCHIVE/DATA/0",
            "PyTorch compares names without regard to case, and sees two storages of one name",
        ),
        (
            "name-pickle-other-case",
            "archive/DATA.pkl",
            "PyTorch compares names without regard to case, and sees two pickles",
        ),
    ] {
        group.refused(name, why, move || {
            changed(|archive| archive.entries.push(RawEntry::stored(extra, b"evil")))
        });
    }
    for (name, root) in [
        ("root-parent", "../"),
        ("root-none", ""),
        ("root-absolute", "/archive/"),
        ("root-nested", "a/b/"),
        ("root-backslash", "archive\\"),
    ] {
        let why = format!("the root folder is {root:?}");
        group.either(name, &why, move || renamed(root).bytes());
    }
    group.either(
        "two-roots",
        "two root folders hold a checkpoint each",
        || changed(|archive| archive.entries.extend(renamed("other/").entries)),
    );
    group.either("name-not-utf8", "an entry's name is not UTF-8", || {
        changed(|archive| {
            let name = b"archive/\xff\xfe".to_vec();
            archive.entries.push(RawEntry::stored(name, b"x"));
        })
    });
}
