//! Statements, queries and what stands in FROM: the shapes that are allowed.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AssignmentTarget, ConflictTarget, Distinct, FromTable, GroupByExpr, Ident, Insert, Join, JoinOperator, LimitClause,
    ObjectName, ObjectNamePart, OnConflictAction, OnInsert, OrderByKind, Query, Select, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Statement, TableAlias, TableFactor,
    TableObject, TableWithJoins, UpdateTableFromKind, WildcardAdditionalOptions,
};

use super::super::Dialect;
use super::check::{Walk, deny, invalid};
use super::functions::is_table_function;

const CONTINUE: Walk = ControlFlow::Continue(());

/// An alias without columns.
pub(super) fn alias(name: Ident) -> TableAlias {
    TableAlias { explicit: true, name, columns: Vec::new(), at: None }
}

/// A statement; `outermost` is false for one inside another.
pub(super) fn statement(statement: &Statement, outermost: bool) -> Walk {
    match statement {
        Statement::Query(_) if outermost => CONTINUE,
        Statement::Insert(insert) => self::insert(insert),
        Statement::Update(update) => {
            if !update.optimizer_hints.is_empty()
                || update.output.is_some()
                || update.or.is_some()
                || !update.order_by.is_empty()
                || update.limit.is_some()
            {
                return invalid("UPDATE may only have SET, FROM, WHERE and RETURNING");
            }
            match &update.from {
                None | Some(UpdateTableFromKind::AfterSet(_)) => {}
                Some(UpdateTableFromKind::BeforeSet(_)) => return invalid("UPDATE names its FROM after SET"),
            }
            target(&update.table)?;
            if let Some(UpdateTableFromKind::AfterSet(tables)) = &update.from {
                tables.iter().try_for_each(joins)?;
            }
            update.assignments.iter().try_for_each(|assignment| assigned(&assignment.target))?;
            returning(update.returning.as_deref())
        }
        Statement::Delete(delete) => {
            let FromTable::WithFromKeyword(tables) = &delete.from else { return invalid("DELETE needs FROM") };
            let [table] = tables.as_slice() else { return invalid("DELETE is from one table") };
            if !delete.optimizer_hints.is_empty()
                || !delete.tables.is_empty()
                || delete.using.is_some()
                || delete.output.is_some()
                || !delete.order_by.is_empty()
                || delete.limit.is_some()
            {
                return invalid("DELETE may only have FROM, WHERE and RETURNING");
            }
            target(table)?;
            returning(delete.returning.as_deref())
        }
        _ => deny("only SELECT, INSERT, UPDATE and DELETE are allowed"),
    }
}

fn insert(insert: &Insert) -> Walk {
    let plain = insert.optimizer_hints.is_empty()
        && insert.or.is_none()
        && !insert.ignore
        && insert.into
        && !insert.overwrite
        && insert.assignments.is_empty()
        && insert.partitioned.is_none()
        && insert.after_columns.is_empty()
        && !insert.has_table_keyword
        && insert.output.is_none()
        && !insert.replace_into
        && insert.priority.is_none()
        && insert.insert_alias.is_none()
        && insert.settings.is_none()
        && insert.format_clause.is_none()
        && insert.multi_table_insert_type.is_none()
        && insert.multi_table_into_clauses.is_empty()
        && insert.multi_table_when_clauses.is_empty()
        && insert.multi_table_else_clause.is_none();
    if !plain {
        return invalid("INSERT may only have INTO, columns, rows or a query, ON CONFLICT and RETURNING");
    }
    if !matches!(insert.table, TableObject::TableName(_)) {
        return invalid("INSERT is into a table");
    }
    insert.columns.iter().try_for_each(column)?;
    match &insert.on {
        None => {}
        Some(OnInsert::OnConflict(conflict)) => {
            if let Some(ConflictTarget::OnConstraint(_)) = conflict.conflict_target {
                return invalid("ON CONFLICT names columns, not a constraint");
            }
            if let OnConflictAction::DoUpdate(update) = &conflict.action {
                if conflict.conflict_target.is_none() {
                    return invalid("ON CONFLICT DO UPDATE names the columns");
                }
                update.assignments.iter().try_for_each(|assignment| assigned(&assignment.target))?;
            }
        }
        Some(_) => return invalid("only ON CONFLICT is supported"),
    }
    returning(insert.returning.as_deref())
}

/// The table an UPDATE or DELETE changes.
fn target(table: &TableWithJoins) -> Walk {
    match &table.relation {
        TableFactor::Table { args: None, .. } if table.joins.is_empty() => CONTINUE,
        _ => invalid("one table is changed at a time"),
    }
}

fn assigned(target: &AssignmentTarget) -> Walk {
    match target {
        AssignmentTarget::ColumnName(name) => column(name),
        AssignmentTarget::Tuple(names) => names.iter().try_for_each(column),
    }
}

fn column(name: &ObjectName) -> Walk {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(_)] => CONTINUE,
        _ => invalid(format!("{name} must be a column of the table")),
    }
}

/// SQLite evaluates RETURNING apart from the statement's WITH.
fn returning(items: Option<&[SelectItem]>) -> Walk {
    items.unwrap_or_default().iter().try_for_each(select_item)
}

