//! Tidying: what `#[field(…)]` means for each type of value.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::{Faults, Path, Rule, TEXT_CHARACTERS_MAX, text};

/// Cleans a value in place and notes its faults. `#[data]` and `#[entity]` implement it field by field.
///
/// ```
/// use berth_sdk::{data, validate::{Faults, Path, Rule, Tidy}};
/// #[data]
/// struct Note {
///     #[field(min = 1, max = 10, plain)]
///     title: String,
/// }
/// let mut note = Note { title: " <i>Hi ".into() };
/// let mut faults = Faults::default();
/// note.tidy(&Rule::default(), &Path::default(), &mut faults);
/// assert_eq!(note.title, "iHi");
/// assert!(faults.is_empty());
/// ```
pub trait Tidy {
    /// Cleans and checks by `rule`; faults are noted under `path`.
    fn tidy(&mut self, rule: &Rule, path: &Path<'_>, faults: &mut Faults) {
        let _ = (rule, path, faults);
    }
}

impl Tidy for String {
    fn tidy(&mut self, rule: &Rule, path: &Path<'_>, faults: &mut Faults) {
        // What is told as `maxLength` is the text that is sent, not what is left of it.
        if let Some(max) = rule.max
            && let Err(message) = text::string(self, 0, bound(Some(max), 0))
        {
            faults.add(path.to_string(), message);
            return;
        }
        if rule.plain {
            *self = text::clean_plain(self);
        } else if !rule.raw {
            *self = text::clean(self);
        }
        let (min, max) = (bound(rule.min, 0), bound(rule.max, if rule.raw { usize::MAX } else { TEXT_CHARACTERS_MAX }));
        if let Err(message) = text::string(self, min, max) {
            faults.add(path.to_string(), message);
        } else if let Some(Err(message)) = rule.format.map(|format| text::format(format, self)) {
            faults.add(path.to_string(), message);
        }
    }
}

impl<T: Tidy> Tidy for Option<T> {
    fn tidy(&mut self, rule: &Rule, path: &Path<'_>, faults: &mut Faults) {
        if let Some(value) = self {
            value.tidy(rule, path, faults);
        }
    }
}

impl<T: Tidy> Tidy for Box<T> {
    fn tidy(&mut self, rule: &Rule, path: &Path<'_>, faults: &mut Faults) {
        self.as_mut().tidy(rule, path, faults);
    }
}

impl<T: Tidy> Tidy for Vec<T> {
    fn tidy(&mut self, rule: &Rule, path: &Path<'_>, faults: &mut Faults) {
        let (min, max) = (bound(rule.min, 0), bound(rule.max, 10_000));
        if self.len() < min {
            faults.add(path.to_string(), format!("must have at least {min} entries"));
        }
        if self.len() > max {
            faults.add(path.to_string(), format!("must have at most {max} entries"));
            return;
        }
        let entry_rule = Rule { min: None, max: None, ..*rule };
        for (index, entry) in self.iter_mut().enumerate() {
            entry.tidy(&entry_rule, &path.index(index), faults);
        }
    }
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl Tidy for $kind {
            #[allow(clippy::cast_precision_loss, clippy::cast_lossless, reason = "bounds are small")]
            fn tidy(&mut self, rule: &Rule, path: &Path<'_>, faults: &mut Faults) {
                let value = *self as f64;
                if let Some(min) = rule.min && value < min {
                    faults.add(path.to_string(), format!("must be at least {min}"));
                }
                if let Some(max) = rule.max && value > max {
                    faults.add(path.to_string(), format!("must be at most {max}"));
                }
            }
        }
    )*};
}
numbers!(i16, i32, i64, u8, u16, u32, u64, usize, f32, f64);

impl Tidy for bool {}
impl Tidy for Value {}
impl Tidy for Map<String, Value> {}
impl<V> Tidy for HashMap<String, V> {}
impl<V> Tidy for BTreeMap<String, V> {}

fn bound(bound: Option<f64>, otherwise: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounds are small and not negative")]
    bound.map_or(otherwise, |bound| bound.max(0.0) as usize)
}
