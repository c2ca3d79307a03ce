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
use crate::state::{DEADLINE, Faults, LIFE, Lane, Rules, State};

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
const LANE: Lane = Lane {
    rules: Rules::ALL,
    window: DEADLINE + LIFE,
    events: 4,
    cuts: &[2],
    refused: None,
    by_view: false,
    faults: STORM,
};

/// One Range of it.
const RANGE: Lane = Lane { events: 2, ..LANE };

/// A checkpoint that becomes older than the table, and Ranges that are cut as it happens.
const STALE: Lane = Lane {
    events: 3,
    cuts: &[1, 2],
    faults: Faults { all: 3, kills: 2, server_kills: 1, restores: 1, gusts: 1, ..NONE },
    ..LANE
};

/// The same, and then a younger copy of it is put in place.
const TWICE_STALE: Lane = Lane {
    events: 2,
    faults: Faults { all: 4, kills: 2, server_kills: 1, restores: 2, ..NONE },
    ..STALE
};

/// One Range with a row that the server refuses, until somebody mends the table.
const REFUSED: Lane = Lane {
    cuts: &[4],
    refused: Some(1),
    faults: Faults { all: 3, kills: 1, server_kills: 1, give_ups: 1, mends: 1, gusts: 1, ..NONE },
    ..LANE
};

/// The same, but a view refuses it after the table has taken the block.
const REFUSED_BY_VIEW: Lane = Lane { by_view: true, ..REFUSED };

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

#[test]
fn of_two_old_checkpoints_none_repeats_anything() {
    let large = Faults { all: 5, kills: 3, give_ups: 1, gusts: 1, ..TWICE_STALE.faults };
    assert_holds(bounds(TWICE_STALE, large));
}

#[test]
fn a_row_that_a_view_refuses_comes_once() {
    let large = Faults { kills: 2, give_ups: 2, gusts: 3, ..REFUSED.faults };
    assert_holds(bounds(REFUSED_BY_VIEW, large));
}

fn assert_breaks(lane: Lane, invariant: &'static str) {
    let until = HasDiscoveries::AnyOf([invariant].into());
    let checker = lane.checker().finish_when(until).spawn_bfs().join();
    assert!(checker.discovery(invariant).is_some(), "the rule is not needed");
}

#[test]
fn with_a_window_that_is_too_short_a_row_comes_twice() {
    assert_breaks(Lane { window: DEADLINE, ..RANGE }, ONCE);
}

/// Breaks a rule, and expects an invariant to break.
macro_rules! broken {
    ($($test:ident: $rule:ident => $invariant:ident in $lane:expr;)+) => {
        $(
            #[test]
            fn $test() {
                let mut lane = $lane;
                lane.rules.$rule = false;
                assert_breaks(lane, $invariant);
            }
        )+
    };
}

broken! {
    without_declaring: declared_before_sent => ONCE in Lane { cuts: &[1, 2], ..RANGE };
    without_declaring_rows_are_above_what_was_declared:
        declared_before_sent => DECLARED in RANGE;
    without_tokens: tokens => ONCE in RANGE;
    without_proof_a_row_is_lost: only_a_read_back_is_proof => DONE_IS_THERE in RANGE;
    without_proving_the_first_range: first_after_claim_is_proven => DONE_IS_THERE in STALE;
    without_walking_from_t: walks_from_t => ONCE in RANGE;
    without_sending_only_what_is_missing: only_what_is_missing => ONCE in RANGE;
    without_tokens_of_rounds: rounds_have_tokens => ENDS in RANGE;
    without_waiting_for_running_inserts: quiesce => ONCE in RANGE;
    without_waiting_before_each_look: quiesce_before_each_look => ONCE in RANGE;
    without_a_deadline: deadline => ONCE in RANGE;
    without_a_guard: guard => ONCE in STALE;
    without_calling_it_foreign_past_the_deadline_a_view_repeats:
        foreign_past_deadline => VIEW_ONCE in RANGE;
    without_calling_it_foreign_past_the_deadline_old_copies_repeat:
        foreign_past_deadline => ONCE in TWICE_STALE;
    without_storing_that_it_is_foreign: foreign_is_stored => ONCE in REFUSED;
    without_calling_it_foreign_a_view_repeats: foreign_before_other_blocks => VIEW_ONCE in RANGE;
    without_calling_it_foreign_a_view_lacks: foreign_before_other_blocks => DONE_IS_IN_VIEW in RANGE;
    without_outliving_requests: outlive_requests => ONCE in RANGE;
    without_outliving_requests_of_cuts: outlive_requests => ONCE in REFUSED;
    without_one_tree: one_tree => TOKEN_NAMES_ONE_BLOCK in REFUSED;
    without_reading_back_after_a_refusal: read_back_after_refusal => ONCE in REFUSED_BY_VIEW;
    without_reading_back_dead_letters:
        dead_letters_are_read_back => ROW_OR_DEAD_LETTER in REFUSED;
    without_sending_again_for_views: fill_views => DONE_IS_IN_VIEW in RANGE;
    without_asking_whether_it_is_foreign: fill_unless_foreign => ONCE in RANGE;
    without_gap_records_a_view_lacks: gap_record => DONE_IS_IN_VIEW in RANGE;
    without_gap_records_a_view_repeats: gap_record => VIEW_ONCE in RANGE;
}
