//! Who sits where in a session: one driver, navigators, observers. Pure.
//!
//! A session that goes on has a driver; a pair has one navigator at most beside it, a mob as many as want to.

use berth_sdk::prelude::*;

use super::SessionType;

/// The most people of one session.
pub const MEMBERS_MAX: usize = 50;
/// The fewest people with whom a mob begins.
pub const MOB_MIN: usize = 3;

/// What somebody does in a session.
#[choice]
pub enum Role {
    /// Has the keyboard.
    Driver,
    /// Thinks along.
    Navigator,
    /// Looks on.
    Observer,
}

/// Those who have joined and have not left, in the order in which they joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cast {
    kind: SessionType,
    seats: Vec<(Id, Role)>,
}

impl Cast {
    /// A cast of a kind of session.
    pub fn new(kind: SessionType, seats: Vec<(Id, Role)>) -> Self {
        Self { kind, seats }
    }

    /// Everybody with their role.
    pub fn seats(&self) -> &[(Id, Role)] {
        &self.seats
    }

    /// Who has the keyboard.
    pub fn driver(&self) -> Option<&Id> {
        self.first(Role::Driver)
    }

    /// The first who thinks along.
    pub fn navigator(&self) -> Option<&Id> {
        self.first(Role::Navigator)
    }

    /// What somebody does; none when they are not here.
    pub fn role_of(&self, user_id: &str) -> Option<Role> {
        self.seats.iter().find(|(id, _)| id.as_str() == user_id).map(|(_, role)| *role)
    }

    fn first(&self, wanted: Role) -> Option<&Id> {
        self.seats.iter().find(|(_, role)| *role == wanted).map(|(id, _)| id)
    }

    /// Whether somebody could have this role: nobody else has what only one can have.
    fn is_free(&self, role: Role, for_whom: &str) -> bool {
        let is_unique = match role {
            Role::Driver => true,
            Role::Navigator => self.kind == SessionType::Pairing,
            Role::Observer => false,
        };
        !is_unique || !self.seats.iter().any(|(id, held)| *held == role && id.as_str() != for_whom)
    }

    /// Lets somebody in, or changes what they do; the role they have then. Without a wish they get what was planned for
    /// them, else the first role that is free. 409 for a role that somebody else has, and for a driver who would leave a
    /// session that goes on without one.
    pub fn join(&mut self, user_id: &Id, wish: Option<Role>, planned: Option<Role>, is_active: bool) -> Result<Role> {
        let held = self.role_of(user_id);
        let free = |role: &Role| self.is_free(*role, user_id);
        let Some(role) = wish.or(held).or(planned.filter(free)).or_else(|| Role::ALL.iter().copied().find(free)) else {
            return Err(Problem::conflict("No role is free."));
        };
        if !self.is_free(role, user_id) {
            return Err(Problem::conflict(format!("Somebody else is the {role}.")).with_code("ROLE_TAKEN"));
        }
        match held {
            Some(Role::Driver) if is_active && role != Role::Driver => {
                let detail = "A session that goes on has a driver: switch roles instead.";
                return Err(Problem::conflict(detail).with_code("DRIVER_NEEDED"));
            }
            Some(_) => self.seat(user_id, role),
            None if self.seats.len() >= MEMBERS_MAX => {
                let detail = format!("At most {MEMBERS_MAX} people take part.");
                return Err(Problem::conflict(detail).with_code("SESSION_FULL"));
            }
            None => self.seats.push((user_id.clone(), role)),
        }
        Ok(role)
    }

    /// Lets somebody go. Who drives in their place, where they drove and somebody is left: the navigator who came first,
    /// else whoever came first.
    pub fn leave(&mut self, user_id: &str) -> Option<Id> {
        let was_driver = self.role_of(user_id) == Some(Role::Driver);
        self.seats.retain(|(id, _)| id.as_str() != user_id);
        if was_driver { self.settle() } else { None }
    }

