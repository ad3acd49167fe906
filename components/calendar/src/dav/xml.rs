//! XML of WebDAV: a body is bounded before anything is made of it, and every text of an answer is escaped. Pure.

use berth_sdk::prelude::*;
use roxmltree::{Document, Node, ParsingOptions};

/// Namespaces.
pub const DAV: &str = "DAV:";
pub const CALDAV: &str = "urn:ietf:params:xml:ns:caldav";
pub const SERVER: &str = "http://calendarserver.org/ns/";
pub const APPLE: &str = "http://apple.com/ns/ical/";
/// What stands for them in answers.
const PREFIXES: [(&str, &str); 4] = [(DAV, "D"), (CALDAV, "C"), (SERVER, "S"), (APPLE, "A")];

/// The media type of an answer.
const MEDIA_TYPE: &str = "application/xml; charset=utf-8";
/// Bytes of a body.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How deep its elements are nested, how many there are, and attributes of one.
const DEPTH_MAX: usize = 16;
const ELEMENTS_MAX: usize = 4_000;
const ATTRIBUTES_MAX: usize = 32;
/// Declarations of namespaces: what they cost grows faster than they do.
const NAMESPACES_MAX: usize = 64;
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// An element's or a property's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Empty for none.
    pub namespace: String,
    /// Without a prefix.
    pub local: String,
}

impl Name {
    /// The name of an element that was read.
    pub fn of(node: Node<'_, '_>) -> Self {
        let tag = node.tag_name();
        Self { namespace: tag.namespace().unwrap_or_default().into(), local: tag.name().into() }
    }

    /// A name that is known here.
    pub fn known((namespace, local): (&str, &str)) -> Self {
        Self { namespace: namespace.into(), local: local.into() }
    }

    /// Namespace and local name.
    pub fn pair(&self) -> (&str, &str) {
        (&self.namespace, &self.local)
    }
}

/// The text of a body: 400 `INVALID_XML` unless it is UTF-8 within bounds, 413.
pub fn body(bytes: &[u8]) -> Result<&str> {
    if bytes.len() > BODY_BYTES_MAX {
        return Err(Problem::too_large(format!("A body of XML has at most {BODY_BYTES_MAX} bytes.")));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("is not UTF-8"))?;
    let text = text.trim_start_matches('\u{feff}');
    bound(text).map_err(invalid)?;
    Ok(text)
}

/// The document of a body; 400 `INVALID_XML` when it is none. No document type, and so no entities but the five of XML.
pub fn parse(text: &str) -> Result<Document<'_>> {
    let options = ParsingOptions { allow_dtd: false, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| invalid(&error.to_string()))
}

fn invalid(why: &str) -> Problem {
    Problem::bad_request(format!("The body is no XML that is understood here: {why}.")).with_code("INVALID_XML")
}

/// The elements in another one.
pub fn elements<'a, 'input: 'a>(node: Node<'a, 'input>) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(Node::is_element)
}

/// The first element of this name in another one.
pub fn child<'a, 'input: 'a>(node: Node<'a, 'input>, name: (&'static str, &'static str)) -> Option<Node<'a, 'input>> {
    elements(node).find(|child| child.has_tag_name(name))
}

/// Looks at tags alone. The reader below would follow any nesting and compare every attribute with every other.
fn bound(text: &str) -> Result<(), &'static str> {
    const BROKEN: &str = "something in it has no end";
    if text.matches("xmlns").count() > NAMESPACES_MAX {
        return Err("it declares too many namespaces");
    }
    let (mut rest, mut depth, mut count) = (text, 0_usize, 0_usize);
    while let Some((_, after)) = rest.split_once('<') {
        let skip = |from: &'static str, to: &str| after.strip_prefix(from).map(|after| after.split_once(to));
        if let Some(found) = skip("!--", "-->").or_else(|| skip("![CDATA[", "]]>")).or_else(|| skip("?", "?>")) {
            rest = found.ok_or(BROKEN)?.1;
        } else if after.starts_with('!') {
            return Err("it has a document type");
        } else if let Some(after) = after.strip_prefix('/') {
            depth = depth.saturating_sub(1);
            rest = after;
        } else {
            let tag = Tag::read(after).ok_or(BROKEN)?;
            (depth, count) = (depth + 1, count + 1);
            if depth > DEPTH_MAX || count > ELEMENTS_MAX || tag.attributes > ATTRIBUTES_MAX {
                return Err("it has too many elements or attributes, or they are nested too deep");
            }
            depth -= usize::from(tag.is_empty);
            rest = tag.rest;
        }
    }
    Ok(())
}

