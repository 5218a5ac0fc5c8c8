use std::ffi::OsString;

use crate::Environment;

/// Python's `os.path.expandvars(os.path.expanduser(value))`, which `huggingface_hub` applies.
///
/// Differences: `~user` is left unchanged, since it needs the user database, and so is a value that
/// is not Unicode.
pub(super) fn expand(value: OsString, environment: &Environment) -> OsString {
    let text = match value.into_string() {
        Ok(text) => text,
        Err(value) => return value,
    };
    variables(&user(text, environment), environment).into()
}

/// Python's `os.path.expanduser("~")`.
pub(super) fn home(environment: &Environment) -> OsString {
    user("~".to_owned(), environment).into()
}

fn user(text: String, environment: &Environment) -> String {
    let Some(rest) = text.strip_prefix('~') else {
        return text;
    };
    let named = !rest.is_empty() && !rest.starts_with(std::path::is_separator);
    let home = environment.home().and_then(|home| home.into_string().ok());
    match home {
        Some(home) if !named => {
            let expanded = format!("{}{rest}", home.trim_end_matches('/'));
            if expanded.is_empty() {
                "/".to_owned()
            } else {
                expanded
            }
        }
        _ => text,
    }
}

/// Replaces `$NAME` and `${NAME}` once, without expanding the values; unknown names stay.
fn variables(text: &str, environment: &Environment) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some((name, len)) = reference(rest) else {
            expanded.push('$');
            rest = &rest[1..];
            continue;
        };
        match environment.var(name).map(OsString::into_string) {
            Some(Ok(value)) => expanded.push_str(&value),
            _ => expanded.push_str(&rest[..len]),
        }
        rest = &rest[len..];
    }
    expanded.push_str(rest);
    expanded
}

/// The name that `text`, which begins with `$`, refers to, and the length of the reference.
fn reference(text: &str) -> Option<(&str, usize)> {
    let after = &text[1..];
    if let Some(braced) = after.strip_prefix('{') {
        let end = braced.find('}')?;
        return Some((&braced[..end], end + 3));
    }
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let len = after.bytes().take_while(|byte| is_word(byte)).count();
    (len > 0).then(|| (&after[..len], len + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each expectation was printed by Python's posixpath.
    #[test]
    fn as_python_does() {
        let variables = [
            ("HOME", "/home/u/"),
            ("A", "x"),
            ("B_1", "$A"),
            ("", "empty"),
        ];
        let environment = Environment::fixed(variables);
        for (value, expanded) in [
            ("", ""),
            ("~", "/home/u"),
            ("~/m", "/home/u/m"),
            ("~root/m", "~root/m"),
            ("a~", "a~"),
            ("$A/b", "x/b"),
            ("${A}b", "xb"),
            ("$Ab", "$Ab"),
            ("$B_1", "$A"),
            ("${B_1}$A", "$Ax"),
            ("$", "$"),
            ("$$A", "$x"),
            ("${A", "${A"),
            ("${}", "empty"),
            ("$-$A", "$-x"),
            ("é$A", "éx"),
            ("$Aé", "xé"),
        ] {
            assert_eq!(expand(value.into(), &environment), expanded, "{value:?}");
        }
        let root = Environment::fixed([("HOME", "/")]);
        assert_eq!(expand("~".into(), &root), "/");
        assert_eq!(expand("~/m".into(), &root), "/m");
        let none = Environment::fixed([("A", "x")]);
        assert_eq!(expand("~/$A".into(), &none), "~/x");
    }
}
