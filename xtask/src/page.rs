//! Pages with places that tasks write to.

use crate::Result;

/// The page with `text` between the marks of `name`.
pub(crate) fn insert(page: &str, name: &str, text: &str) -> Result<String> {
    let first = format!("<!-- figures: {name} -->");
    let last = "<!-- end of figures -->";
    let missing = || format!("the page has no place marked {first} .. {last}");
    let (before, rest) = page.split_once(&first).ok_or_else(missing)?;
    let (_, after) = rest.split_once(last).ok_or_else(missing)?;
    Ok(format!("{before}{first}\n{text}{last}{after}"))
}

#[cfg(test)]
mod tests {
    use super::insert;

    #[test]
    fn figures_go_between_their_marks() {
        let page = "a <!-- figures: x -->old<!-- end of figures --> b";
        let page = insert(page, "x", "new\n").unwrap();
        assert_eq!(
            page,
            "a <!-- figures: x -->\nnew\n<!-- end of figures --> b"
        );
        assert!(insert(&page, "y", "").is_err());
    }
}
