//! What input must look like: rules of fields, tidying of texts, and checks of common formats. Pure code.

mod schema;
mod text;
mod tidy;

pub use schema::{check as json_schema, faults as json_schema_faults};
pub use text::{clean, clean_plain, email, id, one_of, slug, string, url};
pub use tidy::Tidy;

use serde::{Deserialize, Serialize};

use crate::problem::{Problem, Result};

/// The longest text a field takes when its rule names no `max`, in characters.
pub const TEXT_CHARACTERS_MAX: usize = 20_000;
/// How many faults one answer lists; further ones are left out.
pub const FAULTS_MAX: usize = 50;

/// One fault of one field, as it is sent to the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// The path of the field, such as `steps[2].params.path`.
    pub field: String,
    /// What is wrong, such as `must have at most 200 characters`.
    pub message: String,
}

impl FieldError {
    /// Names a field and its fault.
    ///
    /// ```
    /// let fault = berth_sdk::validate::FieldError::new("title", "is required");
    /// assert_eq!(fault.field, "title");
    /// ```
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Collects faults, so that a client learns all of them at once.
///
/// ```
/// use berth_sdk::validate::Faults;
/// let mut faults = Faults::default();
/// faults.add("dueDate", "must be in the future");
/// assert_eq!(faults.finish().unwrap_err().status, 400);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults {
    errors: Vec<FieldError>,
}

impl Faults {
    /// Notes a fault.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.errors.len() < FAULTS_MAX {
            self.errors.push(FieldError::new(field, message));
        }
    }

    /// Notes the fault of a check, if it has one.
    pub fn check(&mut self, field: &str, result: std::result::Result<(), String>) {
        if let Err(message) = result {
            self.add(field, message);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// What has been noted.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Takes over further faults.
    pub fn extend(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        for error in errors {
            self.add(error.field, error.message);
        }
    }

    /// 400 with all faults, or nothing.
    pub fn finish(self) -> Result<()> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::validation(self.errors)) }
    }
}

/// What `#[field(…)]` says of a field's value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rule {
    /// Fewest characters, entries, or the least number.
    pub min: Option<f64>,
    /// Most characters, entries, or the greatest number.
    pub max: Option<f64>,
    /// A name or title: one line, without `<` and `>`.
    pub plain: bool,
    /// Content: left as it came.
    pub raw: bool,
    /// `email`, `slug`, `url` or `id`.
    pub format: Option<&'static str>,
}

/// Where in a document a value is; made of borrowed parts, so that it costs nothing until a fault is noted.
///
/// ```
/// use berth_sdk::validate::Path;
/// let root = Path::default();
/// let steps = root.member("steps");
/// let third = steps.index(2);
/// assert_eq!(third.member("title").to_string(), "steps[2].title");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    part: Part<'a>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Part<'a> {
    #[default]
    Root,
    Member(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// A member of the object here.
    pub fn member(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), part: Part::Member(name) }
    }

    /// An entry of the array here.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), part: Part::Index(index) }
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(formatter)?;
        }
        match self.part {
            Part::Root => Ok(()),
            Part::Index(index) => write!(formatter, "[{index}]"),
            Part::Member(name) => {
                let is_first = self.parent.is_none_or(|parent| matches!(parent.part, Part::Root));
                if is_first { formatter.write_str(name) } else { write!(formatter, ".{name}") }
            }
        }
    }
}
