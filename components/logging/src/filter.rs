//! Conditions of a query, put together piece by piece, and the stretch of time that it is about.

use std::time::Duration;

use berth_sdk::{
    database::{Value, like},
    prelude::*,
};

/// How far back a query looks when nothing is said.
const STRETCH: Duration = Duration::from_secs(86_400);
/// The longest stretch of one query.
const STRETCH_MAX: Duration = Duration::from_secs(31 * 86_400);
/// How far the clocks of those who log may be ahead.
pub(crate) const AHEAD: Duration = Duration::from_secs(300);
/// Where counting ends: a larger total is said to be this one.
pub(crate) const COUNTED_MAX: i64 = 100_000;

/// A condition with its values.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub sql: String,
    pub values: Vec<Value>,
}

impl Filter {
    /// Begins with a condition; each `?` stands for the next value.
    pub fn new(sql: &str, values: impl IntoIterator<Item = Value>) -> Self {
        let mut filter = Self { sql: String::new(), values: Vec::new() };
        filter.sql = filter.placed(sql, values);
        filter
    }

    /// Only what this holds of, too.
    pub fn and(&mut self, sql: &str, values: impl IntoIterator<Item = Value>) {
        let placed = self.placed(sql, values);
        self.sql.push_str(&format!(" AND ({placed})"));
    }

    /// Only rows with this value in a column.
    pub fn equal(&mut self, column: &str, value: impl Into<Value>) {
        self.and(&format!("{column} = ?"), [value.into()]);
    }

    /// Only rows with one of these texts in a column.
    pub fn one_of<'a>(&mut self, column: &str, texts: impl IntoIterator<Item = &'a str>) {
        let values: Vec<Value> = texts.into_iter().map(Value::from).collect();
        let places = vec!["?"; values.len()].join(", ");
        self.and(&format!("{column} IN ({places})"), values);
    }

    /// Only rows with a text in one of some columns, whatever its case.
    pub fn anywhere_in(&mut self, columns: &[&str], text: &str) {
        let found = like::in_one_of(columns, text);
        self.and(&found.sql, found.values);
    }

    /// Adds a value and answers its placeholder.
    pub fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    fn placed(&mut self, sql: &str, values: impl IntoIterator<Item = Value>) -> String {
        Condition::new(sql, values).placed(&mut self.values)
    }

    /// How many rows of a table it holds of, counted up to [`COUNTED_MAX`].
    pub fn count(&self, table: &str) -> Result<i64> {
        let sql = format!(
            "SELECT COUNT(*) AS total FROM (SELECT 1 AS one FROM {table} WHERE {} LIMIT {COUNTED_MAX}) counted",
            self.sql
        );
        let row = database::query_one(&sql, &self.values)?;
        Ok(row.map_or(Ok(0), |row| row.get("total"))?)
    }
}

/// A pattern of LIKE in which `*` stands for anything, to be used with `ESCAPE '!'`.
pub(crate) fn like(text: &str) -> String {
    like::escape(text).replace('*', "%")
}

/// From when until when a query looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Stretch {
    /// `from` and `to` of a query: the last 24 hours when nothing is said, 31 days at most.
    pub fn of(query: &PageQuery) -> Result<Self> {
        let mut faults = Faults::default();
        let mut read = |name: &str| {
            let text = query.filter(name)?;
            let moment = Timestamp::parse(&text);
            if moment.is_none() {
                faults.add(name, "must be a time such as 2026-01-31T08:15:00.000Z");
            }
            moment
        };
        let (from, to) = (read("from"), read("to"));
        faults.finish()?;
        Self::between(from, to, clock::now())
    }

    fn between(from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> Result<Self> {
        let to = to.unwrap_or_else(|| now.plus(AHEAD).max(from.map_or(now, |from| from.plus(AHEAD))));
        let from = from.unwrap_or_else(|| to.minus(STRETCH));
        if from >= to {
            return Err(Problem::field("from", "must be before `to`"));
        }
        if to.since(from) > STRETCH_MAX + AHEAD {
            return Err(Problem::field("from", "must be at most 31 days before `to`"));
        }
        Ok(Self { from, to })
    }

    /// Its length in milliseconds.
    pub fn millis(self) -> i64 {
        self.to.millis() - self.from.millis()
    }
}

/// The length of a step such as `30s`, `5m`, `minute`, `hour` or `day`, in milliseconds; at most 1 440 of them.
pub(crate) fn step(text: &str, stretch: Stretch) -> Result<i64> {
    let misfit = || Problem::field("interval", "must be minute, hour, day or a length such as 30s, 5m, 6h");
    let seconds = match text {
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => {
            let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(misfit)?;
            let number: i64 = number.parse().map_err(|_| misfit())?;
            let unit = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                "d" => 86_400,
                _ => return Err(misfit()),
            };
            if !(1..=86_400).contains(&number) {
                return Err(misfit());
            }
            number * unit
        }
    };
    if stretch.millis() / (seconds * 1_000) > 1_440 {
        return Err(Problem::field("interval", "makes more than 1 440 steps"));
    }
    Ok(seconds * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn conditions_number_their_values() {
        let mut filter = Filter::new("a = ?", [1.into()]);
        filter.equal("b", "x");
        filter.one_of("c", ["y", "z"]);
        assert_eq!(filter.sql, "a = $1 AND (b = $2) AND (c IN ($3, $4))");
        assert_eq!(filter.values.len(), 4);
        assert_eq!(like("a_*%"), "a!_%!%");
        let mut filter = Filter::new("c = ?", [1.into()]);
        filter.anywhere_in(&["a", "b"], "X");
        assert_eq!(filter.sql, "c = $1 AND (LOWER(a) LIKE $2 ESCAPE '!' OR LOWER(b) LIKE $3 ESCAPE '!')");
    }

    #[test]
    fn a_query_is_about_a_day_and_never_more_than_a_month() {
        let now = at("2026-02-01T00:00:00Z");
        let day = Stretch::between(None, None, now).unwrap();
        assert_eq!((day.from, day.to), (at("2026-01-31T00:05:00Z"), at("2026-02-01T00:05:00Z")));
        assert!(Stretch::between(Some(at("2026-01-01T00:00:00Z")), None, now).is_ok());
        for (from, to) in [("2025-12-01T00:00:00Z", None), ("2026-01-31T00:00:00Z", Some("2026-01-30T00:00:00Z"))] {
            let problem = Stretch::between(Some(at(from)), to.map(at), now).unwrap_err();
            assert_eq!(problem.errors[0].field, "from");
        }
        assert_eq!(step("5m", day).unwrap(), 300_000);
        assert_eq!(step("minute", day).unwrap(), 60_000);
        for wrong in ["", "m", "0s", "5w", "-1h", "ü", "1s"] {
            assert!(step(wrong, day).is_err(), "{wrong}");
        }
    }
}
