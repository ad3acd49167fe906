//! Migrations statement by statement: what may stand in one, and how each dialect has to write it.
//!
//! Both databases shall keep and refuse the same values, so types are few and each is written for the dialect. SQLite
//! gets the type the decoder recognises and a check of the storage class (it would keep text in a BIGINT column);
//! PostgreSQL gets text in byte order (`COLLATE "C"`, which is how SQLite compares). Only rewritten statements run.

use sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use sqlparser::ast::{
    AlterTable, AlterTableOperation, CheckConstraint, ColumnDef, ColumnOption, ColumnOptionDef, CreateIndex,
    CreateTable, DataType, ExactNumberInfo, Expr, ForeignKeyConstraint, Ident, IndexColumn, ObjectName, Statement,
    TableConstraint, TimezoneInfo, UnaryOperator,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::super::Dialect;
use super::super::vector_index::{PREFIX as VECTORS, VectorIndex, is_reserved};
use super::{Rules, statement, text_index, vector_index};

/// The column types there are; the sentence of a refusal.
const TYPES: &str = "the column types are TEXT, TIMESTAMPTZ, JSONB, BOOLEAN, BIGINT, DOUBLE PRECISION and BYTEA";

/// What a migration comes down to.
#[derive(Default)]
pub(super) struct Translated {
    pub statements: Vec<String>,
    pub vectors: Vec<VectorIndex>,
}

/// Splits a migration into statements, checks each against the rules and writes it for the dialect. The error is one
/// sentence for the migration's author.
pub(super) fn translate(sql: &str, dialect: Dialect, rules: &Rules<'_>) -> Result<Translated, String> {
    if !rules.is_host() {
        statement::shape(sql).map_err(|refusal| refusal.to_string())?;
    }
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .with_options(sqlparser::parser::ParserOptions::new().with_unescape(false))
        .try_with_sql(sql)
        .map_err(|error| error.to_string())?;
    let mut translated = Translated::default();
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        if parser.peek_token().token == Token::EOF {
            return Ok(translated);
        }
        if let Some(index) = text_index::parse(&mut parser, rules)? {
            translated.statements.extend(index.statements(dialect));
        } else if let Some(index) = vector_index::parse(&mut parser, rules)? {
            // Its pieces are not the migration's: they come when the database can compare, which may be later.
            translated.statements.push(index.proof());
            translated.vectors.push(index);
        } else {
            let statement = parser.parse_statement().map_err(|error| error.to_string())?;
            translate_statement(statement, dialect, rules, &mut translated.statements)?;
        }
        if !matches!(parser.peek_token().token, Token::SemiColon | Token::EOF) {
            return Err(format!("a statement ends with ; before {}", parser.peek_token()));
        }
    }
}

fn translate_statement(
    statement: Statement,
    dialect: Dialect,
    rules: &Rules<'_>,
    translated: &mut Vec<String>,
) -> Result<(), String> {
    match statement {
        Statement::CreateTable(table) => translated.push(create_table(table, dialect, rules)?),
        Statement::CreateIndex(index) => translated.push(create_index(index, dialect, rules)?),
        Statement::AlterTable(table) => alter_table(table, dialect, rules, translated)?,
        statement @ (Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Query(_)) => {
            translated.push(rules.data_statement(statement, dialect)?);
        }
        statement if rules.is_host() => translated.push(statement.to_string()),
        statement => {
            let text = statement.to_string();
            let start: Vec<&str> = text.split_whitespace().take(3).collect();
            return Err(format!(
                "{} … is not allowed: a migration may only CREATE TABLE, CREATE INDEX, CREATE TEXT INDEX, \
                     CREATE VECTOR INDEX, ALTER TABLE … ADD COLUMN and change rows",
                start.join(" ")
            ));
        }
    }
    Ok(())
}

