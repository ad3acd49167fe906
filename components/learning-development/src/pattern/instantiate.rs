//! Filling a pattern in: the text is answered and noted as a use. Nothing is written anywhere.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
    validate::FieldError,
};
use plan_rules::params::normalise_path;

use super::{
    hold,
    parameter::{self, Unfilled},
    say,
    sight::seen,
    version,
};

/// The body of `POST /api/patterns/{id}/instantiate`.
#[data]
pub struct Wish {
    /// Texts, numbers and truth values by the names of the places.
    #[field(default)]
    parameters: Map<String, Value>,
    /// Where the caller means to put it: relative, without `..`. Noted, and not written to.
    #[field(max = 1_024)]
    target_path: Option<String>,
    /// For which project; the pattern's own when absent.
    project_id: Option<Id>,
    /// Which version; the present one when absent.
    #[field(min = 1, max = version::CHARACTERS_MAX)]
    version: Option<String>,
}

/// A filled pattern.
#[data]
pub struct Instance {
    pattern_id: Id,
    version: String,
    target_path: Option<String>,
    /// The code with everything filled in.
    text: String,
}

/// `POST /api/patterns/{id}/instantiate`: 422 with everything that is missing.
pub fn instantiate(Params(id): Params<Id>, Json(wish): Json<Wish>) -> Result<Json<Instance>> {
    let target_path = wish.target_path.as_deref().filter(|path| !path.is_empty());
    let target_path =
        target_path.map(normalise_path).transpose().map_err(|fault| Problem::field("targetPath", fault))?;
    let row = seen(&id)?;
    wish.project_id.as_ref().map_or(Ok(()), people::project::require)?;
    let version = wish.version.unwrap_or_else(|| row.current_version.clone());
    let code = if version == row.current_version {
        row.code.clone()
    } else {
        version::find(&Pool, &id, &version)?.ok_or_else(|| Problem::missing("version of the pattern"))?.data.code
    };
    let declared = parameter::declared(row.parameters.as_ref()).map_err(Problem::validation)?;
    let text = parameter::fill(&code, &declared, &wish.parameters).map_err(unfilled)?;
    let project_id = wish.project_id.or_else(|| row.project_id.clone());
    let user_id = auth::user_id()?;
    database::transaction(|transaction| {
        let row = hold(transaction, &id)?;
        transaction.execute(
            "INSERT INTO pattern_usages (id, organization_id, created_by, created_at, updated_at, version, pattern_id, \
             project_id, target_path, \"by\", \"at\") VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $3, $4)",
            params![Id::new(), &row.organization_id, &user_id, clock::now(), &row.id, &project_id, &target_path],
        )?;
        // No change of the pattern itself: its version stays.
        transaction
            .execute("UPDATE pattern_patterns SET usage_count = usage_count + 1 WHERE id = $1", params![&row.id])?;
        let more = json!({
            "version": version, "projectId": project_id, "targetPath": target_path, "userId": user_id,
        });
        say(transaction, "pattern.used", &row, more)
    })?;
    Ok(Json(Instance { pattern_id: id, version, target_path, text }))
}

fn unfilled(fault: Unfilled) -> Problem {
    match fault {
        Unfilled::Missing(names) => {
            let errors = names.iter().map(|name| FieldError::new(format!("parameters.{name}"), "is required"));
            let problem = Problem::unprocessable(format!("Parameters are missing: {}.", names.join(", ")));
            problem.with_code("PARAMETERS_MISSING").with_errors(errors.collect()).with("missing", json!(names))
        }
        Unfilled::Misfit(names) => {
            let message = "must be a text, a number or a truth value";
            let errors = names.iter().map(|name| FieldError::new(format!("parameters.{name}"), message));
            Problem::validation(errors.collect())
        }
        Unfilled::TooLarge => {
            Problem::unprocessable(format!("The text would have more than {} bytes.", parameter::TEXT_BYTES_MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_listed() {
        let problem = unfilled(Unfilled::Missing(vec!["a".into(), "b".into()]));
        assert_eq!((problem.status, problem.member("missing").unwrap()), (422, &json!(["a", "b"])));
        assert_eq!(problem.errors[1].field, "parameters.b");
        assert_eq!(unfilled(Unfilled::Misfit(vec!["a".into()])).status, 400);
        assert_eq!(unfilled(Unfilled::TooLarge).status, 422);
    }
}
