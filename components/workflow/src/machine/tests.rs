//! The machine against a plain reading of random definitions.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Effect, End, Machine, Node, StepStatus};

/// What a step will do, whenever it is tried.
#[derive(Clone, Debug)]
struct Fate {
    dependencies: Vec<usize>,
    continue_on_error: bool,
    retries: i64,
    /// Its condition holds.
    holds: bool,
    /// Attempts that fail before one works.
    failures: i64,
    /// Its first failure is one that no retry heals.
    lasting: bool,
    /// It waits before it ends.
    waits: bool,
    /// The attempts whose holder is killed before it says how they went.
    lost: BTreeSet<i64>,
}

impl Fate {
    /// Nobody holds what waits, or is not done at all.
    fn is_lost(&self, tried: i64) -> bool {
        self.holds && !self.waits && self.lost.contains(&tried)
    }

    /// How it ends when it begins.
    fn end(&self) -> StepStatus {
        if !self.holds {
            return StepStatus::Skipped;
        }
        for tried in 1..=self.retries + 1 {
            let is_lost = self.is_lost(tried);
            if !is_lost && tried > self.failures {
                return StepStatus::Completed;
            }
            if !is_lost && self.lasting {
                break;
            }
        }
        StepStatus::Failed
    }
}

/// A plain reading of the definition: one step after the other, nothing ever interrupted.
fn interpret(fates: &[Fate]) -> Vec<StepStatus> {
    let mut ends: Vec<StepStatus> = Vec::new();
    for fate in fates {
        let before: Vec<StepStatus> = fate.dependencies.iter().map(|place| ends[*place]).collect();
        let is_blocked = fate.dependencies.iter().any(|place| {
            ends[*place] == StepStatus::Cancelled
                || ends[*place] == StepStatus::Failed && !fates[*place].continue_on_error
        });
        ends.push(if is_blocked {
            StepStatus::Cancelled
        } else if !before.is_empty() && before.iter().all(|end| *end == StepStatus::Skipped) {
            StepStatus::Skipped
        } else {
            fate.end()
        });
    }
    ends
}

fn machine(fates: &[Fate]) -> Machine {
    let node = |fate: &Fate| Node {
        dependencies: fate.dependencies.clone(),
        continue_on_error: fate.continue_on_error,
        retries: fate.retries,
        status: StepStatus::Pending,
        attempt: 0,
        base: 0,
    };
    Machine::new(fates.iter().map(node).collect(), None)
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let step = (
        prop::collection::btree_set(0_usize..14, 0..4),
        prop::bool::weighted(0.3),
        0_i64..4,
        prop::bool::weighted(0.8),
        prop_oneof![3 => Just(0_i64), 1 => 1_i64..6],
        prop::bool::weighted(0.1),
        any::<bool>(),
        prop_oneof![3 => Just(BTreeSet::new()), 1 => prop::collection::btree_set(1_i64..5, 1..4)],
    );
    let step = step.prop_map(|(dependencies, continue_on_error, retries, holds, failures, lasting, waits, lost)| {
        let dependencies = dependencies.into_iter().collect();
        Fate { dependencies, continue_on_error, retries, holds, failures, lasting, waits, lost }
    });
    // A step waits only for earlier ones: the graph has no circle.
    prop::collection::vec(step, 1..14).prop_map(|mut fates: Vec<Fate>| {
        for (place, fate) in fates.iter_mut().enumerate() {
            fate.dependencies.retain(|other| *other < place);
        }
        fates
    })
}

/// What lies in the queue.
#[derive(Clone, Debug)]
enum Mail {
    Run(usize, i64),
    Wake(usize, i64),
    /// Whoever worked at the attempt was not heard of any more.
    Lease(usize, i64),
    /// What it says after all, when it has been given up.
    Late(usize, i64),
}

struct World<'a> {
    fates: &'a [Fate],
    machine: Machine,
    mail: Vec<Mail>,
    taken: Vec<(usize, i64)>,
}

