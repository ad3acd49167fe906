//! Entries of plugins that are added, changed and removed while a host runs.

use reqwest::Method;

use crate::{Answer, Host};

/// Adds a plugin as curl would.
///
/// # Panics
/// When no answer comes.
pub async fn add(host: &Host, name: &str, entry: &str, component: Vec<u8>) -> Answer {
    let head = |name: &str| format!("--limit\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
    let mut form = format!("{}{entry}\r\n{}", head("entry"), head("component")).into_bytes();
    form.extend(component);
    form.extend(b"\r\n--limit--\r\n");
    let operator = host.operator();
    let request = operator.request(Method::POST, &path(name));
    operator.send(request.header("content-type", "multipart/form-data; boundary=limit").body(form)).await
}

/// Changes the keys of an entry that are named.
///
/// # Panics
/// When no answer comes.
pub async fn set(host: &Host, name: &str, keys: &str) -> Answer {
    let operator = host.operator();
    let request = operator.request(Method::PATCH, &path(name)).header("content-type", "application/toml");
    operator.send(request.body(keys.to_owned())).await
}

/// Removes a plugin and waits for its drain.
///
/// # Panics
/// When no answer comes.
pub async fn remove(host: &Host, name: &str) -> Answer {
    host.operator().delete(&format!("{}?wait=true", path(name))).await
}

/// Where a plugin's entry is.
#[must_use]
pub fn path(name: &str) -> String {
    format!("/api/admin/plugins/{name}")
}
