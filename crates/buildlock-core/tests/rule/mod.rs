//! One file for each rule that one project decides alone; rule 14's deadlines too.

mod rule_11_history;
mod rule_14_deadline;
mod rule_1_mutual_exclusion;
mod rule_2_fencing;
mod rule_3_lost;
mod rule_4_repeating;
mod rule_5_try_or_wait;
mod rule_6_first_come;
mod rule_7_dead_waiters;
mod rule_8_dead_holders;
mod rule_9_force_unlock;
