//! Walks a parsed statement: refuses what is not listed and rewrites what the databases spell differently.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, OrderByExpr, OrderBySort, Query, Select, SetExpr, Statement, TableFactor,
    Value, ValueWithSpan, VisitMut as _, VisitorMut,
};

use super::super::Dialect;
use super::{PARAMETERS_MAX, Refusal, expression, query, text, vector};
use crate::database::{text_index, vector_index};

/// What names given by WITH are made to begin with. No table begins so.
pub(in crate::database) const CTE_PREFIX: &str = "cte__";
/// Bytes of an identifier: PostgreSQL cuts longer ones.
const NAME_BYTES_MAX: usize = 63 - CTE_PREFIX.len();
/// Tables no grant can give.
const NEVER: &[&str] = &["berth_", "pg_", "sqlite_", text_index::PREFIX, vector_index::PREFIX, CTE_PREFIX];

/// Stops the walk.
pub(super) type Walk = ControlFlow<Box<Refusal>>;

/// The state of one walk.
pub(super) struct Checker<'a> {
    prefixes: &'a [String],
    pub dialect: Dialect,
    /// The queries around the present place, outermost first.
    frames: Vec<Frame>,
    /// The highest parameter.
    parameters: usize,
    searches: text::Searches,
    queries_forbidden: bool,
    statements: usize,
    /// Vector indexes that are joined.
    vector_indexes: usize,
}

/// A query and the names its WITH gives.
struct Frame {
    names: Vec<(String, *const Query)>,
    recursive: bool,
    /// Which of the names' own queries is being walked; none: the body.
    inside: Option<usize>,
    /// Tables in its FROM whose vectors PostgreSQL may compare.
    tables: Vec<vector::Table>,
}

/// Refuses with a sentence.
pub(super) fn deny(sentence: impl Into<String>) -> Walk {
    ControlFlow::Break(Box::new(Refusal::Denied(sentence.into())))
}

/// Refuses what is no crime but not possible.
pub(super) fn invalid(sentence: impl Into<String>) -> Walk {
    ControlFlow::Break(Box::new(Refusal::Invalid(sentence.into())))
}

impl<'a> Checker<'a> {
    pub(super) fn new(prefixes: &'a [String], dialect: Dialect) -> Self {
        Self {
            prefixes,
            dialect,
            frames: Vec::new(),
            parameters: 0,
            searches: text::Searches::default(),
            queries_forbidden: false,
            statements: 0,
            vector_indexes: 0,
        }
    }

