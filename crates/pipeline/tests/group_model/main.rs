//! An exhaustive model of two workers and one partition: whatever moves it, and whoever goes on after
//! he has lost it, every event is there exactly once. Each rule of the protocol is a switch, and each
//! one that is broken must lead to a counterexample. What is modelled, and what is not:
//! `docs/model.md`.

#[path = "../model/endless.rs"]
mod endless;
mod group;
mod lane;
mod server;
mod state;
mod steps;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::state::{DEADLINE, Faults, Group, LIFE, Rules, State};
use crate::steps::{Action, DECLARED, DONE_IS_THERE, ENDS, ONCE, OWNER};

const NONE: Faults = Faults {
    all: 2,
    kills: 0,
    timeouts: 0,
    handovers: 0,
    generations: 0,
    late_commits: 0,
    deferrals: 0,
    server_kills: 0,
    resets: 0,
    gusts: 0,
};

/// Whatever may happen to a group, once each.
const STORM: Faults = Faults {
    kills: 1,
    timeouts: 1,
    handovers: 1,
    generations: 1,
    late_commits: 1,
    deferrals: 1,
    server_kills: 1,
    ..NONE
};

/// Two events, each behind a hole; Ranges are cut as it happens.
const MOVES: Group = Group {
    rules: Rules::ALL,
    window: DEADLINE + LIFE,
    events: &[1, 3],
    cuts: &[1, 2],
    faults: STORM,
};

/// Three events, and commits that arrive when nobody expects them.
const COMMITS: Group = Group {
    events: &[1, 3, 4],
    faults: Faults { all: 3, kills: 1, timeouts: 1, late_commits: 1, deferrals: 1, ..NONE },
    ..MOVES
};

/// One event, and all the time in the world.
const TIME: Group = Group {
    events: &[1],
    cuts: &[1],
    faults: Faults { timeouts: 1, server_kills: 1, gusts: 3, ..NONE },
    ..MOVES
};

/// A committed offset that becomes older than the table, or is deleted.
const STALE: Group = Group {
    events: &[1, 3, 4],
    faults: Faults { all: 3, kills: 2, server_kills: 1, resets: 1, ..NONE },
    ..MOVES
};

/// The faults of a run: as they are in CI, or `large` of them where `TAILWATER_MODEL` says so.
fn bounds(group: Group, large: Faults) -> Group {
    match std::env::var("TAILWATER_MODEL").as_deref() {
        Ok("large") => Group { faults: large, ..group },
        _ => group,
    }
}

/// The way to a state that breaks an invariant, a line a step.
fn steps(path: Path<State, Action>) -> String {
    let steps = path.into_vec().into_iter().filter_map(|(state, action)| {
        let by = match action? {
            Action::Poll(id) | Action::Work(id) | Action::Stop(id) => {
                let worker = &state.workers[id];
                format!("{:?} {:?} {:?}", worker.poll, worker.lane.phase, worker.lane.pending)
            }
            Action::Coordinate(at) => format!("{:?}", state.commits[at]),
            Action::Serve(at) => format!("{:?}", state.inserts[at]),
            _ => String::new(),
        };
        Some(format!("{action:?} {by}"))
    });
    steps.collect::<Vec<_>>().join("\n")
}

fn assert_holds(group: Group) {
    let checker =
        group.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    if let Some((name, path)) = checker.discoveries().into_iter().next() {
        panic!("broken: {name}\n{}", steps(path));
    }
    assert!(checker.is_done());
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    let ci = Faults { all: 3, ..STORM };
    let large = Faults { all: 4, kills: 2, timeouts: 2, handovers: 2, ..STORM };
    assert_holds(bounds(Group { faults: ci, ..MOVES }, large));
}

#[test]
fn a_commit_that_arrives_late_changes_nothing() {
    let large = Faults { all: 4, timeouts: 2, handovers: 1, ..COMMITS.faults };
    assert_holds(bounds(COMMITS, large));
}

#[test]
fn a_worker_that_was_stopped_for_long_changes_nothing() {
    let large = Faults { all: 3, kills: 1, server_kills: 2, gusts: 4, ..TIME.faults };
    assert_holds(bounds(TIME, large));
}

