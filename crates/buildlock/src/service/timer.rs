//! Sleeping by the boot-time clock: tokio's own clock stands still while the machine is suspended.

use std::time::Duration;

use crate::sqlite::since_boot;

/// How long a suspend may go unnoticed once it is over.
const SLICE: Duration = Duration::from_secs(5);

/// Resolves at this reading of [`since_boot`].
pub(crate) async fn sleep_until(time: Duration) {
    while let Some(left) = time.checked_sub(since_boot()).filter(|left| !left.is_zero()) {
        tokio::time::sleep(left.min(SLICE)).await;
    }
}
