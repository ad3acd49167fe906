//! Where an entry stands: its slug within its space, and its path below other entries.

use berth_sdk::prelude::*;

use super::Entry;
use crate::space;

/// Entries below one another.
pub const DEPTH_MAX: usize = 10;
/// Characters of a slug, and of one that is made.
const SLUG_MAX: usize = 100;
const SLUG_MADE_MAX: usize = 80;
/// Slugs with one beginning that are looked at.
const SLUGS_MAX: i64 = 2_000;

/// Holds how the organization's entries stand until the end of the transaction: what is made below one that moves goes with it, of
/// two that move at once the later one finds where the other has gone, and nothing comes below an entry or into a space that goes.
pub fn hold(transaction: &Transaction) -> Result<()> {
    transaction.hold(crate::HOLDS, "entries")
}

/// A title as it stands in an address; empty where nothing of it can.
///
/// ```
/// use knowledge_base::entry::place::slug_of;
/// assert_eq!(slug_of("How to: Rotate  a Certificate?"), "how-to-rotate-a-certificate");
/// assert_eq!(slug_of("Überblick"), "uberblick");
/// assert_eq!(slug_of("数据"), "");
/// ```
pub fn slug_of(title: &str) -> String {
    let mut slug = String::new();
    for letter in title.chars().flat_map(char::to_lowercase).map(crate::search::rank::plain) {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(SLUG_MAX);
    slug.trim_end_matches('-').to_string()
}

/// A slug that nobody has in the entry's space: its own, its title's, or that with a number.
pub fn free_slug(transaction: &Transaction, entry: &Entry, own_id: Option<&Id>) -> Result<String> {
    let wanted = if entry.slug.is_empty() { slug_of(&entry.title) } else { entry.slug.clone() };
    let mut base: String = wanted.chars().take(SLUG_MADE_MAX).collect::<String>().trim_end_matches('-').to_string();
    if base.is_empty() {
        base = "entry".into();
    }
    let rows = transaction.query(
        "SELECT slug FROM kb_entries WHERE organization_id = $1 AND COALESCE(space_id, '') = $2 AND deleted_at IS NULL
         AND (slug = $3 OR slug LIKE $4) AND id <> $5 ORDER BY slug LIMIT $6",
        params![
            auth::organization_id()?,
            entry.space_id.as_ref().map_or("", Id::as_str),
            &base,
            format!("{base}-%"),
            own_id.map_or("", Id::as_str),
            SLUGS_MAX,
        ],
    )?;
    let taken = rows.into_iter().map(|row| row.get::<String>("slug")).collect::<Result<Vec<_>, _>>()?;
    Ok(first_free(&base, &taken))
}

fn first_free(base: &str, taken: &[String]) -> String {
    if !taken.iter().any(|slug| slug == base) {
        return base.to_string();
    }
    let free = (2..).map(|number: u32| format!("{base}-{number}")).find(|slug| !taken.contains(slug));
    free.unwrap_or_else(|| base.to_string())
}

/// The path of a new entry, and the space of its parent where it has one.
pub fn settle(transaction: &Transaction, entry: &mut Entry, id: &Id) -> Result<()> {
    if entry.parent_id.is_some() || entry.space_id.is_some() {
        hold(transaction)?;
    }
    entry.path = match &entry.parent_id {
        Some(parent_id) => {
            let parent = entity::read::<Entry>(transaction, parent_id)?;
            inherit(entry, &parent)?;
            format!("{}/{id}", parent.path)
        }
        None => format!("/{id}"),
    };
    if depth(&entry.path) > DEPTH_MAX {
        return Err(too_deep());
    }
    Ok(())
}

fn inherit(entry: &mut Entry, parent: &Stored<Entry>) -> Result<()> {
    if entry.space_id.is_none() {
        entry.space_id.clone_from(&parent.space_id);
    }
    if entry.space_id == parent.space_id {
        return Ok(());
    }
    Err(Problem::unprocessable("It cannot be in another space than the entry it is below.").with_code("OTHER_SPACE"))
}

fn too_deep() -> Problem {
    Problem::unprocessable(format!("Entries are at most {DEPTH_MAX} below one another.")).with_code("TOO_DEEP")
}

fn depth(path: &str) -> usize {
    path.matches('/').count()
}

/// Moves an entry with all that is below it, with how entries stand held. A move below itself is a 409.
pub fn relocate(transaction: &Transaction, entry: &mut Entry, old: &Stored<Entry>) -> Result<()> {
    let path = match &entry.parent_id {
        Some(parent_id) => {
            if *parent_id == old.id {
                return Err(cycle());
            }
            let parent = entity::read::<Entry>(transaction, parent_id)?;
            if parent.path.split('/').any(|id| id == old.id.as_str()) {
                return Err(cycle());
            }
            if entry.space_id == old.space_id {
                entry.space_id.clone_from(&parent.space_id);
            }
            inherit(entry, &parent)?;
            format!("{}/{}", parent.path, old.id)
        }
        None => format!("/{}", old.id),
    };
    let deepest = transaction.query_one(
        "SELECT MAX(LENGTH(path) - LENGTH(REPLACE(path, '/', ''))) AS depth FROM kb_entries
         WHERE organization_id = $1 AND path LIKE $2",
        params![&old.organization_id, format!("{}/%", old.path)],
    )?;
    let deepest: Option<i64> = deepest.map_or(Ok(None), |row| row.get("depth"))?;
    let below = deepest
        .and_then(|deepest| usize::try_from(deepest).ok())
        .map_or(0, |deepest| deepest.saturating_sub(depth(&old.path)));
    if depth(&path) + below > DEPTH_MAX {
        return Err(too_deep());
    }
    if entry.space_id != old.space_id {
        require_mover(transaction, old)?;
        move_slugs(transaction, old, entry.space_id.as_ref())?;
    }
    transaction.execute(
        "UPDATE kb_entries SET path = $3 || SUBSTR(path, $4), space_id = $5, version = version + 1
         WHERE organization_id = $1 AND path LIKE $2",
        params![&old.organization_id, format!("{}/%", old.path), &path, old.path.len() + 1, &entry.space_id,],
    )?;
    if entry.space_id != old.space_id {
        space::announce_below(transaction, &path)?;
    }
    entry.path = path;
    Ok(())
}

/// Who moves entries to another space decides who reads them: whoever has begun all of them, or sees to what others have made.
fn require_mover(transaction: &Transaction, old: &Stored<Entry>) -> Result<()> {
    let of_others = transaction.query_one(
        "SELECT id FROM kb_entries WHERE organization_id = $1 AND deleted_at IS NULL AND author_id <> $2
         AND (id = $3 OR path LIKE $4) LIMIT 1",
        params![
            &old.organization_id,
            auth::principal().user_id.unwrap_or_default(),
            &old.id,
            format!("{}/%", old.path),
        ],
    )?;
    if of_others.is_some() { auth::require(space::MANAGE) } else { Ok(()) }
}

/// What is below an entry and has a slug that somebody has in the space it moves to moves there first, with another one.
fn move_slugs(transaction: &Transaction, old: &Stored<Entry>, space_id: Option<&Id>) -> Result<()> {
    let rows = transaction.query(
        "SELECT id, slug FROM kb_entries WHERE organization_id = $1 AND path LIKE $2 AND deleted_at IS NULL AND slug IN
         (SELECT slug FROM kb_entries WHERE organization_id = $1 AND COALESCE(space_id, '') = $3 AND deleted_at IS NULL)",
        params![&old.organization_id, format!("{}/%", old.path), space_id.map_or("", Id::as_str)],
    )?;
    for row in rows {
        let (id, slug): (Id, String) = (row.get("id")?, row.get("slug")?);
        let moved = Entry { slug, space_id: space_id.cloned(), ..old.data.clone() };
        let slug = free_slug(transaction, &moved, Some(&id))?;
        transaction
            .execute("UPDATE kb_entries SET space_id = $2, slug = $3 WHERE id = $1", params![&id, space_id, slug])?;
    }
    Ok(())
}

fn cycle() -> Problem {
    Problem::conflict("It would stand below itself.").with_code("PARENT_CYCLE")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_free_number_is_taken() {
        let taken = ["a", "a-2", "a-4", "a-b"].map(String::from);
        assert_eq!(first_free("a", &taken), "a-3");
        assert_eq!(first_free("b", &taken), "b");
    }

    proptest! {
        #[test]
        fn a_slug_is_its_own_slug(title in ".{0,150}") {
            let slug = slug_of(&title);
            prop_assert!(slug.len() <= SLUG_MAX);
            prop_assert!(!slug.starts_with('-') && !slug.ends_with('-') && !slug.contains("--"));
            prop_assert_eq!(slug_of(&slug), slug);
        }
    }
}
