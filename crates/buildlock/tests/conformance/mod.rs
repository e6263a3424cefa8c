//! What every store must do. A store's test file says `conformance!(ItsWorld);` and gets one test for
//! each case; the cases are here, by topic, and know no store by name.
//!
//! A case that is not in the list below is dead code, which the build refuses.

pub(crate) mod crowd;
pub(crate) mod ending;
pub(crate) mod history;
pub(crate) mod locking;
pub(crate) mod news;
pub(crate) mod projects;
pub(crate) mod queue;
pub(crate) mod repeating;
pub(crate) mod retention;

use std::sync::Arc;
use std::time::Duration;

use buildlock::LockStore;

/// A store of one's own, with nothing in it and a clock that the case can move.
pub(crate) trait World: Send + Sync + Sized + 'static {
    async fn fresh() -> Self;

    /// The store.
    fn store(&self) -> &Arc<dyn LockStore>;

    /// The same store as another process has it.
    async fn another(&self) -> Arc<dyn LockStore>;

    /// Closes the store, and opens it again as the next process would.
    async fn reopen(&mut self);

    /// The store's time goes on, for all who use it.
    fn advance(&self, time: Duration);
}

/// Makes a test of each case for one store.
macro_rules! conformance {
    ($world:ty) => {
        conformance!(@ $world, locking:
            a_free_project_is_granted_at_once,
            a_project_that_is_locked_comes_into_being_owned_by_the_holder,
            a_held_project_refuses_at_once_and_says_who_is_in_the_way,
            a_lock_excludes_whoever_comes_through_another_handle,
            projects_do_not_block_each_other,
            an_unknown_project_is_told_and_not_made,
            a_renewal_lasts_from_now,
            a_renewal_may_name_its_own_ttl,
            a_renewal_is_seen_through_another_handle,
            only_the_holder_renews_and_unlocks,
            a_token_that_was_never_granted_is_told_from_a_lost_one,
            what_a_holder_says_is_kept_as_it_is,
            tokens_grow_from_project_to_project,
            tokens_grow_over_deletion_and_reopening,
            an_acknowledged_lock_is_there_after_reopening,
            a_command_that_nobody_waits_for_is_done,
        );
        conformance!(@ $world, queue:
            a_waiter_gets_a_ticket_and_its_place,
            a_release_grants_to_the_oldest_waiter,
            waiters_of_two_handles_are_served_in_one_order,
            every_end_of_a_lease_hands_it_on,
            a_handed_lease_passes_on_unless_it_is_claimed,
            a_handed_lease_is_claimed_by_a_renewal_or_by_asking_again,
            to_verify_a_handed_lease_does_not_claim_it,
            a_dead_waiter_is_skipped,
            a_waiter_that_keeps_in_touch_keeps_its_place,
            a_waiter_that_comes_back_too_late_starts_again_at_the_end,
            a_waiter_that_withdraws_leaves_the_queue,
            a_ticket_is_kept_by_asking_without_a_wait,
            the_queue_is_the_same_after_reopening,
            a_full_queue_refuses_and_changes_nothing,
        );
        conformance!(@ $world, ending:
            an_unlocked_lease_never_comes_back,
            a_repeated_unlock_succeeds_also_after_reopening,
            an_unlock_by_somebody_else_of_an_unlocked_lease_is_refused,
            a_lease_ends_at_the_end_of_its_ttl_and_not_before,
            an_expired_lease_cannot_be_unlocked_or_renewed,
            what_is_due_is_done_without_anybodys_request,
            what_is_due_in_many_projects_is_done_in_all,
            an_idle_store_has_nothing_due,
            a_force_unlock_is_on_record,
            a_force_unlock_does_not_hit_the_next_holder,
            a_force_unlock_reaches_the_holder_through_another_handle,
            how_a_lease_ended_is_known_after_reopening,
        );
        conformance!(@ $world, repeating:
            a_repeated_request_returns_the_same_lease_unchanged,
            a_repeated_request_returns_the_same_ticket,
            a_repeated_request_is_known_through_another_handle,
            a_request_whose_lease_has_ended_is_lost_for_ever,
            a_request_that_was_withdrawn_before_it_waited_is_as_if_new,
            a_request_id_with_another_content_is_refused,
            a_request_id_on_another_project_is_another_request,
            a_request_is_not_granted_again_after_its_project_was_deleted,
            a_request_that_was_refused_may_be_repeated,
            to_withdraw_a_held_request_unlocks_it,
        );
        conformance!(@ $world, projects:
            a_project_is_made_once_and_owned_by_its_maker,
            an_idle_project_can_be_deleted,
            a_held_project_cannot_be_deleted,
            an_expired_project_can_be_deleted,
            projects_are_listed_in_the_order_of_their_ids,
            a_list_shows_what_time_has_made_of_the_projects,
            any_id_is_data,
        );
        conformance!(@ $world, history:
            every_change_writes_exactly_one_event,
            what_changes_nothing_writes_nothing,
            an_event_tells_what_happened_to_whom,
            a_projects_history_is_its_own,
            history_is_read_page_by_page,
            events_are_resumable_from_any_of_them,
            history_is_the_same_through_another_handle_and_after_reopening,
            an_expiry_is_dated_when_it_was_due,
        );
        conformance!(@ $world, retention:
            nothing_is_forgotten_by_default,
            events_go_when_they_are_older_than_the_retention,
            events_go_when_they_are_more_than_the_retention,
            the_last_day_is_always_kept,
            retention_is_for_all_handles_and_survives_reopening,
            the_longest_retention_forgets_nothing,
            tokens_and_event_ids_grow_on_when_history_is_forgotten,
        );
        conformance!(@ $world, news:
            the_newest_event_is_told_through_both_handles,
            a_waiter_hears_of_its_turn_through_its_own_handle,
            a_waiter_hears_of_its_turn_through_another_handle,
            a_holder_hears_of_the_end_through_its_own_handle,
            a_holder_hears_of_the_end_through_another_handle,
            news_that_nobody_waited_for_is_kept,
            news_of_one_lease_is_not_told_to_another,
        );
        conformance!(@ $world, crowd:
            a_crowd_over_two_handles_never_breaks_the_rules,
            of_many_who_come_at_once_one_is_granted,
        );
    };
    (@ $world:ty, $topic:ident: $($case:ident),* $(,)?) => {
        mod $topic {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = <$world as conformance::World>::fresh().await;
                conformance::$topic::$case(world).await;
            })*
        }
    };
}
