//! What people see and learn: appointments, messages, notifications, knowledge, capacity, experiments and learning.

use berth_sdk::{prelude::*, serde_json::Value};

use super::{Category, Setup, WidgetType, planning::slim};
use crate::{
    consume::Topic,
    data::{
        look::Look,
        step::{Ask, Step},
    },
};

const NOTIFICATIONS: &str = "notification-manager";
/// The days that are looked at when nothing is said.
const DAYS: u32 = 30;

pub(super) const TYPES: &[WidgetType] = &[
    WidgetType::new::<Agenda>("calendar_agenda", "Agenda", "What comes next.", Category::People)
        .reads("calendar")
        .sized(4, 6)
        .cached(60, &[]),
    WidgetType::new::<Unread>(
        "unread_messages",
        "Unread messages",
        "Where something was said that one has not read.",
        Category::People,
    )
    .reads("messaging")
    .sized(4, 4)
    .cached(30, &[]),
    WidgetType::new::<Notifications>(
        "notifications",
        "Notifications",
        "The latest notifications of whoever looks.",
        Category::People,
    )
    .reads(NOTIFICATIONS)
    .sized(4, 4)
    .cached(30, &[Topic::Notification]),
    WidgetType::new::<RecentKnowledge>(
        "recent_knowledge",
        "Recent knowledge",
        "Entries that were written or changed last.",
        Category::Knowledge,
    )
    .reads("knowledge-base")
    .cached(120, &[]),
    WidgetType::new::<TeamCapacity>(
        "team_capacity",
        "Capacity",
        "How much of everybody's time is taken.",
        Category::People,
    )
    .reads("resource-management")
    .cached(300, &[]),
    WidgetType::new::<Experiments>(
        "experiments",
        "Experiments",
        "Experiments and where they stand.",
        Category::Quality,
    )
    .reads("quality")
    .cached(120, &[]),
    WidgetType::new::<LearningProgress>(
        "learning_progress",
        "Learning",
        "What whoever looks has learnt.",
        Category::Knowledge,
    )
    .reads("learning-development")
    .cached(120, &[]),
];

/// How the agenda is set up.
#[data]
struct Agenda {
    #[field(min = 1, max = 92, default = 7)]
    days: i64,
    /// Whose wall clock; UTC when absent.
    #[field(min = 1, max = 64)]
    timezone: Option<String>,
    calendar_id: Option<Id>,
    project_id: Option<Id>,
    /// Only what whoever looks takes part in.
    #[field(default)]
    mine: bool,
}

impl Setup for Agenda {
    fn plan(self, look: &Look) -> Result<Step> {
        Step::read(
            Ask::get("calendar", "/api/calendar/views/agenda")
                .with("days", self.days.to_string())
                .with_some("timezone", self.timezone)
                .with_some("date", begin(look).map(|from| from.to_string()))
                .with_some("calendarId", self.calendar_id.as_deref())
                .with_some("projectId", look.project_id(self.project_id.as_ref()))
                .with_some("userId", self.mine.then_some(look.user_id.as_str())),
        )
    }
}

/// The day that an agenda begins on, where that is not today: what comes next is never in the past, unless all that is looked
/// at is.
fn begin(look: &Look) -> Option<Timestamp> {
    let is_past = look.window.to.is_some_and(|to| to < look.now);
    look.window.from.filter(|from| is_past || *from > look.now)
}

/// How unread messages are set up.
#[data]
struct Unread {
    /// Conversations that are shown.
    #[field(min = 1, max = 100, default = 10)]
    limit: i64,
}

impl Setup for Unread {
    fn plan(self, _: &Look) -> Result<Step> {
        let limit = usize::try_from(self.limit).unwrap_or(10);
        Step::made(Ask::get("messaging", "/api/messaging/unread"), move |mut unread| {
            if let Some(Value::Array(conversations)) = unread.get_mut("conversations") {
                conversations.truncate(limit);
            }
            Ok(unread)
        })
    }
}

/// How notifications are set up.
#[data]
struct Notifications {
    /// What has been read, too.
    #[field(default)]
    include_read: bool,
    #[field(min = 1, max = 50, default = 10)]
    limit: i64,
}

impl Setup for Notifications {
    fn plan(self, _: &Look) -> Result<Step> {
        let ask = Ask::get(NOTIFICATIONS, "/api/notifications")
            .with("sortBy", "createdAt")
            .with("order", "desc")
            .with("limit", self.limit.to_string())
            .with_some("read", (!self.include_read).then_some("false"));
        Step::read(ask)
    }
}