/// As much of a tag as bounding needs.
struct Tag<'text> {
    is_empty: bool,
    attributes: usize,
    rest: &'text str,
}

impl<'text> Tag<'text> {
    fn read(text: &'text str) -> Option<Self> {
        let (mut quote, mut last, mut attributes) = (None, ' ', 0);
        for (at, letter) in text.char_indices() {
            match (quote, letter) {
                (None, '>') => return Some(Self { is_empty: last == '/', attributes, rest: text.get(at + 1..)? }),
                (None, '"' | '\'') => quote = Some(letter),
                (None, '=') => attributes += 1,
                (Some(open), letter) if letter == open => quote = None,
                _ => {}
            }
            last = letter;
        }
        None
    }
}

/// Text as it stands in an element or an attribute. What XML has no place for is left out.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // A reader would make it the end of a line, and what ends a line of iCalendar is more than that.
            '\r' => escaped.push_str("&#13;"),
            '\n' | '\t' => escaped.push(letter),
            '\u{fffe}' | '\u{ffff}' => {}
            letter if letter.is_control() && letter < '\u{20}' => {}
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// An element with what is in it, which is XML already.
pub fn element((namespace, local): (&str, &str), inner: &str) -> String {
    let (name, declaration) = match PREFIXES.iter().find(|(known, _)| *known == namespace) {
        Some((_, prefix)) => (format!("{prefix}:{local}"), String::new()),
        None if namespace.is_empty() => (local.to_string(), String::new()),
        None => (format!("X:{local}"), format!(" xmlns:X=\"{}\"", escape(namespace))),
    };
    if inner.is_empty() { format!("<{name}{declaration}/>") } else { format!("<{name}{declaration}>{inner}</{name}>") }
}

/// An address as an element.
pub fn href(address: &str) -> String {
    element((DAV, "href"), &escape(address))
}

fn root(local: &str, inner: &str) -> String {
    let declared: Vec<String> =
        PREFIXES.iter().map(|(namespace, prefix)| format!(" xmlns:{prefix}=\"{namespace}\"")).collect();
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:{local}{}>{inner}</D:{local}>\n", declared.concat())
}

/// An answer that names the condition which was not met.
pub fn refusal(status: u16, condition: (&str, &str)) -> Response {
    Response::text(status, MEDIA_TYPE, root("error", &element(condition, "")))
}

/// 207: what is said of several resources.
#[derive(Default)]
pub struct Multistatus {
    inner: String,
}

impl Multistatus {
    /// The properties of a resource, each an element, and those that it does not have.
    pub fn add(&mut self, address: &str, found: &[String], missing: &[Name]) {
        let mut inner = href(address);
        if !found.is_empty() || missing.is_empty() {
            inner.push_str(&propstat(&found.concat(), "200 OK"));
        }
        if !missing.is_empty() {
            let names: String = missing.iter().map(|name| element(name.pair(), "")).collect();
            inner.push_str(&propstat(&names, "404 Not Found"));
        }
        self.inner.push_str(&element((DAV, "response"), &inner));
    }

    /// A resource that is not there.
    pub fn add_missing(&mut self, address: &str) {
        let inner = format!("{}{}", href(address), status("404 Not Found"));
        self.inner.push_str(&element((DAV, "response"), &inner));
    }

    /// The state that is told, at the end.
    pub fn add_token(&mut self, token: &str) {
        self.inner.push_str(&element((DAV, "sync-token"), &escape(token)));
    }

    /// Whether there is more than an answer holds.
    pub fn is_full(&self) -> bool {
        self.inner.len() > ANSWER_BYTES_MAX
    }

