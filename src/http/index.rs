//! `/debug/pprof/`: what there is, a button that records, and the state of every source with why one is off.
//!
//! A page without a script. Its style sheet is a file of its own, since the policy allows no other style.

use std::fmt::Write;

use axum::response::Response;

use super::answer;
use super::pprof::{PROFILES, Served};

/// What is no profile.
const OTHERS: &[(&str, &str)] = &[
    ("trace?seconds=5", "Everything that happens in the next seconds, for `kymo view`."),
    ("status", "What kymo sees and what it can't, what was lost, the memory that it takes, as JSON."),
];

/// Shown where a flight recorder runs.
const FLIGHT: (&str, &str) = ("flight", "The last seconds, from the flight recorder, for `kymo view`.");

const STYLE: &str = include_str!("index.css");

/// The style sheet.
pub(super) fn style() -> Response {
    answer::page("text/css; charset=utf-8", STYLE.into())
}

/// The page.
pub(super) fn page() -> Response {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy();
    let mut page = String::new();
    // Writing into a string can't fail.
    let _ = write_page(&mut page, &program, &crate::status::sources());
    answer::page("text/html; charset=utf-8", page)
}

fn write_page(page: &mut String, program: &str, sources: &[(String, String)]) -> std::fmt::Result {
    let program = escape(program);
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>/debug/pprof/</title>\
         <link rel=\"stylesheet\" href=\"index.css\"></head>\n<body>\n<h1>/debug/pprof/</h1>\n\
         <p>{program}, process {}</p>\n",
        std::process::id()
    )?;
    write_record(page)?;
    page.push_str("<h2>Profiles</h2>\n<table>\n");
    for Served { name, about, .. } in PROFILES {
        let about = escape(about);
        writeln!(page, "<tr><td><a href=\"{name}?seconds=5\">{name}</a></td><td>{about} Of 5 s.</td></tr>")?;
    }
    let flight = crate::record::flight::usage().map(|_| FLIGHT);
    for (link, about) in OTHERS.iter().copied().chain(flight) {
        let name = link.split('?').next().unwrap_or(link);
        writeln!(page, "<tr><td><a href=\"{link}\">{name}</a></td><td>{}</td></tr>", escape(about))?;
    }
    page.push_str("</table>\n<h2>Sources</h2>\n<table>\n<tr><th>Source</th><th>State</th></tr>\n");
    for (name, state) in sources {
        let class = if state.starts_with("off") { " class=\"off\"" } else { "" };
        writeln!(page, "<tr{class}><td>{}</td><td>{}</td></tr>", escape(name), escape(state))?;
    }
    page.push_str("</table>\n</body></html>\n");
    Ok(())
}

#[cfg(feature = "viewer")]
fn write_record(page: &mut String) -> std::fmt::Result {
    page.push_str(
        "<form action=\"ui/\"><input type=\"hidden\" name=\"record\" value=\"5\">\
         <button>record 5 s</button> and look at it, or \
         <a href=\"trace?seconds=5\">save a trace</a> (for \
         <a href=\"trace?seconds=5&amp;format=perfetto\">Perfetto</a>, \
         <a href=\"trace?seconds=5&amp;format=chrome\">Chrome</a>)</form>\n",
    );
    Ok(())
}

#[cfg(not(feature = "viewer"))]
fn write_record(page: &mut String) -> std::fmt::Result {
    page.push_str(
        "<p><a href=\"trace?seconds=5\">Save a trace of 5 s</a> (for \
         <a href=\"trace?seconds=5&amp;format=perfetto\">Perfetto</a>, \
         <a href=\"trace?seconds=5&amp;format=chrome\">Chrome</a>)</p>\n",
    );
    Ok(())
}

/// Text as HTML shows it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_text_never_markup() {
        let mut page = String::new();
        let sources = [("<b>".to_owned(), "off: \"x\" & <script>alert(1)</script>".to_owned())];
        write_page(&mut page, "<img src=x>", &sources).unwrap();
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"), "{page}");
        assert!(page.contains("class=\"off\"") && page.contains("&lt;script&gt;alert(1)"));
    }
}
