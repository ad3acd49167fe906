//! Addresses below `/api/calendar/dav`: what they name, and how they are written. Pure.

/// Where it begins.
pub const ROOT: &str = "/api/calendar/dav";

/// What an address names. User and collection are ids; an object is named by its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The beginning.
    Root,
    /// A user.
    Principal(String),
    /// What holds the collections of a user.
    Home(String),
    /// A calendar as a user sees it.
    Collection(String, String),
    /// An event with what stands apart from it.
    Object(String, String, String),
}

impl Place {
    /// Reads a path.
    ///
    /// ```
    /// use calendar::dav::place::Place;
    /// let place = Place::parse("/api/calendar/dav/calendars/u1/c1/e1.ics").unwrap();
    /// assert_eq!(place, Place::Object("u1".into(), "c1".into(), "e1".into()));
    /// assert_eq!(place.href(), "/api/calendar/dav/calendars/u1/c1/e1.ics");
    /// assert_eq!(Place::parse("/api/calendar/dav/"), Some(Place::Root));
    /// assert_eq!(Place::parse("/api/calendar/dav/calendars/u1/c1/../e1.ics"), None);
    /// ```
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(ROOT)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Some(Self::Root);
        }
        let segments: Vec<&str> = rest.strip_prefix('/')?.split('/').collect();
        let is_name = |name: &&str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if !segments.iter().all(is_name) {
            return None;
        }
        match segments.as_slice() {
            ["principals", user] => Some(Self::Principal((*user).into())),
            ["calendars", user] => Some(Self::Home((*user).into())),
            ["calendars", user, collection] => Some(Self::Collection((*user).into(), (*collection).into())),
            ["calendars", user, collection, object] => {
                Some(Self::Object((*user).into(), (*collection).into(), object.strip_suffix(".ics")?.into()))
            }
            _ => None,
        }
    }

    /// Reads what a client calls an address: a path, or a whole URL.
    ///
    /// ```
    /// use calendar::dav::place::Place;
    /// assert_eq!(Place::of_href("https://example.com/api/calendar/dav/calendars/u1/"), Some(Place::Home("u1".into())));
    /// assert_eq!(Place::of_href("https://example.com"), None);
    /// ```
    pub fn of_href(href: &str) -> Option<Self> {
        let href = href.trim();
        match href.split_once("://") {
            Some((_, rest)) => Self::parse(rest.get(rest.find('/')?..)?),
            None => Self::parse(href),
        }
    }

    /// As it is written in answers.
    pub fn href(&self) -> String {
        match self {
            Self::Root => format!("{ROOT}/"),
            Self::Principal(user) => format!("{ROOT}/principals/{user}/"),
            Self::Home(user) => format!("{ROOT}/calendars/{user}/"),
            Self::Collection(user, collection) => format!("{ROOT}/calendars/{user}/{collection}/"),
            Self::Object(user, collection, object) => format!("{ROOT}/calendars/{user}/{collection}/{object}.ics"),
        }
    }

    /// Whose it is.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Root => None,
            Self::Principal(user) | Self::Home(user) | Self::Collection(user, _) | Self::Object(user, _, _) => {
                Some(user)
            }
        }
    }
}
