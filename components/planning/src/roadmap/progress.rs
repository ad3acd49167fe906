//! How far a roadmap is: tasks roll up from story to epic to milestone to roadmap. Pure.

use std::collections::HashMap;

use berth_sdk::prelude::*;

use super::{
    item::ItemStatus,
    outline::{Count, Line, Outline},
};

/// How many of so many. Cancelled tasks are left out of `total`: they will never be done.
#[data]
#[derive(Default, Copy)]
pub(crate) struct Progress {
    pub completed: i64,
    pub total: i64,
    pub cancelled: i64,
    /// From 0 to 1; 0 where there is nothing to do.
    pub fraction: f64,
}

impl Progress {
    fn add(&mut self, other: Self) {
        self.completed += other.completed;
        self.total += other.total;
        self.cancelled += other.cancelled;
        #[expect(clippy::cast_precision_loss, reason = "counts of tasks are small")]
        let fraction = if self.total == 0 { 0.0 } else { self.completed as f64 / self.total as f64 };
        self.fraction = fraction;
    }
}

impl From<&Count> for Progress {
    fn from(count: &Count) -> Self {
        let mut progress = Self::default();
        let total = count.total - count.cancelled;
        progress.add(Self { completed: count.completed, total, cancelled: count.cancelled, fraction: 0.0 });
        progress
    }
}

/// A roadmap with everything in it but its tasks.
#[data]
pub(crate) struct Tree {
    pub id: Id,
    pub name: String,
    pub progress: Progress,
    pub milestones: Vec<MilestoneNode>,
}

/// A milestone with its epics.
#[data]
pub(crate) struct MilestoneNode {
    pub id: Id,
    pub name: String,
    pub status: ItemStatus,
    pub target_date: Option<Timestamp>,
    /// Of all tasks below it.
    pub progress: Progress,
    pub epics: Vec<EpicNode>,
}

/// An epic with its stories.
#[data]
pub(crate) struct EpicNode {
    pub id: Id,
    pub name: String,
    pub status: ItemStatus,
    /// Of all tasks below it.
    pub progress: Progress,
    pub stories: Vec<StoryNode>,
}

/// A story.
#[data]
pub(crate) struct StoryNode {
    pub id: Id,
    pub name: String,
    pub status: ItemStatus,
    /// Of its tasks.
    pub progress: Progress,
}

/// The tree of a roadmap. A task counts once at the deepest item it hangs on, and at everything above that.
pub(super) fn roll_up(id: Id, name: String, outline: Outline) -> Tree {
    let mut own: HashMap<Id, Progress> = HashMap::new();
    for count in &outline.counts {
        let deepest = count.story_id.as_ref().or(count.epic_id.as_ref()).unwrap_or(&count.milestone_id);
        own.entry(deepest.clone()).or_default().add(count.into());
    }
    let mut stories = by_parent(outline.stories);
    let mut epics = by_parent(outline.epics);
    let mut whole = Progress::default();
    let milestones: Vec<MilestoneNode> = outline
        .milestones
        .into_iter()
        .map(|milestone| {
            let epics: Vec<EpicNode> = epics
                .remove(&milestone.id)
                .unwrap_or_default()
                .into_iter()
                .map(|epic| epic_node(&own, stories.remove(&epic.id).unwrap_or_default(), epic))
                .collect();
            let progress = sum(own.get(&milestone.id), epics.iter().map(|epic| epic.progress));
            whole.add(progress);
            let Line { id, name, status, target_date, .. } = milestone;
            MilestoneNode { id, name, status, target_date, progress, epics }
        })
        .collect();
    Tree { id, name, progress: whole, milestones }
}

fn epic_node(own: &HashMap<Id, Progress>, stories: Vec<Line>, epic: Line) -> EpicNode {
    let stories: Vec<StoryNode> = stories
        .into_iter()
        .map(|Line { id, name, status, .. }| StoryNode { progress: sum(own.get(&id), []), id, name, status })
        .collect();
    let progress = sum(own.get(&epic.id), stories.iter().map(|story| story.progress));
    EpicNode { id: epic.id, name: epic.name, status: epic.status, progress, stories }
}

