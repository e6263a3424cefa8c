//! Gives many callers their answers at once.
//!
//! Whoever wakes a task from outside its runtime wakes a thread for it, which may take the processor
//! from the one that wakes it: with a crowd, each answer costs two switches of threads. So a runtime is
//! woken once, and its own threads give out the answers.

use tokio::runtime::{Handle, RuntimeFlavor};

/// The runtime of whoever calls, if it has threads of its own. One that runs in its caller's thread
/// runs nothing while that is elsewhere.
pub(crate) fn runtime() -> Option<Handle> {
    Handle::try_current().ok().filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Calls each of these, which give an answer to a caller, in that caller's [`runtime`].
pub(crate) fn give<F: FnOnce() + Send + 'static>(mut answers: Vec<(Option<Handle>, F)>) {
    while let Some((runtime, _)) = answers.first() {
        let runtime = runtime.clone();
        let id = runtime.as_ref().map(Handle::id);
        let (here, elsewhere) = answers.into_iter().partition(|(runtime, _)| runtime.as_ref().map(Handle::id) == id);
        let here = Answers(here);
        if let Some(runtime) = runtime.filter(|_| here.0.len() > 1) {
            runtime.spawn(async { drop(here) });
        }
        answers = elsewhere;
    }
}

/// Given when this is dropped: a runtime that is shut down drops its tasks without running them.
struct Answers<F: FnOnce()>(Vec<(Option<Handle>, F)>);

impl<F: FnOnce()> Drop for Answers<F> {
    fn drop(&mut self) {
        for (_, answer) in self.0.drain(..) {
            answer();
        }
    }
}
