//! Who sees what: everybody of the organization, the people of a team, or one person.

use berth_sdk::{auth::PrincipalKind, database::Value, prelude::*};

/// Who sees to what others have made in `/api/learning`: administrators hold it.
pub const MANAGE: &str = "learning.learning.manage";
/// The same in `/api/patterns`.
pub const MANAGE_PATTERNS: &str = "patterns.pattern.manage";

/// Whether the caller sees everything, as somebody who manages it or as the host acting for the organization.
pub fn is_manager(permission: &str) -> bool {
    let principal = auth::principal();
    let is_above = principal.is_super_admin || principal.is_platform || principal.kind == PrincipalKind::System;
    is_above || auth::has(permission)
}

/// SQL of the rows that are of no team or of one of the caller's teams, with the values of its `?`.
pub fn in_teams() -> (String, Vec<Value>) {
    let teams = auth::teams();
    if teams.is_empty() {
        return ("team_id IS NULL".into(), Vec::new());
    }
    let places = vec!["?"; teams.len()].join(", ");
    (format!("team_id IS NULL OR team_id IN ({places})"), teams.into_iter().map(Value::from).collect())
}

/// 400 unless the caller is in the team, or manages.
pub fn require_team(team_id: Option<&Id>, permission: &str) -> Result<()> {
    let Some(team_id) = team_id else { return Ok(()) };
    if is_manager(permission) || auth::teams().iter().any(|team| team == team_id.as_str()) {
        return Ok(());
    }
    Err(Problem::field("teamId", "must be one of your teams"))
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth::Principal, testing};

    use super::*;

    #[test]
    fn a_team_is_for_those_who_are_in_it() {
        testing::sign_in("u1", "o1");
        let team = Id::from("t1");
        assert_eq!(require_team(Some(&team), MANAGE).unwrap_err().errors[0].field, "teamId");
        assert_eq!(in_teams().1.len(), 0);
        testing::join_team("t1");
        require_team(Some(&team), MANAGE).unwrap();
        assert_eq!(in_teams(), ("team_id IS NULL OR team_id IN (?)".into(), vec!["t1".into()]));
    }

    #[test]
    fn whoever_manages_names_any_team() {
        testing::sign_in("u1", "o1");
        testing::permit(MANAGE);
        assert!(require_team(Some(&"t9".into()), MANAGE).is_ok());
        assert!(require_team(Some(&"t9".into()), MANAGE_PATTERNS).is_err());
        testing::become_principal(Principal { kind: PrincipalKind::System, ..Principal::anonymous() });
        assert!(is_manager(MANAGE_PATTERNS));
    }
}
