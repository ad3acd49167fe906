//! The acting room: lets a plugin that handles a message go on as one user of the message's organization.
//!
//! It trades the rights of the organization for those of one of its members, and never the other way: only what the host
//! itself brings may act, once, inside its own organization, and nobody becomes the operator by it.

mod backend;
mod host;

pub(crate) use backend::{Members, MembersAway};
pub(crate) use host::link;

use std::sync::{Arc, OnceLock};

use super::Guest;
use crate::principal::{Principal, PrincipalKind};

/// The longest id of a user.
const ID_CHARACTERS_MAX: usize = 64;

/// Who may be acted for, host-wide.
#[derive(Default)]
pub(crate) struct ActingRoom {
    members: OnceLock<Arc<dyn Members>>,
}

/// What the room sees of the running call: it changes for whom it runs.
pub(crate) struct View<'a> {
    pub guest: &'a mut Guest,
    pub room: &'a ActingRoom,
}

/// Why a call does not act for a user.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    /// It may not, whoever the user is.
    Denied(&'static str),
    /// It may, but this is nobody to act for.
    NoMember(String),
    /// The id is none.
    Malformed,
    /// Nobody knows at present.
    Unavailable,
}

impl ActingRoom {
    /// Connects the main app; once, at the start. Until then nobody can be asked.
    pub(crate) fn set_members(&self, members: Arc<dyn Members>) {
        if self.members.set(members).is_err() {
            tracing::warn!("the members were connected twice; the first connection stays");
        }
    }
}