    /// Checks and rewrites one statement.
    pub(super) fn run(&mut self, statement: &mut Statement) -> Result<(), Refusal> {
        match statement.visit(self) {
            ControlFlow::Break(refusal) => Err(*refusal),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    pub(super) fn forbid_queries(&mut self) {
        self.queries_forbidden = true;
    }

    pub(super) fn parameters(&self) -> usize {
        self.parameters
    }

    /// Gives the parameters of searches their final numbers. Returns where each comes from and where it goes.
    pub(super) fn number_searches(&self, statement: &mut Statement) -> Vec<(usize, usize)> {
        self.searches.number(statement, self.parameters)
    }

    /// Whether the printed statement, parsed again, is the statement.
    pub(super) fn is_same(&self, again: &[Statement], statement: &Statement) -> bool {
        match again {
            [one] => one == statement || one.to_string() == statement.to_string(),
            _ => false,
        }
    }

    /// Whether a name, at the present place, was given by a WITH.
    fn is_given(&self, name: &str) -> bool {
        self.frames.iter().any(|frame| {
            let visible = match frame.inside {
                Some(index) if frame.recursive => index + 1,
                Some(index) => index,
                None => frame.names.len(),
            };
            frame.names.iter().take(visible).any(|(given, _)| given == name)
        })
    }

    fn enter(&mut self, query: &mut Query) -> Walk {
        let address: *const Query = query;
        if let Some(frame) = self.frames.last_mut() {
            frame.inside = frame.names.iter().position(|(_, given)| *given == address).or(frame.inside);
        }
        let mut frame = Frame { names: Vec::new(), recursive: false, inside: None, tables: Vec::new() };
        if let Some(with) = &mut query.with {
            frame.recursive = with.recursive;
            for cte in &mut with.cte_tables {
                if cte.from.is_some() || cte.alias.at.is_some() {
                    return invalid("WITH may only give names to queries");
                }
                let name = match self.name(&cte.alias.name) {
                    Ok(name) => name,
                    Err(refusal) => return ControlFlow::Break(refusal),
                };
                cte.alias.name = Ident::new(format!("{CTE_PREFIX}{name}"));
                frame.names.push((name, &raw const *cte.query));
            }
        }
        self.frames.push(frame);
        // Rows that are locked cannot be those of a join that may have none.
        if self.dialect == Dialect::Postgres
            && query.locks.is_empty()
            && let SetExpr::Select(select) = &*query.body
        {
            let named = |ident: &Ident| self.name(ident).ok().filter(|name| !self.is_given(name));
            let tables = vector::tables(select, named);
            if let Some(frame) = self.frames.last_mut() {
                frame.tables = tables;
            }
        }
        ControlFlow::Continue(())
    }

    /// A call of `vector_product` as PostgreSQL has it, over the vector index of the table that has that name nearest by. One
    /// that no SELECT has in its FROM stays as it is, and the database says that it has no such function.
    fn compare(&mut self, expr: &mut Expr) -> Walk {
        let Some(call) = vector::read(expr) else { return ControlFlow::Continue(()) };
        let alias = call.alias.value.as_str();
        let table =
            self.frames.iter_mut().rev().find_map(|frame| frame.tables.iter_mut().find(|table| table.is(alias)));
        let Some(name) = table.and_then(|table| table.compare(&call.column.value, self.vector_indexes + 1)) else {
            return ControlFlow::Continue(());
        };
        self.vector_indexes = self.vector_indexes.max(name);
        match vector::rewrite(&call, name) {
            Ok(written) => {
                *expr = written;
                ControlFlow::Continue(())
            }
            Err(refusal) => ControlFlow::Break(refusal),
        }
    }

    fn leave(&mut self, query: &mut Query) -> Walk {
        let frame = self.frames.pop();
        if let (Some(frame), SetExpr::Select(select)) = (frame, &mut *query.body)
            && let Err(refusal) = vector::join(select, &frame.tables)
        {
            return ControlFlow::Break(refusal);
        }
        let address: *const Query = query;
        if let Some(frame) = self.frames.last_mut()
            && frame.inside.and_then(|index| frame.names.get(index)).is_some_and(|(_, given)| *given == address)
        {
            frame.inside = None;
        }
        ControlFlow::Continue(())
    }

    /// A plain name, as both databases fold it.
    pub(super) fn name(&self, ident: &Ident) -> Result<String, Box<Refusal>> {
        let name = match ident.quote_style {
            None => ident.value.to_ascii_lowercase(),
            Some('"') => ident.value.clone(),
            Some(_) => return Err(Box::new(Refusal::Invalid(format!("{ident} must be quoted with \"")))),
        };
        let mut bytes = name.bytes();
        let plain = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.len() <= 63;
        if plain {
            Ok(name)
        } else {
            Err(Box::new(Refusal::Invalid(format!("{ident} must be made of letters, digits and _ (at most 63)"))))
        }
    }

    /// A table that is not given by WITH.
    fn table(&self, relation: &ObjectName) -> Walk {
        let [ObjectNamePart::Identifier(ident)] = relation.0.as_slice() else {
            return deny(format!("{relation}: a table is named without a schema"));
        };
        let name = match self.name(ident) {
            Ok(name) => name,
            Err(refusal) => return ControlFlow::Break(refusal),
        };
        if name.starts_with(CTE_PREFIX) {
            return ControlFlow::Continue(());
        }
        self.own("table", &name)
    }

    /// A name of a table or a text index, which must be the plugin's.
    fn own(&self, kind: &str, name: &str) -> Walk {
        // SQLite knows no case in names, PostgreSQL does in quoted ones: only one spelling is a table's.
        let lower = name.to_ascii_lowercase();
        let own = self.prefixes.iter().any(|prefix| !prefix.is_empty() && lower.starts_with(prefix.as_str()));
        if !own || lower != name || NEVER.iter().any(|never| lower.starts_with(never)) {
            return deny(format!(
                "the {kind} {name} is not under the plugin's prefixes ({})",
                self.prefixes.join(", ")
            ));
        }
        ControlFlow::Continue(())
    }

    fn placeholder(&mut self, text: &str) -> Walk {
        let digits = text.strip_prefix('$').unwrap_or_default();
        match digits.parse::<usize>() {
            Ok(number) if (1..=PARAMETERS_MAX).contains(&number) && !digits.starts_with(['0', '+']) => {
                self.parameters = self.parameters.max(number);
                self.searches.note_use(number);
                ControlFlow::Continue(())
            }
            _ => invalid(format!("{text}: parameters are written $1 to ${PARAMETERS_MAX}")),
        }
    }

    /// A search of a text index, before it is written for the dialect.
    fn search(&mut self, call: &text::Call<'_>) -> Walk {
        let index = match self.name(call.index) {
            Ok(index) => index,
            Err(refusal) => return ControlFlow::Break(refusal),
        };
        // A number that is none is refused where the value is visited.
        if let Ok(number) = call.parameter.parse() {
            self.searches.note_search(number);
        }
        self.own("text index", &index)
    }

    /// A name given by WITH is replaced by what it was renamed to, and keeps its old name as the alias.
    fn rename(&self, factor: &mut TableFactor) -> Walk {
        let TableFactor::Table { name, alias, .. } = factor else { return ControlFlow::Continue(()) };
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return ControlFlow::Continue(()) };
        let given = match self.name(ident) {
            Ok(given) => given,
            Err(refusal) => return ControlFlow::Break(refusal),
        };
        if given.len() > NAME_BYTES_MAX {
            return invalid(format!("{ident} is longer than {NAME_BYTES_MAX} characters"));
        }
        if self.is_given(&given) {
            if alias.is_none() {
                *alias = Some(query::alias(ident.clone()));
            }
            *name = ObjectName::from(vec![Ident::new(format!("{CTE_PREFIX}{given}"))]);
        }
        ControlFlow::Continue(())
    }
}

impl VisitorMut for Checker<'_> {
    type Break = Box<Refusal>;

