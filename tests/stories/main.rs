//! Stories told to the real binary, from outside. Each begins with a server of its own.

mod a_cell_makes_a_part;
mod a_connection_is_cut;
mod a_hall_has_rules;
mod a_lease_is_lost;
mod a_part_is_judged;
mod a_person_approves;
mod a_plugin_serves;
mod a_reader_stops_early;
mod a_request_is_repeated;
mod a_run_survives_a_crash;
mod a_storm_starts_one_run;
mod an_author_makes_a_plugin;
mod bad_input_is_refused;
mod bytes_are_fetched_by_digest;
mod bytes_are_sent_in_stretches;
mod events_are_told_again;
mod everybody_may_do_what_is_theirs;
mod many_processes_share_the_work;
mod samples_are_kept;
mod the_contract_is_kept;
mod the_loop_closes;