fn create_table(table: CreateTable, dialect: Dialect, rules: &Rules<'_>) -> Result<String, String> {
    let name = rules.own_name(&table.name)?;
    let plain = CreateTableBuilder::new(table.name.clone())
        .columns(table.columns.clone())
        .constraints(table.constraints.clone())
        .if_not_exists(table.if_not_exists)
        .build();
    if plain != table {
        return Err(format!("CREATE TABLE {name} may only have columns and constraints"));
    }
    let mut keys = Vec::new();
    for constraint in &table.constraints {
        table_constraint(constraint, &name, dialect, rules)?;
        if let TableConstraint::PrimaryKey(key) = constraint {
            keys.extend(key.columns.iter().filter_map(column_name));
        }
    }
    let columns = table
        .columns
        .into_iter()
        .map(|definition| {
            let in_key = keys.contains(&definition.name.value);
            column(definition, in_key, dialect, rules)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let rewritten = CreateTableBuilder::new(table.name)
        .columns(columns)
        .constraints(table.constraints)
        .if_not_exists(table.if_not_exists)
        .build();
    Ok(rewritten.to_string())
}

fn create_index(index: CreateIndex, dialect: Dialect, rules: &Rules<'_>) -> Result<String, String> {
    let Some(index_name) = &index.name else { return Err("an index needs a name".to_owned()) };
    let name = rules.own_name(index_name)?;
    rules.own_name(&index.table_name)?;
    let plain = CreateIndex {
        name: index.name.clone(),
        table_name: index.table_name.clone(),
        using: None,
        columns: index.columns.clone(),
        unique: index.unique,
        concurrently: false,
        r#async: false,
        if_not_exists: index.if_not_exists,
        include: Vec::new(),
        nulls_distinct: None,
        with: Vec::new(),
        predicate: index.predicate.clone(),
        index_options: Vec::new(),
        alter_options: Vec::new(),
    };
    if plain != index {
        return Err(format!("CREATE INDEX {name} may only have UNIQUE, columns and WHERE"));
    }
    for column in &index.columns {
        if column.operator_class.is_some() {
            return Err(format!("CREATE INDEX {name} may not name an operator class"));
        }
        rules.expression(&column.column.expr, dialect)?;
    }
    if let Some(predicate) = &index.predicate {
        rules.expression(predicate, dialect)?;
    }
    Ok(index.to_string())
}

fn alter_table(
    table: AlterTable,
    dialect: Dialect,
    rules: &Rules<'_>,
    translated: &mut Vec<String>,
) -> Result<(), String> {
    let name = rules.own_name(&table.name)?;
    if table.if_exists
        || table.only
        || table.location.is_some()
        || table.on_cluster.is_some()
        || table.table_type.is_some()
    {
        return Err(format!("ALTER TABLE {name} may only ADD COLUMN"));
    }
    for operation in table.operations {
        match operation {
            AlterTableOperation::AddColumn { if_not_exists: false, column_def, column_position: None, .. } => {
                let definition = column(column_def, false, dialect, rules)?;
                translated.push(format!("ALTER TABLE {} ADD COLUMN {definition}", table.name));
            }
            other if rules.is_host() => translated.push(format!("ALTER TABLE {} {other}", table.name)),
            other => return Err(format!("ALTER TABLE {name} {other} is not allowed: only ADD COLUMN is")),
        }
    }
    Ok(())
}

/// Writes one column for the dialect.
fn column(definition: ColumnDef, in_key: bool, dialect: Dialect, rules: &Rules<'_>) -> Result<ColumnDef, String> {
    let name = rules.plain_name(&definition.name)?;
    if is_reserved(&name) {
        return Err(format!("column {name}: names that begin with {VECTORS} are the host's"));
    }
    let kind = ColumnKind::of(&definition.data_type)
        .ok_or_else(|| format!("column {name} cannot be {}: {TYPES}", definition.data_type))?;
    let mut options = definition.options;
    if is_numbered(kind, &options) {
        return Ok(numbered(definition.name, dialect));
    }
    let mut not_null = false;
    let mut is_key = in_key;
    for option in &options {
        match &option.option {
            ColumnOption::Null => {}
            ColumnOption::Unique(_) => own_index(option.name.as_ref(), rules)?,
            ColumnOption::NotNull => not_null = true,
            ColumnOption::PrimaryKey(_) => {
                own_index(option.name.as_ref(), rules)?;
                is_key = true;
            }
            ColumnOption::Default(value) if is_literal(value) => {}
            ColumnOption::Default(_) => return Err(format!("column {name}: a default must be a literal")),
            ColumnOption::Check(check) => rules.expression(&check.expr, dialect)?,
            ColumnOption::ForeignKey(key) => foreign_key(key, rules)?,
            other => return Err(format!("column {name} may not have {other}")),
        }
    }
    if dialect == Dialect::Sqlite {
        // SQLite lets a primary key be NULL.
        if is_key && !not_null {
            options.push(ColumnOptionDef { name: None, option: ColumnOption::NotNull });
        }
        options.push(kind.sqlite_check(&definition.name)?);
    }
    Ok(ColumnDef { name: definition.name, data_type: kind.data_type(dialect), options })
}

fn table_constraint(
    constraint: &TableConstraint,
    table: &str,
    dialect: Dialect,
    rules: &Rules<'_>,
) -> Result<(), String> {
    match constraint {
        TableConstraint::Unique(key) => own_index(key.name.as_ref(), rules),
        TableConstraint::PrimaryKey(key) => own_index(key.name.as_ref(), rules),
        TableConstraint::ForeignKey(key) => foreign_key(key, rules),
        TableConstraint::Check(check) => rules.expression(&check.expr, dialect),
        other => Err(format!("table {table} may not have {other}")),
    }
}

/// The name of a constraint that has an index. In PostgreSQL that index takes the name from all tables and indexes there are.
fn own_index(name: Option<&Ident>, rules: &Rules<'_>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    rules.own_name(&ObjectName::from(vec![name.clone()])).map(|_| ())
}

fn foreign_key(key: &ForeignKeyConstraint, rules: &Rules<'_>) -> Result<(), String> {
    rules.own_name(&key.foreign_table).map(|_| ())
}

/// Whether a column numbers its rows: `BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY`, never the same number twice.
fn is_numbered(kind: ColumnKind, options: &[ColumnOptionDef]) -> bool {
    let generated = |option: &ColumnOptionDef| {
        matches!(
            &option.option,
            ColumnOption::Generated { generation_expr: None, sequence_options, .. }
                if sequence_options.as_ref().is_none_or(Vec::is_empty)
        )
    };
    let key = |option: &ColumnOptionDef| matches!(option.option, ColumnOption::PrimaryKey(_));
    let not_null = |option: &ColumnOptionDef| matches!(option.option, ColumnOption::NotNull);
    matches!(kind, ColumnKind::Integer)
        && options.iter().any(generated)
        && options.iter().any(key)
        && options.iter().all(|option| generated(option) || key(option) || not_null(option))
}

fn numbered(name: Ident, dialect: Dialect) -> ColumnDef {
    let data_type = custom(match dialect {
        // Only this spelling makes it the row's own number; AUTOINCREMENT keeps a deleted one from coming back.
        Dialect::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
        Dialect::Postgres => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    });
    ColumnDef { name, data_type, options: Vec::new() }
}

/// A type as it is spelled.
fn custom(spelling: &str) -> DataType {
    DataType::Custom(ObjectName::from(vec![Ident::new(spelling)]), Vec::new())
}

fn column_name(column: &IndexColumn) -> Option<String> {
    match &column.column.expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        _ => None,
    }
}

fn is_literal(expression: &Expr) -> bool {
    match expression {
        Expr::Value(value) => !matches!(value.value, sqlparser::ast::Value::Placeholder(_)),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => is_literal(expr),
        Expr::Nested(inner) => is_literal(inner),
        _ => false,
    }
}

/// What a column may hold.
#[derive(Clone, Copy)]
enum ColumnKind {
    Text,
    Timestamp,
    Json,
    Boolean,
    Integer,
    Float,
    Bytes,
}

impl ColumnKind {
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Text => Self::Text,
            DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => Self::Timestamp,
            DataType::JSONB => Self::Json,
            DataType::Boolean | DataType::Bool => Self::Boolean,
            DataType::BigInt(None)
            | DataType::Int8(None)
            | DataType::Integer(None)
            | DataType::Int(None)
            | DataType::Int4(None)
            | DataType::SmallInt(None) => Self::Integer,
            DataType::DoublePrecision | DataType::Float8 | DataType::Double(ExactNumberInfo::None) => Self::Float,
            DataType::Bytea => Self::Bytes,
            _ => return None,
        })
    }

    fn data_type(self, dialect: Dialect) -> DataType {
        match (self, dialect) {
            (Self::Text, Dialect::Sqlite) => DataType::Text,
            (Self::Text, Dialect::Postgres) => custom("TEXT COLLATE \"C\""),
            // Affinity NUMERIC, but no time looks like a number; the driver tells it from other types by this name.
            (Self::Timestamp, Dialect::Sqlite) => custom("TIMESTAMP"),
            (Self::Timestamp, Dialect::Postgres) => custom("TIMESTAMPTZ"),
            // No affinity at all: a bare number stays the text it is.
            (Self::Json, Dialect::Sqlite) => custom("JSON_BLOB"),
            (Self::Json, Dialect::Postgres) => DataType::JSONB,
            (Self::Boolean, _) => DataType::Boolean,
            (Self::Integer, _) => DataType::BigInt(None),
            (Self::Float, _) => DataType::DoublePrecision,
            (Self::Bytes, Dialect::Sqlite) => custom("BLOB"),
            (Self::Bytes, Dialect::Postgres) => DataType::Bytea,
        }
    }

    /// The check that keeps other kinds of values out of a SQLite column.
    fn sqlite_check(self, column: &Ident) -> Result<ColumnOptionDef, String> {
        let (condition, kind) = match self {
            Self::Text => (format!("typeof({column}) IN ('text', 'null')"), "text"),
            Self::Timestamp => (
                format!("{column} IS NULL OR (typeof({column}) = 'text' AND {column} LIKE '____-__-__T__:__:__.___Z')"),
                "a timestamp",
            ),
            Self::Json => (format!("{column} IS NULL OR json_valid({column})"), "JSON"),
            Self::Boolean => (format!("typeof({column}) = 'null' OR {column} IN (0, 1)"), "a boolean"),
            Self::Integer => (format!("typeof({column}) IN ('integer', 'null')"), "an integer"),
            Self::Float => (format!("typeof({column}) IN ('real', 'null')"), "a float"),
            Self::Bytes => (format!("typeof({column}) IN ('blob', 'null')"), "bytes"),
        };
        let expr = Parser::new(&PostgreSqlDialect {})
            .try_with_sql(&condition)
            .and_then(|mut parser| parser.parse_expr())
            .map_err(|error| error.to_string())?;
        Ok(ColumnOptionDef {
            name: Some(Ident::with_quote('"', format!("{} must be {kind}", column.value))),
            option: ColumnOption::Check(CheckConstraint {
                name: None,
                expr: Box::new(expr),
                no_inherit: false,
                enforced: None,
            }),
        })
    }
}
