//! Many rows in few statements.

use super::{Executor, Row, Value};
use crate::Fault;

/// Parameters of one statement.
const PARAMETERS_MAX: usize = 500;

/// Rows of one table that are written together: as many in each statement as it takes. All statements but the last have
/// the same text, which the host reads once.
///
/// ```
/// use berth_sdk::{Fault, database::{Bulk, Pool, Value}};
/// let rows = (0..3).map(|number| vec![format!("n{number}").into(), Value::Integer(number)]);
/// let written = Bulk::into("note_notes")
///     .shared("organization_id", "o1")
///     .columns(&["id", "stars"])
///     .then("ON CONFLICT (id) DO NOTHING")
///     .insert(&Pool, rows);
/// assert_eq!(written, Err(Fault::Unavailable)); // natively there is no database
/// ```
#[derive(Clone, Debug)]
pub struct Bulk<'a> {
    table: &'a str,
    shared: Vec<(&'a str, Value)>,
    columns: &'a [&'a str],
    then: &'a str,
}

impl<'a> Bulk<'a> {
    /// Rows of a table.
    pub fn into(table: &'a str) -> Self {
        Self { table, shared: Vec::new(), columns: &[], then: "" }
    }

    /// A column that has the same value in every row.
    #[must_use]
    pub fn shared(mut self, column: &'a str, value: impl Into<Value>) -> Self {
        self.shared.push((column, value.into()));
        self
    }

    /// The other columns, in the order of each row's values.
    #[must_use]
    pub fn columns(mut self, columns: &'a [&'a str]) -> Self {
        self.columns = columns;
        self
    }

    /// What follows the rows, such as `ON CONFLICT (…) DO NOTHING`.
    #[must_use]
    pub fn then(mut self, then: &'a str) -> Self {
        self.then = then;
        self
    }

    /// Writes them and returns how many rows the database says it wrote. [`Fault::Invalid`] when a row has another
    /// number of values than there are columns.
    pub fn insert(&self, database: &dyn Executor, rows: impl IntoIterator<Item = Vec<Value>>) -> Result<u64, Fault> {
        let mut written = 0;
        self.run(rows, |sql, values| {
            written += database.execute(sql, values)?;
            Ok(())
        })?;
        Ok(written)
    }

    /// Writes them and reads what `then` returns, such as `ON CONFLICT (…) DO NOTHING RETURNING id`.
    pub fn query(
        &self,
        database: &dyn Executor,
        rows: impl IntoIterator<Item = Vec<Value>>,
    ) -> Result<Vec<Row>, Fault> {
        let mut returned = Vec::new();
        self.run(rows, |sql, values| {
            returned.extend(database.query(sql, values)?);
            Ok(())
        })?;
        Ok(returned)
    }

    fn run(
        &self,
        rows: impl IntoIterator<Item = Vec<Value>>,
        mut write: impl FnMut(&str, &[Value]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let most = PARAMETERS_MAX.saturating_sub(self.shared.len()) / self.columns.len().max(1);
        let mut full = None;
        let (mut values, mut count) = (self.start(), 0);
        for row in rows {
            if row.len() != self.columns.len() {
                return Err(Fault::Invalid(format!("a row of {} has {} values", self.table, row.len())));
            }
            values.extend(row);
            count += 1;
            if count == most {
                write(full.get_or_insert_with(|| self.statement(most)), &values)?;
                (values, count) = (self.start(), 0);
            }
        }
        if count > 0 {
            write(&self.statement(count), &values)?;
        }
        Ok(())
    }

    fn start(&self) -> Vec<Value> {
        self.shared.iter().map(|(_, value)| value.clone()).collect()
    }

    fn statement(&self, rows: usize) -> String {
        let quoted = |name: &str| format!("\"{name}\"");
        let names: Vec<String> = self
            .shared
            .iter()
            .map(|(name, _)| quoted(name))
            .chain(self.columns.iter().map(|name| quoted(name)))
            .collect();
        let shared: String = (1..=self.shared.len()).map(|place| format!("${place}, ")).collect();
        let places: Vec<String> = (0..rows)
            .map(|row| {
                let first = self.shared.len() + row * self.columns.len() + 1;
                let own: Vec<String> = (first..first + self.columns.len()).map(|place| format!("${place}")).collect();
                format!("({shared}{})", own.join(", "))
            })
            .collect();
        format!("INSERT INTO {} ({}) VALUES {} {}", self.table, names.join(", "), places.join(", "), self.then)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::{super::Rows, *};

    /// Notes what it is asked.
    #[derive(Default)]
    struct Noted(RefCell<Vec<(String, usize)>>);

    impl Executor for Noted {
        fn query(&self, _: &str, _: &[Value]) -> Result<Rows, Fault> {
            Err(Fault::Unavailable)
        }
        fn query_json(&self, _: &str, _: &[Value]) -> Result<Vec<u8>, Fault> {
            Err(Fault::Unavailable)
        }
        fn execute(&self, sql: &str, values: &[Value]) -> Result<u64, Fault> {
            self.0.borrow_mut().push((sql.to_string(), values.len()));
            Ok(1)
        }
    }

    #[test]
    fn rows_are_written_in_as_few_statements_as_there_can_be() {
        let noted = Noted::default();
        let bulk = Bulk::into("note_notes").shared("organization_id", "o1").columns(&["id", "stars"]);
        let rows = |count: i64| (0..count).map(|number| vec![Value::Integer(number), Value::Null]);
        assert_eq!(bulk.insert(&noted, rows(500)), Ok(3));
        let asked = noted.0.take();
        assert_eq!(asked.iter().map(|(_, values)| *values).collect::<Vec<_>>(), [499, 499, 5]);
        assert_eq!(asked[0].0, asked[1].0);
        assert_eq!(
            asked[2].0,
            "INSERT INTO note_notes (\"organization_id\", \"id\", \"stars\") VALUES ($1, $2, $3), ($1, $4, $5) "
        );
        assert_eq!(bulk.insert(&noted, rows(0)), Ok(0));
        assert!(bulk.insert(&noted, [vec![Value::Null]]).is_err());
    }
}
