//! The acting room: lets a plugin that handles a message go on as one user of the message's organization, and one that answers
//! a request as a member with the few permissions that its grant names.
//!
//! It trades the rights of the organization for those of one of its members, and never the other way: a message acts inside
//! its own organization, a request never with more than is listed, each once, and nobody becomes the operator by it.

mod backend;
mod host;

pub(crate) use backend::{Members, MembersAway};
pub(crate) use host::link;

use std::sync::{Arc, OnceLock};

use super::Guest;
use crate::principal::{PermissionSet, Principal, PrincipalKind};

/// The longest id of a user or an organization.
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
    /// An id is none.
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
        self.guest.call.principal = Arc::new(self.find(&organization_id, user_id).await?);
        Ok(())
    }

    /// Puts a member in the place of whoever asks, for the rest of the call, with no permission that the grant does not name.
    async fn act_for_member(&mut self, organization_id: &str, user_id: &str) -> Result<(), Refusal> {
        let scope = Some(Arc::new(self.scope()?));
        let member = self.find(organization_id, user_id).await?;
        self.guest.call.principal = Arc::new(Principal { is_super_admin: false, scope, ..member });
        Ok(())
    }

    /// A member of an organization as they stand now, as the caller that a call goes on as.
    async fn find(&self, organization_id: &str, user_id: &str) -> Result<Principal, Refusal> {
        let is_id = |id: &str| (1..=ID_CHARACTERS_MAX).contains(&id.len()) && !id.chars().any(char::is_control);
        if !is_id(organization_id) || !is_id(user_id) {
            return Err(Refusal::Malformed);
        }
        let members = self.room.members.get().ok_or(Refusal::Unavailable)?;
        let member = members.member(organization_id, user_id).await.map_err(|MembersAway| Refusal::Unavailable)?;
        let is_asked_for = |member: &Principal| {
            member.user_id.as_deref() == Some(user_id) && member.organization_id.as_deref() == Some(organization_id)
        };
        let Some(member) = member.filter(|member| is_asked_for(member)) else {
            return Err(Refusal::NoMember(user_id.to_owned()));
        };
        Ok(Principal {
            kind: PrincipalKind::User,
            session_id: None,
            api_key_id: None,
            is_platform: false,
            ..Principal::clone(&member)
        })
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

    /// What a call that may serve as a member keeps of the member's permissions.
    fn scope(&self) -> Result<PermissionSet, Refusal> {
        let codes = self.guest.plugin.grant.serve_as_members.clone();
        if codes.is_empty() {
            return Err(Refusal::Denied("the grant lacks serve_as_members"));
        }
        let call = &self.guest.call;
        // A call within a call answers another plugin, which was not told the secret that a member has given away.
        if call.principal.kind == PrincipalKind::System || call.depth > 0 {
            return Err(Refusal::Denied("only a call that answers a request from outside serves as a member"));
        }
        // Who comes in as a user has a session.
        if call.principal.kind == PrincipalKind::User && call.principal.session_id.is_none() {
            return Err(Refusal::Denied("the call acts for somebody already"));
        }
        Ok(PermissionSet { codes, actions: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::capability::grant::Grant;
    use crate::capability::testing;

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

    /// A guest that answers a request of nobody who has signed in.
    fn server() -> Guest {
        let codes = ["plans.plan.read", "ai.model.read"].map(str::to_owned).to_vec();
        let grant = Grant { serve_as_members: codes, ..Grant::default() };
        let mut guest = testing::guest_with("planning", None, grant);
        guest.call.principal = Arc::new(Principal::anonymous());
        guest
    }

    async fn serve(guest: &mut Guest, organization: &str, user: &str) -> Result<(), Refusal> {
        let room = ActingRoom::default();
        room.set_members(Arc::new(Register));
        View { guest, room: &room }.act_for_member(organization, user).await
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

    #[tokio::test]
    async fn a_request_is_served_as_a_member_with_what_is_listed_and_nothing_else() {
        let mut guest = server();
        assert_eq!(serve(&mut guest, "org-2", "alan").await, Ok(()));
        let principal = &guest.call.principal;
        assert_eq!((principal.kind, principal.user_id.as_deref()), (PrincipalKind::User, Some("alan")));
        assert_eq!((principal.organization_id.as_deref(), principal.teams.len()), (Some("org-2"), 1));
        assert!(principal.has_permission("ai.model.read"));
        assert!(!principal.has_permission("ai.model.update"), "the grant does not list it");
        assert!(!principal.has_permission("plans.plan.read"), "the member may not do it");
        assert!(is_denied(&serve(&mut guest, "org-2", "alan").await), "once in a call");

        let mut guest = server();
        assert_eq!(serve(&mut guest, "org-1", "grace").await, Ok(()));
        let principal = &guest.call.principal;
        assert!(!principal.is_super_admin && !principal.is_platform, "a Super Admin has no more than is listed");
        assert!(!principal.has_permission("plans.plan.delete"));

        let mut guest = server();
        guest.call.principal = Arc::new(Principal {
            kind: PrincipalKind::User,
            user_id: Some("grace".into()),
            session_id: Some("session-1".into()),
            ..Principal::anonymous()
        });
        assert_eq!(serve(&mut guest, "org-2", "alan").await, Ok(()), "whoever has the token may have signed in");
        assert_eq!(guest.call.principal.user_id.as_deref(), Some("alan"));
    }

    #[tokio::test]
    async fn only_a_granted_answer_to_a_request_from_outside_serves_as_a_member() {
        let mut bare = guest(None);
        bare.call.principal = Arc::new(Principal::anonymous());
        assert_eq!(
            serve(&mut bare, "org-2", "alan").await,
            Err(Refusal::Denied("the grant lacks serve_as_members")),
            "acting for users is another grant"
        );
        let mut within = server();
        within.call.depth = 1;
        assert!(is_denied(&serve(&mut within, "org-2", "alan").await), "a call within another one");
        let mut message = server();
        message.call.principal = Arc::new(Principal::system(Some("org-2".into()), None));
        assert!(is_denied(&serve(&mut message, "org-2", "alan").await), "a message");
        assert!(is_denied(&act(&mut server(), "alan").await), "serving as members is another grant");
        for (organization, user) in [("org-1", "alan"), ("org-2", "gone")] {
            let mut guest = server();
            assert_eq!(serve(&mut guest, organization, user).await, Err(Refusal::NoMember(user.into())));
            assert_eq!(guest.call.principal.kind, PrincipalKind::Anonymous, "nothing has changed");
        }
        assert_eq!(serve(&mut server(), "org-2", "away").await, Err(Refusal::Unavailable));
        assert_eq!(serve(&mut server(), "", "alan").await, Err(Refusal::Malformed));
    }
}
