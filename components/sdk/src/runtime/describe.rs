//! What the component says of itself, as the host wants it.

use crate::{
    bindings::exports::berth::platform::lifecycle as wit,
    migrations::Dialect,
    router::{Access, Route},
    service::Service,
};

/// Describes a service. Pure: uses no capability.
pub(super) fn description(service: &Service) -> wit::Description {
    wit::Description {
        name: service.name().to_string(),
        version: service.version().to_string(),
        routes: service.router().map(|router| router.routes().iter().map(route).collect()).unwrap_or_default(),
        bindings: service.bindings().into_iter().map(ToString::to_string).collect(),
        timers: service
            .timers()
            .iter()
            .map(|(name, schedule)| wit::Timer { name: name.clone(), schedule: schedule.clone() })
            .collect(),
        migrations: service
            .embedded_migrations()
            .iter()
            .map(|migration| wit::Migration {
                name: migration.name.to_string(),
                dialect: match migration.dialect {
                    Dialect::Any => wit::Dialect::Any,
                    Dialect::Sqlite => wit::Dialect::Sqlite,
                    Dialect::Postgres => wit::Dialect::Postgres,
                },
                sql: migration.sql.to_string(),
            })
            .collect(),
        required_config: service.needed_config().to_vec(),
    }
}

fn route(route: &Route) -> wit::Route {
    wit::Route {
        method: route.method.to_string(),
        path: route.path.clone(),
        summary: route.summary.clone(),
        permission: route.permission(),
        is_public: route.access == Access::Public,
        is_streaming: route.is_streaming,
        needs_organization: route.needs_organization,
        parameters: route
            .parameters()
            .into_iter()
            .map(|parameter| wit::QueryParameter {
                name: parameter.name,
                description: parameter.description,
                required: parameter.is_required,
                schema: parameter.schema.to_string(),
            })
            .collect(),
        request_schema: route.request_schema().map(|schema| schema.to_string()),
        request_media_type: None,
        answers: route
            .answers()
            .into_iter()
            .map(|answer| wit::Answer {
                status: answer.status,
                description: answer.description,
                schema: answer.schema.map(|schema| schema.to_string()),
                media_type: answer.media_type,
            })
            .collect(),
        tag: route.tag.clone(),
    }
}
