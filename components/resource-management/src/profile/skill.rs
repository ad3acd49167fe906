//! Skills: what somebody can do, from 0 for nothing to 5 for everything. Names are told apart whatever their case. Pure.

use berth_sdk::prelude::*;

/// A skill of a person, or one that is looked for.
#[data]
pub struct Skill {
    /// What it is called.
    #[field(min = 1, max = 100, plain)]
    pub skill: String,
    /// From 0 to 5.
    #[field(min = 0, max = 5)]
    pub level: i64,
}

/// The name by which a skill is told apart.
///
/// ```
/// assert_eq!(resource_management::profile::skill::key(" Rust "), "rust");
/// ```
pub fn key(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Notes skills that are there twice.
pub fn check(skills: &[Skill], faults: &mut Faults) {
    for (index, skill) in skills.iter().enumerate() {
        if skills.iter().take(index).any(|other| key(&other.skill) == key(&skill.skill)) {
            faults.add(format!("skills[{index}].skill"), "is there twice");
        }
    }
}

/// The level of a skill; 0 where there is none.
pub fn level(skills: &[Skill], name: &str) -> i64 {
    skills.iter().find(|skill| key(&skill.skill) == key(name)).map_or(0, |skill| skill.level)
}

/// Puts a skill in the place of the one of that name; a level of 0 takes it away. False when nothing changes.
///
/// ```
/// use resource_management::profile::skill::{Skill, learn};
/// let mut skills = vec![Skill { skill: "Rust".into(), level: 2 }];
/// assert!(learn(&mut skills, Skill { skill: "rust".into(), level: 4 }));
/// assert!(learn(&mut skills, Skill { skill: "SQL".into(), level: 1 }));
/// assert!(!learn(&mut skills, Skill { skill: "SQL".into(), level: 1 }));
/// assert_eq!(skills, [Skill { skill: "Rust".into(), level: 4 }, Skill { skill: "SQL".into(), level: 1 }]);
/// ```
pub fn learn(skills: &mut Vec<Skill>, learned: Skill) -> bool {
    let before = level(skills, &learned.skill);
    if before == learned.level {
        return false;
    }
    match skills.iter_mut().find(|skill| key(&skill.skill) == key(&learned.skill)) {
        Some(_) if learned.level == 0 => skills.retain(|skill| key(&skill.skill) != key(&learned.skill)),
        Some(known) => known.level = learned.level,
        None => skills.push(learned),
    }
    true
}
