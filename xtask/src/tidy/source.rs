//! The files that the rules look at: what git knows, as text.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace;

/// One text file of the repository.
pub(super) struct Source {
    /// From the root, with slashes.
    pub path: String,
    pub text: String,
}

impl Source {
    /// Every text file that git tracks or would track.
    ///
    /// # Errors
    /// When git does not answer.
    pub(super) fn all(root: &Path) -> Result<Vec<Self>> {
        let mut git = Command::new("git");
        git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listing = workspace::output(&mut git).context("git ls-files failed")?;
        let mut sources = Vec::new();
        for path in listing.split('\0').filter(|path| !path.is_empty()) {
            // A file that was just deleted, or is not text, is of no interest.
            if let Ok(text) = std::fs::read_to_string(root.join(path)) {
                sources.push(Self { path: path.to_owned(), text });
            }
        }
        Ok(sources)
    }

    #[cfg(test)]
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers, without comments and without what follows `#[cfg(test)]` at the file's end.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("\n#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        let code = self.text.get(..end).unwrap_or_default();
        code.lines().enumerate().map(|(number, line)| (number + 1, without_comment(line)))
    }

    /// Whether the whole file is only compiled for tests.
    pub(super) fn is_test_only(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        matches!(name, "conformance.rs" | "tests.rs" | "testing.rs") || self.path.contains("/tests/")
    }
}

/// The line up to `//`, unless that is inside a string such as a URL.
fn without_comment(line: &str) -> &str {
    match line.find("//") {
        Some(at) if line.get(..at).is_some_and(|before| before.matches('"').count() % 2 == 0) => {
            line.get(..at).unwrap_or(line)
        }
        _ => line,
    }
}
