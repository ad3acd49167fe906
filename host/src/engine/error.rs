//! What can go wrong in this room, named for what the caller can do about it.

/// Why a component could not be made ready to run. Every text is a sentence for the person who deploys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// The bytes are no component: garbage, truncated, or a core module.
    #[error("{0}")]
    NotAComponent(String),
    /// Compiling took more time or memory than it may.
    #[error("{0}")]
    TooExpensive(String),
    /// It exports none of the interfaces that Berth calls.
    #[error("{0}")]
    WrongWorld(String),
    /// It imports what the grant does not allow: one sentence each, of which the first are told.
    #[error("{}", tell(.0))]
    NotGranted(Vec<String>),
    /// It could not be instantiated, described or warmed.
    #[error("{0}")]
    Broken(String),
    /// The host is out of room or its data folder cannot be used: not the component's fault.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a call into a guest gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The guest trapped; the text is its first line, for the log and never for a client.
    #[error("the guest trapped: {0}")]
    Trapped(String),
    /// The guest wanted more memory or table space than its limit.
    #[error("the guest ran out of memory")]
    OutOfMemory,
    /// The wall deadline passed.
    #[error("the guest did not answer in time")]
    TimedOut,
    /// No instance became free in time.
    #[error("the plugin has no capacity left")]
    Busy,
    /// The build was withdrawn while the call ran.
    #[error("the call was cancelled because its build was withdrawn")]
    Cancelled,
    /// The component does not export what was called.
    #[error("the component does not export {0}")]
    NotExported(&'static str),
    /// The guest answered with something that is no answer.
    #[error("the guest gave no valid answer: {0}")]
    BadAnswer(String),
}

/// The first sentences, and how many there are more: a component may have any number of imports.
fn tell(sentences: &[String]) -> String {
    let told = sentences.iter().take(SENTENCES_TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
    match sentences.len().saturating_sub(SENTENCES_TOLD_MAX) {
        0 => told,
        more => format!("{told}; and {more} more"),
    }
}

/// Sentences that are told of one component.
const SENTENCES_TOLD_MAX: usize = 5;

/// The first line of an error's whole chain that says something: short enough for a log line.
pub(super) fn first_line(error: &wasmtime::Error) -> String {
    let root = error.root_cause().to_string();
    let text = if root.is_empty() { error.to_string() } else { root };
    text.lines().next().unwrap_or_default().chars().take(LINE_CHARS_MAX).collect()
}

/// How much of a guest's own words goes into one line.
const LINE_CHARS_MAX: usize = 300;

/// Whether a pool of the engine is used up. Live instances are counted beforehand, but some have many memories, tables or
/// core instances each: nothing is wrong with the one that comes next.
pub(super) fn is_out_of_room(error: &wasmtime::Error) -> bool {
    error.root_cause().is::<wasmtime::PoolConcurrencyLimitError>()
}

#[cfg(test)]
mod tests {
    use wasmtime::{Config, Engine, Instance, InstanceAllocationStrategy, Module, PoolingAllocationConfig, Store};

    use super::*;

    #[test]
    fn a_pool_that_is_used_up_is_told_from_a_guest_that_fails() {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_tables(1).total_memories(1).total_stacks(1);
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).unwrap();
        // A module with one table of one element, and one whose start function is unreachable.
        let table = Module::new(&engine, b"\0asm\x01\0\0\0\x04\x04\x01\x70\0\x01").unwrap();
        let fails = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x08\x01\0\x0a\x05\x01\x03\0\0\x0b";
        let fails = Module::new(&engine, fails).unwrap();
        let mut store = Store::new(&engine, ());
        Instance::new(&mut store, &table, &[]).unwrap();
        assert!(is_out_of_room(&Instance::new(&mut store, &table, &[]).unwrap_err()));
        assert!(!is_out_of_room(&Instance::new(&mut store, &fails, &[]).unwrap_err()));
    }
}