impl World<'_> {
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Send { place, attempt, .. } = effect {
                self.mail.push(Mail::Run(place, attempt));
            }
        }
    }

    fn act(&mut self, place: usize, attempt: i64) {
        let fate = &self.fates[place];
        let tried = attempt - self.machine.nodes[place].base;
        let effects = if !fate.holds {
            self.machine.skip(place)
        } else if tried <= fate.failures {
            self.machine.fail(place, !fate.lasting)
        } else {
            self.machine.complete(place)
        };
        self.carry_out(effects);
    }

    fn deliver(&mut self, mail: &Mail) {
        match *mail {
            Mail::Run(place, attempt) => {
                if !self.machine.take(place, attempt) {
                    return;
                }
                assert!(!self.taken.contains(&(place, attempt)), "an attempt ran twice");
                self.taken.push((place, attempt));
                if self.fates[place].waits && self.fates[place].holds {
                    self.machine.wait(place);
                    self.mail.push(Mail::Wake(place, attempt));
                } else if self.fates[place].is_lost(attempt - self.machine.nodes[place].base) {
                    self.mail.push(Mail::Lease(place, attempt));
                } else {
                    self.act(place, attempt);
                }
            }
            Mail::Wake(place, attempt) => {
                let node = &self.machine.nodes[place];
                if node.status == StepStatus::Waiting && node.attempt == attempt {
                    self.act(place, attempt);
                }
            }
            Mail::Lease(place, attempt) => {
                if self.is_held(place, attempt) {
                    let effects = self.machine.fail(place, true);
                    self.carry_out(effects);
                    self.mail.push(Mail::Late(place, attempt));
                }
            }
            Mail::Late(place, attempt) => {
                if self.is_held(place, attempt) {
                    self.act(place, attempt);
                }
            }
        }
    }

    /// Whether somebody works at this attempt, as its row says.
    fn is_held(&self, place: usize, attempt: i64) -> bool {
        let node = &self.machine.nodes[place];
        node.status == StepStatus::Running && node.attempt == attempt
    }

    /// The host is killed, or another build takes over: what is left is what rows say.
    fn reload(&mut self) {
        if self.machine.end.is_some() {
            return;
        }
        let mut fresh = machine(self.fates);
        for (node, row) in fresh.nodes.iter_mut().zip(&self.machine.nodes) {
            node.status = StepStatus::parse(&row.status.to_string()).unwrap();
            (node.attempt, node.base) = (row.attempt, row.base);
        }
        self.machine = fresh;
    }

    /// Delivers everything in some order, some of it twice, and to a machine that is read anew. Stops early when told to.
    fn run(&mut self, choices: &mut impl Iterator<Item = usize>, stop_after: Option<usize>) {
        let mut steps = 0;
        while !self.mail.is_empty() && stop_after.is_none_or(|stop| steps < stop) {
            steps += 1;
            assert!(steps < 10_000, "it does not end");
            let choice = choices.next().unwrap_or(0);
            let place = choice % self.mail.len();
            // One in five is delivered and not acknowledged: it comes again.
            let mail = if choice.is_multiple_of(5) { self.mail[place].clone() } else { self.mail.remove(place) };
            self.reload();
            self.deliver(&mail);
        }
    }
}

fn world(fates: &[Fate]) -> World<'_> {
    let mut world = World { fates, machine: machine(fates), mail: Vec::new(), taken: Vec::new() };
    let effects = world.machine.follow();
    world.carry_out(effects);
    world
}

fn statuses(machine: &Machine) -> Vec<StepStatus> {
    machine.nodes.iter().map(|node| node.status).collect()
}

/// Whether a run may have ended so, by a plain reading.
fn check(fates: &[Fate], machine: &Machine) {
    let ideal = interpret(fates);
    let found = statuses(machine);
    let fatal = |place: usize| ideal[place] == StepStatus::Failed && !fates[place].continue_on_error;
    match machine.end {
        Some(End::Completed) => {
            assert!(!(0..fates.len()).any(fatal), "it completed though a step must have failed");
            assert_eq!(found, ideal);
        }
        Some(End::Failed(place)) => {
            assert!(fatal(place), "a step failed that cannot");
            assert_eq!(found[place], StepStatus::Failed);
            for (place, status) in found.iter().enumerate() {
                assert!(*status == ideal[place] || *status == StepStatus::Cancelled, "{place}: {status}");
                // Nothing was done before what it waits for.
                let is_done = matches!(status, StepStatus::Completed | StepStatus::Failed);
                let waits = &fates[place].dependencies;
                assert!(!is_done || waits.iter().all(|wait| found[*wait] != StepStatus::Cancelled));
            }
        }
        end => panic!("it ended as {end:?}: {found:?}"),
    }
}

