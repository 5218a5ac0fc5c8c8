use tensorlift_tensor_meta::Dtype;

use super::parts::{cuts, expected};
use super::{Case, Group};
use crate::ExpectedTensor;
use crate::safetensors::raw_file;

/// Adds a file for each way to break a rule of the format, and odd files that break none.
pub(super) fn add(all: &mut Vec<Case>) {
    let mut group = Group {
        prefix: "safetensors",
        file_name: "model.safetensors",
        all,
    };
    sound(&mut group);
    framing(&mut group);
    json(&mut group);
    fields(&mut group);
    offsets(&mut group);
    undecided(&mut group);
}

const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|index| index as u8).collect()
}

fn a() -> Vec<ExpectedTensor> {
    vec![expected("a", Dtype::F32, &[2, 2], data(16))]
}

/// One tensor `a` of 16 bytes with this description.
fn described(fields: &str) -> Vec<u8> {
    raw_file(format!("{{\"a\":{{{fields}}}}}"), &data(16))
}

fn sound(group: &mut Group<'_>) {
    let mut loads = |name: &str, why: &str, header: &'static str, tensors: Vec<ExpectedTensor>| {
        let len = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
        group.loads(name, why, tensors, move || raw_file(header, &data(len)));
    };
    loads("plain", "nothing is wrong", ONE, a());
    loads(
        "pretty",
        "the header has white space between its tokens",
        "{\n  \"a\" : { \"dtype\" : \"F32\" , \"shape\" : [ 2 , 2 ] ,\r\n\t\"data_offsets\" : [ 0 , 16 ] }\n}",
        a(),
    );
    loads(
        "spaces-behind",
        "spaces fill the header up",
        r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}                                "#,
        a(),
    );
    loads(
        "escaped-name",
        "the name is written in escapes",
        r#"{"\u0061":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#,
        a(),
    );
    loads(
        "escaped-fields",
        "field names and the dtype are written in escapes",
        r#"{"a":{"\u0064type":"F\u00332","sh\u0061pe":[2,2],"data_offsets":[0,16]}}"#,
        a(),
    );
    loads(
        "surrogate-pair",
        "the name is a surrogate pair in escapes",
        r#"{"\ud83e\udd80":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#,
        vec![expected("🦀", Dtype::U8, &[2], data(2))],
    );
    loads(
        "empty-name",
        "a tensor has an empty name",
        r#"{"":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#,
        vec![expected("", Dtype::U8, &[2], data(2))],
    );
    loads(
        "scalar",
        "a tensor has no dimension",
        r#"{"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}"#,
        vec![expected("s", Dtype::F64, &[], data(8))],
    );
    loads(
        "unaligned",
        "a float32 tensor begins at an odd byte",
        r#"{"u":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}"#,
        vec![
            expected("u", Dtype::U8, &[1], data(1)),
            expected("f", Dtype::F32, &[1], data(5)[1..].to_vec()),
        ],
    );
    loads(
        "empty-tensors",
        "tensors without elements lie between others",
        r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"c":{"dtype":"I8","shape":[3,0],"data_offsets":[2,2]}}"#,
        vec![
            expected("a", Dtype::F32, &[0], Vec::new()),
            expected("b", Dtype::U8, &[2], data(2)),
            expected("c", Dtype::I8, &[3, 0], Vec::new()),
        ],
    );
    loads(
        "packed",
        "two-in-a-byte elements fill their bytes",
        r#"{"p":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]}}"#,
        vec![expected("p", Dtype::F4, &[2, 3], data(3))],
    );
    let long = "n".repeat(60_000);
    let tensors = vec![expected(&long, Dtype::U8, &[2], data(2))];
    group.loads("long-name", "a name of 60,000 bytes", tensors, move || {
        let fields = r#"{"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#;
        raw_file(format!("{{\"{long}\":{fields}}}"), &data(2))
    });
}

