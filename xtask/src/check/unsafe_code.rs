//! `unsafe` is used only where it is permitted: the lint can be allowed anywhere, this check
//! cannot.

use std::fs;
use std::path::Path;

use super::Outcome;
use crate::Result;
use crate::command::root;

/// Folders with unsafe code; ARCHITECTURE.md says why each.
const ALLOWED: [&str; 7] = [
    "crates/storage/src/os",
    "crates/device-cuda/src/driver",
    "crates/tensorlift-python/src/ffi",
    // These crates expose raw pointers, and these tests read through them as a user would.
    "crates/device-cuda/tests",
    // candle's own loader, which these compare with, maps files.
    "crates/adapter-candle/examples",
    "benches/peers/src/builder.rs",
    // A driver with a C interface, never published.
    "crates/fake-cuda",
];
/// Folders with source.
const SEARCHED: [&str; 4] = ["crates", "xtask", "benches", "examples"];

pub(super) fn run() -> Result<Outcome> {
    let root = root();
    let mut found = Vec::new();
    let mut files = 0;
    for folder in SEARCHED {
        search(&root, &root.join(folder), &mut files, &mut found)?;
    }
    if found.is_empty() {
        println!("{files} files, `unsafe` only in {}", ALLOWED.join(", "));
        return Ok(Outcome::Passed);
    }
    Err(format!("`unsafe` where it is not permitted:\n{}", found.join("\n")).into())
}

fn search(root: &Path, folder: &Path, files: &mut usize, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let from_root = path.strip_prefix(root)?;
        if ALLOWED.iter().any(|allowed| from_root.starts_with(allowed)) {
            continue;
        }
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                search(root, &path, files, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *files += 1;
            let source = fs::read_to_string(&path)?;
            for line in unsafe_lines(&source) {
                found.push(format!("{}:{line}", from_root.display()));
            }
        }
    }
    Ok(())
}

/// The lines with the keyword, or with a permission for it, counted from 1.
fn unsafe_lines(source: &str) -> Vec<usize> {
    let code = without_text(source);
    let lines = code.lines().enumerate();
    let found = lines.filter(|(_, line)| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word == "unsafe")
            || (line.contains("unsafe_code") && (line.contains("allow") || line.contains("expect")))
    });
    found.map(|(index, _)| index + 1).collect()
}

/// The source with comments and literals blanked, line for line.
fn without_text(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let len = text_at(rest, out.chars().next_back());
        if len == 0 {
            out.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        }
        out.extend(rest[..len].chars().map(|c| if c == '\n' { c } else { ' ' }));
        rest = &rest[len..];
    }
    out
}

/// The length of the comment or literal that begins here, or 0.
fn text_at(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with('r') && (!in_word || before == Some('b')) {
        return raw_string(rest);
    }
    // A lifetime has no closing quote behind its first character.
    let mut chars = rest.chars();
    if chars.next() == Some('\'') {
        return match (chars.next(), chars.next()) {
            (Some('\\'), _) => quoted(rest, '\''),
            (Some(c), Some('\'')) => 2 + c.len_utf8(),
            _ => 0,
        };
    }
    0
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> usize {
    let hashes = rest[1..].bytes().take_while(|&byte| byte == b'#').count();
    let body = &rest[1 + hashes..];
    if !body.starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body[1..].find(&close).map(|at| at + 1 + close.len());
    end.map_or(rest.len(), |end| 1 + hashes + end)
}

#[cfg(test)]
mod tests {
    use super::unsafe_lines;

    #[test]
    fn the_keyword_and_its_permission_are_found() {
        let source = "fn a() {}\nlet b = unsafe { c() };\n#[allow(unsafe_code)]\nunsafe fn d() {}";
        assert_eq!(unsafe_lines(source), [2, 3, 4]);
    }

    #[test]
    fn text_is_passed_over() {
        let source = r##"
            // unsafe
            /* unsafe /* unsafe */ unsafe */
            let a = "unsafe \" unsafe";
            let b = r#"unsafe " unsafe"#;
            let c = br"unsafe";
            #![deny(unsafe_code)]
            fn unsafe_lines<'a>(d: &'a str) -> char { '"' }
            let e = '\''; let f = "unsafe";
        "##;
        assert!(
            unsafe_lines(source).is_empty(),
            "{:?}",
            unsafe_lines(source)
        );
    }

    #[test]
    fn code_behind_text_is_found() {
        assert_eq!(
            unsafe_lines("/* a */ unsafe {}\nlet r#unsafe = 'a'; unsafe {}"),
            [1, 2]
        );
        assert_eq!(unsafe_lines("let a = \"\n\n\";\nunsafe {}"), [4]);
    }
}
