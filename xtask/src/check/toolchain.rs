//! What rustup has installed; where there is no rustup, nothing.

use crate::command::output_of;

/// The installed toolchain of this version, such as `1.89.0-x86_64-unknown-linux-gnu`.
pub(crate) fn installed(version: &str) -> Option<String> {
    let list = output_of("rustup", &["toolchain", "list"])?;
    find(&list, version).map(str::to_owned)
}

/// The targets whose standard library is installed.
pub(crate) fn targets() -> Vec<String> {
    let list = output_of("rustup", &["target", "list", "--installed"]).unwrap_or_default();
    list.lines().map(str::to_owned).collect()
}

/// Whether a toolchain has a component.
pub(crate) fn has_component(toolchain: &str, component: &str) -> bool {
    let Some(toolchain) = installed(toolchain) else {
        return false;
    };
    let list = [
        "component",
        "list",
        "--installed",
        "--toolchain",
        &toolchain,
    ];
    let list = output_of("rustup", &list).unwrap_or_default();
    list.lines().any(|line| line.starts_with(component))
}

/// What a toolchain builds for by itself.
pub(crate) fn host(toolchain: &str) -> Option<String> {
    let version = output_of("rustc", &[&format!("+{toolchain}"), "-vV"])?;
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned)
}

fn find<'a>(list: &'a str, version: &str) -> Option<&'a str> {
    let names = list.lines().filter_map(|line| line.split(' ').next());
    let of_version = |name: &&str| {
        let rest = name.strip_prefix(version);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    };
    names.into_iter().find(of_version)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn a_version_is_found_whatever_follows_it() {
        let list = "stable-x86_64 (active, default)\n1.8.0-x86_64\n1.89.0-x86_64\nnightly-x86_64";
        assert_eq!(find(list, "1.89"), Some("1.89.0-x86_64"));
        assert_eq!(find(list, "1.8"), Some("1.8.0-x86_64"));
        assert_eq!(find(list, "nightly"), Some("nightly-x86_64"));
        assert_eq!(find(list, "1.90"), None);
    }
}
