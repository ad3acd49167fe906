//! Categories of one's own, one below the other.

use berth_sdk::{database::Value, prelude::*};

/// Categories below one another.
const DEPTH_MAX: usize = 10;

/// A category.
#[entity(table = "kb_categories", name = "category", sort = "path")]
pub struct Category {
    /// Unique below its parent.
    #[field(min = 1, max = 100, plain, filter)]
    pub name: String,
    /// The category it is below.
    #[field(parent = Category)]
    pub parent_id: Option<Id>,
    /// The names from the top down to it.
    #[field(readonly, default = "")]
    pub path: String,
    /// It stays.
    #[field(readonly, default = false)]
    pub is_system: bool,
}

impl Rules for Category {
    fn check(&self, faults: &mut Faults) {
        if self.name.contains('/') {
            faults.add("name", "must not have a / in it");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.path = self.place(transaction)?;
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        require_own(old)?;
        if self.parent_id.as_ref() == Some(&old.id) {
            return Err(cycle());
        }
        self.path = self.place(transaction)?;
        if self.path == old.path {
            return Ok(());
        }
        if self.path.starts_with(&format!("{}/", old.path)) && self.parent_id != old.parent_id {
            return Err(cycle());
        }
        // A name may have what LIKE takes for a pattern: compared by its beginning instead.
        let below = format!("{}/", old.path);
        let deepest = transaction.query_one(
            "SELECT MAX(LENGTH(path) - LENGTH(REPLACE(path, '/', ''))) AS depth FROM kb_categories
             WHERE organization_id = $1 AND SUBSTR(path, 1, $2) = $3",
            params![&old.organization_id, below.chars().count(), &below],
        )?;
        let deepest: Option<i64> = deepest.map_or(Ok(None), |row| row.get("depth"))?;
        require_depth(depth(&self.path) + levels_below(&old.path, deepest))?;
        transaction.execute(
            "UPDATE kb_categories SET path = $2 || SUBSTR(path, $3), version = version + 1
             WHERE organization_id = $1 AND SUBSTR(path, 1, $4) = $5 AND id <> $6",
            params![
                &old.organization_id,
                &self.path,
                old.path.chars().count() + 1,
                below.chars().count(),
                &below,
                &old.id,
            ],
        )?;
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        require_own(row)?;
        hold(transaction)?;
        let below =
            transaction.query_one("SELECT id FROM kb_categories WHERE parent_id = $1 LIMIT 1", params![&row.id])?;
        if below.is_some() {
            return Err(Problem::conflict("There are categories below it.").with_code("CATEGORY_NOT_EMPTY"));
        }
        let used = transaction.query_one(
            "SELECT id FROM kb_entries WHERE organization_id = $1 AND deleted_at IS NULL
             AND CAST(category_ids AS TEXT) LIKE $2 LIMIT 1",
            params![&row.organization_id, format!("%\"{}\"%", row.id)],
        )?;
        match used {
            Some(_) => Err(Problem::conflict("There are entries of it.").with_code("CATEGORY_IN_USE")),
            None => Ok(()),
        }
    }
}

impl Category {
    /// The path that it gets, with how the categories stand held. 404 without its parent.
    fn place(&self, transaction: &Transaction) -> Result<String> {
        hold(transaction)?;
        let path = match &self.parent_id {
            Some(parent_id) => format!("{}/{}", entity::read::<Self>(transaction, parent_id)?.path, self.name),
            None => format!("/{}", self.name),
        };
        require_depth(depth(&path))?;
        Ok(path)
    }
}

/// Holds how the organization's categories stand until the end of the transaction: of two that move at once the later one
/// finds where the other has gone, so that neither ends below itself, and what is made below one that moves goes with it. None
/// goes while an entry is put into it.
pub fn hold(transaction: &Transaction) -> Result<()> {
    transaction.hold(crate::HOLDS, "categories")
}

fn depth(path: &str) -> usize {
    path.matches('/').count()
}

/// How many levels there are below a path, by how deep the deepest one is.
fn levels_below(path: &str, deepest: Option<i64>) -> usize {
    deepest.and_then(|deepest| usize::try_from(deepest).ok()).map_or(0, |deepest| deepest.saturating_sub(depth(path)))
}

fn require_depth(depth: usize) -> Result<()> {
    if depth <= DEPTH_MAX {
        return Ok(());
    }
    let text = format!("Categories are at most {DEPTH_MAX} below one another.");
    Err(Problem::unprocessable(text).with_code("TOO_DEEP"))
}

fn require_own(row: &Category) -> Result<()> {
    if row.is_system { Err(Problem::forbidden("A system category stays as it is.")) } else { Ok(()) }
}

fn cycle() -> Problem {
    Problem::conflict("It would stand below itself.").with_code("PARENT_CYCLE")
}

#[data]
struct Identity {
    id: Id,
}

/// Those of these categories that are there; they stay until the end of the transaction.
pub fn known(transaction: &Transaction, ids: &[Id]) -> Result<Vec<Id>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    hold(transaction)?;
    let select = Select::<Category>::new().one_of("id", ids.iter().map(Value::from));
    let there: Vec<Identity> = select.columns(transaction, "\"id\"")?;
    Ok(ids.iter().filter(|id| there.iter().any(|row| row.id == **id)).cloned().collect())
}

/// 400 unless every category is there; they stay until the end of the transaction.
pub fn check_ids(transaction: &Transaction, ids: &[Id]) -> Result<()> {
    if known(transaction, ids)?.len() == ids.len() {
        Ok(())
    } else {
        Err(Problem::field("categoryIds", "must be categories of the organization"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_that_moves_counts_what_is_below_it() {
        assert_eq!((levels_below("/A", None), levels_below("/A", Some(1)), levels_below("/A", Some(4))), (0, 0, 3));
        let path = |count: usize| "/a".repeat(count);
        assert!(require_depth(depth(&path(DEPTH_MAX - 3)) + levels_below("/A", Some(4))).is_ok());
        let problem = require_depth(depth(&path(DEPTH_MAX - 2)) + levels_below("/A", Some(4))).unwrap_err();
        assert_eq!((problem.status, problem.code.as_ref()), (422, "TOO_DEEP"));
    }
}
