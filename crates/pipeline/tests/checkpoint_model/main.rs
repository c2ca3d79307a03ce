//! An exhaustive model of two streams on one checkpoint partition, delivered by transactions:
//! whoever starts, dies or is fenced, each event is there exactly once under read_committed. Each
//! rule of the protocol is a switch, and each one that is broken must lead to a counterexample. What
//! is modelled, and what is not: `docs/model.md`.

mod broker;
#[path = "../model/endless.rs"]
mod endless;
mod process;
mod state;
mod steps;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::state::{Faults, Rules, State, Topic};
use crate::steps::{Action, ENDS, FORWARD, ONCE};

const NONE: Faults =
    Faults { all: 2, kills: 0, takeovers: 0, lost_answers: 0, late_commits: 0, expiries: 0 };

/// Two events of the stream that moves, one of the other; transactions are cut as it happens.
const TOPIC: Topic = Topic {
    rules: Rules::ALL,
    events: [2, 1],
    cuts: &[1, 2],
    epoch_per_transaction: false,
    faults: Faults {
        kills: 1,
        takeovers: 2,
        lost_answers: 1,
        late_commits: 1,
        expiries: 1,
        ..NONE
    },
};

/// The faults of a run: as they are in CI, or `large` of them where `TAILWATER_MODEL` says so.
fn bounds(topic: Topic, large: Faults) -> Topic {
    match std::env::var("TAILWATER_MODEL").as_deref() {
        Ok("large") => Topic { faults: large, ..topic },
        _ => topic,
    }
}

/// The way to a state that breaks an invariant, a line a step.
fn steps(path: Path<State, Action>) -> String {
    let steps = path.into_vec().into_iter().filter_map(|(state, action)| {
        let by = match action? {
            Action::Work(id) => format!("{:?}", state.processes[id]),
            Action::Mark(at) | Action::Expire(at) => format!("{:?}", state.producers[at]),
            _ => String::new(),
        };
        Some(format!("{action:?} {by}"))
    });
    steps.collect::<Vec<_>>().join("\n")
}

fn assert_holds(topic: Topic) {
    let checker =
        topic.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    if let Some((name, path)) = checker.discoveries().into_iter().next() {
        panic!("broken: {name}\n{}", steps(path));
    }
    assert!(checker.is_done());
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    let ci = Faults { all: 3, ..TOPIC.faults };
    let large = Faults { all: 4, kills: 2, ..TOPIC.faults };
    assert_holds(bounds(Topic { faults: ci, ..TOPIC }, large));
}

#[test]
fn with_an_epoch_per_transaction_nobody_starts_again() {
    let rules = Rules { starts_again_after_unknown: false, ..Rules::ALL };
    assert_holds(Topic { rules, epoch_per_transaction: true, faults: LATE, ..TOPIC });
}

/// Whether it can go on for ever, once each process has heard of what the group says.
fn goes_round(topic: &Topic) -> bool {
    let again = endless::comes_again(topic, |state, actions| {
        topic.progress(state, actions);
        actions.retain(|action| match action {
            Action::Work(id) | Action::Begin(id, _) => !state.can_step_down(topic, *id),
            _ => true,
        });
    });
    again.is_some()
}

#[test]
fn every_way_ends() {
    let faults = Faults { kills: 1, takeovers: 2, expiries: 1, ..NONE };
    assert!(!goes_round(&Topic { faults, ..TOPIC }));
}

#[test]
fn without_asking_the_group_two_fence_each_other_for_ever() {
    let mut topic = Topic { faults: TAKEOVER, ..TOPIC };
    topic.rules.obeys_the_group = false;
    assert!(goes_round(&topic), "the rule is not needed");
}

fn assert_breaks(topic: Topic, invariant: &'static str) {
    let until = HasDiscoveries::AnyOf([invariant].into());
    let checker = topic.checker().finish_when(until).spawn_bfs().join();
    assert!(checker.discovery(invariant).is_some(), "the rule is not needed");
}

/// Breaks a rule, and expects an invariant to break.
macro_rules! broken {
    ($($test:ident: $rule:ident => $invariant:ident in $faults:expr;)+) => {
        $(
            #[test]
            fn $test() {
                let mut topic = Topic { faults: $faults, ..TOPIC };
                topic.rules.$rule = false;
                assert_breaks(topic, $invariant);
            }
        )+
    };
}

const KILL: Faults = Faults { kills: 1, ..NONE };
const TAKEOVER: Faults = Faults { takeovers: 1, ..NONE };
const UNSURE: Faults = Faults { lost_answers: 1, ..NONE };
const LATE: Faults = Faults { kills: 1, late_commits: 1, ..NONE };

broken! {
    without_fencing: one_transactional_id => ONCE in TAKEOVER;
    without_fencing_the_checkpoint_goes_backwards: one_transactional_id => FORWARD in TAKEOVER;
    without_fencing_before_reading: fences_before_reading => ONCE in TAKEOVER;
    without_the_high_watermark: reads_to_high_watermark => ONCE in KILL;
    without_the_checkpoint_inside: checkpoint_in_transaction => ONCE in KILL;
    without_the_checkpoint_inside_the_last_event_is_lost: checkpoint_in_transaction => ENDS in KILL;
    without_trying_a_commit_again: unknown_is_tried_again => ONCE in UNSURE;
    without_starting_again: starts_again_after_unknown => ONCE in LATE;
    without_forgetting: fenced_forgets => ONCE in TAKEOVER;
}
