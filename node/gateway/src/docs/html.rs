//! Text as HTML: escaped always, with the little marking that descriptions use.

/// Text that means nothing but itself, also inside quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// Text in code.
pub(super) fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// A path that may be broken after its slashes.
pub(super) fn breakable(path: &str) -> String {
    escape(path).replace('/', "/<wbr>")
}

/// One line: what is between backquotes is code.
pub(super) fn inline(text: &str) -> String {
    let mut parts = text.split('`');
    let mut line = escape(parts.next().unwrap_or_default());
    while let Some(quoted) = parts.next() {
        match parts.next() {
            Some(after) => {
                line.push_str(&code(quoted));
                line.push_str(&escape(after));
            }
            // A backquote without its other half is one.
            None => line.push_str(&escape(&format!("`{quoted}"))),
        }
    }
    line
}

/// Paragraphs, parted by empty lines.
pub(super) fn prose(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty());
    paragraphs.map(|paragraph| format!("<p>{}</p>\n", inline(paragraph))).collect()
}

/// A name as part of an anchor.
pub(super) fn slug(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_backquotes_are_code() {
        let table = [
            ("a < b & \"c\"", "a &lt; b &amp; &quot;c&quot;"),
            ("use `x<y>` here", "use <code>x&lt;y&gt;</code> here"),
            ("a ` alone", "a ` alone"),
            ("`all`", "<code>all</code>"),
        ];
        for (text, want) in table {
            assert_eq!(inline(text), want);
        }
        assert_eq!(prose("one\n\n two \n\n"), "<p>one</p>\n<p>two</p>\n");
        assert_eq!(breakable("/a/{b}"), "/<wbr>a/<wbr>{b}");
        assert_eq!(slug("device-admin x"), "device-admin-x");
    }
}
