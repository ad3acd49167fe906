//! `new <plugin>`: a crate that builds and answers, and the entry for `plugins.toml`.

use anyhow::{Result, bail};

use crate::workspace;

/// # Errors
/// When the name is not a plugin's name or is taken.
pub(crate) fn scaffold(arguments: &[String]) -> Result<()> {
    let [name] = arguments else { bail!("new needs one name, as in `cargo xtask new weather`") };
    if !is_name(name) {
        bail!("\"{name}\" is not a plugin's name: small letters, digits and single hyphens, at most 40");
    }
    let folder = workspace::root().join("components").join(name);
    if folder.exists() {
        bail!("components/{name} is there already");
    }
    let words = Words::of(name);
    for (file, template) in FILES {
        let path = workspace::root().join(words.fill(file));
        std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        std::fs::write(path, words.fill(template))?;
    }
    println!("components/{name} is there. Add this to plugins.toml, then `cargo xtask run`:\n");
    println!("{}", words.fill(ENTRY));
    Ok(())
}

/// Path and content, both with the name to be filled in.
const FILES: [(&str, &str); 4] = [
    ("components/{{kebab}}/Cargo.toml", include_str!("scaffold/Cargo.toml.txt")),
    ("components/{{kebab}}/README.md", include_str!("scaffold/README.md.txt")),
    ("components/{{kebab}}/src/lib.rs", include_str!("scaffold/lib.rs.txt")),
    ("migrations/{{kebab}}/0001_items.sql", include_str!("scaffold/items.sql.txt")),
];
const ENTRY: &str = include_str!("scaffold/plugins.toml.txt");

/// The name in the spellings that the templates use.
struct Words {
    kebab: String,
    snake: String,
}

impl Words {
    fn of(name: &str) -> Self {
        Self { kebab: name.to_owned(), snake: name.replace('-', "_") }
    }

    fn fill(&self, template: &str) -> String {
        template.replace("{{kebab}}", &self.kebab).replace("{{snake}}", &self.snake)
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 40 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.split('-').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_for_every_place() {
        let words = Words::of("status-page");
        assert_eq!(words.fill("{{kebab}} {{snake}}"), "status-page status_page");
        assert!(is_name("status-page") && !is_name("StatusPage") && !is_name("a--b") && !is_name(""));
    }
}