    /// Sees to it that somebody drives, where anybody is there. Who does so now and did not before.
    pub fn settle(&mut self) -> Option<Id> {
        if self.driver().is_some() {
            return None;
        }
        let next = self.navigator().or_else(|| self.seats.first().map(|(id, _)| id)).cloned()?;
        self.seat(&next, Role::Driver);
        Some(next)
    }

    /// Gives the keyboard to somebody, who gets rid of their role to the driver before; without a name to the navigator
    /// who joined next after the driver, and after the last one the first. Who drove and who drives.
    pub fn switch(&mut self, to: Option<&Id>) -> Result<(Id, Id)> {
        let missing = |detail: &str, code| Err(Problem::conflict(detail).with_code(code));
        let Some(driver) = self.driver().cloned() else { return missing("Nobody drives.", "NO_DRIVER") };
        let next = match to {
            Some(id) if *id == driver => return missing("They drive already.", "DRIVES_ALREADY"),
            Some(id) => id.clone(),
            None => match self.next_navigator() {
                Some(id) => id,
                None => return missing("There is no navigator to switch with.", "NO_NAVIGATOR"),
            },
        };
        let Some(role) = self.role_of(&next) else {
            let detail = "Roles are switched among those who have joined.";
            return Err(Problem::unprocessable(detail).with_code("NOT_JOINED"));
        };
        self.seat(&driver, role);
        self.seat(&next, Role::Driver);
        Ok((driver, next))
    }

    fn next_navigator(&self) -> Option<Id> {
        let at = self.seats.iter().position(|(_, role)| *role == Role::Driver)?;
        let after = self.seats.iter().skip(at + 1).chain(self.seats.iter().take(at));
        after.into_iter().find(|(_, role)| *role == Role::Navigator).map(|(id, _)| id.clone())
    }

    fn seat(&mut self, user_id: &str, role: Role) {
        for (id, held) in &mut self.seats {
            if id.as_str() == user_id {
                *held = role;
            }
        }
    }

