//! Categories: what can be used, how it is measured and how it is priced when nothing else is said.

use berth_sdk::prelude::*;

use crate::access;

/// Categories that are looked at for one organization.
pub(crate) const CATEGORIES_MAX: i64 = 2_000;
/// Where usage goes whose category is not known.
pub(crate) const UNCATEGORIZED: &str = "uncategorized";
/// Where credits go.
pub(crate) const ADJUSTMENT: &str = "adjustment";

/// How a quantity becomes a price.
#[choice(upper)]
pub(crate) enum PricingModel {
    None,
    PerUnit,
    PerThousand,
    PerMillion,
    PerMinute,
    Tiered,
    Flat,
}

/// A category.
#[entity(table = "usage_categories", name = "category", sort = "code", global)]
pub(crate) struct Category {
    #[field(immutable, filter, min = 1, max = 100)]
    pub code: String,
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    #[field(filter, max = 100)]
    pub parent_code: Option<String>,
    /// The names of what is measured.
    #[field(default)]
    pub metrics: Vec<String>,
    /// What is priced.
    #[field(min = 1, max = 100)]
    pub primary_metric: String,
    #[field(default = PricingModel::None)]
    pub pricing_model: PricingModel,
    #[field(default = true)]
    pub is_active: bool,
    #[field(readonly, default)]
    pub is_system: bool,
    #[field(readonly, hidden, default)]
    pub owner: String,
}

impl Rules for Category {
    fn check(&self, faults: &mut Faults) {
        if !is_code(&self.code) {
            faults.add("code", "must be words of lower-case letters, digits, - and _, joined by dots");
        }
        if self.metrics.len() > 50 {
            faults.add("metrics", "must have at most 50 names");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        access::require_admin()?;
        self.owner = auth::organization_id()?.into_string();
        let taken = Select::<Category>::new().equal("code", self.code.as_str()).first(transaction)?;
        if taken.is_some() {
            return Err(Problem::conflict("There is a category of this code."));
        }
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        if old.is_system {
            return Err(Problem::forbidden("A system category stays as it is."));
        }
        access::require_admin()
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if row.is_system {
            return Err(Problem::forbidden("A system category stays."));
        }
        access::require_admin()?;
        for (table, what) in [("usage_pricing", "prices"), ("usage_quotas", "quotas")] {
            let sql = format!("SELECT id FROM {table} WHERE category_code = $1 AND organization_id = $2 LIMIT 1");
            if transaction.query_one(&sql, params![row.code.as_str(), &row.organization_id])?.is_some() {
                return Err(Problem::conflict(format!("It has {what}; remove them first.")));
            }
        }
        Ok(())
    }
}

/// `ai.completion`.
pub(crate) fn is_code(code: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"-_".contains(&letter))
    };
    code.len() <= 100 && code.split('.').all(is_word)
}

/// Whether a code fits a pattern: itself, `*`, or `ai.*` for everything below `ai`.
pub(crate) fn matches(pattern: &str, code: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => prefix.ends_with('.') && code.starts_with(prefix),
        None => pattern == code,
    }
}

/// Whether a text is a code or a pattern of codes.
pub(crate) fn is_pattern(pattern: &str) -> bool {
    pattern == "*" || is_code(pattern.strip_suffix(".*").unwrap_or(pattern))
}

/// Every category of the organization and of everybody.
pub(crate) fn all(database: &dyn Executor) -> Result<Vec<Stored<Category>>> {
    Select::<Category>::new().limit(CATEGORIES_MAX).all(database)
}

fn by_code(database: &dyn Executor, code: &str) -> Result<Stored<Category>> {
    let found = Select::<Category>::new().equal("code", code).first(database)?;
    found.ok_or_else(|| Problem::missing("category"))
}

/// `GET /api/usage/categories/{code}`.
pub(crate) fn read(Params(code): Params<String>) -> Result<Stored<Category>> {
    by_code(&Pool, &code)
}

/// `PUT /api/usage/categories/{code}`.
pub(crate) fn update(
    Params(code): Params<String>,
    if_match: IfMatch,
    Json(patch): Json<berth_sdk::serde_json::Map<String, berth_sdk::serde_json::Value>>,
) -> Result<Stored<Category>> {
    database::transaction(|transaction| {
        let category = by_code(transaction, &code)?;
        if category.is_system {
            return Err(Problem::forbidden("A system category stays as it is."));
        }
        entity::update::<Category>(transaction, &category.id, &patch, if_match)
    })
}

/// `DELETE /api/usage/categories/{code}`.
pub(crate) fn remove(Params(code): Params<String>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| {
        let category = by_code(transaction, &code)?;
        Category::before_delete(&category, transaction)?;
        entity::delete::<Category>(transaction, &category.id, if_match)?;
        Ok(NoContent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_words() {
        for (pattern, code, expected) in [
            ("ai.completion", "ai.completion", true),
            ("ai.*", "ai.completion", true),
            ("ai.*", "ai.completion.chat", true),
            ("ai.*", "ai", false),
            ("ai.*", "aix.completion", false),
            ("*", "anything", true),
            ("ai", "ai.completion", false),
        ] {
            assert_eq!(matches(pattern, code), expected, "{pattern} {code}");
        }
        for pattern in ["*", "ai.*", "ai.completion"] {
            assert!(is_pattern(pattern), "{pattern}");
        }
        for pattern in ["", "a*", "*.a", "ai.*.b", "AI", ".", "a..b"] {
            assert!(!is_pattern(pattern), "{pattern}");
        }
    }
}
