//! An exhaustive model of one lane with write-ahead: whatever fails, within bounds, every event is
//! there exactly once. Each rule of the protocol is a switch, and each one that is broken must
//! lead to a counterexample. What is modelled, and what is not: `docs/model.md`.

mod lane;
mod server;
mod state;
mod worker;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::lane::{
    Action, DECLARED, DONE_IS_IN_VIEW, DONE_IS_THERE, ENDS, ONCE, ROW_OR_DEAD_LETTER,
    TOKEN_NAMES_ONE_BLOCK, VIEW_ONCE,
};
use crate::state::{Faults, Lane, Rules, State};

const NONE: Faults = Faults {
    all: 2,
    kills: 0,
    server_kills: 0,
    give_ups: 0,
    losses: 0,
    view_failures: 0,
    restores: 0,
    mends: 0,
    gusts: 0,
};

/// Two of whatever may strike while a Range is written.
const STORM: Faults =
    Faults { kills: 1, server_kills: 1, give_ups: 1, view_failures: 1, gusts: 3, ..NONE };

/// Four events in two Ranges, each over two table partitions.
const LANE: Lane = Lane { rules: Rules::ALL, events: 4, cuts: &[2], refused: None, faults: STORM };

/// One Range of it.
const RANGE: Lane = Lane { events: 2, ..LANE };

/// A checkpoint that becomes older than the table, and Ranges that are cut as it happens.
const STALE: Lane = Lane {
    events: 3,
    cuts: &[1, 2],
    faults: Faults { all: 3, kills: 2, server_kills: 1, restores: 1, gusts: 1, ..NONE },
    ..LANE
};

/// One Range with a row that the server refuses, until somebody mends the table.
const REFUSED: Lane = Lane {
    cuts: &[4],
    refused: Some(1),
    faults: Faults { all: 3, kills: 1, server_kills: 1, give_ups: 1, mends: 1, gusts: 1, ..NONE },
    ..LANE
};

/// The faults of a run: as they are in CI, or `large` of them where `TAILWATER_MODEL` says so.
fn bounds(lane: Lane, large: Faults) -> Lane {
    match std::env::var("TAILWATER_MODEL").as_deref() {
        Ok("large") => Lane { faults: large, ..lane },
        _ => lane,
    }
}

/// The way to a state that breaks an invariant, a line a step.
fn steps(path: Path<State, Action>) -> String {
    let steps = path.into_vec().into_iter().filter_map(|(state, action)| {
        let by = match action? {
            Action::Work(_) => format!("{:?} {:?}", state.worker.phase, state.worker.sending),
            Action::Serve(at) => format!("{:?}", state.inserts[at]),
            _ => String::new(),
        };
        Some(format!("{action:?} {by}"))
    });
    steps.collect::<Vec<_>>().join("\n")
}

fn assert_holds(lane: Lane) {
    let checker =
        lane.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    if let Some((name, path)) = checker.discoveries().into_iter().next() {
        panic!("broken: {name}\n{}", steps(path));
    }
    assert!(checker.is_done());
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    let large = Faults { all: 3, give_ups: 2, server_kills: 2, losses: 1, gusts: 4, ..STORM };
    assert_holds(bounds(LANE, large));
}

#[test]
fn an_old_checkpoint_repeats_nothing() {
    let large = Faults { all: 4, give_ups: 1, gusts: 3, ..STALE.faults };
    assert_holds(bounds(STALE, large));
}

#[test]
fn a_refused_row_becomes_one_dead_letter() {
    let large = Faults { kills: 2, give_ups: 2, gusts: 2, ..REFUSED.faults };
    assert_holds(bounds(REFUSED, large));
}

/// Breaks a rule, or several, and expects the invariant to break.
macro_rules! broken {
    ($($test:ident: $($rule:ident)+ => $invariant:ident in $lane:expr;)+) => {
        $(
            #[test]
            fn $test() {
                let mut lane = $lane;
                $(lane.rules.$rule = false;)+
                let until = HasDiscoveries::AnyOf([$invariant].into());
                let checker = lane.checker().finish_when(until).spawn_bfs().join();
                assert!(checker.discovery($invariant).is_some(), "the rule is not needed");
            }
        )+
    };
}

broken! {
    without_declaring: declare_before_send => ONCE in Lane { cuts: &[1, 2], ..RANGE };
    without_declaring_rows_are_above_what_was_declared:
        declare_before_send => DECLARED in RANGE;
    without_reading_back_a_row_is_lost: read_back => DONE_IS_THERE in RANGE;
    without_tokens: tokens => ONCE in RANGE;
    without_naming_the_declaration: token_names_declaration => DONE_IS_THERE in STALE;
    without_the_first_token_first: first_token_first => ONCE in RANGE;
    without_waiting_for_running_inserts: quiesce => ONCE in RANGE;
    without_waiting_before_every_look: quiesce_every_look => ONCE in RANGE;
    without_a_deadline: deadline => ONCE in RANGE;
    without_new_tokens_after_the_deadline: new_tokens_after_deadline => ONCE in RANGE;
    without_outliving_requests: outlive_requests => ONCE in RANGE;
    without_a_guard: guard_stale => ONCE in STALE;
    without_storing_the_guard: guard_is_stored => ONCE in STALE;
    without_proof: next_after_proof => DONE_IS_THERE in RANGE;
    without_tokens_of_repairs: repair_token_distinct => ENDS in RANGE;
    without_sending_again_for_views: view_resend => DONE_IS_IN_VIEW in RANGE;
    without_gap_records_a_view_lacks: view_gap => DONE_IS_IN_VIEW in RANGE;
    without_gap_records_a_view_repeats: view_gap => VIEW_ONCE in RANGE;
    without_storing_the_cut: cut_is_stored => ONCE in REFUSED;
    without_new_tokens_after_a_cut: new_tokens_after_cut => ONCE in REFUSED;
    without_any_tokens_of_their_own_cuts_never_end:
        new_tokens_after_cut cut_keeps_repair => ENDS in Lane { events: 2, cuts: &[2], ..REFUSED };
    without_one_tree: dead_letter_same_tree => TOKEN_NAMES_ONE_BLOCK in REFUSED;
    without_reading_back_dead_letters: dead_letter_read_back => ROW_OR_DEAD_LETTER in REFUSED;
}
