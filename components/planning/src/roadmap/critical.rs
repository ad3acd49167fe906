//! The critical path: which chain of tasks decides when everything is done. Pure; whole minutes, so that sums are exact.

use std::collections::HashMap;

use plan_rules::graph::Graph;

/// When a task can and must happen, in minutes from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub minutes: u64,
    pub earliest_start: u64,
    pub earliest_finish: u64,
    pub latest_start: u64,
    pub latest_finish: u64,
}

impl Slot {
    /// How late it may begin without anything ending later.
    pub(super) fn slack(&self) -> u64 {
        self.latest_start.saturating_sub(self.earliest_start)
    }
}

/// When everything can happen.
#[derive(Debug, Default)]
pub(super) struct Schedule<'a> {
    pub slots: HashMap<&'a str, Slot>,
    /// How long everything takes with enough hands.
    pub minutes: u64,
    /// One chain that takes that long, from its first task to its last.
    pub path: Vec<&'a str>,
    /// Tasks on or behind a cycle, which can never begin; they are in no chain.
    pub stuck: Vec<&'a str>,
}

/// Works the schedule out: each task with its minutes, and pairs of which the first waits for the second. Pairs that
/// name another task are left out.
pub(super) fn schedule<'a>(tasks: &[(&'a str, u64)], waits: &[(&'a str, &'a str)]) -> Schedule<'a> {
    let minutes: HashMap<&str, u64> = tasks.iter().copied().collect();
    let mut before: HashMap<&str, Vec<&'a str>> = HashMap::new();
    let mut after: HashMap<&str, Vec<&'a str>> = HashMap::new();
    for (task, other) in waits.iter().filter(|(task, other)| minutes.contains_key(task) && minutes.contains_key(other))
    {
        before.entry(task).or_default().push(other);
        after.entry(other).or_default().push(task);
    }
    let graph = Graph::new(tasks.iter().map(|(task, _)| (*task, before.get(task).cloned().unwrap_or_default())));
    let order = graph.order();
    let mut slots: HashMap<&str, Slot> = HashMap::with_capacity(order.len());
    for task in &order {
        let minutes = minutes.get(task).copied().unwrap_or_default();
        let waits = before.get(task).into_iter().flatten();
        let start = waits.filter_map(|other| slots.get(other)).map(|slot| slot.earliest_finish).max().unwrap_or(0);
        let finish = start.saturating_add(minutes);
        slots.insert(task, Slot { minutes, earliest_start: start, earliest_finish: finish, ..Slot::default() });
    }
    let whole = slots.values().map(|slot| slot.earliest_finish).max().unwrap_or(0);
    for task in order.iter().rev() {
        let later = after.get(task).into_iter().flatten();
        let finish = later.filter_map(|other| slots.get(other)).map(|slot| slot.latest_start).min().unwrap_or(whole);
        if let Some(slot) = slots.get_mut(task) {
            slot.latest_finish = finish;
            slot.latest_start = finish.saturating_sub(slot.minutes);
        }
    }
    let stuck = graph.stuck();
    let path = chain(&order, &slots, &before, whole);
    Schedule { slots, minutes: whole, path, stuck }
}

/// From the task that ends last back to one that waits for nothing.
fn chain<'a>(
    order: &[&'a str],
    slots: &HashMap<&str, Slot>,
    before: &HashMap<&str, Vec<&'a str>>,
    whole: u64,
) -> Vec<&'a str> {
    let ends_at = |task: &&str, finish: u64| slots.get(task).is_some_and(|slot| slot.earliest_finish == finish);
    let mut next = order.iter().find(|task| ends_at(task, whole)).copied();
    let mut path = Vec::new();
    while let Some(task) = next {
        path.push(task);
        let start = slots.get(task).map_or(0, |slot| slot.earliest_start);
        let waits = before.get(task).into_iter().flatten().filter(|other| ends_at(other, start));
        next = waits.min().copied();
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::schedule;

    #[test]
    fn the_longest_chain_decides() {
        let tasks = [("design", 120), ("build", 480), ("docs", 60), ("ship", 30)];
        let waits =
            [("build", "design"), ("docs", "design"), ("ship", "build"), ("ship", "docs"), ("ship", "elsewhere")];
        let plan = schedule(&tasks, &waits);
        assert_eq!((plan.path.as_slice(), plan.minutes), (["design", "build", "ship"].as_slice(), 630));
        assert_eq!((plan.slots["docs"].slack(), plan.slots["docs"].earliest_start), (420, 120));
        assert!(plan.stuck.is_empty());
    }

    #[test]
    fn without_tasks_there_is_no_path_and_a_circle_is_none() {
        assert!(schedule(&[], &[]).path.is_empty());
        let plan = schedule(&[("a", 5), ("b", 5), ("c", 5), ("d", 1)], &[("a", "b"), ("b", "a"), ("c", "a")]);
        assert_eq!((plan.stuck, plan.path, plan.minutes), (vec!["a", "b", "c"], vec!["d"], 1));
    }

    /// The longest chain by trying all of them.
    fn longest(task: usize, minutes: &[u64], waits: &[(usize, usize)]) -> u64 {
        let below = waits.iter().filter(|(from, _)| *from == task).map(|(_, to)| longest(*to, minutes, waits));
        minutes[task] + below.max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn the_path_is_as_long_as_the_longest_chain(
            minutes in prop::collection::vec(0u64..50, 1..9),
            pairs in prop::collection::vec((0usize..9, 0usize..9), 0..16)
        ) {
            let count = minutes.len();
            // A task waits only for one with a smaller number: no cycle.
            let pairs: Vec<(usize, usize)> = pairs.into_iter().filter(|(from, to)| to < from && *from < count).collect();
            let names: Vec<String> = (0..count).map(|number| format!("t{number}")).collect();
            let tasks: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(minutes.iter().copied()).collect();
            let waits: Vec<(&str, &str)> =
                pairs.iter().map(|(from, to)| (names[*from].as_str(), names[*to].as_str())).collect();
            let plan = schedule(&tasks, &waits);
            let wanted = (0..count).map(|task| longest(task, &minutes, &pairs)).max().unwrap_or(0);
            prop_assert_eq!(plan.minutes, wanted);
            prop_assert_eq!(plan.path.iter().map(|task| plan.slots[task].minutes).sum::<u64>(), wanted);
            for (from, to) in &waits {
                prop_assert!(plan.slots[from].earliest_start >= plan.slots[to].earliest_finish);
                prop_assert!(plan.slots[from].latest_start >= plan.slots[to].latest_finish);
            }
            for slot in plan.slots.values() {
                prop_assert!(slot.earliest_start <= slot.latest_start && slot.latest_finish <= plan.minutes);
            }
            prop_assert!(plan.path.iter().all(|task| plan.slots[task].slack() == 0));
        }
    }
}
