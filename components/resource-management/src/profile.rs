//! Profiles: how much somebody works, when and where, what they can do, and what they cost.

pub mod api;
pub mod skill;

use berth_sdk::prelude::*;
use time_rules::{
    day::{Day, weekdays},
    zone,
};

use crate::workload::Pattern;

pub use skill::Skill;

/// What is known of somebody's work.
#[entity(table = "resource_profiles", name = "profile", sort = "userId")]
pub struct Profile {
    /// Whose it is.
    #[field(immutable)]
    pub user_id: Id,
    /// Hours a week, spread evenly over the working days.
    #[field(default = 40.0, min = 0, max = 168)]
    pub weekly_hours: f64,
    /// What they can do, and how well.
    #[field(default, max = 100)]
    pub skills: Vec<Skill>,
    /// What an hour costs, in micro-cents; for themselves and those who lead them.
    #[field(min = 0, max = 1_000_000_000_000_000_i64)]
    pub cost_rate_micro: Option<i64>,
    /// Days of the week, 1 for Monday to 7 for Sunday.
    #[field(default = Vec::from([1_i64, 2, 3, 4, 5]), min = 1, max = 7)]
    pub working_days: Vec<i64>,
    /// A name of the IANA database: when a day and a week begin.
    #[field(default = "UTC", min = 1, max = 64, format = "timezone")]
    pub timezone: String,
    /// The teams they count for in reports; of the main app when not said.
    #[field(default, max = 50)]
    pub team_ids: Vec<Id>,
    /// Whose holidays they have beside those of everybody, such as `DE-BE`.
    #[field(max = 64, plain, filter)]
    pub region: Option<String>,
}

impl Rules for Profile {
    fn check(&self, faults: &mut Faults) {
        for (index, day) in self.working_days.iter().enumerate() {
            let path = format!("workingDays[{index}]");
            if !(1..=7).contains(day) {
                faults.add(path, "must be from 1 for Monday to 7 for Sunday");
            } else if self.working_days.iter().take(index).any(|other| other == day) {
                faults.add(path, "is there twice");
            }
        }
        if self.pattern().daily() > 24.0 {
            faults.add("weeklyHours", "must be at most 24 hours a working day");
        }
        if zone::parse(&self.timezone).is_none() {
            faults.add("timezone", "must be a time zone such as Europe/Berlin");
        }
        skill::check(&self.skills, faults);
    }

    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        crate::alert::review_coming(transaction, &row.user_id)
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let is_time = old.pattern() != new.pattern() || old.timezone != new.timezone || old.region != new.region;
        if is_time { crate::alert::review_coming(transaction, &new.user_id) } else { Ok(()) }
    }
}

impl Profile {
    /// What is taken of somebody of whom nothing is known: forty hours from Monday to Friday, in UTC.
    pub fn usual(user_id: Id) -> Self {
        Self {
            user_id,
            weekly_hours: 40.0,
            skills: Vec::new(),
            cost_rate_micro: None,
            working_days: Vec::from([1, 2, 3, 4, 5]),
            timezone: "UTC".into(),
            team_ids: Vec::new(),
            region: None,
        }
    }

    /// When they work.
    pub fn pattern(&self) -> Pattern {
        Pattern { weekly_hours: self.weekly_hours, days: weekdays(&self.working_days) }
    }

    /// The day it is where they are.
    pub fn today(&self) -> Day {
        self.day_of(clock::now())
    }

    /// The day that a moment falls on where they are.
    pub fn day_of(&self, at: Timestamp) -> Day {
        zone::local(zone::parse(&self.timezone).unwrap_or(chrono_tz::Tz::UTC), at).date().into()
    }

    /// The profile of a user, if there is one.
    pub fn find(database: &dyn Executor, user_id: &str) -> Result<Option<Stored<Self>>> {
        Select::new().equal("user_id", user_id).first(database)
    }

    /// The same, or what is usual.
    pub fn or_usual(database: &dyn Executor, user_id: &Id) -> Result<Self> {
        Ok(Self::find(database, user_id)?.map_or_else(|| Self::usual(user_id.clone()), |row| row.data))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Wherever somebody is and however the clocks are turned there: a moment lies between the two midnights of its day, and
        /// its week begins with the Monday before. From 2012 on: earlier an island left out a day, and a province turned its clocks
        /// back over midnight.
        #[test]
        fn every_moment_has_its_day_and_week(
            at in 1_325_376_000_000_i64..4_000_000_000_000, index in 0_usize..chrono_tz::TZ_VARIANTS.len(),
        ) {
            let zone = chrono_tz::TZ_VARIANTS[index];
            let at = Timestamp::from_millis(at);
            let profile = Profile { timezone: zone.name().into(), ..Profile::usual("u1".into()) };
            let day = profile.day_of(at);
            let midnight = |day: Day| zone::midnight(zone, day.date());
            prop_assert!(midnight(day) <= at && at < midnight(day.plus(1)), "{zone} {day} {at}");
            let monday = day.monday();
            prop_assert!(monday.weekday() == 0 && midnight(monday) <= at && at < midnight(monday.plus(7)), "{zone} {day} {at}");
        }
    }

    #[test]
    fn the_day_is_that_of_the_wall_clock() {
        let at = Timestamp::parse("2026-03-01T23:30:00Z").unwrap();
        let day = |zone: &str| Profile { timezone: zone.into(), ..Profile::usual("u1".into()) }.day_of(at).to_string();
        // In Berlin it is Monday already, in New York still Sunday: another week.
        assert_eq!(day("Europe/Berlin"), "2026-03-02");
        assert_eq!(day("America/New_York"), "2026-03-01");
        assert_eq!(day("UTC"), "2026-03-01");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut faults = Faults::default();
        let skill = |name: &str| Skill { skill: name.into(), level: 3 };
        let profile = Profile {
            working_days: vec![1, 8, 1],
            weekly_hours: 60.0,
            timezone: "Mars/Base".into(),
            skills: vec![skill("Rust"), skill("rust")],
            ..Profile::usual("u1".into())
        };
        profile.check(&mut faults);
        let fields: Vec<&str> = faults.errors().iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["workingDays[1]", "workingDays[2]", "weeklyHours", "timezone", "skills[1].skill"]);
    }
}
