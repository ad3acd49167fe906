//! The routes a component describes, matched the way its own router matches them.

use std::collections::HashMap;

use crate::bindings::lifecycle::Route;

/// What a method and a path are to a component.
#[derive(Debug)]
pub(crate) enum RouteMatch<'a> {
    /// It describes them.
    Described(&'a Route),
    /// It describes the path, but not with this method; these it does.
    OtherMethods(&'a [String]),
    /// It does not describe the path.
    Unknown,
}

/// All routes of one component, by path and then by method.
#[derive(Default)]
pub(super) struct Routes {
    paths: matchit::Router<usize>,
    entries: Vec<Entry>,
}

#[derive(Default)]
struct Entry {
    methods: Vec<String>,
    routes: Vec<Route>,
}

impl Routes {
    /// Indexes what a component describes.
    ///
    /// # Errors
    /// A sentence when two paths contradict each other or one is malformed.
    pub(super) fn new(described: &[Route]) -> Result<Self, String> {
        let mut routes = Self::default();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for route in described {
            let index = match known.get(route.path.as_str()) {
                Some(index) => *index,
                None => {
                    let index = routes.entries.len();
                    routes
                        .paths
                        .insert(&route.path, index)
                        .map_err(|error| format!("route {}: {error}", route.path))?;
                    routes.entries.push(Entry::default());
                    known.insert(&route.path, index);
                    index
                }
            };
            if let Some(entry) = routes.entries.get_mut(index) {
                if entry.methods.contains(&route.method) {
                    return Err(format!("route {} {} is described twice", route.method, route.path));
                }
                entry.methods.push(route.method.clone());
                entry.routes.push(route.clone());
            }
        }
        Ok(routes)
    }

    /// Finds what `method` and `path` are.
    pub(super) fn find(&self, method: &str, path: &str) -> RouteMatch<'_> {
        let Some(entry) = self.paths.at(path).ok().and_then(|found| self.entries.get(*found.value)) else {
            return RouteMatch::Unknown;
        };
        match entry.methods.iter().position(|known| known == method).and_then(|index| entry.routes.get(index)) {
            Some(route) => RouteMatch::Described(route),
            None => RouteMatch::OtherMethods(&entry.methods),
        }
    }
}
