//! What a reader needs: each public field says what it is, with unit and range, and each public
//! function that may fail says when.

use super::sources;

/// The doc comment above line `at`, attributes passed over.
fn doc_above(lines: &[&str], at: usize) -> String {
    let mut above = lines[..at].iter().rev().map(|l| l.trim()).peekable();
    // An attribute of several lines ends in `)]` and begins with `#[`.
    while let Some(line) = above.next_if(|l| l.starts_with("#[") || l.ends_with(")]")) {
        if !line.starts_with("#[") {
            above.by_ref().find(|l| l.starts_with("#["));
        }
    }
    let mut doc: Vec<&str> = above.map_while(|l| l.strip_prefix("///")).map(str::trim).collect();
    doc.reverse();
    doc.join(" ")
}

/// What follows `pub`, `pub(crate)` or `pub(super)` in a line.
fn public(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(within) => within.split_once(')')?.1,
        None => rest,
    };
    rest.strip_prefix(' ')
}

/// The name and type of a public field.
fn field(line: &str) -> Option<(&str, &str)> {
    let (name, of_type) = public(line)?.strip_suffix(',')?.split_once(": ")?;
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || "_#".contains(c));
    (line.starts_with(' ') && is_name).then_some((name, of_type))
}

#[test]
fn every_public_field_has_a_word() {
    let (mut missing, mut fields) = (Vec::new(), 0);
    for (_, path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some((name, _)) = field(line) else { continue };
            fields += 1;
            if doc_above(&lines, at).is_empty() {
                missing.push(format!("{}:{}: {name}", path.display(), at + 1));
            }
        }
    }
    assert!(fields > 1_500, "the fields are found: {fields}");
    assert!(missing.is_empty(), "what these are, with unit and range: {missing:#?}");
}

#[test]
fn every_public_function_that_may_fail_says_how() {
    let (mut missing, mut functions) = (Vec::new(), 0);
    for (_, path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(rest) = public(line) else { continue };
            let rest =
                ["const ", "async "].iter().fold(rest, |r, w| r.strip_prefix(w).unwrap_or(r));
            let Some(name) = rest.strip_prefix("fn ") else { continue };
            let signature = lines[at..].iter().map_while(|l| {
                let body = l.ends_with('{') || l.ends_with(';');
                (!body).then_some(*l)
            });
            let end = at + signature.count();
            let result = lines[at..=end.min(lines.len() - 1)].join(" ");
            let Some((_, result)) = result.rsplit_once("-> ") else { continue };
            let kind = result.split(['<', ' ']).next().unwrap_or_default();
            if kind.rsplit("::").next() != Some("Result") || kind.starts_with("fmt::") {
                continue;
            }
            functions += 1;
            if !doc_above(&lines, at).contains("# Errors") {
                missing.push(format!("{}:{}: {name}", path.display(), at + 1));
            }
        }
    }
    assert!(functions > 200, "the functions are found: {functions}");
    assert!(missing.is_empty(), "when these fail, under `# Errors`: {missing:#?}");
}