impl View<'_> {
    /// Puts the user in the place of the caller, for the rest of the call.
    async fn act_for(&mut self, user_id: &str) -> Result<(), Refusal> {
        let organization_id = self.organization()?;
        let is_id = (1..=ID_CHARACTERS_MAX).contains(&user_id.len()) && !user_id.chars().any(char::is_control);
        if !is_id {
            return Err(Refusal::Malformed);
        }
        let members = self.room.members.get().ok_or(Refusal::Unavailable)?;
        let member = members.member(&organization_id, user_id).await.map_err(|MembersAway| Refusal::Unavailable)?;
        let is_asked_for = |member: &Principal| {
            member.user_id.as_deref() == Some(user_id) && member.organization_id.as_ref() == Some(&organization_id)
        };
        let Some(member) = member.filter(|member| is_asked_for(member)) else {
            return Err(Refusal::NoMember(user_id.to_owned()));
        };
        self.guest.call.principal = Arc::new(Principal {
            kind: PrincipalKind::User,
            session_id: None,
            api_key_id: None,
            is_platform: false,
            ..Principal::clone(&member)
        });
        Ok(())
    }

    /// The organization of a call that may act.
    fn organization(&self) -> Result<Arc<str>, Refusal> {
        let call = &self.guest.call;
        if !self.guest.plugin.grant.act_for_users {
            return Err(Refusal::Denied("the grant lacks act_for_users = true"));
        }
        // A call within a call is somebody else's message: only its own handler decides whom it is handled for.
        if call.principal.kind != PrincipalKind::System || call.depth > 0 {
            return Err(Refusal::Denied("only a call that handles a message acts for a user, and only for one"));
        }
        let organization_id = call.principal.organization_id.clone();
        organization_id.ok_or(Refusal::Denied("the call is for no organization"))
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::capability::grant::Grant;
    use crate::capability::testing;
    use crate::principal::PermissionSet;

    /// Grace is a Super Admin of the operator's organization, Alan a member of another one; whoever else is asked for is
    /// answered with Grace.
    struct Register;

    #[async_trait]
    impl Members for Register {
        async fn member(&self, organization: &str, user: &str) -> Result<Option<Arc<Principal>>, MembersAway> {
            let base = Principal {
                kind: PrincipalKind::System,
                role_id: Some("role-1".into()),
                session_id: Some("session-1".into()),
                api_key_id: Some("key-1".into()),
                teams: Arc::new(["team-1".to_owned()]),
                ..Principal::anonymous()
            };
            Ok(match user {
                "away" => return Err(MembersAway),
                "gone" => None,
                "alan" => Some(Principal {
                    user_id: Some("alan".into()),
                    organization_id: Some("org-2".into()),
                    permissions: Arc::new(PermissionSet { codes: vec!["ai.*".into()], actions: vec![] }),
                    ..base
                }),
                _ => Some(Principal {
                    user_id: Some("grace".into()),
                    organization_id: Some(organization.into()),
                    is_super_admin: true,
                    is_platform: true,
                    ..base
                }),
            }
            .map(Arc::new))
        }
    }

    fn guest(organization: Option<&str>) -> Guest {
        testing::guest_with("workflow", organization, Grant { act_for_users: true, ..Grant::default() })
    }

    async fn act(guest: &mut Guest, user: &str) -> Result<(), Refusal> {
        let room = ActingRoom::default();
        room.set_members(Arc::new(Register));
        View { guest, room: &room }.act_for(user).await
    }

    fn is_denied(answer: &Result<(), Refusal>) -> bool {
        matches!(answer, Err(Refusal::Denied(_)))
    }

    #[tokio::test]
    async fn a_message_goes_on_as_the_user_and_nobody_more() {
        let mut guest = guest(Some("org-1"));
        assert_eq!(act(&mut guest, "grace").await, Ok(()));
        let principal = &guest.call.principal;
        assert_eq!(principal.kind, PrincipalKind::User);
        assert_eq!(
            (principal.user_id.as_deref(), principal.organization_id.as_deref(), principal.role_id.as_deref()),
            (Some("grace"), Some("org-1"), Some("role-1"))
        );
        assert_eq!(*principal.teams, ["team-1"]);
        assert!(principal.is_super_admin && !principal.is_platform, "a Super Admin, of this organization only");
        assert!(principal.session_id.is_none() && principal.api_key_id.is_none());
        assert!(is_denied(&act(&mut guest, "grace").await), "once in a call");
        assert!(is_denied(&act(&mut guest, "alan").await));
    }

    #[tokio::test]
    async fn who_is_no_member_is_nobody_to_act_for() {
        for user in ["gone", "alan", "somebody"] {
            let mut guest = guest(Some("org-1"));
            let before = Arc::clone(&guest.call.principal);
            assert_eq!(act(&mut guest, user).await, Err(Refusal::NoMember(user.into())));
            assert!(Arc::ptr_eq(&before, &guest.call.principal), "nothing has changed");
        }
        let mut guest = guest(Some("org-1"));
        assert_eq!(act(&mut guest, "away").await, Err(Refusal::Unavailable));
        assert_eq!(act(&mut guest, "").await, Err(Refusal::Malformed));
        assert_eq!(act(&mut guest, &"x".repeat(65)).await, Err(Refusal::Malformed));
        let unconnected = View { guest: &mut guest, room: &ActingRoom::default() }.act_for("grace").await;
        assert_eq!(unconnected, Err(Refusal::Unavailable));
    }

    #[tokio::test]
    async fn only_a_granted_handler_of_a_message_acts() {
        let mut bare = testing::guest("workflow", Some("org-1"));
        assert_eq!(act(&mut bare, "grace").await, Err(Refusal::Denied("the grant lacks act_for_users = true")));
        assert!(is_denied(&act(&mut guest(None), "grace").await), "a tick has no organization");
        let mut within = guest(Some("org-1"));
        within.call.depth = 1;
        assert!(is_denied(&act(&mut within, "grace").await), "a call within another one");
        for kind in [PrincipalKind::Anonymous, PrincipalKind::User, PrincipalKind::ApiKey, PrincipalKind::Operator] {
            let mut guest = guest(Some("org-1"));
            guest.call.principal = Arc::new(Principal { kind, ..Principal::clone(&guest.call.principal) });
            assert!(is_denied(&act(&mut guest, "grace").await), "{kind:?}");
        }
    }
}