fn framing(group: &mut Group<'_>) {
    group.refused("no-length", "four bytes are no header length", || data(4));
    for (name, declared) in [
        ("length-zero", 0u64),
        ("length-one", 1),
        ("length-past-end", 1000),
        ("length-over-cap", 100_000_001),
        ("length-signed", 1 << 63),
        ("length-max", u64::MAX),
        ("length-wraps", u64::MAX - 7),
        ("length-short", ONE.len() as u64 - 1),
        ("length-long", ONE.len() as u64 + 1),
    ] {
        let why = format!("the header is declared to have {declared} bytes");
        group.refused(name, &why, move || {
            let mut file = raw_file(ONE, &data(16));
            file[..8].copy_from_slice(&declared.to_le_bytes());
            file
        });
    }
    let whole = raw_file(ONE, &data(16));
    for cut in cuts(whole.len(), 24).into_iter().skip(1) {
        let whole = whole.clone();
        group.refused(
            &format!("cut-{cut}"),
            &format!("only the first {cut} bytes are there"),
            move || whole[..cut].to_vec(),
        );
    }
    for extra in [1usize, 8, 4096] {
        let why = format!("{extra} bytes too many follow the data");
        group.refused(&format!("trailing-{extra}"), &why, move || {
            raw_file(ONE, &data(16 + extra))
        });
    }
}

fn json(group: &mut Group<'_>) {
    for (name, why, header) in [
        ("array", "the header is an array", "[]"),
        ("text", "the header is a string", "\"a\""),
        ("null", "the header is null", "null"),
        ("number", "the header is a number", "17"),
        ("unclosed", "the header is not closed", r#"{"a":{"dtype":"#),
        (
            "trailing-comma",
            "a comma is before the closing brace",
            r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},}"#,
        ),
        (
            "single-quotes",
            "strings have single quotes",
            "{'a':{'dtype':'U8','shape':[0],'data_offsets':[0,0]}}",
        ),
        (
            "comment",
            "a comment is in the header",
            r#"{/**/"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
        ),
        (
            "two-values",
            "two values are in the header",
            r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}{}"#,
        ),
        (
            "raw-control",
            "a control character is in a name",
            "{\"a\u{1}\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
        ),
        (
            "lone-surrogate",
            "a name holds half a surrogate pair",
            r#"{"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
        ),
        (
            "bad-escape",
            "a name holds an unknown escape",
            r#"{"\x41":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
        ),
        (
            "byte-order-mark",
            "a byte order mark is first",
            "\u{feff}{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
        ),
        (
            "metadata-list",
            "the metadata is a list",
            r#"{"__metadata__":[],"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
        ),
        (
            "metadata-number",
            "a metadata value is a number",
            r#"{"__metadata__":{"n":1},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
        ),
        (
            "metadata-nested",
            "a metadata value is an object",
            r#"{"__metadata__":{"n":{}},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
        ),
        ("tensor-null", "a tensor is null", r#"{"a":null}"#),
        (
            "tensor-list",
            "a tensor is a list that holds no fields",
            r#"{"a":[]}"#,
        ),
        ("tensor-text", "a tensor is a string", r#"{"a":"F32"}"#),
    ] {
        group.refused(name, why, move || raw_file(header, &[]));
    }
    group.refused(
        "nul-padding",
        "NUL bytes, not spaces, fill the header up",
        || raw_file(format!("{ONE}\0\0\0\0"), &data(16)),
    );
    group.refused("not-utf8", "a name is not UTF-8", || {
        let mut header = ONE.as_bytes().to_vec();
        header[2] = 0xff;
        raw_file(header, &data(16))
    });
    group.refused("cut-utf8", "a name ends within a character", || {
        raw_file(
            b"{\"\xe5\xb1\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            &[],
        )
    });
    group.refused("utf16", "the header is UTF-16", || {
        let header: Vec<u8> = ONE.encode_utf16().flat_map(u16::to_le_bytes).collect();
        raw_file(header, &data(16))
    });
    for (name, open, close) in [("arrays", "[", "]"), ("objects", "{\"a\":", "}")] {
        for depth in [1000usize, 1_000_000] {
            let why = format!("{depth} {name} are nested in place of a tensor");
            group.refused(&format!("deep-{name}-{depth}"), &why, move || {
                let inner = if open == "[" { "" } else { "0" };
                let (open, close) = (open.repeat(depth), close.repeat(depth));
                raw_file(format!("{{\"a\":{open}{inner}{close}}}"), &[])
            });
        }
        let why = format!("{name} are opened 1,000,000 times and never closed");
        group.refused(&format!("open-{name}"), &why, move || {
            raw_file(format!("{{\"a\":{}", open.repeat(1_000_000)), &[])
        });
    }
    group.refused(
        "deep-metadata",
        "100,000 arrays are within the metadata",
        || {
            let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
            raw_file(format!("{{\"__metadata__\":{{\"x\":{deep}}}}}"), &[])
        },
    );
}

