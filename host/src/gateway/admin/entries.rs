//! `/api/admin/plugins/{name}`: a plugin's entry, and plugins added, changed and removed while the host runs.
//!
//! An entry is TOML, as in `plugins.toml`. Nothing is judged here: the deployer judges the whole manifest.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Body as HttpBody;
use serde_json::json;

use super::request;
use super::{
    Gateway, GatewayError, IDLE_TIME_MAX, ResponseBody, Upstream, deployed, is_set, method_not_allowed, multipart, ok,
    receive, respond,
};
use crate::body::BodyError;
use crate::deploy::{DeployOptions, EntryChange};

/// Bytes of an entry.
const ENTRY_BYTES_MAX: usize = 256 * 1024;
/// The media type of an entry.
const TOML: &str = "application/toml";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

impl<U: Upstream> Gateway<U> {
    /// Shows (`GET`), adds (`POST`), replaces (`PUT`), changes (`PATCH`) or removes (`DELETE`) a plugin.
    pub(super) async fn entry<B>(
        &self,
        plugin: &str,
        method: &Method,
        actor: String,
        parts: &Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, GatewayError>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        let change = match *method {
            Method::GET => {
                let entry = self.administration()?.entry(plugin).await?;
                return Ok(ok(&json!({ "name": plugin, "entry": entry })));
            }
            Method::POST => return self.add(plugin, actor, parts, body).await,
            Method::PUT => EntryChange::Replace(self.sent_entry(parts, body).await?),
            Method::PATCH => EntryChange::Merge(self.sent_entry(parts, body).await?),
            Method::DELETE => EntryChange::Remove,
            _ => return Err(method_not_allowed(METHODS)),
        };
        let options = DeployOptions { waits_for_drain: is_set(parts, "wait")?, ..DeployOptions::by(actor) };
        Ok(deployed(&self.administration()?.change(plugin, change, options).await?))
    }

    async fn add<B>(
        &self,
        plugin: &str,
        actor: String,
        parts: &Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, GatewayError>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        let boundary = multipart::boundary(content_type(parts))
            .ok_or_else(|| GatewayError::UnsupportedMediaType("multipart/form-data: entry and component".to_owned()))?;
        let bytes_max = self.uploads.bytes_max.saturating_add(ENTRY_BYTES_MAX);
        receive::check_length(&parts.headers, bytes_max)?;
        let permit = self.uploads.permits.try_acquire().map_err(|_| GatewayError::Busy)?;
        let whole = receive::read_whole(body, &self.budget, bytes_max, IDLE_TIME_MAX).await?;
        let (form, _held) = whole.into_parts();
        let sent = multipart::read(&form, boundary).map_err(GatewayError::Malformed)?;
        drop(form);
        let (mut entry, mut component) = (None, None);
        for part in sent {
            match part.name.as_str() {
                "entry" if entry.is_none() => entry = Some(part.bytes),
                "component" if component.is_none() => component = Some(part.bytes),
                _ => return Err(GatewayError::Malformed("the form has other parts than one entry and one component")),
            }
        }
        let (Some(entry), Some(component)) = (entry, component) else {
            return Err(GatewayError::Malformed("the form must have the parts entry and component"));
        };
        if entry.len() > ENTRY_BYTES_MAX {
            return Err(GatewayError::BodyTooLarge(ENTRY_BYTES_MAX));
        }
        let options = DeployOptions {
            source: request::source(parts)?,
            signature: request::signature(parts)?,
            ..DeployOptions::by(actor)
        };
        let answer = self.administration()?.add(plugin, text(&entry)?, component, options).await?;
        drop(permit);
        Ok(respond::json(StatusCode::CREATED, &answer.report))
    }

    async fn sent_entry<B>(&self, parts: &Parts, body: B) -> Result<String, GatewayError>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        let sent = content_type(parts);
        let media_type = sent.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case(TOML) {
            return Err(GatewayError::UnsupportedMediaType(TOML.to_owned()));
        }
        let whole = receive::read_whole(body, &self.budget, ENTRY_BYTES_MAX, IDLE_TIME_MAX).await?;
        text(&whole.bytes)
    }
}

fn content_type(parts: &Parts) -> &str {
    parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn text(bytes: &Bytes) -> Result<String, GatewayError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| GatewayError::Malformed("the entry is not UTF-8"))
}