fn sum(own: Option<&Progress>, below: impl IntoIterator<Item = Progress>) -> Progress {
    let mut sum = own.copied().unwrap_or_default();
    below.into_iter().for_each(|progress| sum.add(progress));
    sum
}

fn by_parent(lines: Vec<Line>) -> HashMap<Id, Vec<Line>> {
    let mut sorted: HashMap<Id, Vec<Line>> = HashMap::new();
    for line in lines {
        sorted.entry(line.parent_id.clone()).or_default().push(line);
    }
    sorted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(id: String, parent: String) -> Line {
        Line {
            name: id.clone(),
            id: id.into(),
            parent_id: parent.into(),
            status: ItemStatus::Planned,
            target_date: None,
        }
    }

    /// Two milestones with two epics with two stories each.
    fn outline(counts: Vec<Count>) -> Outline {
        let below = |parents: &[Line], letter: &str| -> Vec<Line> {
            let pair = |parent: &Line| {
                [0, 1].map(|number| line(format!("{}{letter}{number}", parent.id), parent.id.to_string()))
            };
            parents.iter().flat_map(pair).collect()
        };
        let milestones = vec![line("m0".into(), "r".into()), line("m1".into(), "r".into())];
        let epics = below(&milestones, "e");
        let stories = below(&epics, "s");
        Outline { milestones, epics, stories, counts }
    }

    /// A count at a milestone, an epic or a story, chosen by `depth`.
    fn count(depth: u8, milestone: u8, epic: u8, story: u8, done: i64, open: i64, cancelled: i64) -> Count {
        let milestone_id = format!("m{milestone}");
        let epic_id = format!("{milestone_id}e{epic}");
        let story_id = format!("{epic_id}s{story}");
        Count {
            milestone_id: milestone_id.into(),
            epic_id: (depth > 0).then(|| epic_id.into()),
            story_id: (depth > 1).then(|| story_id.into()),
            completed: done,
            cancelled,
            total: done + open + cancelled,
        }
    }

    #[test]
    fn nothing_to_do_is_no_progress_and_all_done_is_all() {
        let tree = roll_up("r".into(), "R".into(), outline(vec![]));
        assert_eq!((tree.progress.fraction, tree.milestones[0].progress.total), (0.0, 0));
        let tree =
            roll_up("r".into(), "R".into(), outline(vec![count(2, 0, 0, 0, 3, 0, 2), count(0, 0, 0, 0, 1, 0, 0)]));
        assert_eq!((tree.progress.fraction, tree.progress.total, tree.progress.cancelled), (1.0, 4, 2));
        assert_eq!(tree.milestones[0].epics[0].stories[0].progress.total, 3);
    }

    proptest! {
        #[test]
        fn every_task_counts_once_at_every_level(
            counts in prop::collection::vec((0u8..3, 0u8..2, 0u8..2, 0u8..2, 0i64..9, 0i64..9, 0i64..9), 0..20)
        ) {
            let counts: Vec<Count> =
                counts.into_iter().map(|(d, m, e, s, done, open, off)| count(d, m, e, s, done, open, off)).collect();
            let completed: i64 = counts.iter().map(|count| count.completed).sum();
            let total: i64 = counts.iter().map(|count| count.total - count.cancelled).sum();
            let tree = roll_up("r".into(), "R".into(), outline(counts));
            prop_assert_eq!((tree.progress.completed, tree.progress.total), (completed, total));
            prop_assert!((0.0..=1.0).contains(&tree.progress.fraction));
            for milestone in &tree.milestones {
                let below: i64 = milestone.epics.iter().map(|epic| epic.progress.total).sum();
                prop_assert!(milestone.progress.total >= below && milestone.progress.completed <= milestone.progress.total);
                for epic in &milestone.epics {
                    let below: i64 = epic.stories.iter().map(|story| story.progress.total).sum();
                    prop_assert!(epic.progress.total >= below);
                }
            }
        }
    }
}