    fn pre_visit_statement(&mut self, statement: &mut Statement) -> Walk {
        self.statements += 1;
        query::statement(statement, self.statements == 1)
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> Walk {
        if self.queries_forbidden {
            return deny("a query cannot stand here");
        }
        query::query(query, self.dialect)?;
        self.enter(query)
    }

    fn post_visit_query(&mut self, query: &mut Query) -> Walk {
        self.leave(query)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Walk {
        query::select(select)
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Walk {
        query::table_factor(factor)?;
        self.rename(factor)
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> Walk {
        self.table(relation)
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Walk {
        if let Expr::Function(function) = expr
            && vector::is_product(function)
        {
            return vector::check(function).map_or_else(ControlFlow::Break, ControlFlow::Continue);
        }
        if let Expr::Function(function) = expr
            && let Some(kind) = text::kind(function)
        {
            return match text::read(function, kind) {
                Ok(call) => self.search(&call),
                Err(refusal) => ControlFlow::Break(refusal),
            };
        }
        expression::expression(expr, self.dialect)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Walk {
        if self.dialect == Dialect::Postgres {
            self.compare(expr)?;
        }
        if let Expr::Function(function) = expr
            && let Some(kind) = text::kind(function)
        {
            let written = text::read(function, kind).and_then(|call| text::rewrite(&call, self.dialect));
            return match written {
                Ok(written) => {
                    *expr = written;
                    ControlFlow::Continue(())
                }
                Err(refusal) => ControlFlow::Break(refusal),
            };
        }
        expression::rewrite(expr, self.dialect);
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> Walk {
        match &value.value {
            Value::Placeholder(text) => {
                let text = text.clone();
                self.placeholder(&text)
            }
            Value::Number(text, false)
                if text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte)) =>
            {
                ControlFlow::Continue(())
            }
            Value::SingleQuotedString(_) | Value::Boolean(_) | Value::Null => ControlFlow::Continue(()),
            other => invalid(format!("{other} is not a literal of both databases")),
        }
    }

    fn pre_visit_ident(&mut self, ident: &mut Ident) -> Walk {
        match self.name(ident) {
            Ok(name) if vector_index::is_reserved(&name) => {
                deny(format!("{name}: names that begin with {} are the host's", vector_index::PREFIX))
            }
            Ok(name) => {
                // PostgreSQL folds unquoted names; SQLite would answer a column as it was written.
                ident.value = name;
                ControlFlow::Continue(())
            }
            Err(refusal) => ControlFlow::Break(refusal),
        }
    }

    fn pre_visit_order_by_expr(&mut self, order: &mut OrderByExpr) -> Walk {
        if order.with_fill.is_some() {
            return invalid("WITH FILL is not supported");
        }
        let descending = match &order.options.sort {
            None | Some(OrderBySort::Asc) => false,
            Some(OrderBySort::Desc) => true,
            Some(OrderBySort::Using(_)) => return invalid("ORDER BY … USING is not supported"),
        };
        // PostgreSQL holds NULL for the greatest value, SQLite for the least.
        if self.dialect == Dialect::Sqlite && order.options.nulls_first.is_none() {
            order.options.nulls_first = Some(descending);
        }
        ControlFlow::Continue(())
    }
}
