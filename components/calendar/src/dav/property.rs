//! What is told of a root, a principal, a home, a collection and an object, each by the names that clients know.

use berth_sdk::prelude::*;

use super::{
    collection::{Collection, Object, Reader},
    place::Place,
    report::{Asked, Data, Wanted},
    xml::{self, APPLE, CALDAV, DAV, Multistatus, Name, SERVER, element, escape},
};

/// What a state begins with where it has to be an address.
pub const TOKEN: &str = "urn:berth:calendar:state:";

/// What is spoken of.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// The beginning.
    Root,
    /// Who reads.
    Principal,
    /// What holds the collections.
    Home,
    /// A calendar.
    Collection(&'a Collection),
    /// An event of it.
    Object(&'a Collection, &'a Object),
}

impl Subject<'_> {
    /// Its address.
    pub fn place(self, reader: &Reader) -> Place {
        let user = || reader.user_id.as_str().to_string();
        match self {
            Self::Root => Place::Root,
            Self::Principal => reader.principal(),
            Self::Home => Place::Home(user()),
            Self::Collection(collection) => Place::Collection(user(), collection.id.clone()),
            Self::Object(collection, object) => Place::Object(user(), collection.id.clone(), object.name.clone()),
        }
    }

    /// The properties it has beside those that all have.
    fn names(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Root => &[],
            Self::Principal => &[
                (DAV, "displayname"),
                (DAV, "principal-URL"),
                (CALDAV, "calendar-home-set"),
                (CALDAV, "calendar-user-address-set"),
            ],
            Self::Home => &[(DAV, "displayname"), (DAV, "owner")],
            Self::Collection(_) => &[
                (DAV, "displayname"),
                (DAV, "owner"),
                (DAV, "sync-token"),
                (DAV, "supported-report-set"),
                (CALDAV, "calendar-description"),
                (CALDAV, "supported-calendar-component-set"),
                (CALDAV, "supported-calendar-data"),
                (SERVER, "getctag"),
                (APPLE, "calendar-color"),
            ],
            Self::Object(..) => &[(DAV, "getetag"), (DAV, "getcontenttype"), (DAV, "getlastmodified")],
        }
    }

    /// What a property of it is, as XML; none where it has no such property.
    fn value(self, reader: &Reader, name: (&str, &str), data: Data) -> Result<Option<String>> {
        let at = |place: Place| Some(xml::href(&place.href()));
        Ok(match (name, self) {
            ((DAV, "resourcetype"), _) => Some(self.kind()),
            ((DAV, "current-user-principal"), _) => at(reader.principal()),
            ((DAV, "current-user-privilege-set"), _) => Some(element((DAV, "privilege"), &element((DAV, "read"), ""))),
            ((DAV, "displayname"), Self::Principal) => {
                let principal = auth::principal();
                principal.name.or(principal.email).map(|name| escape(&name))
            }
            ((DAV, "displayname"), Self::Home) => Some("Calendars".into()),
            ((DAV, "principal-URL"), Self::Principal) => at(reader.principal()),
            ((CALDAV, "calendar-home-set"), Self::Principal) => at(Subject::Home.place(reader)),
            ((CALDAV, "calendar-user-address-set"), Self::Principal) => {
                auth::principal().email.map(|email| xml::href(&format!("mailto:{email}")))
            }
            ((DAV, "owner"), Self::Home) => at(reader.principal()),
            (_, Self::Collection(collection)) => collection_value(reader, collection, name)?,
            ((DAV, "getetag"), Self::Object(_, object)) => Some(escape(&object.etag)),
            ((DAV, "getcontenttype"), Self::Object(..)) => Some(super::OBJECT_TYPE.into()),
            ((DAV, "getlastmodified"), Self::Object(_, object)) => {
                Some(object.updated_at.date_time().format("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
            ((CALDAV, "calendar-data"), Self::Object(_, object)) => object.text(reader, data).map(|text| escape(&text)),
            _ => None,
        })
    }

    fn kind(self) -> String {
        let kinds: &[(&str, &str)] = match self {
            Self::Root | Self::Home => &[(DAV, "collection")],
            Self::Principal => &[(DAV, "collection"), (DAV, "principal")],
            Self::Collection(_) => &[(DAV, "collection"), (CALDAV, "calendar")],
            Self::Object(..) => &[],
        };
        kinds.iter().map(|kind| element(*kind, "")).collect()
    }
}

fn collection_value(reader: &Reader, collection: &Collection, name: (&str, &str)) -> Result<Option<String>> {
    Ok(match name {
        (DAV, "displayname") => Some(escape(&collection.name)),
        (DAV, "owner") if collection.is_own => Some(xml::href(&reader.principal().href())),
        (DAV, "sync-token") => Some(format!("{TOKEN}{}", collection.state(reader)?)),
        (SERVER, "getctag") => Some(collection.state(reader)?),
        (DAV, "supported-report-set") => Some(super::report::KINDS.iter().map(|kind| report(*kind)).collect()),
        (CALDAV, "calendar-description") => collection.description.as_deref().map(escape),
        (CALDAV, "supported-calendar-component-set") => Some("<C:comp name=\"VEVENT\"/>".into()),
        (CALDAV, "supported-calendar-data") => {
            Some("<C:calendar-data content-type=\"text/calendar\" version=\"2.0\"/>".into())
        }
        (APPLE, "calendar-color") => collection.color.as_deref().map(escape),
        _ => None,
    })
}

fn report(kind: (&str, &str)) -> String {
    element((DAV, "supported-report"), &element((DAV, "report"), &element(kind, "")))
}

/// What all have.
static COMMON: [(&str, &str); 3] =
    [(DAV, "resourcetype"), (DAV, "current-user-principal"), (DAV, "current-user-privilege-set")];

/// Adds what is asked of a resource to an answer.
pub fn tell(answer: &mut Multistatus, reader: &Reader, subject: Subject<'_>, asked: &Asked) -> Result<()> {
    let known = || COMMON.iter().chain(subject.names()).copied();
    let address = subject.place(reader).href();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    match &asked.wanted {
        Wanted::Names => found.extend(known().map(|name| element(name, ""))),
        // Only what WebDAV itself knows, as it says; the rest costs more than it is worth to who has not asked for it.
        Wanted::All => {
            for name in known().filter(|(namespace, name)| *namespace == DAV && *name != "sync-token") {
                found.extend(subject.value(reader, name, asked.data)?.map(|value| element(name, &value)));
            }
        }
        Wanted::These(names) => {
            for name in names {
                match subject.value(reader, name.pair(), asked.data)? {
                    Some(value) => found.push(element(name.pair(), &value)),
                    None => missing.push(Name::clone(name)),
                }
            }
        }
    }
    answer.add(&address, &found, &missing);
    if answer.is_full() {
        return Err(super::too_much());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dav::xml::parse;

    #[test]
    fn a_principal_says_where_its_calendars_are_and_what_it_does_not_know() {
        berth_sdk::testing::sign_in("u1", "o1");
        let reader = Reader::caller().unwrap();
        let names = [(CALDAV, "calendar-home-set"), (DAV, "quota-used-bytes"), (DAV, "resourcetype")].map(Name::known);
        let asked = Asked { wanted: Wanted::These(names.into()), data: Data::Nothing };
        let mut answer = Multistatus::default();
        tell(&mut answer, &reader, Subject::Principal, &asked).unwrap();
        let response = answer.response();
        let text = String::from_utf8(response.whole_body().unwrap().to_vec()).unwrap();
        let document = parse(&text).unwrap();
        let is_there = |name: (&'static str, &'static str)| document.descendants().any(|node| node.has_tag_name(name));
        assert!(text.contains("<C:calendar-home-set><D:href>/api/calendar/dav/calendars/u1/</D:href>"), "{text}");
        assert!(is_there((DAV, "principal")) && text.contains("404 Not Found") && is_there((DAV, "quota-used-bytes")));
    }

    #[test]
    fn every_name_that_is_told_has_its_element() {
        berth_sdk::testing::sign_in("u1", "o1");
        let reader = Reader::caller().unwrap();
        let asked = |wanted| Asked { wanted, data: Data::Nothing };
        for subject in [Subject::Root, Subject::Principal, Subject::Home] {
            for wanted in [Wanted::Names, Wanted::All] {
                let mut answer = Multistatus::default();
                tell(&mut answer, &reader, subject, &asked(wanted)).unwrap();
                let text = String::from_utf8(answer.response().whole_body().unwrap().to_vec()).unwrap();
                assert!(parse(&text).is_ok() && text.contains("current-user-principal"), "{text}");
            }
        }
    }
}
