use tensorlift_tensor_meta::Dtype;

use super::super::Group;
use super::super::parts::{
    Odd, STORAGE, archive_of, expected, file_of, weight_bytes, weight_pickle,
};
use crate::pickle::Writer;
use crate::torch::TensorPickle;
use crate::zip::RawEntry;

pub(super) fn add(group: &mut Group<'_>) {
    let key = |push: fn(&mut Writer)| {
        let mut writer = Writer::new(2);
        writer.empty_dict().mark();
        push(&mut writer);
        weight_pickle().write(&mut writer);
        writer.set_items();
        file_of(&writer.finish())
    };
    let odd: [Odd; 7] = [
        (
            "key-not-utf8",
            "a key is neither UTF-8 nor a lone surrogate",
            |writer| {
                writer.text_bytes(b"\xff\xfe");
            },
        ),
        ("key-surrogate", "a key is a lone surrogate", |writer| {
            writer.text_bytes(b"\xed\xa0\x80");
        }),
        (
            "key-list",
            "a key is a list, which Python cannot hash",
            |writer| {
                writer.empty_list();
            },
        ),
        (
            "key-dict",
            "a key is a dict, which Python cannot hash",
            |writer| {
                writer.empty_dict();
            },
        ),
        ("key-tensor", "a key is a tensor", |writer| {
            weight_pickle().write(writer);
        }),
        ("key-nan", "a key is not a number", |writer| {
            writer.float(f64::NAN);
        }),
        ("key-class", "a key is os.system", |writer| {
            writer.global("os", "system");
        }),
    ];
    for (name, why, push) in odd {
        group.either(name, why, move || key(push));
    }
    group.either("key-twice", "a key is set twice, to other tensors", || {
        let mut writer = Writer::new(2);
        writer.empty_dict().mark();
        writer.text("weight");
        weight_pickle().write(&mut writer);
        writer.text("weight");
        TensorPickle::float("0", &[4]).write(&mut writer);
        writer.set_items();
        file_of(&writer.finish())
    });
    group.either(
        "names-collide",
        "the paths of two tensors are joined to one name",
        || {
            let mut writer = Writer::new(2);
            writer.empty_dict().mark().text("a.b");
            weight_pickle().write(&mut writer);
            writer.text("a").empty_dict().text("b");
            weight_pickle().write(&mut writer);
            writer.op(b's').set_items();
            file_of(&writer.finish())
        },
    );
    group.either("long-name", "a key of 1,000,000 bytes", || {
        let mut writer = Writer::new(2);
        writer.empty_dict().mark().text(&"n".repeat(1_000_000));
        weight_pickle().write(&mut writer);
        writer.set_items();
        file_of(&writer.finish())
    });
    group.loads(
        "many-views",
        "1,000 names share one storage",
        (0..1000)
            .map(|number| expected(&format!("{number:04}"), Dtype::F32, &[2, 2], weight_bytes()))
            .collect(),
        || {
            let mut writer = Writer::new(2);
            writer.empty_dict().mark();
            for number in 0..1000 {
                writer.text(&format!("{number:04}"));
                weight_pickle().write(&mut writer);
            }
            writer.set_items();
            let mut archive = archive_of(&writer.finish());
            archive.entries[STORAGE] = RawEntry::stored("archive/data/0", &weight_bytes());
            archive.bytes()
        },
    );
}