/// A query: the parts around its body, and the body's set operations.
pub(super) fn query(query: &mut Query, dialect: Dialect) -> Walk {
    if query.fetch.is_some()
        || query.for_clause.is_some()
        || query.settings.is_some()
        || query.format_clause.is_some()
        || !query.pipe_operators.is_empty()
    {
        return invalid("a query may only have WITH, ORDER BY, LIMIT, OFFSET and FOR UPDATE");
    }
    match &query.limit_clause {
        None => {}
        Some(LimitClause::LimitOffset { limit_by, .. }) if limit_by.is_empty() => {}
        Some(_) => return invalid("write LIMIT … OFFSET …"),
    }
    if let Some(order) = &query.order_by
        && (order.interpolate.is_some() || !matches!(order.kind, OrderByKind::Expressions(_)))
    {
        return invalid("ORDER BY takes expressions");
    }
    if query.locks.iter().any(|lock| lock.of.is_some()) {
        return invalid("FOR UPDATE locks the rows of all tables of the query");
    }
    if dialect == Dialect::Sqlite {
        // A transaction there has the one writer to itself.
        query.locks.clear();
    }
    body(&query.body)
}

fn body(body: &SetExpr) -> Walk {
    match body {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) => {
            CONTINUE
        }
        SetExpr::SetOperation { left, op, set_quantifier, right } => {
            if matches!(op, SetOperator::Minus)
                || !matches!(set_quantifier, SetQuantifier::All | SetQuantifier::None | SetQuantifier::Distinct)
            {
                return invalid("only UNION, INTERSECT and EXCEPT are supported");
            }
            self::body(left)?;
            self::body(right)
        }
        SetExpr::Values(values) if !values.explicit_row => CONTINUE,
        _ => deny("only SELECT, INSERT, UPDATE and DELETE are allowed"),
    }
}

/// A SELECT without the parts of other dialects.
pub(super) fn select(select: &Select) -> Walk {
    let plain = select.optimizer_hints.is_empty()
        && select.select_modifiers.is_none()
        && select.top.is_none()
        && !select.top_before_distinct
        && select.exclude.is_none()
        && select.lateral_views.is_empty()
        && select.prewhere.is_none()
        && select.connect_by.is_empty()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.qualify.is_none()
        && select.value_table_mode.is_none()
        && matches!(select.flavor, SelectFlavor::Standard);
    if !plain {
        return invalid("SELECT may only have DISTINCT, FROM, WHERE, GROUP BY, HAVING and WINDOW");
    }
    if select.into.is_some() {
        return deny("SELECT INTO is not allowed");
    }
    if matches!(select.distinct, Some(Distinct::On(_))) {
        return invalid("DISTINCT ON is not supported by both databases");
    }
    match &select.group_by {
        GroupByExpr::Expressions(_, modifiers) if modifiers.is_empty() => {}
        _ => return invalid("GROUP BY takes expressions"),
    }
    select.projection.iter().try_for_each(select_item)?;
    select.from.iter().try_for_each(joins)
}

fn select_item(item: &SelectItem) -> Walk {
    match item {
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => CONTINUE,
        SelectItem::Wildcard(options) => wildcard(options),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
            column(name)?;
            wildcard(options)
        }
        _ => invalid("a column is an expression, or * for all"),
    }
}

fn wildcard(options: &WildcardAdditionalOptions) -> Walk {
    let plain = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none();
    if plain { CONTINUE } else { invalid("* stands alone") }
}

fn joins(tables: &TableWithJoins) -> Walk {
    tables.joins.iter().try_for_each(join)
}

fn join(join: &Join) -> Walk {
    match join.join_operator {
        _ if join.global => invalid("GLOBAL is not supported"),
        JoinOperator::Join(_)
        | JoinOperator::Inner(_)
        | JoinOperator::Left(_)
        | JoinOperator::LeftOuter(_)
        | JoinOperator::Right(_)
        | JoinOperator::RightOuter(_)
        | JoinOperator::FullOuter(_)
        | JoinOperator::CrossJoin(_) => CONTINUE,
        _ => invalid("only JOIN, LEFT, RIGHT, FULL and CROSS JOIN are supported"),
    }
}

/// What stands in FROM. A call in the place of a table becomes one in the tree, too.
pub(super) fn table_factor(factor: &mut TableFactor) -> Walk {
    match factor {
        TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            if !with_hints.is_empty()
                || version.is_some()
                || *with_ordinality
                || !partitions.is_empty()
                || json_path.is_some()
                || sample.is_some()
                || !index_hints.is_empty()
            {
                return invalid(format!("{name} may only have an alias"));
            }
            plain_alias(alias.as_ref())?;
            if let Some(arguments) = args.take() {
                if arguments.settings.is_some() {
                    return invalid("SETTINGS are not supported");
                }
                let (name, alias) = (name.clone(), alias.take());
                *factor =
                    TableFactor::Function { lateral: false, name, args: arguments.args, with_ordinality: false, alias };
                return table_factor(factor);
            }
            CONTINUE
        }
        TableFactor::Derived { lateral: false, sample: None, alias, .. } => plain_alias(alias.as_ref()),
        TableFactor::NestedJoin { table_with_joins, alias } => {
            plain_alias(alias.as_ref())?;
            joins(table_with_joins)
        }
        TableFactor::Function { lateral: false, name, args, with_ordinality: false, alias } => {
            plain_alias(alias.as_ref())?;
            let allowed = match name.0.as_slice() {
                [ObjectNamePart::Identifier(ident)] => is_table_function(&ident.value.to_ascii_lowercase()),
                _ => false,
            };
            if !allowed {
                return deny(format!("the function {name} is not allowed"));
            }
            args.iter().try_for_each(super::expression::argument)
        }
        _ => invalid("FROM takes tables, queries and joins of them"),
    }
}

fn plain_alias(alias: Option<&TableAlias>) -> Walk {
    match alias {
        Some(alias) if alias.at.is_some() || alias.columns.iter().any(|column| column.data_type.is_some()) => {
            invalid("an alias is a name, with names of columns")
        }
        _ => CONTINUE,
    }
}
