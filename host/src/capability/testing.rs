//! What the rooms' tests share: a guest to call as. Only for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::grant::{Grant, Limits};
use super::{Guest, Plugin};
use crate::principal::{Call, Principal};

/// A guest of the plugin `name`, called by the host for `organization`, granted everything that is a plain switch.
pub(crate) fn guest(name: &str, organization: Option<&str>) -> Guest {
    guest_with(name, organization, Grant { cache: true, secrets: true, mail: true, ..Grant::default() })
}

/// A guest of the plugin `name` with exactly this grant.
pub(crate) fn guest_with(name: &str, organization: Option<&str>, grant: Grant) -> Guest {
    Guest {
        plugin: Arc::new(Plugin { name: name.into(), grant, limits: Limits::default(), config: BTreeMap::new() }),
        revision: "0123456789ab".into(),
        call: Call {
            principal: Arc::new(Principal::system(organization.map(Into::into), None)),
            request_id: "request-1".into(),
            source_service: None,
            causation_id: None,
            correlation_id: None,
            depth: 0,
            deadline: None,
            is_shadow: false,
            trace: crate::trace::Trace::default(),
        },
    }
}

/// The same guest in a copy of a request, whose effects do not count.
pub(crate) fn shadow(mut guest: Guest) -> Guest {
    guest.call.is_shadow = true;
    guest
}