/// Numbers without end, from a few.
fn choices(seed: Vec<usize>) -> impl Iterator<Item = usize> {
    let mut state = seed.iter().fold(88_172_645_463_325_252_u64, |sum, next| sum.rotate_left(7) ^ (*next as u64 + 1));
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some((state % 1_000_003) as usize)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Random graphs with random failures, messages in any order and some of them twice, holders of steps that are killed
    /// and speak too late: a run always ends, and only in a state that a plain interpreter of the definition allows.
    #[test]
    fn a_run_ends_as_a_plain_reading_allows(fates in fates(), seed in prop::collection::vec(0_usize..1_000, 4)) {
        let mut world = world(&fates);
        world.run(&mut choices(seed), None);
        check(&fates, &world.machine);
    }

    /// Cancelled anywhere, everything is over, and nothing that still comes changes it.
    #[test]
    fn what_was_cancelled_stays_so(fates in fates(), seed in prop::collection::vec(0_usize..1_000, 4), stop in 0_usize..20) {
        let mut world = world(&fates);
        let mut choices = choices(seed);
        world.run(&mut choices, Some(stop));
        let was_over = world.machine.end;
        world.machine.halt(End::Cancelled);
        let before = world.machine.clone();
        prop_assert!(before.nodes.iter().all(|node| node.status.is_over()));
        prop_assert_eq!(before.end, was_over.or(Some(End::Cancelled)));
        world.run(&mut choices, None);
        prop_assert_eq!(&world.machine, &before);
    }

    /// Retried until its failures are used up, a failed run completes, and no step that was done is done again.
    #[test]
    fn a_retried_run_goes_on_where_it_failed(fates in fates(), seed in prop::collection::vec(0_usize..1_000, 4)) {
        let mut fates = fates;
        let mut world = world(&fates);
        let mut choices = choices(seed);
        world.run(&mut choices, None);
        let done = |machine: &Machine| -> Vec<usize> {
            (0..machine.nodes.len()).filter(|place| machine.nodes[*place].status == StepStatus::Completed).collect()
        };
        let (completed, attempts) = (done(&world.machine), world.machine.nodes.clone());
        if world.machine.end == Some(End::Completed) {
            prop_assert!(world.machine.again().is_empty());
            return Ok(());
        }
        let (machine, mail, taken) = (world.machine, world.mail, world.taken);
        for fate in &mut fates {
            fate.failures = 0;
            fate.lost.clear();
        }
        let mut world = World { fates: &fates, machine, mail, taken };
        let effects = world.machine.again();
        world.carry_out(effects);
        world.run(&mut choices, None);
        prop_assert_eq!(world.machine.end, Some(End::Completed));
        for place in completed {
            prop_assert_eq!(world.machine.nodes[place].attempt, attempts[place].attempt);
        }
    }
}

#[test]
fn a_join_waits_for_all_and_runs_unless_all_were_skipped() {
    let step = |dependencies: &[usize], holds: bool| Fate {
        dependencies: dependencies.to_vec(),
        continue_on_error: false,
        retries: 0,
        holds,
        failures: 0,
        lasting: false,
        waits: false,
        lost: BTreeSet::new(),
    };
    let fates = [step(&[], true), step(&[0], false), step(&[0], true), step(&[1], true), step(&[1, 2], true)];
    let mut world = world(&fates);
    world.run(&mut choices(vec![3]), None);
    let found = statuses(&world.machine);
    assert_eq!(found[3], StepStatus::Skipped, "an exclusive successor");
    assert_eq!(found[4], StepStatus::Completed, "one branch was left");
}
