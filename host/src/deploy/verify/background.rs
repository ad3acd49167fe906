//! Bindings, timers, settings and migrations that a component describes, against the grant.

use std::collections::HashSet;

use crate::bindings::lifecycle::{Description, Dialect, Migration};
use crate::capability::grant;
use crate::deploy::SlotOptions;
use crate::schedule::Schedule;

/// Bindings of one component.
const BINDINGS_MAX: usize = 200;
/// Timers of one component, the manifest's own included.
const TIMERS_MAX: usize = 50;
/// Settings a component may demand.
const SETTINGS_MAX: usize = 100;
/// Migrations of one component.
const MIGRATIONS_MAX: usize = 500;
/// Bytes of one migration.
const MIGRATION_BYTES_MAX: usize = 256 * 1024;
/// Characters of an event type or a migration's name.
const NAME_CHARS_MAX: usize = 128;
/// Characters of a timer's name, as the worker takes it.
const TIMER_NAME_CHARS_MAX: usize = 40;

pub(super) fn judge(options: &SlotOptions, description: &Description, faults: &mut Vec<String>) {
    judge_bindings(options, &description.bindings, faults);
    judge_timers(options, description, faults);
    judge_settings(options, &description.required_config, faults);
    judge_migrations(options, &description.migrations, faults);
}

fn judge_bindings(options: &SlotOptions, bindings: &[String], faults: &mut Vec<String>) {
    if bindings.len() > BINDINGS_MAX {
        return faults.push(format!("it describes more than {BINDINGS_MAX} bindings"));
    }
    let granted = &options.plugin.grant.consume;
    for binding in bindings {
        if !is_topic(binding) {
            faults.push(format!("the binding `{}` is no event type or pattern", binding.escape_debug()));
        } else if !granted.iter().any(|pattern| grant::topic_covers(pattern, binding)) {
            faults.push(format!("it binds `{binding}`, but its grant's `consume` does not allow it"));
        }
    }
}

fn judge_timers(options: &SlotOptions, description: &Description, faults: &mut Vec<String>) {
    if description.timers.len() + options.timers.len() > TIMERS_MAX {
        return faults.push(format!("it has more than {TIMERS_MAX} timers"));
    }
    let mut names = HashSet::new();
    for timer in &description.timers {
        if !is_timer_name(&timer.name) {
            faults.push(format!(
                "the timer name `{}` is not lower-case letters, digits, - and _",
                timer.name.escape_debug()
            ));
        } else if !names.insert(&timer.name) {
            faults.push(format!("the timer `{}` is described twice", timer.name));
        }
        if let Err(error) = Schedule::parse(&timer.schedule) {
            faults.push(format!("the timer `{}`: {error}", timer.name.escape_debug()));
        }
    }
    for (name, schedule) in &options.timers {
        if let Err(error) = Schedule::parse(schedule) {
            faults.push(format!("the timer `{name}` of plugins.toml: {error}"));
        }
    }
}

fn judge_settings(options: &SlotOptions, required: &[String], faults: &mut Vec<String>) {
    if required.len() > SETTINGS_MAX {
        return faults.push(format!("it demands more than {SETTINGS_MAX} settings"));
    }
    for key in required.iter().filter(|key| !options.plugin.config.contains_key(*key)) {
        faults.push(format!("it needs the setting `{}` in [plugin.config], which is missing", key.escape_debug()));
    }
}

fn judge_migrations(options: &SlotOptions, migrations: &[Migration], faults: &mut Vec<String>) {
    if migrations.len() > MIGRATIONS_MAX {
        return faults.push(format!("it carries more than {MIGRATIONS_MAX} migrations"));
    }
    if !migrations.is_empty() && options.plugin.grant.tables.is_empty() {
        faults.push("it carries migrations, but its grant has no `tables`".into());
    }
    let mut names = HashSet::new();
    for migration in migrations {
        let name = migration.name.escape_debug();
        if !is_migration_name(&migration.name) {
            faults.push(format!("the migration name `{name}` does not read like 0001_create_plans"));
        }
        if migration.sql.len() > MIGRATION_BYTES_MAX {
            faults.push(format!("the migration `{name}` is larger than {MIGRATION_BYTES_MAX} bytes"));
        }
        // One file for both databases, or one for each of them: never the same database twice.
        let places: &[Dialect] = match migration.dialect {
            Dialect::Any => &[Dialect::Sqlite, Dialect::Postgres],
            Dialect::Sqlite => &[Dialect::Sqlite],
            Dialect::Postgres => &[Dialect::Postgres],
        };
        let is_twice = places.iter().any(|place| !names.insert((&migration.name, place_name(*place))));
        if is_twice {
            faults.push(format!("the migration `{name}` is there twice"));
        }
    }
}

fn place_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Any => "any",
        Dialect::Sqlite => "sqlite",
        Dialect::Postgres => "postgres",
    }
}

fn is_topic(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_CHARS_MAX
        && text.split('.').all(|word| {
            word == "*"
                || word == "#"
                || (!word.is_empty()
                    && word
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'))
        })
}

fn is_timer_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TIMER_NAME_CHARS_MAX
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
}

fn is_migration_name(text: &str) -> bool {
    let Some((number, rest)) = text.split_once('_') else { return false };
    number.len() == 4
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && text.len() <= NAME_CHARS_MAX
        && !rest.is_empty()
        && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