/// How recent knowledge is set up.
#[data]
struct RecentKnowledge {
    project_id: Option<Id>,
    space_id: Option<Id>,
    #[field(min = 1, max = 64)]
    category: Option<String>,
    #[field(min = 1, max = 50, default = 10)]
    limit: i64,
}

impl Setup for RecentKnowledge {
    fn plan(self, look: &Look) -> Result<Step> {
        let ask = Ask::get("knowledge-base", "/api/knowledge")
            .with("sortBy", "updatedAt")
            .with("order", "desc")
            .with("limit", self.limit.to_string())
            .with_some("category", self.category.as_deref())
            .with_some("spaceId", self.space_id.as_deref())
            .with_some("projectId", look.project_id(self.project_id.as_ref()));
        let fields = &["id", "title", "slug", "category", "status", "summary", "authorId", "lastEditedBy", "updatedAt"];
        Step::made(ask, |page| Ok(slim(page, fields)))
    }
}

/// What capacity is told apart by.
#[choice]
enum CapacityGroup {
    User,
    Team,
    Project,
    Week,
    Month,
}

/// How capacity is set up.
#[data]
struct TeamCapacity {
    team_id: Option<Id>,
    #[field(default = CapacityGroup::User)]
    group_by: CapacityGroup,
}

impl Setup for TeamCapacity {
    fn plan(self, look: &Look) -> Result<Step> {
        Step::read(
            Ask::get("resource-management", "/api/capacity/utilization")
                .with("groupBy", self.group_by.as_str())
                .on_days(look.days(DAYS))
                .with_some("teamId", look.team_id(self.team_id.as_ref())),
        )
    }
}

/// How experiments are set up.
#[data]
struct Experiments {
    project_id: Option<Id>,
    #[field(min = 1, max = 64)]
    status: Option<String>,
    #[field(min = 1, max = 50, default = 10)]
    limit: i64,
}

impl Setup for Experiments {
    fn plan(self, look: &Look) -> Result<Step> {
        let ask = Ask::get("quality", "/api/experiments")
            .with("limit", self.limit.to_string())
            .with_some("status", self.status.as_deref())
            .with_some("projectId", look.project_id(self.project_id.as_ref()));
        Step::read(ask)
    }
}

/// How learning is set up.
#[data]
struct LearningProgress {}

impl Setup for LearningProgress {
    fn plan(self, look: &Look) -> Result<Step> {
        let ask = Ask::get("learning-development", "/api/learning/progress/summary");
        Step::read(ask.during(look.days(DAYS)))
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::http::read_value;

    use super::*;
    use crate::dashboard::Dashboard;

    #[test]
    fn capacity_is_asked_for_by_days() {
        let dashboard: Dashboard =
            read_value(json!({"name": "d", "scope": "TEAM", "scopeId": "t1", "filters": {"from": "2026-03-02", "to": "2026-03-09"}}))
                .unwrap();
        let look = Look::new(&dashboard, "me".into(), clock::now(), (None, None), None).unwrap();
        let setup: TeamCapacity = read_value(json!({"groupBy": "week"})).unwrap();
        let Step::Ask(asks, _, _) = setup.plan(&look).unwrap() else { panic!("nothing is asked") };
        assert_eq!(
            asks[0].url(),
            "http://resource-management.internal/api/capacity/utilization?groupBy=week&from=2026-03-02&to=2026-03-09&teamId=t1"
        );
    }

    #[test]
    fn an_agenda_begins_today_at_the_earliest() {
        let dashboard: Dashboard = read_value(json!({"name": "d"})).unwrap();
        let begin = |from, to| {
            let now = Timestamp::parse("2026-03-08T12:00:00Z").unwrap();
            begin(&Look::new(&dashboard, "me".into(), now, (from, to), None).unwrap()).map(|from| from.to_string())
        };
        assert_eq!(begin(None, None), None);
        assert_eq!(begin(Some("now-7d"), None), None);
        assert_eq!(begin(Some("now+1d"), None).as_deref(), Some("2026-03-09T12:00:00.000Z"));
        assert_eq!(begin(Some("2026-01-01"), Some("2026-01-08")).as_deref(), Some("2026-01-01T00:00:00.000Z"));
    }
}
