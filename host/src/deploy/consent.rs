//! What a build asks for beside the one that runs, in words; and what of it somebody has to accept before a swap.
//!
//! Pure, and of what the host knows for certain: interfaces a component imports, with what the grant opens behind them, and
//! what it describes. It never widens anything: the manifest stays the upper bound.

use std::collections::BTreeSet;

use serde::Serialize;

use super::pattern::PathPattern;
use super::{Build, DeployError, DeployOptions, SlotOptions};
use crate::bindings::lifecycle::Route;
use crate::capability::grant;
use crate::engine;

/// Words of one kind that get into a sentence; the rest is counted.
const WORDS_TOLD_MAX: usize = 20;
/// Characters of a path in a word.
const PATH_CHARS_MAX: usize = 160;

/// How a build differs from the one that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Changes {
    /// Everything the build asks for: `tables plan_`, `publish planning.#`, `outbound api.example.com`, `call planning`,
    /// `consume execution.#`, `timer due`, `public GET /api/plans/{id}`, `cache`, `secrets`, `mail`,
    /// `act_for_users`, `serve_as_members calendar.calendar.read`.
    pub wants: Vec<String>,
    /// What of it the running build does not ask for. Empty where no build runs: there is nothing to compare with.
    pub newly_wants: Vec<String>,
    /// What only the running build asks for.
    pub no_longer_wants: Vec<String>,
    /// Routes of the running build that this one does not answer, as `GET /api/plans/{id}`.
    pub lost_routes: Vec<String>,
    /// Other plugins with a running build whose grant lets them call this one.
    pub callers: Vec<String>,
}

impl Changes {
    /// Compares `build` with `current` under the same entry of the manifest. A build that describes no routes at all
    /// because it does not describe itself loses none.
    pub(super) fn of<R: Build>(build: &R, current: Option<&R>, options: &SlotOptions, callers: Vec<String>) -> Self {
        let wants = Wants::of(build, options);
        let mut changes = Self { wants: wants.beyond(&Wants::default()), callers, ..Self::default() };
        let Some(current) = current else { return changes };
        let wanted = Wants::of(current, options);
        changes.newly_wants = wants.beyond(&wanted);
        changes.no_longer_wants = wanted.beyond(&wants);
        if let (Some(before), Some(after)) = (current.description(), build.description()) {
            changes.lost_routes = unanswered(before.routes.iter(), after.routes.iter()).map(label).collect();
        }
        changes
    }

    /// Refuses what `options` do not accept.
    ///
    /// # Errors
    /// `WantsMore` or `RoutesInUse`, with the words and the next step.
    pub(super) fn judge(&self, options: &DeployOptions) -> Result<(), DeployError> {
        if self.wants_more() && !options.grants {
            return Err(DeployError::WantsMore(format!(
                "this build newly wants: {}; the running one does not: accept it with `berth deploy --grant` \
                 (grant=true), or look first with --plan (plan=true)",
                tell(&self.newly_wants)
            )));
        }
        if self.leaves_callers() && !options.forces {
            return Err(DeployError::RoutesInUse(format!(
                "this build no longer has {}, which {} may call: deploy it with `berth deploy --force` (force=true) \
                 if they can do without",
                tell(&self.lost_routes),
                tell(&self.callers)
            )));
        }
        Ok(())
    }

    /// What a deploy of the build has to say: `grant`, `force`, both or nothing.
    pub(super) fn needs(&self) -> Vec<&'static str> {
        let needs = [("grant", self.wants_more()), ("force", self.leaves_callers())];
        needs.into_iter().filter(|(_, is_needed)| *is_needed).map(|(word, _)| word).collect()
    }

    /// What somebody has accepted, for the history; none where there was nothing to accept.
    pub(super) fn accepted(&self) -> Option<String> {
        let granted = self.wants_more().then(|| format!("granted: {}", tell(&self.newly_wants)));
        let forced = self.leaves_callers().then(|| format!("forced: without {}", tell(&self.lost_routes)));
        let parts: Vec<String> = granted.into_iter().chain(forced).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn wants_more(&self) -> bool {
        !self.newly_wants.is_empty()
    }

    fn leaves_callers(&self) -> bool {
        !self.lost_routes.is_empty() && !self.callers.is_empty()
    }
}

/// What one build asks for, so that it can be compared.
#[derive(Default)]
struct Wants<'a> {
    /// Compared as they are.
    words: BTreeSet<String>,
    /// Patterns of event types; a wider one includes a narrower one.
    consumes: Vec<&'a str>,
    /// Routes without a token; a wider path includes a narrower one.
    public: Vec<&'a Route>,
}

impl<'a> Wants<'a> {
    fn of(build: &'a impl Build, options: &'a SlotOptions) -> Self {
        let granted = &options.plugin.grant;
        let mut wants =
            Self { words: engine::opened(build.imports().iter().map(String::as_str), granted), ..Self::default() };
        let description = build.description();
        if build.exports().consumer {
            // As the worker binds it: one that does not describe itself hears all that it may.
            let bindings = description.map_or(&granted.consume, |described| &described.bindings);
            wants.consumes = bindings.iter().map(String::as_str).collect();
            let timers = description.into_iter().flat_map(|described| &described.timers);
            wants.words.extend(timers.map(|timer| format!("timer {}", timer.name)));
        }
        let routes = description.into_iter().flat_map(|described| &described.routes);
        wants.public = routes.filter(|route| route.is_public).collect();
        wants
    }

    /// What `self` asks for and `other` does not, in words.
    fn beyond(&self, other: &Wants<'_>) -> Vec<String> {
        let is_heard = |topic: &&&str| other.consumes.iter().any(|wider| grant::topic_covers(wider, topic));
        let mut words: Vec<String> = self.words.difference(&other.words).cloned().collect();
        words.extend(self.consumes.iter().filter(|topic| !is_heard(topic)).map(|topic| format!("consume {topic}")));
        let public = unanswered(self.public.iter().copied(), other.public.iter().copied());
        words.extend(public.map(|route| format!("public {}", label(route))));
        words
    }
}

/// The routes of `before` that none of `after` answers.
fn unanswered<'a, 'b>(
    before: impl Iterator<Item = &'a Route>,
    after: impl Iterator<Item = &'b Route>,
) -> impl Iterator<Item = &'a Route> {
    // What is malformed was refused before; it would answer nothing.
    let answering: Vec<(&str, PathPattern)> =
        after.filter_map(|route| Some((route.method.as_str(), PathPattern::parse(&route.path).ok()?))).collect();
    before.filter(move |route| {
        let Ok(pattern) = PathPattern::parse(&route.path) else { return false };
        !answering.iter().any(|(method, wider)| *method == route.method && wider.covers(&pattern))
    })
}

fn label(route: &Route) -> String {
    let path: String = route.path.chars().take(PATH_CHARS_MAX).collect();
    format!("{} {path}", route.method)
}

fn tell(words: &[String]) -> String {
    let told = words.iter().take(WORDS_TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match words.len().saturating_sub(WORDS_TOLD_MAX) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}
