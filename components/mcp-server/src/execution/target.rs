//! Which tool an order means, and whether it may be called: by whom, here, now, with these arguments.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
    types::Health,
};

use super::{order::Order, sandbox};
use crate::{
    access, peer,
    server::{self, Server, Status, configuration, configuration::Effective, health, secret, sync, toggle::Toggles},
    tool::{self, Level, Tool},
};

/// A tool that may be called.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub server: Stored<Server>,
    /// What it is.
    pub tool: Stored<Tool>,
    /// What the configurations say.
    pub effective: Effective,
    /// The credential.
    pub secret_id: Option<Id>,
}

/// How whoever ordered an execution was judged, for when its turn comes later and a message brings it.
#[data]
pub struct Judged {
    /// By which level of the tool.
    pub level: Level,
    /// As a member of which teams.
    pub teams: Vec<String>,
}

/// The right to call an ELEVATED tool, besides an administrator's.
const ELEVATED: &str = "mcp.tool.elevate";

/// Finds the tool and judges everything but the arguments and the limits; `judged` is known of an order whose turn has come later.
pub fn find(order: &Order, judged: Option<&Judged>) -> Result<Target> {
    let project_id = order.project_id.as_ref();
    if let Some(project_id) = project_id.filter(|_| !access::is_system()) {
        people::project::require(project_id)?;
    }
    let teams = judged.map_or_else(auth::teams, |judged| judged.teams.clone());
    let toggles = Toggles::load_for(&Pool, &teams, project_id)?;
    let (server, tool) = match (&order.server_id, &order.tool_name, &order.capability) {
        (_, _, Some(capability)) => by_capability(capability, project_id, &toggles)?,
        (Some(server), Some(name), None) => {
            let server = server::named(server)?;
            require_usable(&server, &toggles)?;
            let tool = known(&server, name)?;
            (server, tool)
        }
        _ => return Err(Problem::bad_request("It must name a tool or a capability.")),
    };
    require_right(&tool, order.confirm.unwrap_or(false), judged.map(|judged| judged.level))?;
    if health::is_out(&server) {
        return Err(unhealthy());
    }
    peer::require_transport(&server)?;
    let effective = configuration::effective_for(&Pool, &server, &teams, project_id)?;
    secret::require(&server, &effective)?;
    let secret_id = secret::of(&server, &effective);
    Ok(Target { server, tool, effective, secret_id })
}

/// 422 with every fault when the arguments do not fit; 403 when they leave the sandbox.
pub fn check_arguments(target: &Target, arguments: &Map<String, Value>) -> Result<()> {
    let faults = validate::json_schema_faults(&target.tool.input_schema, &Value::Object(arguments.clone()));
    if !faults.is_empty() {
        let detail = format!("The arguments do not fit the tool {}.", target.tool.name);
        return Err(Problem::unprocessable(detail).with_code("INVALID_PARAMS").with_errors(faults));
    }
    let broken =
        target.effective.permission_scopes.iter().find_map(|scope| sandbox::violation(scope, &target.tool, arguments));
    match broken {
        Some(why) => Err(Problem::forbidden(why).with_code("SANDBOX_VIOLATION")),
        None => Ok(()),
    }
}

fn unhealthy() -> Problem {
    Problem::unavailable("The server does not do well; it is looked at every minute.").with_code("SERVER_UNHEALTHY")
}

/// 403 when a server is not used here.
pub fn require_usable(server: &Stored<Server>, toggles: &Toggles) -> Result<()> {
    if !matches!(server.status, Status::Active | Status::Deprecated) {
        return Err(access::denied(format!("The server is {}.", server.status)));
    }
    if toggles.is_on(server) { Ok(()) } else { Err(access::denied("The server is turned off here.")) }
}

/// The tool of this name; the list is read again when it may be older than the tool.
fn known(server: &Stored<Server>, name: &str) -> Result<Stored<Tool>> {
    if let Some(tool) = tool::find(&Pool, &server.id, name)? {
        return Ok(tool);
    }
    if server.organization_id.is_some() && server.is_reachable() && !sync::is_fresh(server) {
        sync::again(server);
    }
    tool::read(&Pool, &server.id, name)
}

