//! left4me in real Debians, from the package on: what an administrator sees, in bookworm and in
//! trixie.
//!
//! Each test is a story of one lab: a booted system with the package installed by apt, stand-ins
//! for steamcmd and the game, and nothing else. `tests/run` builds those and runs the stories; by
//! hand:
//!
//! ```text
//! LEFT4ME_TEST_DEB=target/quick/left4me_….deb LEFT4ME_TEST_STANDIN=target/quick \
//!     cargo nextest run --test lab -E 'test(bookworm::a_queued_start)'
//! ```
//!
//! LEFT4ME_TEST_KEEP=1 leaves the labs standing (`deploy/lab list`). Nothing here sleeps and hopes:
//! [`lab::wait_for`] looks until something is so, or its deadline has passed.
#![forbid(unsafe_code)]

mod alerts;
mod browser;
mod builds;
mod builds_cancelled;
mod builds_deaths;
mod builds_disk;
mod builds_faults;
mod calendar;
mod cancel;
mod cascade;
mod console;
mod crashes;
mod demo;
mod documented;
mod field_content;
mod field_docs;
mod field_doctor;
mod field_install;
mod field_overlay;
mod field_servers;
mod field_service;
mod field_steam;
mod field_time;
mod field_web;
mod fleet;
mod fleet_moves;
mod lab;
mod package;
mod players;
mod polls;
mod probe;
mod queue;
mod report;
mod rows;
mod schedules;
mod schedules_web;
mod security;
mod site;
mod spine;
mod stale;
mod states;
mod steam;
mod updates;
mod upgrade;
mod upgrade_builds;
mod walls_launch;
mod walls_people;
mod walls_sandbox;
mod walls_uids;
mod walls_web;
mod web;
mod web_console;
mod web_idle;

use lab::{Lab, Suite};

/// Each story as a test of its own, once for each suite.
macro_rules! stories {
    ($($file:ident::$story:ident,)*) => {
        mod bookworm {
            $(#[test] fn $story() { super::$file::$story(&super::Lab::up(super::Suite::Bookworm)); })*
            #[test] fn an_existing_host_keeps_its_servers_and_loses_nothing() {
                super::upgrade::an_existing_host_keeps_its_servers_and_loses_nothing(&super::Lab::bare(super::Suite::Bookworm));
            }
            #[test] fn a_host_without_builds_publishes_what_it_has() {
                super::upgrade_builds::a_host_without_builds_publishes_what_it_has(&super::Lab::bare(super::Suite::Bookworm));
            }
            #[test] fn the_package_comes_onto_another_host_over_ssh() {
                super::field_install::the_package_comes_onto_another_host_over_ssh(super::Suite::Bookworm);
            }
        }
        mod trixie {
            $(#[test] fn $story() { super::$file::$story(&super::Lab::up(super::Suite::Trixie)); })*
            #[test] fn an_existing_host_keeps_its_servers_and_loses_nothing() {
                super::upgrade::an_existing_host_keeps_its_servers_and_loses_nothing(&super::Lab::bare(super::Suite::Trixie));
            }
            #[test] fn a_host_without_builds_publishes_what_it_has() {
                super::upgrade_builds::a_host_without_builds_publishes_what_it_has(&super::Lab::bare(super::Suite::Trixie));
            }
            #[test] fn the_package_comes_onto_another_host_over_ssh() {
                super::field_install::the_package_comes_onto_another_host_over_ssh(super::Suite::Trixie);
            }
        }
    };
}

stories! {
    spine::a_queued_start_becomes_a_server_that_outlives_a_reboot,
    queue::an_update_starts_again_what_ran_and_nothing_of_ours_stays_when_idle,
    builds::an_update_is_not_noticed_until_a_server_restarts,
    builds_faults::a_build_that_does_not_come_up_is_left_again,
    builds_cancelled::a_cancelled_update_leaves_no_server_down,
    builds_deaths::whatever_dies_before_a_restart_is_not_noticed,
    builds_deaths::whatever_dies_afterwards_leaves_no_server_down,
    builds_disk::a_full_disk_changes_nothing,
    updates::an_update_asks_first_and_stops_nothing_for_nothing,
    stale::files_that_hide_newer_ones_are_found_and_dropped_on_request,
    steam::every_way_steamcmd_fails_is_told_and_the_queue_goes_on,
    field_steam::steamcmds_ways_are_survived_and_told,
    alerts::a_crash_loop_is_one_alert_and_a_summary,
    schedules::what_is_scheduled_happens_at_its_time,
    crashes::a_death_leaves_no_process_an_honest_job_and_a_working_queue,
    cancel::what_was_cancelled_is_really_gone,
    cancel::what_cannot_be_killed_is_told_and_holds_nobody_else,
    cancel::who_may_not_and_what_makes_no_sense_changes_nothing,
    calendar::calendar_expressions_mean_what_they_mean_to_systemd,
    cascade::an_update_over_twenty_servers_is_cancelled_task_by_task,
    states::a_row_tells_what_systemd_knows_within_two_seconds,
    states::a_reboot_leaves_states_that_are_true,
    polls::a_poll_is_cheap_careful_and_survives_what_it_meets,
    security::units_are_sandboxed_and_doors_open_only_to_whom_they_should,
    console::the_console_talks_to_games_and_to_nothing_else,
    players::who_plays_is_known_and_can_be_spoken_to,
    players::a_restart_waits_until_nobody_plays,
    walls_people::root_follows_nothing_that_a_member_or_a_service_can_exchange,
    walls_people::an_older_versions_database_moves_while_it_is_in_use,
    walls_launch::launch_arguments_reach_the_game_and_nothing_else,
    walls_web::a_plugin_neither_speaks_for_others_nor_passes_for_somebody_else,
    walls_sandbox::no_unit_lets_a_program_out,
    walls_sandbox::a_taken_over_steamcmd_holds_neither_its_runner_nor_the_queue,
    web::an_evening_in_a_browser,
    web_console::commands_are_typed_in_a_browser,
    schedules_web::a_schedule_made_in_a_browser_is_a_timer_and_runs,
    field_servers::what_servers_do_to_an_admin_is_told_with_its_cause,
    field_web::what_people_met_in_their_browsers,
    web_idle::the_first_page_comes_from_nothing_and_leaves_nothing,
    walls_uids::servers_of_two_owners_cannot_touch_each_other,
    field_content::the_game_writes_what_it_writes_in_place,
    walls_uids::systemd_reads_nothing_that_a_service_could_exchange,
    field_overlay::a_mount_that_fails_is_found_before_it_matters_and_told_with_its_cause,
    field_service::a_service_and_its_socket_are_one_thing,
    field_service::a_restored_database_is_noticed_by_all_who_read_it,
    field_time::times_name_their_zone_and_a_cancelled_update_is_mended_from_its_page,
    field_docs::every_documented_command_does_what_it_says,
    field_doctor::the_doctor_tries_and_its_advice_heals,
    field_doctor::the_doctor_finds_what_cannot_be_written_and_whose_the_accounts_are,
    package::an_upgrade_touches_nothing_a_removal_keeps_data_and_a_purge_takes_it,
}

#[test]
fn the_demo_runs_from_a_checkout_to_its_end() {
    demo::the_demo_runs_from_a_checkout_to_its_end();
}

#[test]
fn a_host_of_a_fleet_is_rebooted_cut_off_copied_and_expelled() {
    fleet::a_host_is_rebooted_cut_off_copied_and_expelled();
}

#[test]
fn servers_move_and_an_update_goes_in_waves_while_machines_die() {
    fleet_moves::servers_move_and_an_update_goes_in_waves_while_machines_die();
}
