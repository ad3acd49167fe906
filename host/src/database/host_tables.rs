//! The host's own migrations: every file of `migrations/host/`, in order. A file once released never changes.

use super::Migration;

/// Applied at start as owner `host`.
pub(crate) const HOST_MIGRATIONS: &[Migration] = &[
    Migration::both("0000_database", include_str!("../../../migrations/host/0000_database.sql")),
    Migration::both("0001_accounts", include_str!("../../../migrations/host/0001_accounts.sql")),
    Migration::both("0002_queue", include_str!("../../../migrations/host/0002_queue.sql")),
    Migration::both("0003_deploy", include_str!("../../../migrations/host/0003_deploy.sql")),
    Migration::both("0004_gateway", include_str!("../../../migrations/host/0004_gateway.sql")),
    Migration::both("0005_secrets", include_str!("../../../migrations/host/0005_secrets.sql")),
    Migration::both("0006_queue_ticks", include_str!("../../../migrations/host/0006_queue_ticks.sql")),
    Migration::both("0007_trace", include_str!("../../../migrations/host/0007_trace.sql")),
    Migration::both("0010_identity", include_str!("../../../migrations/host/0010_identity.sql")),
    Migration::both("0014_trials", include_str!("../../../migrations/host/0014_trials.sql")),
    Migration::both("0018_cluster", include_str!("../../../migrations/host/0018_cluster.sql")),
    Migration::both("0020_events", include_str!("../../../migrations/host/0020_events.sql")),
    Migration::both("0022_plugin_changes", include_str!("../../../migrations/host/0022_plugin_changes.sql")),
    Migration::both("0024_machine_code", include_str!("../../../migrations/host/0024_machine_code.sql")),
    Migration::both("0025_watches", include_str!("../../../migrations/host/0025_watches.sql")),
    Migration::both("0026_unbound", include_str!("../../../migrations/host/0026_unbound.sql")),
    Migration::both("0027_holders", include_str!("../../../migrations/host/0027_holders.sql")),
];