/// The best tool with a capability: by toggle, then priority, then health.
fn by_capability(
    capability: &str,
    project_id: Option<&Id>,
    toggles: &Toggles,
) -> Result<(Stored<Server>, Stored<Tool>)> {
    let servers: Vec<_> =
        tool::usable_servers(project_id)?.into_iter().filter(|server| server.is_reachable()).collect();
    let tools = Select::<Tool>::new()
        .one_of("server_id", servers.iter().map(|server| server.id.as_str()))
        .equal("is_enabled", true)
        .limit(10_000)
        .all(&Pool)?;
    let mut candidates: Vec<(&Stored<Server>, Stored<Tool>)> = tools
        .into_iter()
        .filter_map(|tool| {
            let server = servers.iter().find(|server| server.id == tool.server_id)?;
            tool::can(&tool, server, capability).then_some((server, tool))
        })
        .collect();
    candidates.sort_by(|(one, tool), (other, other_tool)| {
        let rank = |server: &Stored<Server>| (toggles.priority(&server.id), vigour(server.health));
        rank(other).cmp(&rank(one)).then_with(|| (&one.name, &tool.name).cmp(&(&other.name, &other_tool.name)))
    });
    let has_any = !candidates.is_empty();
    let best = candidates.into_iter().find(|(server, _)| !health::is_out(server));
    match best {
        Some((server, tool)) => Ok((server.clone(), tool)),
        None if has_any => Err(unhealthy()),
        None => {
            let detail = format!("No server that is used here has the capability {capability}.");
            Err(Problem::not_found(detail).with_code("CAPABILITY_NOT_AVAILABLE"))
        }
    }
}

fn vigour(health: Health) -> u8 {
    match health {
        Health::Healthy => 3,
        Health::Unknown => 2,
        Health::Degraded => 1,
        Health::Unhealthy => 0,
    }
}

/// 403 unless the caller may call the tool, or whoever ordered it was judged by a level that is as high: behind a message not every
/// right of theirs is known.
fn require_right(tool: &Tool, is_confirmed: bool, judged: Option<Level>) -> Result<()> {
    if !tool.is_enabled {
        let why = "The tool is turned off: it has changed, or an administrator wants it so.";
        return Err(access::denied(why));
    }
    let may = match tool.permission_level {
        level if judged.is_some_and(|judged| judged as u8 >= level as u8) => true,
        Level::Standard => true,
        Level::Elevated => access::is_admin_behind() || (!access::is_system() && auth::has(ELEVATED)),
        Level::Admin => access::is_admin_behind(),
    };
    if !may {
        return Err(access::denied(format!("The tool is for the level {}.", tool.permission_level)));
    }
    if tool.is_destructive && !is_confirmed && !access::is_admin_behind() {
        let why = "The tool may destroy something: say `confirm: true`.";
        return Err(access::denied(why).with("confirmationRequired", true));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_sdk::{auth::Principal, serde_json, testing};

    use super::*;

    fn tool(level: &str) -> Tool {
        let tool = json!({"serverId": "s", "name": "t", "inputSchema": {}, "annotations": {}, "isDestructive": false,
            "isLongRunning": false, "isEnabled": true, "schemaHash": "h", "permissionLevel": level});
        serde_json::from_value(tool).unwrap()
    }

    #[test]
    fn what_was_judged_when_it_was_ordered_holds_when_its_turn_comes() {
        // Whoever caused the message is no administrator as far as is known.
        testing::handle_message("o1");
        testing::become_principal(Principal { user_id: Some("u1".into()), ..auth::principal() });
        let may = |level: &str, judged: Option<Level>| require_right(&tool(level), true, judged).is_ok();
        assert!(may("STANDARD", None) && may("ELEVATED", Some(Level::Elevated)) && may("ELEVATED", Some(Level::Admin)));
        assert!(!may("ELEVATED", Some(Level::Standard)), "it has become more than was judged");
        assert!(!may("ELEVATED", None) && !may("ADMIN", Some(Level::Elevated)));
        testing::sign_in("u1", "o1");
        assert!(!may("ELEVATED", None));
        testing::permit(ELEVATED);
        assert!(may("ELEVATED", None) && !may("ADMIN", None));
    }
}
