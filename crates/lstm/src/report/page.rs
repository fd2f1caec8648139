//! A page: one HTML file that needs nothing beside it. Its style follows the reader's choice of light or dark.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::formats::FormatError;

const STYLE: &str = include_str!("style.css");

/// By which a page is known to be one of this program.
const GENERATOR: &str = "<meta name=\"generator\" content=\"lstm\">";

/// Around the facts that a page carries for machines.
const FACTS_BEGIN: &str = "<script type=\"application/json\" id=\"facts\">";
const FACTS_END: &str = "</script>";

/// A page of this program.
#[derive(Debug, Default)]
pub(crate) struct Page<'a> {
    /// Its title, in the reader's words.
    pub(crate) title: &'a str,
    /// What stands between the title and the end, as HTML.
    pub(crate) body: &'a str,
    /// Facts for machines, kept in the page.
    pub(crate) facts: Option<&'a Value>,
    /// A script of the page's own, and more style.
    pub(crate) script: &'a str,
    pub(crate) style: &'a str,
}

impl Page<'_> {
    /// The file.
    pub(crate) fn html(&self) -> String {
        let Self { title, body, facts, script, style } = self;
        let title = escape(title);
        // No text in the facts ends them.
        let facts = facts.map_or(String::new(), |facts| {
            format!("{FACTS_BEGIN}{}{FACTS_END}\n", facts.to_string().replace('<', "\\u003c"))
        });
        let script = if script.is_empty() { String::new() } else { format!("<script>\n{script}</script>\n") };
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n{GENERATOR}\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n\
             <main>\n<h1>{title}</h1>\n{body}</main>\n{facts}{script}</body>\n</html>\n"
        )
    }
}

/// Whether these are the first bytes of a page of this program.
pub(crate) fn is_page(html: &str) -> bool {
    html.contains(GENERATOR)
}

/// The facts that a page carries.
pub(crate) fn facts(html: &str) -> Option<Value> {
    let (_, rest) = html.split_once(FACTS_BEGIN)?;
    serde_json::from_str(rest.split_once(FACTS_END)?.0).ok()
}

/// Writes a page, whole or not at all, in place of nothing but another page of this program.
///
/// # Errors
/// A file that cannot be written, or that is no page of this program.
pub fn write_page(path: &Path, html: &str) -> Result<(), FormatError> {
    // A device or a pipe has no end, and is not asked.
    if path.exists()
        && !(path.is_file() && std::fs::read(path).is_ok_and(|found| is_page(&String::from_utf8_lossy(&found))))
    {
        let why = "exists and is no page of this program; choose another `out`".to_owned();
        return Err(FormatError::Conflict { path: path.to_owned(), why });
    }
    crate::formats::write_bytes(path, html.as_bytes())
}

/// Text as it stands in HTML, also between quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What HTML has no place for is shown as what it is.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A table. A cell of a column in `numbers` stands to the right.
pub(crate) fn table(head: &[&str], numbers: &[usize], rows: &[Vec<String>]) -> String {
    let mut html = "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>".to_owned();
    let class = |column: usize| if numbers.contains(&column) { " class=\"n\"" } else { "" };
    for (column, name) in head.iter().enumerate() {
        let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(column), escape(name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(html, "<td{}>{}</td>", class(column), escape(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// Figures that stand out: each with what it is.
pub(crate) fn figures(figures: &[(String, String)]) -> String {
    let items = figures.iter().map(|(value, what)| format!("<li><b>{}</b>{}</li>", escape(value), escape(what)));
    format!("<ul class=\"figures\">{}</ul>\n", items.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_says_stays_text_and_facts_come_back() {
        let wild = "</script><b>\"&'\u{1}";
        let value = Value::from(wild);
        let body = escape(wild);
        let html = Page { title: wild, body: &body, facts: Some(&value), ..Page::default() }.html();
        assert_eq!(facts(&html), Some(value));
        assert!(is_page(&html) && !html.contains("<b>\"") && !html.contains('\u{1}'));
        assert_eq!(html.matches("</script>").count(), 1);
    }
}