fn fields(group: &mut Group<'_>) {
    for (name, why, fields) in [
        (
            "no-dtype",
            "the dtype is missing",
            r#""shape":[2,2],"data_offsets":[0,16]"#,
        ),
        (
            "no-shape",
            "the shape is missing",
            r#""dtype":"F32","data_offsets":[0,16]"#,
        ),
        (
            "no-offsets",
            "the offsets are missing",
            r#""dtype":"F32","shape":[2,2]"#,
        ),
        ("no-fields", "all fields are missing", ""),
        (
            "dtype-unknown",
            "no dtype is called F33",
            r#""dtype":"F33","shape":[2,2],"data_offsets":[0,16]"#,
        ),
        (
            "dtype-lower-case",
            "dtypes have upper-case names",
            r#""dtype":"f32","shape":[2,2],"data_offsets":[0,16]"#,
        ),
        (
            "dtype-empty",
            "the dtype is an empty string",
            r#""dtype":"","shape":[2,2],"data_offsets":[0,16]"#,
        ),
        (
            "dtype-number",
            "the dtype is a number",
            r#""dtype":32,"shape":[2,2],"data_offsets":[0,16]"#,
        ),
        (
            "dtype-torch",
            "the dtype has PyTorch's name",
            r#""dtype":"float32","shape":[2,2],"data_offsets":[0,16]"#,
        ),
        (
            "dtype-twice",
            "the dtype is given twice",
            r#""dtype":"F32","dtype":"F32","shape":[2,2],"data_offsets":[0,16]"#,
        ),
        (
            "offsets-twice",
            "the offsets are given twice",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[0,16],"data_offsets":[0,16]"#,
        ),
        (
            "shape-text",
            "the shape is a string",
            r#""dtype":"F32","shape":"[2,2]","data_offsets":[0,16]"#,
        ),
        (
            "shape-null",
            "the shape is null",
            r#""dtype":"F32","shape":null,"data_offsets":[0,16]"#,
        ),
        (
            "shape-nested",
            "a size is a list",
            r#""dtype":"F32","shape":[[2],2],"data_offsets":[0,16]"#,
        ),
        (
            "shape-negative",
            "sizes are negative",
            r#""dtype":"F32","shape":[-2,-2],"data_offsets":[0,16]"#,
        ),
        (
            "shape-minus-zero",
            "a size is -0",
            r#""dtype":"F32","shape":[-0],"data_offsets":[0,0]"#,
        ),
        (
            "shape-float",
            "a size has a fraction",
            r#""dtype":"F32","shape":[4.0],"data_offsets":[0,16]"#,
        ),
        (
            "shape-exponent",
            "a size has an exponent",
            r#""dtype":"F32","shape":[4e0],"data_offsets":[0,16]"#,
        ),
        (
            "shape-too-large",
            "a size needs more than 64 bits",
            r#""dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,16]"#,
        ),
        (
            "shape-overflow",
            "the sizes multiply to 2^64 and wrap to 0",
            r#""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]"#,
        ),
        (
            "shape-overflow-to-fit",
            "the sizes wrap to the right count",
            r#""dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]"#,
        ),
        (
            "bytes-overflow",
            "the byte count wraps to 0",
            r#""dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]"#,
        ),
        (
            "shape-larger",
            "the shape needs more bytes than the offsets give",
            r#""dtype":"F32","shape":[2,3],"data_offsets":[0,16]"#,
        ),
        (
            "shape-smaller",
            "the shape needs fewer bytes than the offsets give",
            r#""dtype":"F32","shape":[3],"data_offsets":[0,16]"#,
        ),
        (
            "scalar-larger",
            "a scalar has the bytes of four",
            r#""dtype":"F32","shape":[],"data_offsets":[0,16]"#,
        ),
        (
            "half-byte",
            "33 half bytes fill no whole bytes",
            r#""dtype":"F4","shape":[33],"data_offsets":[0,16]"#,
        ),
        (
            "six-bits",
            "21 elements of 6 bits fill no whole bytes",
            r#""dtype":"F6_E2M3","shape":[21],"data_offsets":[0,16]"#,
        ),
        (
            "offsets-one",
            "there is one offset",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[16]"#,
        ),
        (
            "offsets-three",
            "there are three offsets",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[0,8,16]"#,
        ),
        (
            "offsets-none",
            "the offsets are an empty list",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[]"#,
        ),
        (
            "offsets-text",
            "the offsets are strings",
            r#""dtype":"F32","shape":[2,2],"data_offsets":["0","16"]"#,
        ),
        (
            "offsets-float",
            "the offsets have fractions",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[0.0,16.0]"#,
        ),
        (
            "offsets-negative",
            "an offset is negative",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[-16,0]"#,
        ),
        (
            "offsets-minus-zero",
            "an offset is -0",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[-0,16]"#,
        ),
        (
            "offsets-reversed",
            "the end lies before the start",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[16,0]"#,
        ),
        (
            "offsets-max",
            "the end is the last number of 64 bits",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[0,18446744073709551615]"#,
        ),
        (
            "offsets-too-large",
            "the end needs more than 64 bits",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[0,18446744073709551632]"#,
        ),
        (
            "offsets-wrap",
            "start and end wrap around to the right length",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[18446744073709551608,8]"#,
        ),
        (
            "offsets-past-end",
            "the end lies one byte past the file",
            r#""dtype":"U8","shape":[17],"data_offsets":[0,17]"#,
        ),
        (
            "offsets-far-past-end",
            "the tensor lies a TiB past the file",
            r#""dtype":"F32","shape":[2,2],"data_offsets":[1099511627776,1099511627792]"#,
        ),
    ] {
        group.refused(name, why, move || described(fields));
    }
}

