//! The functions a guest may call: standard ones without side effects that cannot make much out of little.
//!
//! None here reads files, sleeps, opens connections, changes settings or runs SQL given as text.

/// Scalar, aggregate and window functions; those of one database only are refused by the other.
const FUNCTIONS: &[&str] = &[
    "abs",
    "avg",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "cume_dist",
    "dense_rank",
    "first_value",
    "json_array",
    "json_array_length",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_object",
    "json_patch",
    "json_remove",
    "json_set",
    "json_type",
    "json_valid",
    "jsonb_agg",
    "jsonb_array_length",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "jsonb_set",
    "jsonb_typeof",
    "lag",
    "last_value",
    "lead",
    "length",
    "lower",
    "ltrim",
    "max",
    "min",
    "nth_value",
    "ntile",
    "nullif",
    "percent_rank",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "to_jsonb",
    "trim",
    "upper",
];

/// Functions that stand where a table stands.
const TABLE_FUNCTIONS: &[&str] = &[
    "json_each",
    "json_tree",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_each",
    "jsonb_each_text",
    "jsonb_object_keys",
];

/// Words that both databases, or one of them, take for a function or a hidden column when they stand unquoted.
const RESERVED: &[&str] = &[
    "_rowid_",
    "cmax",
    "cmin",
    "ctid",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "oid",
    "rowid",
    "session_user",
    "system_user",
    "tableoid",
    "user",
    "xmax",
    "xmin",
];

/// Functions whose answer is JSON.
const JSON_FUNCTIONS: &[&str] = &[
    "json_array",
    "json_group_array",
    "json_group_object",
    "json_object",
    "json_patch",
    "json_remove",
    "json_set",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "jsonb_set",
    "to_jsonb",
];

/// Whether a guest may call it; `name` is lower case.
pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// Whether a guest may select from it.
pub(in crate::database) fn is_table_function(name: &str) -> bool {
    TABLE_FUNCTIONS.contains(&name)
}

/// Whether an unquoted name means something else than a column.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Whether its answer is JSON.
pub(super) fn is_json(name: &str) -> bool {
    JSON_FUNCTIONS.contains(&name)
}
