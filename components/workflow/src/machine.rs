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
mod tests;