fn offsets(group: &mut Group<'_>) {
    let pair = |a: (usize, usize), b: (usize, usize)| {
        let member = |name: &str, (first, end): (usize, usize)| {
            let size = end - first;
            format!(
                "\"{name}\":{{\"dtype\":\"U8\",\"shape\":[{size}],\"data_offsets\":[{first},{end}]}}"
            )
        };
        format!("{{{},{}}}", member("a", a), member("b", b))
    };
    for (name, why, a, b) in [
        (
            "gap-at-start",
            "four bytes before the first tensor belong to none",
            (4, 8),
            (8, 16),
        ),
        (
            "gap-between",
            "four bytes between the tensors belong to none",
            (0, 8),
            (12, 16),
        ),
        (
            "gap-at-end",
            "four bytes after the last tensor belong to none",
            (0, 8),
            (8, 12),
        ),
        (
            "same-bytes",
            "two tensors have the same bytes",
            (0, 16),
            (0, 16),
        ),
        ("overlap", "two tensors overlap", (0, 10), (8, 16)),
        ("within", "one tensor lies within another", (0, 16), (4, 8)),
        (
            "one-byte-overlap",
            "two tensors share one byte",
            (0, 9),
            (8, 16),
        ),
    ] {
        let header = pair(a, b);
        group.refused(name, why, move || raw_file(&header, &data(16)));
    }
    for (name, why, second) in [
        (
            "duplicate-same",
            "a name is given twice, for the same bytes",
            "[0,8]",
        ),
        (
            "duplicate-other",
            "a name is given twice, for other bytes",
            "[8,16]",
        ),
    ] {
        group.refused(name, why, move || {
            let end = if second == "[0,8]" { 8 } else { 16 };
            let fields = r#""dtype":"U8","shape":[8],"data_offsets":"#;
            raw_file(
                format!("{{\"a\":{{{fields}[0,8]}},\"a\":{{{fields}{second}}}}}"),
                &data(end),
            )
        });
    }
    group.refused(
        "duplicate-escaped",
        "a name is given twice, once in escapes",
        || {
            let fields = r#""dtype":"U8","shape":[8],"data_offsets":"#;
            raw_file(
                format!("{{\"a\":{{{fields}[0,8]}},\"\\u0061\":{{{fields}[8,16]}}}}"),
                &data(16),
            )
        },
    );
}

