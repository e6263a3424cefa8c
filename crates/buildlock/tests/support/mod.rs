//! What the tests of this crate share: short ways to ask a store, a clock that a test can move, a
//! check of a whole history, processes of their own. No test lives here.

// Each test binary uses a part of this.
#![allow(dead_code)]

pub(crate) mod ask;
pub(crate) mod clock;
pub(crate) mod database_clock;
pub(crate) mod faulty;
pub(crate) mod files;
pub(crate) mod load;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod replay;
pub(crate) mod site;

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// What is awaited in a test comes long before this, or never.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// Awaits what must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LONG_ENOUGH, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Awaits what must come within `limit`, and prints how long it took.
pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let value = soon(what, future).await;
    let took = start.elapsed();
    println!("{what}: {took:?}");
    assert!(took < limit, "{what} took {took:?}, more than {limit:?}");
    value
}

/// Asks again and again until the answer is yes, for what nobody can be told of.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let patience = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, patience).await;
}
