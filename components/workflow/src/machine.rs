//! The state machine of a run: which steps begin, are skipped, tried again or cancelled, and when the run is over. It knows
//! nothing of messages, rows or clocks; `run` loads it, asks it, and carries out what it answers. Pure.
//!
//! Every step is taken once an attempt: a message that comes twice, late, or after the end finds nothing to take.

use berth_sdk::prelude::*;

/// How far a step is.
#[choice]
pub enum StepStatus {
    /// It waits for others, or its message is on the way.
    Pending,
    /// Somebody works at it.
    Running,
    /// It waits for people, a moment, or something elsewhere.
    Waiting,
    /// Done.
    Completed,
    /// It did not work.
    Failed,
    /// Its condition did not hold, or that of everything it waits for.
    Skipped,
    /// The run ended before it.
    Cancelled,
}

impl StepStatus {
    /// Nothing happens to it any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled)
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every step is completed, skipped, or failed without harm.
    Completed,
    /// This step failed.
    Failed(usize),
    /// Somebody cancelled it.
    Cancelled,
    /// It took too long.
    Timeout,
}

/// One step as the machine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The places of the steps it waits for.
    pub dependencies: Vec<usize>,
    /// Its failure does not end the run.
    pub continue_on_error: bool,
    /// Attempts after the first.
    pub retries: i64,
    /// How far it is.
    pub status: StepStatus,
    /// The attempt that counts; messages of others are void.
    pub attempt: i64,
    /// Attempts before somebody retried the whole run.
    pub base: i64,
}

impl Node {
    /// Its message is on the way.
    pub fn is_sent(&self) -> bool {
        self.status == StepStatus::Pending && self.attempt > self.base
    }

    /// It has not begun, and nothing is on the way.
    fn is_idle(&self) -> bool {
        self.status == StepStatus::Pending && self.attempt == self.base
    }

    /// Those that wait for it may begin.
    fn is_done(&self) -> bool {
        match self.status {
            StepStatus::Completed | StepStatus::Skipped => true,
            StepStatus::Failed => self.continue_on_error,
            _ => false,
        }
    }
}

/// What is to be done after a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A message for this attempt; later, when it is a retry.
    Send {
        /// The step.
        place: usize,
        /// Its attempt.
        attempt: i64,
        /// Whether an earlier attempt failed.
        is_retry: bool,
    },
    /// The step is left out.
    Skip(usize),
    /// The step is taken back.
    Cancel(usize),
    /// The run is over.
    End(End),
}

/// The steps of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// In the order of the definition.
    pub nodes: Vec<Node>,
    /// Set when the run is over.
    pub end: Option<End>,
}

impl Machine {
    /// Steps in whatever states they are.
    pub fn new(nodes: Vec<Node>, end: Option<End>) -> Self {
        Self { nodes, end }
    }

    /// Begins what may begin, and ends what is over.
    pub fn follow(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.end.is_some() {
            return effects;
        }
        let fatal = |node: &Node| node.status == StepStatus::Failed && !node.continue_on_error;
        if let Some(place) = self.nodes.iter().position(fatal) {
            return self.halt(End::Failed(place));
        }
        // Skipping one may let another be skipped: until nothing changes.
        loop {
            let found = (0..self.nodes.len()).find_map(|place| self.next_move(place).map(|is_skip| (place, is_skip)));
            let Some((place, is_skip)) = found else { break };
            let Some(node) = self.nodes.get_mut(place) else { break };
            if is_skip {
                node.status = StepStatus::Skipped;
                effects.push(Effect::Skip(place));
            } else {
                node.attempt += 1;
                effects.push(Effect::Send { place, attempt: node.attempt, is_retry: false });
            }
        }
        if self.nodes.iter().all(|node| node.status.is_over()) {
            self.end = Some(End::Completed);
            effects.push(Effect::End(End::Completed));
        }
        effects
    }

    /// Whether a step may begin (false) or is skipped because everything it waits for was (true); none when it stays.
    fn next_move(&self, place: usize) -> Option<bool> {
        let node = self.nodes.get(place).filter(|node| node.is_idle())?;
        let mut waits = node.dependencies.iter().filter_map(|place| self.nodes.get(*place));
        if !waits.clone().all(Node::is_done) {
            return None;
        }
        Some(!node.dependencies.is_empty() && waits.all(|node| node.status == StepStatus::Skipped))
    }

    /// Takes a step for an attempt. False when the message that asks for it is void.
    pub fn take(&mut self, place: usize, attempt: i64) -> bool {
        let is_open = self.end.is_none();
        let node = self.nodes.get_mut(place).filter(|node| is_open && node.is_sent() && node.attempt == attempt);
        if let Some(node) = node {
            node.status = StepStatus::Running;
            return true;
        }
        false
    }

    /// A step that was taken waits now.
    pub fn wait(&mut self, place: usize) {
        self.change(place, StepStatus::Waiting);
    }

    /// A step is done.
    pub fn complete(&mut self, place: usize) -> Vec<Effect> {
        if self.change(place, StepStatus::Completed) { self.follow() } else { Vec::new() }
    }