#[test]
fn an_old_commit_repeats_nothing() {
    let large = Faults { all: 4, timeouts: 1, handovers: 1, ..STALE.faults };
    assert_holds(bounds(STALE, large));
}

#[test]
fn every_way_ends() {
    let again = endless::comes_again(&MOVES, |state, actions| MOVES.progress(state, actions));
    assert_eq!(again, None);
}

fn assert_breaks(group: Group, invariant: &'static str) {
    let until = HasDiscoveries::AnyOf([invariant].into());
    let checker = group.checker().finish_when(until).spawn_bfs().join();
    assert!(checker.discovery(invariant).is_some(), "the rule is not needed");
}

#[test]
fn with_a_window_that_is_too_short_a_row_comes_twice() {
    assert_breaks(Group { window: DEADLINE, ..TIME }, ONCE);
}

/// Breaks a rule, and expects an invariant to break.
macro_rules! broken {
    ($($test:ident: $rule:ident => $invariant:ident in $group:expr, $faults:expr;)+) => {
        $(
            #[test]
            fn $test() {
                let mut group = Group { faults: $faults, ..$group };
                group.rules.$rule = false;
                assert_breaks(group, $invariant);
            }
        )+
    };
}

const KILL: Faults = Faults { kills: 1, ..NONE };
const TIMEOUT: Faults = Faults { timeouts: 1, ..NONE };
const HANDOVER: Faults = Faults { handovers: 1, ..NONE };
const LATE: Faults = Faults { kills: 1, late_commits: 1, ..NONE };
const DEFERRED: Faults = Faults { handovers: 1, deferrals: 1, ..NONE };
const OVERTAKEN: Faults = Faults { all: 3, kills: 1, ..DEFERRED };
const NOBODY: Faults = Faults { all: 3, kills: 1, timeouts: 1, deferrals: 1, ..NONE };
const ENDED: Faults = Faults { handovers: 1, generations: 1, ..NONE };
const RESET: Faults = Faults { kills: 1, resets: 1, ..NONE };

broken! {
    without_declaring: declared_before_sent => ONCE in MOVES, KILL;
    without_declaring_rows_are_above_what_was_declared:
        declared_before_sent => DECLARED in MOVES, NONE;
    without_waiting_for_an_answer: only_an_answer_counts => ONCE in COMMITS, LATE;
    without_waiting_for_a_revoked_lane: revoke_waits_for_the_lane => OWNER in MOVES, HANDOVER;
    without_waiting_for_a_revoked_lane_a_row_comes_twice:
        revoke_waits_for_the_lane => ONCE in MOVES, HANDOVER;
    without_waiting_for_a_revoked_lane_a_row_is_lost:
        revoke_waits_for_the_lane => DONE_IS_THERE in MOVES, HANDOVER;
    without_waiting_for_a_lost_lane: lost_waits_for_the_lane => OWNER in MOVES, TIMEOUT;
    without_waiting_for_a_lost_lane_a_row_comes_twice:
        lost_waits_for_the_lane => ONCE in MOVES, TIMEOUT;
    without_waiting_for_commits: stop_waits_for_commits => OWNER in MOVES, DEFERRED;
    without_waiting_for_commits_a_row_comes_twice:
        stop_waits_for_commits => ONCE in COMMITS, OVERTAKEN;
    without_giving_up_what_is_refused: refused_ends_a_stop => ENDS in MOVES, ENDED;
    without_refusing_commits_once_it_is_lost: lost_never_commits => ONCE in COMMITS, NOBODY;
    without_outliving_commits: outlive_commits => ONCE in COMMITS, LATE;
    without_recovering: recover_on_assign => ONCE in MOVES, KILL;
    without_waiting_for_running_inserts: quiesce => ONCE in MOVES, KILL;
    without_a_deadline: deadline => ONCE in TIME, TIME.faults;
    without_outliving_requests: outlive_requests => ONCE in TIME, TIME.faults;
    without_outliving_owners: outlive_owners => ONCE in TIME, TIME.faults;
    without_looking_after_outliving: looks_after_outliving => ONCE in TIME, TIME.faults;
    without_a_beginning: nothing_committed_is_the_beginning => DONE_IS_THERE in STALE, RESET;
    without_a_guard: guard => ONCE in STALE, RESET;
}
