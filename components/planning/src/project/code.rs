//! The codes of projects and what tasks are called by: `QUAY-12`.

use berth_sdk::prelude::*;

/// The most letters of a code that is made of a name.
const MADE_MAX: usize = 4;
/// How many numbers are tried behind the next one: each that is taken was somebody's own wish.
const TRIES_MAX: usize = 20;

/// The code of a new project: the wish, or one made of the name that no other project of the organization has. 400 for a
/// wish that is no code, 409 for one that is taken. Until the end of the transaction nobody else of the organization gets one.
pub(crate) fn free(transaction: &Transaction, wish: Option<String>, name: &str) -> Result<String> {
    let taken = |code: &str| -> Result<bool> {
        let row = transaction.query_one(
            "SELECT id FROM project_projects WHERE organization_id = $1 AND code = $2 AND deleted_at IS NULL LIMIT 1",
            params![auth::organization_id()?, code],
        )?;
        Ok(row.is_some())
    };
    transaction.hold(super::HOLDS, "codes")?;
    if let Some(wish) = wish.filter(|wish| !wish.is_empty()) {
        if !is_code(&wish) {
            return Err(Problem::field("code", "must have 2 to 10 characters of A-Z and 0-9 and begin with a letter"));
        }
        if taken(&wish)? {
            return Err(Problem::conflict(format!("Another project has the code {wish}.")).with_code("CODE_TAKEN"));
        }
        return Ok(wish);
    }
    let base = made_of(name);
    if !taken(&base)? {
        return Ok(base);
    }
    for _ in 0..TRIES_MAX {
        let code = format!("{base}{}", next_number(transaction, &base)?);
        if is_code(&code) && !taken(&code)? {
            return Ok(code);
        }
    }
    Err(Problem::conflict("No code for its tasks is free; name one in `code`.").with_code("CODE_TAKEN"))
}

/// The next number behind these letters. The organization's codes must be held.
fn next_number(transaction: &Transaction, base: &str) -> Result<i64> {
    let organization = auth::organization_id()?;
    let row = transaction.query_one(
        "INSERT INTO project_codes (id, organization_id, last_number) \
         VALUES ($1, $2, (SELECT COUNT(*) FROM project_projects WHERE organization_id = $2 AND code LIKE $3) + 1) \
         ON CONFLICT (id) DO UPDATE SET last_number = project_codes.last_number + 1 RETURNING last_number",
        params![format!("{organization}:{base}"), &organization, format!("{base}%")],
    )?;
    Ok(row.ok_or_else(Problem::internal)?.get("last_number")?)
}

fn is_code(text: &str) -> bool {
    (2..=10).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase())
}

/// The initials of several words, or the first letters of one.
fn made_of(name: &str) -> String {
    let words: Vec<String> = name
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .map(str::to_ascii_uppercase)
        .filter(|word| word.starts_with(|letter: char| letter.is_ascii_uppercase()))
        .collect();
    let letters: String = match words.as_slice() {
        [only] => only.chars().take(MADE_MAX).collect(),
        several => several.iter().filter_map(|word| word.chars().next()).take(MADE_MAX).collect(),
    };
    if letters.len() < 2 { format!("{letters}PRJ").chars().take(MADE_MAX).collect() } else { letters }
}

/// The identifier of the next task of a project.
pub(crate) fn next_identifier(transaction: &Transaction, project_id: &Id) -> Result<Option<String>> {
    // The row stays locked until the end of the transaction, so that no number is given twice.
    transaction
        .execute("UPDATE project_projects SET task_counter = task_counter + 1 WHERE id = $1", params![project_id])?;
    let row = transaction
        .query_one("SELECT code, name, task_counter FROM project_projects WHERE id = $1", params![project_id])?
        .ok_or_else(|| Problem::missing("project"))?;
    // Projects that are older than codes have none.
    let code: Option<String> = row.get("code")?;
    let number: i64 = row.get("task_counter")?;
    Ok(code.map(|code| format!("{code}-{number}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{is_code, made_of};

    #[test]
    fn a_code_is_made_of_initials_or_first_letters() {
        for (name, code) in
            [("Quay", "QUAY"), ("Apollo", "APOL"), ("Web shop (new)", "WSN"), ("x", "XPRJ"), ("☂", "PRJ")]
        {
            assert_eq!(made_of(name), code, "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_name_the_code_is_one(name in ".{0,40}") {
            prop_assert!(is_code(&made_of(&name)), "{}", made_of(&name));
        }
    }
}
