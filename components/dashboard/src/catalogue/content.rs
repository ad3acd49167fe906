//! What is on the widget itself.

use berth_sdk::prelude::*;

use super::{Category, Setup, WidgetType};
use crate::data::{look::Look, step::Step};

pub(super) const TYPES: &[WidgetType] = &[
    WidgetType::new::<MarkdownNote>("markdown_note", "Note", "A text in Markdown.", Category::Content).cached(300, &[]),
    WidgetType::new::<LinkList>("link_list", "Links", "Links to other places.", Category::Content)
        .sized(3, 4)
        .cached(300, &[]),
];

/// How a note is set up.
#[data]
struct MarkdownNote {
    /// Markdown; whoever shows it takes care of what HTML is in it.
    #[field(min = 1, max = 20_000)]
    content: String,
}

impl Setup for MarkdownNote {
    fn plan(self, _: &Look) -> Result<Step> {
        Ok(Step::Done(json!({ "content": self.content, "format": "markdown" })))
    }
}

/// A link.
#[data]
struct Link {
    #[field(min = 1, max = 200, plain)]
    title: String,
    /// `https://…`, `http://…`, `mailto:…`, or a path of this host such as `/docs`.
    #[field(min = 1, max = 2000)]
    url: String,
    #[field(max = 500)]
    description: Option<String>,
}

/// How links are set up.
#[data]
struct LinkList {
    #[field(min = 1, max = 50)]
    links: Vec<Link>,
}

impl Setup for LinkList {
    fn check(&self, faults: &mut Faults) {
        for (index, link) in self.links.iter().enumerate() {
            if !is_harmless(&link.url) {
                faults.add(format!("links[{index}].url"), "must begin with https://, http://, mailto: or /");
            }
        }
    }

    fn plan(self, _: &Look) -> Result<Step> {
        Ok(Step::Done(json!({ "links": self.links })))
    }
}

/// Others follow these links: none of them runs anything, or pretends to stay on this host.
fn is_harmless(url: &str) -> bool {
    let lower = url.to_ascii_lowercase();
    let is_local = url.starts_with('/') && !url.starts_with("//") && !url.starts_with("/\\");
    let has_scheme = ["https://", "http://", "mailto:"].iter().any(|scheme| lower.starts_with(scheme));
    (is_local || has_scheme) && !url.chars().any(|letter| letter.is_control() || letter.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::is_harmless;

    #[test]
    fn links_lead_somewhere_and_run_nothing() {
        for url in ["https://example.com/x?y=1#z", "HTTP://example.com", "mailto:ada@example.com", "/docs"] {
            assert!(is_harmless(url), "{url}");
        }
        for url in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "//evil.example",
            "/\\evil.example",
            "docs",
            "https://a b",
            "vbscript:x",
            " /docs",
        ] {
            assert!(!is_harmless(url), "{url}");
        }
    }
}
