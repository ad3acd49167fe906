//! The deployer as the gateway's administration routes see it: JSON in and out.

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::deploy::{DeployError, DeployOptions, DeployReport, Deployer, EntryChange};
use crate::gateway::{Administration, DeployAnswer, TrialEnd};

/// Deploys through the one deployer of the host.
pub(super) struct Deploying(pub Deployer);

#[async_trait]
impl Administration for Deploying {
    fn plugins(&self) -> Value {
        json(&self.0.plugins())
    }

    async fn hosts(&self) -> Result<Value, DeployError> {
        self.0.hosts().await.map(|hosts| json(&hosts))
    }

    fn status(&self) -> Value {
        json(&self.0.status())
    }

    fn grants(&self) -> Value {
        json(&self.0.grants())
    }

    fn routes(&self) -> Value {
        json(&self.0.routes())
    }

    async fn deploy(
        &self,
        plugin: &str,
        component: Bytes,
        options: DeployOptions,
    ) -> Result<DeployAnswer, DeployError> {
        self.0.deploy(plugin, component, options).await.map(answer)
    }

    async fn plan(&self, plugin: &str, component: Bytes, options: DeployOptions) -> Result<Value, DeployError> {
        self.0.plan(plugin, component, options).await.map(|plan| json(&plan))
    }

    async fn rollback(
        &self,
        plugin: &str,
        revision: Option<i64>,
        options: DeployOptions,
    ) -> Result<DeployAnswer, DeployError> {
        self.0.rollback(plugin, revision, options).await.map(answer)
    }

    async fn end_trial(
        &self,
        plugin: &str,
        end: TrialEnd,
        options: DeployOptions,
    ) -> Result<DeployAnswer, DeployError> {
        match end {
            TrialEnd::Promote => self.0.promote(plugin, options).await.map(answer),
            TrialEnd::Abort => self.0.abort(plugin, options).await.map(answer),
        }
    }

    async fn entry(&self, plugin: &str) -> Result<String, DeployError> {
        self.0.entry(plugin).await
    }

    async fn add(
        &self,
        plugin: &str,
        entry: String,
        component: Bytes,
        options: DeployOptions,
    ) -> Result<DeployAnswer, DeployError> {
        self.0.add(plugin, entry, component, options).await.map(answer)
    }

    async fn change(
        &self,
        plugin: &str,
        change: EntryChange,
        options: DeployOptions,
    ) -> Result<DeployAnswer, DeployError> {
        let report = self.0.change(plugin, change, options).await?;
        Ok(DeployAnswer { has_drained: !report.is_draining, report: json(&report) })
    }

    async fn component(&self, sha256: &str) -> Result<Option<Bytes>, DeployError> {
        self.0.component(sha256).await
    }

    async fn history(&self, plugin: &str, limit: i64) -> Result<Value, DeployError> {
        self.0.history(plugin, limit).await.map(|entries| json(&entries))
    }
}

fn answer(report: DeployReport) -> DeployAnswer {
    // Without a predecessor, and at the beginning of a trial, there is nothing to wait for.
    let has_switched = report.flip_us.is_some() || report.action == "abort";
    DeployAnswer {
        has_drained: report.drained_ms.is_some() || report.previous_revision.is_none() || !has_switched,
        report: json(&report),
    }
}

/// These types have only text keys and finite numbers, so that nothing can fail.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
