//! What systemd is told, if it has started the server and wants to know.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::app::App;

/// Tells systemd, if it listens. That it cannot be told is nothing that a server should end of.
pub(crate) fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// Shows systemd that the server works, for as long as its store gives any answer: one that hangs is cured
/// by a new start only.
pub(crate) async fn keep_in_touch(app: App) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let every = patience / 2;
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if timeout(every, app.store.retention()).await.is_ok() {
            tell(NotifyState::Watchdog);
        }
    }
}
