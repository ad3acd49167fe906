//! Resources: rows and lists that can be read, under addresses.

use berth_sdk::{
    canonical,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    arguments, catalogue,
    catalogue::parameter,
    dispatch::{Answer, Client, cursor, page},
    flow::Plan,
    offer::{self, Kind, Offered},
};
use crate::{
    protocol::message::{Request, RpcError},
    settings,
};

/// Characters of an address.
const URI_CHARS_MAX: usize = 2_000;

fn offered() -> Result<Vec<Offered>> {
    let settings = settings::of(&Pool)?;
    let catalogue = catalogue::load()?;
    let offers = offer::chosen(Kind::Resource)?;
    Ok(offer::resources(&catalogue, &settings, &offers).into_iter().filter(Offered::is_allowed).collect())
}

fn is_template(uri: &str) -> bool {
    uri.contains('{')
}

fn shown(offered: &Offered, address: &str) -> Value {
    let mut members = Map::new();
    members.insert(address.into(), json!(offered.uri));
    members.insert("name".into(), json!(offered.name));
    if let Some(title) = &offered.title {
        members.insert("title".into(), json!(title));
    }
    let words = if offered.description.is_empty() { &offered.operation.path } else { &offered.description };
    members.insert("description".into(), json!(words));
    if let Some(kind) = &offered.mime_type {
        members.insert("mimeType".into(), json!(kind));
    }
    Value::Object(members)
}

fn listed(request: &Request, name: &str, address: &str, wants_templates: bool) -> Result<Result<Value, RpcError>> {
    let offset = match cursor(request) {
        Ok(offset) => offset,
        Err(error) => return Ok(Err(error)),
    };
    let is_wanted = |offered: &&Offered| offered.uri.as_deref().is_some_and(|uri| is_template(uri) == wants_templates);
    let entries = offered()?.iter().filter(is_wanted).map(|offered| shown(offered, address)).collect();
    Ok(Ok(page(name, entries, offset)))
}

/// `resources/list`.
pub fn list(request: &Request) -> Result<Result<Value, RpcError>> {
    listed(request, "resources", "uri", false)
}

/// `resources/templates/list`.
pub fn templates(request: &Request) -> Result<Result<Value, RpcError>> {
    listed(request, "resourceTemplates", "uriTemplate", true)
}

/// What an address fills into a template; none when it does not fit. `{name}` stands for what has no slash.
fn matched(template: &str, uri: &str) -> Option<Map<String, Value>> {
    let mut found = Map::new();
    let (mut template, mut uri) = (template, uri);
    while let Some((before, rest)) = template.split_once('{') {
        uri = uri.strip_prefix(before)?;
        let (name, after) = rest.split_once('}')?;
        let next = after.split('{').next().unwrap_or_default();
        let end = match next.chars().next() {
            None => uri.len(),
            Some(_) => uri.find(next)?,
        };
        let (value, left) = uri.split_at(end);
        if value.is_empty() || value.contains(['/', '?', '#']) {
            return None;
        }
        found.insert(name.to_string(), decoded(value).into());
        (template, uri) = (after, left);
    }
    (template == uri).then_some(found)
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = (first == b'%').then(|| after.get(..2)).flatten();
        let byte = pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The offer of an address, with what the address says.
fn resolve(uri: &str) -> Result<Option<(Offered, Map<String, Value>)>> {
    if uri.chars().count() > URI_CHARS_MAX {
        return Ok(None);
    }
    Ok(offered()?.into_iter().find_map(|offered| {
        let arguments = matched(offered.uri.as_deref()?, uri)?;
        let is_whole = offered.operation.in_path.iter().all(|name| arguments.contains_key(name));
        is_whole.then_some((offered, arguments))
    }))
}

/// `resources/read`.
pub fn read(client: &Client, request: &Request) -> Result<Answer> {
    let Some(uri) = request.text("uri") else {
        return Ok(Answer::Error(RpcError::params("`uri` must be a text.")));
    };
    Ok(match resolve(uri)? {
        Some((offered, arguments)) => Answer::Plan(Box::new(Plan::resource(client, request, offered, uri, arguments))),
        None => Answer::Error(client.resource_missing(uri)),
    })
}

/// A text that changes when what is read at an address changes; none when there is nothing.
pub fn digest(uri: &str) -> Result<Option<String>> {
    let Some((offered, arguments)) = resolve(uri)? else { return Ok(None) };
    let Ok(call) = arguments::address(&offered.operation, &arguments) else { return Ok(None) };
    if offered.operation.is_native || offered.operation.is_streaming {
        return Ok(None);
    }
    let reply = call.timeout(std::time::Duration::from_secs(10)).send();
    Ok(reply.ok().filter(|reply| reply.is_success()).map(|reply| canonical::sha256_bytes(&reply.body)))
}

/// The collection that a template's rows are in, as a path; none where that cannot be told.
pub fn collection(template: &str, argument: &str) -> Result<Option<(Offered, String)>> {
    let found = offered()?.into_iter().find(|offered| offered.uri.as_deref() == Some(template));
    Ok(found.and_then(|offered| {
        let path = offered.operation.path.clone();
        let (before, last) = path.rsplit_once('/')?;
        (parameter(last) == Some(argument) && !before.contains('{')).then(|| (offered, before.to_string()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_fits_its_template_and_no_other() {
        let of = |template: &str, uri: &str| matched(template, uri).map(Value::Object);
        assert_eq!(of("berth://plans/{id}", "berth://plans/p%201"), Some(json!({"id": "p 1"})));
        assert_eq!(of("test://template/{id}/data", "test://template/123/data"), Some(json!({"id": "123"})));
        assert_eq!(of("a://{x}-{y}", "a://1-2"), Some(json!({"x": "1", "y": "2"})));
        assert_eq!(of("berth://plans", "berth://plans"), Some(json!({})));
        for (template, uri) in [
            ("berth://plans/{id}", "berth://plans/"),
            ("berth://plans/{id}", "berth://plans/a/b"),
            ("berth://plans/{id}", "berth://tasks/a"),
            ("berth://plans", "berth://plans/a"),
            ("a://{x}/b", "a://1/c"),
        ] {
            assert_eq!(of(template, uri), None, "{template} {uri}");
        }
    }
}
