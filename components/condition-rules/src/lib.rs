//! The language of conditions: comparing values that a run knows, and nothing else. There are no calls, no arithmetic and no
//! loops, so an expression always ends, and in time that its length bounds. Pure.
//!
//! ```text
//! expression = all { "or" all }          all = one { "and" one }          one = "not" one | "exists" operand | comparison
//! comparison = operand [ ("==" | "!=" | ">" | "<" | ">=" | "<=" | "in" | "contains") operand | "exists" ]
//! operand    = text | number | true | false | null | "[" operands "]" | "(" expression ")" | path
//! path       = name { "." name | "[" index "]" | "[" text "]" }
//! ```

mod decide;
mod evaluate;
mod parser;

pub use evaluate::{compare, look_up};
pub use parser::{parse, parse_operand};

use berth_sdk::serde_json::Value;

/// The longest expression, in bytes.
pub const BYTES_MAX: usize = 2_000;
/// How deep one may nest.
pub const DEPTH_MAX: usize = 32;
/// The most parts of one.
pub const NODES_MAX: usize = 256;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A member of an object; of an array, when it is a number.
    Name(String),
    /// An entry of an array.
    Index(usize),
}

/// Where a value is, from the root on: `steps.build.output.items[0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(pub Vec<Part>);

impl Path {
    /// The name at a place, when there is one.
    pub fn name(&self, place: usize) -> Option<&str> {
        match self.0.get(place) {
            Some(Part::Name(name)) => Some(name),
            _ => None,
        }
    }

    /// A path from a text; it must be nothing but one.
    pub fn parse(text: &str) -> Result<Self, String> {
        match parse_operand(text)? {
            Expression::Path(path) => Ok(path),
            _ => Err(format!("{text} is no path")),
        }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, part) in self.0.iter().enumerate() {
            match part {
                Part::Name(name) if place == 0 => write!(formatter, "{name}")?,
                Part::Name(name) => write!(formatter, ".{name}")?,
                Part::Index(index) => write!(formatter, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The same value; 1 and 1.0 are.
    Equal,
    /// Not the same value.
    Unequal,
    /// Numbers by size, texts by their characters; false for anything else.
    Greater,
    /// See `Greater`.
    Less,
    /// See `Greater`.
    GreaterOrEqual,
    /// See `Greater`.
    LessOrEqual,
    /// The left is an entry, a member's name, or a piece of text of the right.
    In,
    /// The right is an entry, a member's name, or a piece of text of the left.
    Contains,
}

impl Operator {
    /// The operator of a sign or word.
    ///
    /// ```
    /// use condition_rules::Operator;
    /// assert_eq!(Operator::parse("=="), Some(Operator::Equal));
    /// assert_eq!(Operator::parse("=~"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "==" => Self::Equal,
            "!=" => Self::Unequal,
            ">" => Self::Greater,
            "<" => Self::Less,
            ">=" => Self::GreaterOrEqual,
            "<=" => Self::LessOrEqual,
            "in" => Self::In,
            "contains" => Self::Contains,
            _ => return None,
        })
    }
}

/// An expression that has been understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A value that stands there.
    Literal(Value),
    /// Values in brackets.
    List(Vec<Expression>),
    /// A value that the run knows.
    Path(Path),
    /// Two values compared.
    Compare(Operator, Box<Expression>, Box<Expression>),
    /// Whether there is such a value.
    Exists(Path),
    /// Every one holds.
    And(Vec<Expression>),
    /// One holds.
    Or(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
}

