//! Python's standard library.

use super::Known;

/// The meaning of a name outside of PyTorch and NumPy.
pub(super) fn meaning(module: &str, name: &str) -> Known {
    match (module, name) {
        ("collections", "OrderedDict") => Known::OrderedDict,
        ("collections", "defaultdict") => Known::DefaultDict,
        ("collections", "Counter") => Known::Counter,
        ("collections", "deque") => Known::Deque,
        ("_codecs", "encode") => Known::Encode,
        ("copy_reg" | "copyreg", "_reconstructor") => Known::Reconstructor,
        ("copy_reg" | "copyreg", "__newobj__") => Known::NewObj,
        ("copy_reg" | "copyreg", "__newobj_ex__") => Known::NewObjEx,
        ("builtins" | "__builtin__", name) => match name {
            "dict" => Known::Dict,
            "list" => Known::List,
            "tuple" => Known::Tuple,
            "set" | "frozenset" => Known::Set,
            "bytearray" => Known::Bytearray,
            "complex" => Known::Complex,
            "slice" | "range" | "xrange" | "object" | "int" | "long" | "float" | "str"
            | "unicode" | "bytes" | "bool" | "Ellipsis" | "NotImplemented" => Known::Plain,
            _ => Known::Unknown,
        },
        ("decimal" | "_decimal" | "_pydecimal", "Decimal")
        | (
            "pathlib" | "pathlib._local",
            "Path" | "PosixPath" | "WindowsPath" | "PurePath" | "PurePosixPath" | "PureWindowsPath",
        ) => Known::TextLike,
        ("datetime", "datetime" | "date" | "time" | "timedelta" | "timezone")
        | ("fractions", "Fraction")
        | ("uuid", "UUID")
        | ("argparse", "Namespace")
        | ("types", "SimpleNamespace") => Known::Plain,
        _ => Known::Unknown,
    }
}
