//! `tidy`: the rules of the house that no compiler checks, each with a sentence that says what to do.
//!
//! A rule reads text and answers with findings; none changes a file. What a rule cannot see cheaply it leaves alone.

mod arrows;
mod contract;
mod files;
mod names;
mod source;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

use crate::workspace;
use source::Source;

/// One thing that breaks a rule, as `host/src/app.rs:12: sentence`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// From 1; none where the whole file is meant.
    line: Option<usize>,
    sentence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}: {}", self.path, self.sentence),
            None => write!(formatter, "{}: {}", self.path, self.sentence),
        }
    }
}

/// # Errors
/// When a rule is broken; every finding has been printed.
pub(crate) fn tidy() -> Result<()> {
    let findings = check(&workspace::root())?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("tidy found one thing"),
        count => bail!("tidy found {count} things"),
    }
}

/// Every finding below `root`, in the order of the paths.
fn check(root: &Path) -> Result<Vec<Finding>> {
    let sources = Source::all(root)?;
    let mut findings = Vec::new();
    for source in &sources {
        files::check(source, &mut findings);
        arrows::check(source, &mut findings);
        names::check(source, &mut findings);
        contract::check_wit(source, &mut findings);
    }
    files::check_migrations(&sources, &mut findings);
    files::check_dependencies(&sources, &mut findings);
    files::check_components(root, &sources, &mut findings)?;
    findings.sort();
    findings.dedup();
    Ok(findings)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_house_is_tidy() {
        let findings = super::check(&crate::workspace::root()).expect("readable files");
        let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(text.is_empty(), "{}", text.join("\n"));
    }
}
