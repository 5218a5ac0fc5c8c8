use super::parts::{Odd, file_of, state_of, state_with, weight, weight_pickle};
use super::{CANARY, Case, Group};
use crate::pickle::Writer;

/// Adds pickles that name code, at every place where a pickle can.
///
/// A reader that runs none of it may list the tensor beside the attack or reject the file; both are
/// safe.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "global",
        file_name: "pytorch_model.bin",
        all,
    };
    called(&mut group);
    places(&mut group);
    alone(&mut group);
    names(&mut group);
    state(&mut group);
}

/// Functions that do harm when they are called.
const HARMFUL: [(&str, &str); 30] = [
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("os", "popen"),
    ("os", "execvp"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "compile"),
    ("builtins", "__import__"),
    ("builtins", "getattr"),
    ("builtins", "open"),
    ("__builtin__", "eval"),
    ("__builtin__", "apply"),
    ("importlib", "import_module"),
    ("runpy", "_run_code"),
    ("pickle", "loads"),
    ("marshal", "loads"),
    ("types", "CodeType"),
    ("types", "FunctionType"),
    ("operator", "attrgetter"),
    ("functools", "reduce"),
    ("shutil", "rmtree"),
    ("webbrowser", "open"),
    ("ctypes", "CDLL"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("torch.utils.cpp_extension", "load_inline"),
];

/// What would make the canary, in the language of the function.
fn payload(name: &str) -> String {
    match name {
        "eval" | "exec" | "compile" => format!("open('{CANARY}','w').close()"),
        "open" => CANARY.to_owned(),
        "__import__" | "import_module" => "antigravity".to_owned(),
        "rmtree" => format!("{CANARY}-folder"),
        _ => format!("echo hostile > {CANARY}"),
    }
}

fn called(group: &mut Group<'_>) {
    for (module, name) in HARMFUL {
        let slug = format!("{module}-{name}").replace(['.', '_'], "-");
        let why = format!("{module}.{name} is called by REDUCE");
        group.either(&format!("reduce-{slug}"), &why, move || {
            file_of(&state_with(2, |writer| {
                writer
                    .global(module, name)
                    .text(&payload(name))
                    .tuple_of(1)
                    .reduce();
            }))
        });
    }
}

fn system(writer: &mut Writer) -> &mut Writer {
    writer.global_line("os", "system")
}

fn command(writer: &mut Writer) -> &mut Writer {
    writer.text(&payload("system"))
}

fn places(group: &mut Group<'_>) {
    let odd: [Odd; 21] = [
        ("bare", "os.system is named and not called", |writer| {
            system(writer);
        }),
        ("inst", "os.system is called by INST", |writer| {
            command(writer.mark()).raw(b"ios\nsystem\n");
        }),
        ("obj", "os.system is called by OBJ", |writer| {
            command(system(writer.mark())).op(b'o');
        }),
        ("newobj", "os.system is made by NEWOBJ", |writer| {
            command(system(writer)).tuple_of(1).op(0x81);
        }),
        ("newobj-ex", "os.system is made by NEWOBJ_EX", |writer| {
            command(system(writer)).tuple_of(1).empty_dict().op(0x92);
        }),
        (
            "stack-global",
            "os.system is named by STACK_GLOBAL",
            |writer| {
                writer.text("os").text("system").op(0x93);
                command(writer).tuple_of(1).reduce();
            },
        ),
        (
            "stack-global-dotted",
            "eval is reached through the attributes of a harmless function",
            |writer| {
                writer
                    .text("torch._utils")
                    .text("_rebuild_tensor_v2.__globals__")
                    .op(0x93);
                writer.text("get").tuple_of(1).reduce();
            },
        ),
        (
            "getattr-chain",
            "os.system is reached through getattr",
            |writer| {
                writer
                    .global("builtins", "getattr")
                    .global("os", "path")
                    .text("os");
                writer.tuple_of(2).reduce();
            },
        ),
        (
            "build-setstate",
            "BUILD gives an object a __setstate__ of os.system",
            |writer| {
                writer
                    .global("collections", "OrderedDict")
                    .empty_tuple()
                    .reduce();
                writer.empty_dict().text("__setstate__");
                system(writer).op(b's').build();
                command(writer).build();
            },
        ),
        (
            "build-dict",
            "BUILD replaces an object's dictionary with os.system",
            |writer| {
                writer
                    .global("argparse", "Namespace")
                    .empty_tuple()
                    .reduce();
                writer.empty_dict().text("__dict__");
                system(writer).op(b's').build();
            },
        ),
        ("build-class", "BUILD changes a class", |writer| {
            writer
                .global("torch.nn.modules.linear", "Linear")
                .none()
                .empty_dict();
            writer.text("forward");
            system(writer).op(b's').tuple_of(2).build();
        }),
        ("build-function", "BUILD changes os.system", |writer| {
            command(system(writer)).build();
        }),
        (
            "reduce-result",
            "what os.system returns is called",
            |writer| {
                command(system(writer)).tuple_of(1).reduce();
                writer.empty_tuple().reduce();
            },
        ),
        (
            "argument",
            "os.system is called for an argument of an OrderedDict",
            |writer| {
                writer.global("collections", "OrderedDict");
                command(system(writer)).tuple_of(1).reduce();
                writer.tuple_of(1).reduce();
            },
        ),
        (
            "default-factory",
            "os.system fills a defaultdict",
            |writer| {
                writer.global("collections", "defaultdict");
                system(writer).tuple_of(1).reduce();
            },
        ),
        (
            "partial",
            "os.system is bound by functools.partial",
            |writer| {
                writer.global("functools", "partial");
                system(writer).tuple_of(1).reduce();
                system(writer.mark())
                    .empty_tuple()
                    .empty_dict()
                    .none()
                    .tuple()
                    .build();
            },
        ),
        ("map", "builtins.map calls os.system", |writer| {
            writer.global("builtins", "map");
            system(writer).empty_list();
            command(writer).op(b'a').tuple_of(2).reduce();
        }),
        (
            "reconstructor",
            "copyreg._reconstructor makes an object of os.system",
            |writer| {
                writer.global("copyreg", "_reconstructor");
                system(writer)
                    .global("builtins", "object")
                    .none()
                    .tuple_of(3)
                    .reduce();
            },
        ),
        (
            "parameter-of",
            "a parameter is made of what os.system returns",
            |writer| {
                writer.global("torch._utils", "_rebuild_parameter");
                command(system(writer)).tuple_of(1).reduce();
                writer.bool(true).empty_dict().tuple_of(3).reduce();
            },
        ),
        (
            "from-type",
            "a tensor subclass is rebuilt by os.system",
            |writer| {
                writer
                    .global("torch._tensor", "_rebuild_from_type_v2")
                    .mark();
                system(writer).global("torch", "Tensor");
                command(writer).tuple_of(1).none().tuple().reduce();
            },
        ),
        (
            "numpy-reconstruct",
            "a numpy array is made of os.system",
            |writer| {
                writer.global("numpy.core.multiarray", "_reconstruct");
                system(writer)
                    .int_tuple(&[0])
                    .text("b")
                    .tuple_of(3)
                    .reduce();
            },
        ),
    ];
    for (name, why, push) in odd {
        for protocol in [2u8, 4] {
            let name = match protocol {
                2 => name.to_owned(),
                _ => format!("{name}-protocol-{protocol}"),
            };
            group.either(&name, why, move || file_of(&state_with(protocol, push)));
        }
    }
    group.either("key", "a key is what os.system returns", || {
        let mut writer = Writer::new(2);
        writer.empty_dict().mark();
        command(system(&mut writer)).tuple_of(1).reduce();
        weight_pickle().write(&mut writer);
        writer.set_items();
        file_of(&writer.finish())
    });
    group.either("hooks", "os.system is the hooks of a tensor", || {
        file_of(&state_of(|writer| {
            writer.global("torch._utils", "_rebuild_tensor_v2").mark();
            weight_pickle().write_storage(writer);
            writer
                .int(0)
                .int_tuple(&[2, 2])
                .int_tuple(&[2, 1])
                .bool(false);
            command(system(writer)).tuple_of(1).reduce();
            writer.tuple().reduce();
        }))
    });
    group.either(
        "requires-grad",
        "os.system decides whether a tensor is trained",
        || {
            file_of(&state_of(|writer| {
                writer.global("torch._utils", "_rebuild_tensor_v2").mark();
                weight_pickle().write_storage(writer);
                writer.int(0).int_tuple(&[2, 2]).int_tuple(&[2, 1]);
                system(writer).empty_dict().tuple().reduce();
            }))
        },
    );
}

fn alone(group: &mut Group<'_>) {
    for (name, why, protocol) in [
        ("alone", "os.system is all that the archive holds", 2u8),
        (
            "alone-protocol-4",
            "os.system is all that the archive holds, in protocol 4",
            4,
        ),
    ] {
        group.refused(name, why, move || {
            let mut writer = Writer::new(protocol);
            command(writer.global("os", "system")).tuple_of(1).reduce();
            file_of(&writer.finish())
        });
    }
    group.refused(
        "alone-bare-pickle",
        "a pickle without an archive calls os.system",
        || {
            let mut writer = Writer::new(2);
            command(system(&mut writer)).tuple_of(1).reduce();
            writer.finish()
        },
    );
    group.refused(
        "alone-text-pickle",
        "a pickle of protocol 0 calls os.system",
        || format!("cos\nsystem\n(S'{}'\ntR.", payload("system")).into_bytes(),
    );
    group.refused(
        "before-tensors",
        "os.system takes the place of the state dict",
        || {
            let mut writer = Writer::new(2);
            command(system(&mut writer))
                .tuple_of(1)
                .reduce()
                .op(b'0')
                .none();
            file_of(&writer.finish())
        },
    );
    group.either(
        "dropped",
        "os.system is called and its result dropped",
        || {
            let mut writer = Writer::new(2);
            command(system(&mut writer)).tuple_of(1).reduce().op(b'0');
            writer.empty_dict().mark().text("weight");
            weight_pickle().write(&mut writer);
            writer.set_items();
            file_of(&writer.finish())
        },
    );
    group.either(
        "after-stop",
        "a second pickle after the first calls os.system",
        || {
            let mut pickle = super::parts::state();
            let mut writer = Writer::new(2);
            command(system(&mut writer)).tuple_of(1).reduce();
            pickle.extend(writer.finish());
            file_of(&pickle)
        },
    );
}

fn names(group: &mut Group<'_>) {
    for (name, why, module, class) in [
        ("unknown", "an unknown class", "nobody.knows", "Thing"),
        ("empty", "a class without a name", "", ""),
        ("non-ascii", "a class in another script", "модуль", "Класс"),
        (
            "spaces",
            "a class with spaces in its name",
            "a module",
            "a class",
        ),
        (
            "shadow",
            "a class that is called like one of PyTorch's",
            "torch._utils ",
            "_rebuild_tensor_v2",
        ),
        (
            "prefix",
            "a function that is called almost like one of PyTorch's",
            "torch._utils",
            "_rebuild_tensor_v2x",
        ),
        (
            "dunder",
            "a function's code",
            "torch._utils",
            "_rebuild_tensor_v2.__code__",
        ),
        (
            "dict-init",
            "a method of a known class",
            "collections",
            "OrderedDict.__init__",
        ),
    ] {
        group.either(&format!("name-{name}"), why, move || {
            file_of(&state_with(2, |writer| {
                writer.global(module, class).empty_tuple().reduce();
            }))
        });
    }
    group.either(
        "name-long",
        "a class with a name of 1,000,000 bytes",
        || {
            file_of(&state_with(2, |writer| {
                writer.global("m", &"n".repeat(1_000_000));
            }))
        },
    );
    group.refused("name-cut", "a class whose name never ends", || {
        let mut writer = Writer::new(2);
        writer.raw(b"cos\nsystem");
        file_of(&writer.unfinished())
    });
    group.refused(
        "name-not-utf8",
        "a class with a name that is not UTF-8",
        || {
            let mut writer = Writer::new(2);
            writer.raw(b"c\xff\xfe\nname\n");
            file_of(&writer.finish())
        },
    );
    group.refused("name-numbers", "STACK_GLOBAL on numbers", || {
        let mut writer = Writer::new(4);
        writer.int(1).int(2).op(0x93);
        file_of(&writer.finish())
    });
    for (opcode, argument) in [
        (0x82u8, vec![1u8]),
        (0x83, vec![1, 0]),
        (0x84, vec![1, 0, 0, 0]),
    ] {
        group.refused(
            &format!("extension-{opcode:x}"),
            "a class is named by a code of Python's extension registry",
            move || {
                let mut writer = Writer::new(2);
                writer.op(opcode).raw(&argument).empty_tuple().reduce();
                file_of(&writer.finish())
            },
        );
    }
}

/// Honest objects of unknown classes.
fn state(group: &mut Group<'_>) {
    group.loads(
        "namespace",
        "an object of an unknown class is beside the tensor",
        weight(),
        || {
            file_of(&state_with(2, |writer| {
                writer
                    .global("argparse", "Namespace")
                    .empty_tuple()
                    .op(0x81);
                writer.empty_dict().text("lr").float(0.1).op(b's').build();
            }))
        },
    );
    group.loads(
        "enum",
        "an enumeration is beside the tensor",
        weight(),
        || {
            file_of(&state_with(2, |writer| {
                writer
                    .global("my.package", "Phase")
                    .int(2)
                    .tuple_of(1)
                    .reduce();
            }))
        },
    );
    group.loads(
        "counter",
        "a mapping of an unknown class takes items",
        weight(),
        || {
            file_of(&state_with(2, |writer| {
                writer.global("my.package", "Table").empty_tuple().reduce();
                writer.mark().text("a").int(1).set_items();
            }))
        },
    );
    group.loads(
        "stack",
        "a list of an unknown class takes values",
        weight(),
        || {
            file_of(&state_with(2, |writer| {
                writer.global("my.package", "Stack").empty_tuple().op(0x81);
                writer.mark().int(1).int(2).appends();
            }))
        },
    );
    group.loads(
        "script-module",
        "a TorchScript archive whose code is not code",
        weight(),
        || {
            let mut writer = Writer::new(2);
            writer.global("__torch__.net", "Net").empty_tuple().op(0x81);
            writer.empty_dict().mark().text("weight");
            weight_pickle().write(&mut writer);
            writer.text("training").bool(true).set_items().build();
            let mut archive = super::parts::archive_of(&writer.finish());
            for (name, bytes) in [
                (
                    "archive/code/__torch__/net.py",
                    b"import os; os.system('x')".as_slice(),
                ),
                ("archive/constants.pkl", b"\x80\x02)."),
            ] {
                archive
                    .entries
                    .push(crate::zip::RawEntry::stored(name, bytes));
            }
            archive.bytes()
        },
    );
}
