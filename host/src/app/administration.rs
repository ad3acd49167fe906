//! The deployer as the gateway's administration routes see it: JSON in and out.

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::deploy::{DeployError, DeployOptions, DeployReport, Deployer};
use crate::gateway::{Administration, DeployAnswer};

/// Deploys through the one deployer of the host.
pub(super) struct Deploying(pub Deployer);

#[async_trait]
impl Administration for Deploying {
    fn plugins(&self) -> Value {
        json(&self.0.plugins())
    }

    fn routes(&self) -> Value {
        json(&self.0.routes())
    }

    async fn deploy(
        &self,
        plugin: &str,
        component: Bytes,
        actor: String,
        waits_for_drain: bool,
    ) -> Result<DeployAnswer, DeployError> {
        self.0.deploy(plugin, component, DeployOptions { actor, waits_for_drain }).await.map(answer)
    }

    async fn rollback(
        &self,
        plugin: &str,
        revision: Option<i64>,
        actor: String,
        waits_for_drain: bool,
    ) -> Result<DeployAnswer, DeployError> {
        self.0.rollback(plugin, revision, DeployOptions { actor, waits_for_drain }).await.map(answer)
    }

    async fn history(&self, plugin: &str, limit: i64) -> Result<Value, DeployError> {
        self.0.history(plugin, limit).await.map(|entries| json(&entries))
    }
}

fn answer(report: DeployReport) -> DeployAnswer {
    // Without a predecessor there is nothing to wait for.
    DeployAnswer {
        has_drained: report.drained_ms.is_some() || report.previous_revision.is_none(),
        report: json(&report),
    }
}

/// These types have only text keys and finite numbers, so that nothing can fail.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