    /// A step's condition does not hold.
    pub fn skip(&mut self, place: usize) -> Vec<Effect> {
        if self.change(place, StepStatus::Skipped) { self.follow() } else { Vec::new() }
    }

    /// A step has failed; it is tried again when that may help and its retries are not used up.
    pub fn fail(&mut self, place: usize, may_pass: bool) -> Vec<Effect> {
        if !self.change(place, StepStatus::Failed) {
            return Vec::new();
        }
        let node = self.nodes.get_mut(place).filter(|node| may_pass && node.attempt - node.base <= node.retries);
        match node {
            Some(node) => {
                node.status = StepStatus::Pending;
                node.attempt += 1;
                vec![Effect::Send { place, attempt: node.attempt, is_retry: true }]
            }
            None => self.follow(),
        }
    }

    /// Ends the run: whatever is not over is taken back. Nothing when it has ended.
    pub fn halt(&mut self, end: End) -> Vec<Effect> {
        if self.end.is_some() {
            return Vec::new();
        }
        let mut effects = Vec::new();
        for (place, node) in self.nodes.iter_mut().enumerate().filter(|(_, node)| !node.status.is_over()) {
            node.status = StepStatus::Cancelled;
            effects.push(Effect::Cancel(place));
        }
        self.end = Some(end);
        effects.push(Effect::End(end));
        effects
    }

    /// The completed steps for which no completed one has waited.
    pub fn last(&self) -> Vec<usize> {
        let is_completed = |node: &&Node| node.status == StepStatus::Completed;
        let used = |place: usize| self.nodes.iter().filter(is_completed).any(|node| node.dependencies.contains(&place));
        let places = self.nodes.iter().enumerate().filter(|(_, node)| is_completed(node)).map(|(place, _)| place);
        places.filter(|place| !used(*place)).collect()
    }

    /// Runs again what failed or was taken back, with all its retries; what is done stays done. Nothing when the run is not
    /// over or has completed.
    pub fn again(&mut self) -> Vec<Effect> {
        if matches!(self.end, None | Some(End::Completed)) {
            return Vec::new();
        }
        self.end = None;
        for node in &mut self.nodes {
            if node.status == StepStatus::Cancelled || node.status == StepStatus::Failed && !node.continue_on_error {
                node.status = StepStatus::Pending;
                node.base = node.attempt;
            }
        }
        self.follow()
    }

    /// Moves a step that somebody works at or that waits.
    fn change(&mut self, place: usize, status: StepStatus) -> bool {
        let is_open = self.end.is_none();
        let is_held = |node: &&mut Node| matches!(node.status, StepStatus::Running | StepStatus::Waiting);
        match self.nodes.get_mut(place).filter(|node| is_open && is_held(node)) {
            Some(node) => {
                node.status = status;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
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
    }

    impl Fate {
        /// How it ends when it begins.
        fn end(&self) -> StepStatus {
            let tries = if self.lasting { 0 } else { self.retries };
            match self {
                Self { holds: false, .. } => StepStatus::Skipped,
                Self { failures, .. } if *failures > tries => StepStatus::Failed,
                _ => StepStatus::Completed,
            }
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
        );
        let step = step.prop_map(|(dependencies, continue_on_error, retries, holds, failures, lasting, waits)| {
            let dependencies = dependencies.into_iter().collect();
            Fate { dependencies, continue_on_error, retries, holds, failures, lasting, waits }
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
            }
        }

        /// Delivers everything in some order, some of it twice. Stops early when told to.
        fn run(&mut self, choices: &mut impl Iterator<Item = usize>, stop_after: Option<usize>) {
            let mut steps = 0;
            while !self.mail.is_empty() && stop_after.is_none_or(|stop| steps < stop) {
                steps += 1;
                assert!(steps < 10_000, "it does not end");
                let choice = choices.next().unwrap_or(0);
                let place = choice % self.mail.len();
                // One in five is delivered and not acknowledged: it comes again.
                let mail = if choice.is_multiple_of(5) { self.mail[place].clone() } else { self.mail.remove(place) };
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
        let mut state =
            seed.iter().fold(88_172_645_463_325_252_u64, |sum, next| sum.rotate_left(7) ^ (*next as u64 + 1));
        std::iter::from_fn(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            Some((state % 1_000_003) as usize)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Random graphs with random failures, messages in any order and some of them twice: a run always ends, and only
        /// in a state that a plain interpreter of the definition allows.
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
            for fate in &mut fates { fate.failures = 0; }
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
        };
        let fates = [step(&[], true), step(&[0], false), step(&[0], true), step(&[1], true), step(&[1, 2], true)];
        let mut world = world(&fates);
        world.run(&mut choices(vec![3]), None);
        let found = statuses(&world.machine);
        assert_eq!(found[3], StepStatus::Skipped, "an exclusive successor");
        assert_eq!(found[4], StepStatus::Completed, "one branch was left");
    }
}
