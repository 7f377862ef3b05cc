//! The OpenAPI document as one page that a person reads: `/docs`.
//!
//! Rendered from the document that this node serves, at the first request, and kept. The page needs
//! no script and no other server; its one stylesheet is served beside it, so the strictest content
//! policy does for it ([`POLICY`]).
//!
//! ```text
//! document ─ index by tag ─ each operation: credential, parameters, body, answers, errors ─ shapes
//! ```

mod html;
mod shapes;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::OnceLock;

use serde_json::Value;

use crate::context::Faces;
use crate::openapi;
use html::{code, escape, prose, slug};

/// What the page may load: its own stylesheet.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; \
                                 form-action 'none'; frame-ancestors 'none'";
/// The stylesheet.
pub(crate) const STYLE: &str = include_str!("docs/style.css");

/// The page of a node with these faces.
pub(crate) fn page(faces: &Faces) -> &'static str {
    static WITH_CLASSIC: OnceLock<String> = OnceLock::new();
    static WITHOUT_CLASSIC: OnceLock<String> = OnceLock::new();
    let place = if faces.classic.is_some() { &WITH_CLASSIC } else { &WITHOUT_CLASSIC };
    place.get_or_init(|| {
        let document = serde_json::from_str(&openapi::served(faces)).unwrap_or_default();
        Page { document: &document, text: String::new() }.render()
    })
}

struct Page<'a> {
    document: &'a Value,
    text: String,
}

/// An operation where it is in the document.
struct Entry<'a> {
    path: &'a str,
    method: String,
    operation: &'a Value,
}

