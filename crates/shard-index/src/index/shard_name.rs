use std::fmt;

/// A shard name that could point outside the folder of its index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadShardName {
    /// The name as the index gives it.
    pub name: String,
    /// What is wrong with it.
    pub fault: ShardNameFault,
}

/// What is wrong with a shard name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShardNameFault {
    /// It is empty, or two slashes follow each other, or it ends in one.
    Empty,
    /// It is absolute.
    Absolute,
    /// A component is `..` or `.`, or made of dots and spaces only, which Windows trims to those.
    Dots,
    /// It has a backslash, which separates folders on Windows.
    Backslash,
    /// It has a colon, which names a drive or a stream on Windows.
    Colon,
    /// It has a NUL or another control character.
    Control,
}

/// Checks that a name stays inside the folder that it is joined to, on every system: an index that
/// is safe on one must be safe on all.
pub(super) fn check(name: &str) -> Result<(), ShardNameFault> {
    if name.starts_with('/') {
        return Err(ShardNameFault::Absolute);
    }
    for character in name.chars() {
        match character {
            '\\' => return Err(ShardNameFault::Backslash),
            ':' => return Err(ShardNameFault::Colon),
            _ if character.is_control() => return Err(ShardNameFault::Control),
            _ => {}
        }
    }
    for component in name.split('/') {
        if component.is_empty() {
            return Err(ShardNameFault::Empty);
        }
        if component.bytes().all(|byte| matches!(byte, b'.' | b' ')) {
            return Err(ShardNameFault::Dots);
        }
    }
    Ok(())
}

impl fmt::Display for BadShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.name, self.fault)
    }
}

impl fmt::Display for ShardNameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ShardNameFault::Empty => "an empty component",
            ShardNameFault::Absolute => "an absolute path",
            ShardNameFault::Dots => "a component of dots",
            ShardNameFault::Backslash => "a backslash",
            ShardNameFault::Colon => "a colon",
            ShardNameFault::Control => "a control character",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_stay_inside_pass() {
        for name in [
            "model-00001-of-00002.safetensors",
            "sub/model.safetensors",
            "a/b/c.bin",
            "..a",
            "a..",
            "gewichte ü.bin",
            ".hidden",
        ] {
            assert_eq!(check(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn names_that_leave_are_refused() {
        use ShardNameFault as F;
        for (name, fault) in [
            ("", F::Empty),
            ("a//b", F::Empty),
            ("a/", F::Empty),
            ("/etc/passwd", F::Absolute),
            ("//server/share", F::Absolute),
            ("..", F::Dots),
            ("../a", F::Dots),
            ("a/../../b", F::Dots),
            ("./a", F::Dots),
            (".. /a", F::Dots),
            (".../a", F::Dots),
            ("..\\a", F::Backslash),
            ("\\\\server\\share", F::Backslash),
            ("C:\\a", F::Colon),
            ("C:/a", F::Colon),
            ("a:stream", F::Colon),
            ("a\0b", F::Control),
            ("a\nb", F::Control),
        ] {
            assert_eq!(check(name), Err(fault), "{name:?}");
        }
    }
}
