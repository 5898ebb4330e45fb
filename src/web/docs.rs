//! The book, served at `/docs`: Markdown in the binary, made HTML when somebody reads it. No
//! script.

use include_dir::{Dir, include_dir};
use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd, html};
use std::fmt::Write as _;

static BOOK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/docs");

/// A page of the book as HTML; `path` is what follows `/docs`. `None` if there is none.
pub(crate) fn page(path: &str) -> Option<String> {
    let name = match path.trim_matches('/') {
        "" => "README.md".to_owned(),
        name => format!("{}.md", name.trim_end_matches(".html").trim_end_matches(".md")),
    };
    if name == "SUMMARY.md" {
        return None;
    }
    let text = BOOK.get_file(&name)?.contents_utf8()?;
    let summary = BOOK.get_file("SUMMARY.md")?.contents_utf8()?;
    let title = text.lines().find_map(|l| l.strip_prefix("# ")).unwrap_or("webtrunk");
    let mut out = String::with_capacity(text.len() * 2);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title} - webtrunk</title>\n\
         <link rel=\"icon\" href=\"/icon.svg\">\n<link rel=\"stylesheet\" href=\"/tokens.css\">\n<link rel=\"stylesheet\" href=\"/phone.css\">\n<link rel=\"stylesheet\" href=\"/docs.css\">\n</head>\n<body>\n<header><a href=\"/\">webtrunk</a> <a href=\"/docs/\">The book</a></header>\n<div class=\"book\">\n<nav aria-label=\"Contents\">\n"
    );
    html::push_html(&mut out, linked(summary, "", true).into_iter());
    out.push_str("</nav>\n<main>\n");
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    html::push_html(&mut out, linked(text, folder, false).into_iter());
    out.push_str("</main>\n</div>\n</body>\n</html>\n");
    Some(out)
}

/// The events of a page of `folder`, its links to other pages made ones of this server, its
/// headings given anchors. In the table of contents the headings are one level down: the page has
/// its own.
fn linked<'a>(text: &'a str, folder: &str, contents: bool) -> Vec<Event<'a>> {
    let mut events: Vec<Event<'a>> = Parser::new_ext(text, Options::ENABLE_TABLES).collect();
    for at in 0..events.len() {
        // An anchor is made of the heading's words.
        let words: Option<String> =
            matches!(events[at], Event::Start(Tag::Heading { .. })).then(|| {
                let inside = events[at + 1..]
                    .iter()
                    .take_while(|e| !matches!(e, Event::End(TagEnd::Heading(_))));
                inside
                    .filter_map(|e| {
                        if let Event::Text(t) | Event::Code(t) = e {
                            Some(t.as_ref())
                        } else {
                            None
                        }
                    })
                    .collect()
            });
        match &mut events[at] {
            Event::Start(Tag::Link { dest_url, .. })
                if !dest_url.contains("://") && !dest_url.starts_with('#') =>
            {
                *dest_url = CowStr::from(address(folder, dest_url))
            }
            Event::Start(Tag::Heading { level, id, .. }) => {
                *id = words.map(|w| CowStr::from(anchor(&w)));
                *level = if contents { pulldown_cmark::HeadingLevel::H2 } else { *level };
            }
            Event::End(TagEnd::Heading(level)) if contents => {
                *level = pulldown_cmark::HeadingLevel::H2
            }
            _ => {}
        }
    }
    events.into_iter().flat_map(scrolled).collect()
}

/// Tables and blocks of code in a region that can be scrolled on its own.
fn scrolled(event: Event<'_>) -> Vec<Event<'_>> {
    match event {
        Event::Start(Tag::Table(_)) => vec![
            Event::Html(
                "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Table\">".into(),
            ),
            event,
        ],
        Event::End(TagEnd::Table) => vec![event, Event::Html("</div>".into())],
        Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(words))) if words.contains(' ') => {
            // A file: its name above it.
            let name = words.split_once(' ').map_or("", |(_, name)| name).replace(['<', '&'], "");
            let region = format!(
                "<p class=\"file\">{name}</p><div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{name}\">"
            );
            vec![
                Event::Html(region.into()),
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(words))),
            ]
        }
        Event::Start(Tag::CodeBlock(_)) => vec![
            Event::Html(
                "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Example\">"
                    .into(),
            ),
            event,
        ],
        Event::End(TagEnd::CodeBlock) => vec![event, Event::Html("</div>".into())],
        other => vec![other],
    }
}

/// `how-to/../reference/config.md#user` as `/docs/reference/config#user`.
fn address(folder: &str, link: &str) -> String {
    let (file, fragment) = link
        .split_once('#')
        .map_or((link, String::new()), |(f, fragment)| (f, format!("#{fragment}")));
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    let path = path.strip_suffix(".md").unwrap_or(&path);
    format!("/docs/{}{fragment}", if path == "README" { "" } else { path })
}

fn anchor(words: &str) -> String {
    let kept = words.to_lowercase();
    let kept: String =
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect();
    kept.trim().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_made_with_its_contents_and_no_other_file_is_had() {
        let contents = page("/").expect("the first page");
        for link in contents.split("href=\"/docs/").skip(1).filter_map(|l| l.split('"').next()) {
            assert!(page(link.split('#').next().unwrap_or_default()).is_some(), "{link}");
        }
        assert!(page("reference/config").expect("a page").contains("id=\"trunk\""), "anchors");
        assert!(
            page("tutorial/five-minutes.html").expect("a page").contains("<title>Five minutes")
        );
        for none in ["../../Cargo.toml", "SUMMARY", "book.toml", "nothing", "how-to", "%2e%2e/x"] {
            assert!(page(none).is_none(), "{none}");
        }
        assert_eq!(address("how-to", "../reference/config.md#user"), "/docs/reference/config#user");
        assert_eq!(address("how-to", "log-in.md"), "/docs/how-to/log-in");
    }
}