    /// The whole answer.
    pub fn response(self) -> Response {
        Response::text(207, MEDIA_TYPE, root("multistatus", &self.inner))
    }
}

fn propstat(inner: &str, state: &str) -> String {
    element((DAV, "propstat"), &format!("{}{}", element((DAV, "prop"), inner), status(state)))
}

fn status(state: &str) -> String {
    element((DAV, "status"), &format!("HTTP/1.1 {state}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_its_namespaces() {
        let text = "\u{feff}<?xml version=\"1.0\"?>\n<!-- a > b --><a:propfind xmlns:a='DAV:'><prop xmlns=\"DAV:\"><x:y \
            xmlns:x='urn:x' at='1>2'/><![CDATA[<<]]></prop></a:propfind>";
        let document = parse(body(text.as_bytes()).unwrap()).unwrap();
        let prop = child(document.root_element(), (DAV, "prop")).unwrap();
        let names: Vec<Name> = elements(prop).map(Name::of).collect();
        assert_eq!(names, [Name { namespace: "urn:x".into(), local: "y".into() }]);
    }

    #[test]
    fn hostile_xml_is_refused_before_it_is_read() {
        let entity = "<!DOCTYPE a [<!ENTITY b 'b'><!ENTITY c '&b;&b;'>]><a>&c;</a>";
        let outside = "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>";
        let deep = format!("{}{}", "<a>".repeat(200_000 / 7), "</a>".repeat(200_000 / 7));
        let hidden = "<a><!--</a></a>--><?p </a>?>".repeat(20);
        let wide = format!("<a>{}</a>", "<b/>".repeat(ELEMENTS_MAX));
        let attributes: String = (0..5_000).map(|at| format!(" a{at}=''")).collect();
        let attributes = format!("<a{attributes}/>");
        let namespaces: String = (0..100).map(|at| format!(" xmlns:a{at}='x'")).collect();
        let namespaces = format!("<a{namespaces}/>");
        for text in
            [entity, outside, &deep, &hidden, &wide, &attributes, &namespaces, "<a", "<a b='>", "<!-- x", "<!x>"]
        {
            let short: String = text.chars().take(40).collect();
            assert_eq!(body(text.as_bytes()).unwrap_err().code, "INVALID_XML", "{short}");
        }
        assert_eq!(body(&vec![b' '; BODY_BYTES_MAX + 1]).unwrap_err().status, 413);
        assert_eq!(body(b"\xff").unwrap_err().status, 400);
        for text in ["", "x", "<a>", "<a></b>", "<a>&b;</a>", "<a/><b/>", "<p:a/>"] {
            assert_eq!(body(text.as_bytes()).and_then(parse).unwrap_err().code, "INVALID_XML", "{text}");
        }
    }

    #[test]
    fn an_answer_is_xml_whatever_is_in_it() {
        let mut answer = Multistatus::default();
        let name = element((DAV, "displayname"), &escape("<b>&\"\u{1}\r\n]]>\u{ffff}"));
        let strange = Name { namespace: "urn:\"x\"".into(), local: "y".into() };
        answer.add("/a&b", &[name], &[strange.clone(), Name { namespace: String::new(), local: "bare".into() }]);
        answer.add_missing("/c");
        answer.add_token("urn:t");
        let response = answer.response();
        let text = String::from_utf8(response.whole_body().unwrap().to_vec()).unwrap();
        let document = parse(&text).unwrap();
        let said: Vec<&str> =
            document.descendants().filter_map(|node| node.text().filter(|_| node.is_element())).collect();
        assert_eq!(
            said,
            [
                "/a&b",
                "<b>&\"\r\n]]>",
                "HTTP/1.1 200 OK",
                "HTTP/1.1 404 Not Found",
                "/c",
                "HTTP/1.1 404 Not Found",
                "urn:t"
            ]
        );
        assert!(document.descendants().any(|node| node.is_element() && Name::of(node) == strange));
        assert!(document.descendants().any(|node| node.has_tag_name("bare") && node.tag_name().namespace().is_none()));
    }
}