impl Expression {
    /// Every path in it.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Path(path) | Self::Exists(path) => vec![path],
            Self::List(parts) | Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::paths).collect(),
            Self::Compare(_, left, right) => left.paths().into_iter().chain(right.paths()).collect(),
            Self::Not(part) => part.paths(),
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, serde_json::Value};
    use proptest::prelude::*;

    use super::{BYTES_MAX, Path, parse};

    fn holds(text: &str) -> bool {
        let scope = json!({
            "trigger": {"data": {"severity": 3, "title": "Fire in the hold", "tags": ["a", "b"], "none": null, "ok": true}},
            "steps": {"build-1": {"status": "completed", "output": {"items": [{"id": 7}]}}},
        });
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).holds(&scope)
    }

    #[test]
    fn what_a_run_knows_is_compared() {
        for text in [
            "trigger.data.severity >= 3 and trigger.data.title contains 'Fire'",
            "'a' in trigger.data.tags and not ('c' in trigger.data.tags)",
            "trigger.data.severity in [1, 2, 3]",
            "steps.build-1.output.items[0].id == 7.0",
            "steps[\"build-1\"].output.items.0.id == 7",
            "exists trigger.data.title and trigger.data.tags exists and not exists trigger.data.missing",
            "trigger.data.missing == null and trigger.data.none == null",
            "trigger.data.ok",
            "not trigger.data.missing",
            "false or true and not false",
            "'b' < 'c' and \"2026-01-02\" > \"2026-01-01\"",
            "trigger.data contains 'tags' and 'tags' in trigger.data",
            "trigger.data.tags == ['a', 'b']",
            "-1 < 0 and 1e3 == 1000",
        ] {
            assert!(holds(text), "{text}");
        }
        for text in [
            "trigger.data.severity > '2'",
            "trigger.data.title > 2",
            "trigger.data.missing > 0",
            "'x' in 7",
            "trigger.data.title",
            "exists trigger.data.none",
            "trigger.data.severity != 3 or trigger.data.title == 'fire in the hold'",
            "not true and false",
        ] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let deep = format!("{}true{}", "(".repeat(40), ")".repeat(40));
        let long = format!("a == '{}'", "x".repeat(BYTES_MAX));
        let many = vec!["a"; 300].join(" or ");
        for text in [
            "",
            "a ==",
            "== a",
            "a = 1",
            "a & b",
            "a and",
            "(a",
            "a)",
            "'open",
            "a..b",
            "a[",
            "a[x]",
            "f(x)",
            "a == b == c",
            "[1, 2",
            "exists 3",
            "not",
            "a b",
            "1 2",
            "a;b",
            "a.b.",
            "${a}",
            "in",
            "\"\\q\"",
            &deep,
            &long,
            &many,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_is_written_as_it_is_read() {
        for text in ["steps.a.output", "trigger.data.items[3].id", "item"] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
        assert!(Path::parse("1").is_err() && Path::parse("a b").is_err());
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-50_i64..50).prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
        ]
    }

    proptest! {
        /// Whatever is written, reading it ends and evaluating it does.
        #[test]
        fn no_text_breaks_it(text in "[ a-z0-9.\\[\\]()'\"=!<>,_-]{0,60}|(and|or|not|in|exists|contains|a|1|'x'|\\(|\\)|==| ){0,40}") {
            if let Ok(expression) = parse(&text) {
                expression.holds(&json!({"a": {"b": [1, "x"]}}));
            }
        }

        /// The operators agree with each other.
        #[test]
        fn comparisons_agree(left in value(), right in value()) {
            let scope = json!({"l": left, "r": right});
            let holds = |text: &str| parse(text).unwrap().holds(&scope);
            prop_assert_eq!(holds("l == r"), !holds("l != r"));
            prop_assert_eq!(holds("l > r"), holds("r < l"));
            prop_assert_eq!(holds("l >= r"), holds("r <= l"));
            prop_assert_eq!(holds("l in [r]"), holds("l == r"));
            prop_assert_eq!(holds("[l] contains r"), holds("l == r"));
            prop_assert_eq!(holds("not (l == r and l in [1, 'a'])"), holds("l != r or not l in [1, 'a']"));
            prop_assert!(!(holds("l > r") && holds("l < r")));
        }
    }
}