    /// 422 unless there are enough people to begin.
    pub fn require_enough(&self) -> Result<()> {
        let needed = if self.kind == SessionType::Mob { MOB_MIN } else { 1 };
        if self.seats.len() >= needed {
            return Ok(());
        }
        let detail = format!("It begins with at least {needed} participants; there are {}.", self.seats.len());
        Err(Problem::unprocessable(detail).with_code("TOO_FEW_PARTICIPANTS"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cast(kind: SessionType, people: &[(&str, Role)]) -> Cast {
        Cast::new(kind, people.iter().map(|(id, role)| (Id::from(*id), *role)).collect())
    }

    fn code<T: std::fmt::Debug>(result: Result<T>) -> (u16, String) {
        let problem = result.unwrap_err();
        (problem.status, problem.code.into_owned())
    }

    #[test]
    fn a_pair_has_a_driver_a_navigator_and_those_who_look_on() {
        let mut pair = cast(SessionType::Pairing, &[]);
        for (user, role) in [("a", Role::Driver), ("b", Role::Navigator), ("c", Role::Observer), ("d", Role::Observer)]
        {
            assert_eq!(pair.join(&user.into(), None, None, false).unwrap(), role);
        }
        for role in [Role::Driver, Role::Navigator] {
            assert_eq!(code(pair.join(&"e".into(), Some(role), None, false)), (409, "ROLE_TAKEN".into()));
        }
        // Who is there already keeps the role, and may take one that is free.
        assert_eq!(pair.join(&"b".into(), None, None, true).unwrap(), Role::Navigator);
        assert_eq!(pair.join(&"b".into(), Some(Role::Observer), None, true).unwrap(), Role::Observer);
        assert_eq!(pair.join(&"c".into(), Some(Role::Navigator), None, true).unwrap(), Role::Navigator);
        assert_eq!(code(pair.join(&"a".into(), Some(Role::Observer), None, true)), (409, "DRIVER_NEEDED".into()));
    }

    #[test]
    fn what_was_planned_for_somebody_is_theirs_unless_it_is_taken() {
        let mut pair = cast(SessionType::Pairing, &[]);
        assert_eq!(pair.join(&"b".into(), None, Some(Role::Navigator), false).unwrap(), Role::Navigator);
        assert_eq!(pair.join(&"c".into(), None, Some(Role::Navigator), false).unwrap(), Role::Driver);
    }

    #[test]
    fn whoever_drives_and_leaves_is_followed_by_the_navigator() {
        let people = [("a", Role::Driver), ("o", Role::Observer), ("b", Role::Navigator)];
        let mut pair = cast(SessionType::Pairing, &people);
        assert_eq!(pair.leave("a"), Some("b".into()));
        assert_eq!(pair.leave("b"), Some("o".into()), "somebody drives while anybody is there");
        assert_eq!(pair.leave("o"), None);
        assert!(pair.seats().is_empty());
        let mut pair = cast(SessionType::Pairing, &people);
        assert_eq!(pair.leave("b"), None);
    }

    #[test]
    fn a_mob_rotates_in_the_order_of_joining() {
        let mut mob = cast(SessionType::Mob, &[("a", Role::Driver), ("b", Role::Navigator), ("o", Role::Observer)]);
        mob.join(&"c".into(), Some(Role::Navigator), None, true).unwrap();
        for next in ["b", "c", "a", "b"] {
            assert_eq!(mob.switch(None).unwrap().1.as_str(), next);
        }
        assert_eq!(mob.switch(Some(&"o".into())).unwrap(), ("b".into(), "o".into()));
        assert_eq!(mob.role_of("b"), Some(Role::Observer));
        assert_eq!(code(mob.switch(Some(&"x".into()))), (422, "NOT_JOINED".into()));
        assert_eq!(code(mob.switch(Some(&"o".into()))), (409, "DRIVES_ALREADY".into()));
        let mut alone = cast(SessionType::Pairing, &[("a", Role::Driver), ("o", Role::Observer)]);
        assert_eq!(code(alone.switch(None)), (409, "NO_NAVIGATOR".into()));
    }

    #[test]
    fn a_mob_is_three() {
        let two = [("a", Role::Driver), ("b", Role::Navigator)];
        assert_eq!(code(cast(SessionType::Mob, &two).require_enough()), (422, "TOO_FEW_PARTICIPANTS".into()));
        assert!(cast(SessionType::Pairing, &two).require_enough().is_ok());
        assert_eq!(cast(SessionType::Pairing, &[]).require_enough().unwrap_err().status, 422);
    }

    proptest! {
        #[test]
        fn whatever_happens_there_is_one_driver_and_a_pair_is_two(
            is_mob in any::<bool>(),
            moves in prop::collection::vec((0u8..4, 0u8..6, 0usize..4), 1..60),
        ) {
            let kind = if is_mob { SessionType::Mob } else { SessionType::Pairing };
            let mut cast = cast(kind, &[("u0", Role::Driver)]);
            for (what, user, role) in moves {
                let user = Id::from(format!("u{user}"));
                match what {
                    0 | 1 => { let _ = cast.join(&user, Role::ALL.get(role).copied(), None, true); }
                    2 => { let _ = cast.leave(&user); }
                    _ => { let _ = cast.switch((role == 0).then_some(&user)); }
                }
                if cast.seats().is_empty() {
                    // It would be over; the next one begins.
                    cast.join(&user, Some(Role::Driver), None, false).unwrap();
                }
                let count = |wanted: Role| cast.seats().iter().filter(|(_, role)| *role == wanted).count();
                prop_assert_eq!(count(Role::Driver), 1);
                prop_assert!(is_mob || count(Role::Navigator) <= 1);
                let mut names: Vec<&str> = cast.seats().iter().map(|(id, _)| id.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                prop_assert_eq!(names.len(), cast.seats().len());
            }
        }
    }
}
