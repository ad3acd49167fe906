//! One model after another, as often as it makes sense: what a failure leads to, row by row.

use std::time::Duration;

use crate::failure::{Failure, FailureKind};

/// How often a provider that is at fault is asked again.
const RETRIES: u32 = 2;
/// Before the first repetition; doubled for the next.
const PAUSE: Duration = Duration::from_millis(250);
/// With less time left nothing is begun.
const TIME_MIN: Duration = Duration::from_millis(50);

/// Which failures lead to the next model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triggers {
    /// The provider is at fault, or its answer is none.
    pub on_error: bool,
    /// It takes no more.
    pub on_rate_limit: bool,
    /// No answer in time.
    pub on_timeout: bool,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl Triggers {
    fn leads_on(self, kind: FailureKind) -> bool {
        match kind {
            FailureKind::Server | FailureKind::Invalid => self.on_error,
            FailureKind::RateLimited => self.on_rate_limit,
            FailureKind::Timeout => self.on_timeout,
            // A refused key is never passed over in silence; a faulty question is faulty everywhere.
            FailureKind::Auth
            | FailureKind::Denied
            | FailureKind::Content
            | FailureKind::TooLong
            | FailureKind::Cancelled => false,
        }
    }
}

/// What the loop needs of the world.
pub trait World<T> {
    /// How much time is left for all of it.
    fn left(&self) -> Duration;
    /// Waits.
    fn pause(&self, duration: Duration);
    /// Asks the model of this number, at most so long.
    fn attempt(&mut self, index: usize, timeout: Duration) -> Result<T, Failure>;
    /// The model of this number is asked next, because of this.
    fn moves(&mut self, index: usize, failure: &Failure);
}

/// Asks until somebody answers or nothing is left to try; with the number of the model that was asked last.
pub fn through<T>(models: usize, triggers: Triggers, world: &mut dyn World<T>) -> Result<(usize, T), (usize, Failure)> {
    let mut index = 0;
    let mut retries = 0;
    loop {
        let left = world.left();
        if left < TIME_MIN {
            return Err((index, Failure::new(FailureKind::Timeout, "There was no answer in time.")));
        }
        let is_last = index + 1 >= models;
        // Whoever stands in needs time as well.
        let share = if is_last { left } else { left.mul_f64(0.6) };
        let failure = match world.attempt(index, triggers.timeout.min(share)) {
            Ok(answer) => return Ok((index, answer)),
            Err(failure) => failure,
        };
        if failure.kind == FailureKind::Server && retries < RETRIES {
            world.pause(PAUSE * 2_u32.pow(retries));
            retries += 1;
        } else if !is_last && triggers.leads_on(failure.kind) {
            index += 1;
            retries = 0;
            world.moves(index, &failure);
        } else {
            return Err((index, failure));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Script {
        answers: Vec<(usize, Result<&'static str, FailureKind>)>,
        asked: Vec<usize>,
        moved: Vec<usize>,
        left: Cell<Duration>,
        timeouts: Vec<Duration>,
    }

    impl World<&'static str> for Script {
        fn left(&self) -> Duration {
            self.left.get()
        }
        fn pause(&self, duration: Duration) {
            self.left.set(self.left.get().saturating_sub(duration));
        }
        fn attempt(&mut self, index: usize, timeout: Duration) -> Result<&'static str, Failure> {
            self.asked.push(index);
            self.timeouts.push(timeout);
            let position = self.answers.iter().position(|(of, _)| *of == index).unwrap();
            self.answers.remove(position).1.map_err(|kind| Failure::new(kind, "x"))
        }
        fn moves(&mut self, index: usize, _: &Failure) {
            self.moved.push(index);
        }
    }

    const ALL: Triggers =
        Triggers { on_error: true, on_rate_limit: true, on_timeout: true, timeout: Duration::from_secs(30) };

    fn run(
        models: usize,
        triggers: Triggers,
        answers: &[(usize, Result<&'static str, FailureKind>)],
    ) -> (Result<usize, FailureKind>, Vec<usize>, Vec<usize>) {
        let mut script = Script {
            answers: answers.to_vec(),
            asked: Vec::new(),
            moved: Vec::new(),
            left: Cell::new(Duration::from_secs(90)),
            timeouts: Vec::new(),
        };
        let result = through(models, triggers, &mut script);
        (result.map(|(index, _)| index).map_err(|(_, failure)| failure.kind), script.asked, script.moved)
    }

    #[test]
    fn a_refused_key_is_never_passed_over() {
        for kind in [FailureKind::Auth, FailureKind::Denied, FailureKind::Content, FailureKind::TooLong] {
            assert_eq!(run(2, ALL, &[(0, Err(kind)), (1, Ok("b"))]), (Err(kind), vec![0], vec![]));
        }
    }

    #[test]
    fn a_provider_at_fault_is_asked_three_times_and_then_the_next_one() {
        let fault = (0, Err(FailureKind::Server));
        assert_eq!(run(1, ALL, &[fault, fault, (0, Ok("a"))]), (Ok(0), vec![0, 0, 0], vec![]));
        assert_eq!(run(1, ALL, &[fault, fault, fault]), (Err(FailureKind::Server), vec![0, 0, 0], vec![]));
        assert_eq!(run(2, ALL, &[fault, fault, fault, (1, Ok("b"))]), (Ok(1), vec![0, 0, 0, 1], vec![1]));
        let off = Triggers { on_error: false, ..ALL };
        assert_eq!(run(2, off, &[fault, fault, fault]).0, Err(FailureKind::Server));
    }

    #[test]
    fn too_many_and_too_late_lead_on_at_once_where_the_chain_says_so() {
        for (kind, off) in [
            (FailureKind::RateLimited, Triggers { on_rate_limit: false, ..ALL }),
            (FailureKind::Timeout, Triggers { on_timeout: false, ..ALL }),
            (FailureKind::Invalid, Triggers { on_error: false, ..ALL }),
        ] {
            assert_eq!(run(2, ALL, &[(0, Err(kind)), (1, Ok("b"))]), (Ok(1), vec![0, 1], vec![1]), "{kind:?}");
            assert_eq!(run(2, off, &[(0, Err(kind))]), (Err(kind), vec![0], vec![]), "{kind:?}");
        }
    }

    #[test]
    fn the_time_is_shared_and_ends() {
        let mut script = Script {
            answers: vec![(0, Err(FailureKind::Timeout)), (1, Ok("b"))],
            asked: Vec::new(),
            moved: Vec::new(),
            left: Cell::new(Duration::from_secs(10)),
            timeouts: Vec::new(),
        };
        assert!(through(2, ALL, &mut script).is_ok());
        assert_eq!(script.timeouts, [Duration::from_secs(6), Duration::from_secs(10)]);
        script.left.set(Duration::ZERO);
        assert_eq!(through(2, ALL, &mut script).unwrap_err().1.kind, FailureKind::Timeout);
    }
}