impl<'a> Page<'a> {
    fn render(mut self) -> String {
        let document = self.document;
        let title = text(&document["info"]["title"]);
        let version = text(&document["info"]["version"]);
        let by_tag = by_tag(document);
        self.add("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        self.add("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        self.add("<meta name=\"color-scheme\" content=\"light dark\">\n");
        self.add(&format!("<title>{} API {}</title>\n", escape(title), escape(version)));
        self.add("<link rel=\"stylesheet\" href=\"/docs/style.css\">\n</head>\n<body>\n");
        self.index(&by_tag);
        self.add("<main>\n<header id=\"top\">\n");
        self.add(&format!("<h1>{} API <small>{}</small></h1>\n", escape(title), escape(version)));
        self.add(&prose(text(&document["info"]["description"])));
        self.add("<p>For programs: <a href=\"/openapi.json\">openapi.json</a> (OpenAPI 3.1) and ");
        self.add("<a href=\"/schemas/package.schema.json\">package.schema.json</a>.</p>\n");
        self.add("</header>\n");
        self.credentials();
        for (tag, entries) in &by_tag {
            self.tag(tag, entries);
        }
        self.shapes();
        self.add("</main>\n</body>\n</html>\n");
        self.text
    }

    fn add(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn index(&mut self, by_tag: &[(&'a Value, Vec<Entry<'a>>)]) {
        self.add("<nav aria-label=\"Contents\">\n<p><a href=\"#top\">Leasehold API</a></p>\n");
        self.add("<p><a href=\"#credentials\">Credentials</a></p>\n");
        for (tag, entries) in by_tag {
            let name = text(&tag["name"]);
            let _ = writeln!(
                self.text,
                "<details><summary><a href=\"#tag-{0}\">{1}</a> <small>{2}</small></summary>\n<ul>",
                slug(name),
                escape(name),
                entries.len()
            );
            for entry in entries {
                let id = text(&entry.operation["operationId"]);
                let _ = writeln!(
                    self.text,
                    "<li><a href=\"#{id}\"><b class=\"{method}\">{verb}</b> {id}</a></li>",
                    id = escape(id),
                    method = entry.method,
                    verb = entry.method.to_uppercase(),
                );
            }
            self.add("</ul></details>\n");
        }
        self.add("<p><a href=\"#shapes\">Shapes</a></p>\n</nav>\n");
    }

    fn credentials(&mut self) {
        self.add("<section id=\"credentials\">\n<h2>Credentials</h2>\n<div class=\"wide\"><table>");
        self.add("<thead><tr><th>Name</th><th>How it is shown</th><th>What it is</th></tr>");
        self.add("</thead>\n<tbody>\n");
        let schemes = self.document["components"]["securitySchemes"].as_object();
        for (name, scheme) in schemes.into_iter().flatten() {
            let shown = match text(&scheme["type"]) {
                "apiKey" => format!("header <code>{}</code>", escape(text(&scheme["name"]))),
                "oauth2" => "<code>Authorization: Bearer …</code>".to_owned(),
                _ => format!(
                    "<code>Authorization: {} …</code>",
                    escape(&capital(text(&scheme["scheme"])))
                ),
            };
            let mut what = text(&scheme["description"]).to_owned();
            if what.is_empty() {
                what = "The client id and secret of an application.".to_owned();
            }
            let _ = writeln!(
                self.text,
                "<tr id=\"credential-{}\"><td>{}</td><td>{shown}</td><td>{}</td></tr>",
                slug(name),
                code(name),
                html::inline(&what)
            );
        }
        self.add("</tbody></table></div>\n</section>\n");
    }

    fn tag(&mut self, tag: &Value, entries: &[Entry<'a>]) {
        let name = text(&tag["name"]);
        let _ = writeln!(
            self.text,
            "<section id=\"tag-{}\">\n<h2>{}</h2>\n{}",
            slug(name),
            escape(name),
            prose(text(&tag["description"]))
        );
        for entry in entries {
            self.operation(entry);
        }
        self.add("</section>\n");
    }

    fn operation(&mut self, entry: &Entry<'a>) {
        let operation = entry.operation;
        let id = escape(text(&operation["operationId"]));
        let _ = writeln!(
            self.text,
            "<article id=\"{id}\">\n<h3><a href=\"#{id}\"><b class=\"{method}\">{verb}</b> \
             <code>{path}</code></a></h3>\n<p class=\"lead\">{summary} <small>{id}</small></p>",
            method = entry.method,
            verb = entry.method.to_uppercase(),
            path = html::breakable(entry.path),
            summary = html::inline(text(&operation["summary"])),
        );
        self.add(&prose(text(&operation["description"])));
        self.security(operation);
        self.parameters(operation);
        self.request(operation);
        self.answers(operation);
        self.errors(operation);
        self.add("</article>\n");
    }

    fn security(&mut self, operation: &Value) {
        let requirements = operation["security"].as_array().into_iter().flatten();
        for (name, scopes) in requirements.filter_map(Value::as_object).flatten() {
            let scopes: Vec<String> =
                scopes.as_array().into_iter().flatten().map(|scope| code(text(scope))).collect();
            let with = if scopes.is_empty() { "" } else { " with " };
            let _ = writeln!(
                self.text,
                "<p>Credential: <a href=\"#credential-{}\">{}</a>{with}{}</p>",
                slug(name),
                code(name),
                scopes.join(", ")
            );
        }
    }

    fn parameters(&mut self, operation: &Value) {
        let parameters: Vec<&Value> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|parameter| self.resolved(parameter))
            .collect();
        if parameters.is_empty() {
            return;
        }
        self.add("<h4>Parameters</h4>\n<div class=\"wide\"><table><thead><tr><th>Name</th>");
        self.add("<th>In</th><th>Type</th><th>Meaning</th></tr></thead>\n<tbody>\n");
        for parameter in parameters {
            let needed = if parameter["required"] == true { " <em>required</em>" } else { "" };
            let _ = writeln!(
                self.text,
                "<tr><td>{}{needed}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                code(text(&parameter["name"])),
                escape(text(&parameter["in"])),
                shapes::kind(&parameter["schema"]),
                html::inline(text(&parameter["description"])),
            );
        }
        self.add("</tbody></table></div>\n");
    }

    fn request(&mut self, operation: &Value) {
        let body = &operation["requestBody"];
        for (media_type, media) in body["content"].as_object().into_iter().flatten() {
            let needed = if body["required"] == true { "" } else { " (may be left out)" };
            let _ = writeln!(self.text, "<h4>Body{needed}: {}</h4>", code(media_type));
            self.shape(&media["schema"]);
            self.example(media);
        }
    }

    fn answers(&mut self, operation: &Value) {
        for (status, response) in operation["responses"].as_object().into_iter().flatten() {
            if !status.starts_with('2') {
                continue;
            }
            let _ = writeln!(
                self.text,
                "<h4>Answer {}</h4>\n<p>{}{}</p>",
                code(status),
                html::inline(text(&response["description"])),
                headers(response)
            );
            for (media_type, media) in response["content"].as_object().into_iter().flatten() {
                if media_type != "application/json" {
                    let _ = writeln!(self.text, "<p>Comes as {}.</p>", code(media_type));
                }
                self.shape(&media["schema"]);
                self.example(media);
            }
        }
    }

    /// Every error in one table: status, code, and what a problem calls its type.
    fn errors(&mut self, operation: &Value) {
        let responses = operation["responses"].as_object().into_iter().flatten();
        let failures: Vec<(&String, &Value)> =
            responses.filter(|(status, _)| !status.starts_with('2')).collect();
        if failures.is_empty() {
            return;
        }
        let statuses: Vec<&str> = failures.iter().map(|(status, _)| status.as_str()).collect();
        let _ = writeln!(
            self.text,
            "<details><summary>Errors: {}</summary>\n<div class=\"wide\"><table><thead><tr>\
             <th>Status</th><th>Code</th><th>Problem type</th><th>Meaning</th></tr></thead>\n\
             <tbody>",
            statuses.join(", ")
        );
        for (status, response) in failures {
            let mut rows = Vec::new();
            for (_, media) in response["content"].as_object().into_iter().flatten() {
                for (name, example) in media["examples"].as_object().into_iter().flatten() {
                    let example = self.resolved(example);
                    let kind = text(&example["value"]["type"]);
                    let kind = if kind.is_empty() { String::new() } else { code(kind) };
                    let meaning = html::inline(&capital(text(&example["summary"])));
                    rows.push(format!("<td>{}</td><td>{kind}</td><td>{meaning}</td>", code(name)));
                }
            }
            if rows.is_empty() {
                let meaning = html::inline(text(&response["description"]));
                rows.push(format!("<td></td><td></td><td>{meaning}</td>"));
            }
            let span = rows.len();
            for (at, row) in rows.into_iter().enumerate() {
                let head = match at {
                    0 => format!("<th rowspan=\"{span}\">{}</th>", escape(status)),
                    _ => String::new(),
                };
                let _ = writeln!(self.text, "<tr>{head}{row}</tr>");
            }
        }
        self.add("</tbody></table></div></details>\n");
    }

    fn shape(&mut self, schema: &Value) {
        let resolved = self.resolved(schema);
        if resolved["properties"].is_object() {
            let table = shapes::table(resolved);
            self.add(&table);
        } else {
            let kind = shapes::kind(schema);
            let _ = writeln!(self.text, "<p>{kind}</p>");
        }
    }

    fn example(&mut self, media: &Value) {
        let Some(example) = media.get("example") else { return };
        let pretty = serde_json::to_string_pretty(example).unwrap_or_default();
        let _ = writeln!(self.text, "<pre><code>{}</code></pre>", escape(&pretty));
    }

    fn shapes(&mut self) {
        self.add("<section id=\"shapes\">\n<h2>Shapes</h2>\n");
        let schemas = self.document["components"]["schemas"].as_object();
        for (name, schema) in schemas.into_iter().flatten() {
            let _ = writeln!(
                self.text,
                "<article id=\"shape-{0}\">\n<h3><a href=\"#shape-{0}\">{1}</a></h3>\n{2}",
                slug(name),
                code(name),
                prose(text(&schema["description"]))
            );
            if schema["properties"].is_object() {
                let table = shapes::table(schema);
                self.add(&table);
            } else {
                let kind = shapes::kind(schema);
                let _ = writeln!(self.text, "<p>{kind}</p>");
            }
            self.add("</article>\n");
        }
        self.add("</section>\n");
    }

    /// What a reference refers to; anything else is itself.
    fn resolved(&self, value: &'a Value) -> &'a Value {
        let pointer = value.get("$ref").and_then(Value::as_str);
        pointer
            .and_then(|reference| self.document.pointer(reference.strip_prefix('#')?))
            .unwrap_or(value)
    }
}

/// The operations of each tag, in the document's order of tags.
fn by_tag(document: &Value) -> Vec<(&Value, Vec<Entry<'_>>)> {
    let mut found: BTreeMap<&str, Vec<Entry<'_>>> = BTreeMap::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let tag = text(&operation["tags"][0]);
            let entry = Entry { path, method: method.clone(), operation };
            found.entry(tag).or_default().push(entry);
        }
    }
    let tags = document["tags"].as_array().into_iter().flatten();
    tags.filter_map(|tag| Some((tag, found.remove(text(&tag["name"]))?))).collect()
}

/// Names of the headers of an answer, but those that every answer has.
fn headers(response: &Value) -> String {
    let names = response["headers"].as_object().into_iter().flatten().map(|(name, _)| name);
    let special: Vec<String> =
        names.filter(|name| *name != "X-Request-Id").map(|name| code(name)).collect();
    if special.is_empty() { String::new() } else { format!(" Headers: {}.", special.join(", ")) }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::context::ClassicFace;
    use crate::routes::operations;

    fn whole() -> &'static str {
        page(&Faces { classic: Some(ClassicFace::default()), ..Faces::default() })
    }

    fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
        let beginning = format!(" {name}=\"");
        page.split(beginning.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_operation_and_shape_has_an_anchor_and_every_link_leads_to_one() {
        let page = whole();
        let ids = attributes(page, "id");
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), unique.len(), "an anchor is there twice");
        for operation in operations() {
            assert!(unique.contains(operation.id), "{}", operation.id);
        }
        for link in attributes(page, "href") {
            match link.strip_prefix('#') {
                Some(anchor) => assert!(unique.contains(anchor), "{link} leads nowhere"),
                None => assert!(link.starts_with('/'), "{link} leaves this server"),
            }
        }
    }

    #[test]
    fn nothing_on_the_page_needs_more_than_its_policy_allows() {
        let page = whole();
        for forbidden in ["<script", "<img", "<iframe", " style=\"", " onclick", "http-equiv"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }

    #[test]
    fn the_page_is_well_formed() {
        let page = whole();
        let mut open: Vec<&str> = Vec::new();
        for tag in page.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
            let name = tag.split([' ', '\n']).next().unwrap_or_default();
            match name.strip_prefix('/') {
                Some(closed) => assert_eq!(open.pop(), Some(closed), "</{closed}>"),
                None if matches!(name, "!doctype" | "meta" | "link" | "wbr") => {}
                None => open.push(name),
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn every_code_of_an_operation_is_on_the_page() {
        let page = whole();
        let article = page.split("<article id=\"checkoutLicense\">").nth(1).unwrap();
        let article = article.split("</article>").next().unwrap();
        for needle in ["max_overage_exceeded", "/problems/no_quorum", "license:checkout", "<pre>"] {
            assert!(article.contains(needle), "{needle}");
        }
    }
}