/// What the format's text and its implementations do not agree on.
fn undecided(group: &mut Group<'_>) {
    for (name, why, header) in [
        (
            "leading-space",
            "white space is before the brace",
            r#" {"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#,
        ),
        (
            "leading-newline",
            "a line end is before the brace",
            "\n{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}",
        ),
        (
            "tab-padding",
            "tabs, not spaces, fill the header up",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}\t\t",
        ),
        (
            "metadata-null",
            "the metadata is null",
            r#"{"__metadata__":null,"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#,
        ),
        (
            "metadata-twice",
            "the metadata is given twice",
            r#"{"__metadata__":{},"__metadata__":{},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#,
        ),
        (
            "metadata-key-twice",
            "a metadata key is given twice",
            r#"{"__metadata__":{"k":"1","k":"2"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#,
        ),
        (
            "unknown-field",
            "a tensor has a field that the format does not know",
            r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16],"extra":{"x":[1]}}}"#,
        ),
        (
            "positional",
            "the fields of a tensor are in a list",
            r#"{"a":["F32",[2,2],[0,16]]}"#,
        ),
    ] {
        group.either(name, why, move || raw_file(header, &data(16)));
    }
    for (name, why, header) in [
        ("no-tensors", "the header lists no tensor", "{}"),
        (
            "only-metadata",
            "the header has metadata alone",
            r#"{"__metadata__":{"format":"pt"}}"#,
        ),
    ] {
        group.either(name, why, move || raw_file(header, &[]));
    }
    group.either("zero-of-overflow", "no element, but the other sizes overflow", || {
        let fields = r#""dtype":"F32","shape":[9223372036854775808,9223372036854775808,0],"data_offsets":[0,0]"#;
        raw_file(format!("{{\"a\":{{{fields}}}}}"), &[])
    });
    for rank in [65usize, 10_000] {
        group.either(
            &format!("rank-{rank}"),
            "a tensor has many dimensions",
            move || {
                let ones = vec!["1"; rank].join(",");
                let fields = format!("\"dtype\":\"U8\",\"shape\":[{ones}],\"data_offsets\":[0,1]");
                raw_file(format!("{{\"a\":{{{fields}}}}}"), &data(1))
            },
        );
    }
    group.either("very-long-name", "a name of 1,000,000 bytes", || {
        let fields = r#""dtype":"U8","shape":[2],"data_offsets":[0,2]"#;
        raw_file(
            format!("{{\"{}\":{{{fields}}}}}", "n".repeat(1_000_000)),
            &data(2),
        )
    });
    group.either(
        "deep-unknown-field",
        "10,000 arrays are in an unknown field",
        || {
            let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
            described(&format!(
                r#""dtype":"F32","shape":[2,2],"data_offsets":[0,16],"x":{deep}"#
            ))
        },
    );
    group.either(
        "long-number",
        "an offset has 1,000,000 leading digits in its fraction",
        || {
            let zeros = "0".repeat(1_000_000);
            described(&format!(
                r#""dtype":"F32","shape":[2,2],"data_offsets":[0.{zeros},16]"#
            ))
        },
    );
}
