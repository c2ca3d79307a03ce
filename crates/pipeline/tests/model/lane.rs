//! The steps that anybody may take, and the invariants that must hold after each.

use stateright::{Model, Property};

use crate::state::{
    Answer, Checkpoint, DEADLINE, Faults, Insert, LIFE, Lane, OFFSETS, Phase, Stage, State, Worker,
    rows,
};
use crate::worker::ENDLESS;

pub(crate) const ONCE: &str = "every offset is there at most once";
pub(crate) const VIEW_ONCE: &str =
    "every offset is in the view at most once, or a gap record says so";
pub(crate) const DONE_IS_THERE: &str = "what is done is there";
pub(crate) const DONE_IS_IN_VIEW: &str = "what is done is in the view, or a gap record says so";
pub(crate) const ROW_OR_DEAD_LETTER: &str = "a row and its dead letter exclude each other";
pub(crate) const DECLARED: &str = "no row is above what was declared";
pub(crate) const TOKEN_NAMES_ONE_BLOCK: &str = "a token names one block";
pub(crate) const ENDS: &str = "every recovery ends, and the lane reaches the end";

/// One step of anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The worker goes on; a Range that begins has this size.
    Work(u8),
    /// The server goes on with a request.
    Serve(usize),
    KillWorker,
    KillServer,
    GiveUp,
    Lose(usize),
    FailView(usize),
    /// Another lane's inserts.
    Gust,
    /// The checkpoint becomes one of its copies.
    Restore(usize),
    /// The refused row is accepted from now on.
    Mend,
}

impl Lane {
    /// What goes on without any fault.
    fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        let begins = state.worker.phase == Phase::Idle && state.worker.next < self.events;
        if begins {
            let left = self.events - state.worker.next;
            actions
                .extend(self.cuts.iter().filter(|cut| **cut <= left).map(|cut| Action::Work(*cut)));
        } else if state.worker_can_step(self) {
            actions.push(Action::Work(0));
        }
        actions.extend((0..state.inserts.len()).map(Action::Serve));
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let Faults {
            all,
            kills,
            server_kills,
            give_ups,
            losses,
            view_failures,
            restores,
            mends,
            gusts,
        } = state.left;
        let runs = !matches!(state.worker.phase, Phase::Down | Phase::Done);
        // What the server runs ends in time; what the network holds does not.
        let busy = |insert: &Insert| insert.stage != Stage::Sent && insert.age >= LIFE;
        if gusts > 0 && !state.inserts.iter().any(busy) {
            actions.push(Action::Gust);
        }
        if all == 0 {
            return;
        }
        if kills > 0 && (runs || restores > 0 && state.worker.phase == Phase::Done) {
            actions.push(Action::KillWorker);
        }
        let inserts = || state.inserts.iter().enumerate();
        if server_kills > 0 && inserts().any(|(_, insert)| insert.stage != Stage::Sent) {
            actions.push(Action::KillServer);
        }
        if give_ups > 0 && inserts().any(|(_, insert)| insert.awaited) {
            actions.push(Action::GiveUp);
        }
        if losses > 0 {
            let sent = inserts().filter(|(_, insert)| insert.stage == Stage::Sent);
            actions.extend(sent.map(|(at, _)| Action::Lose(at)));
        }
        if view_failures > 0 {
            let views = inserts().filter(|(_, insert)| insert.stage == Stage::View);
            actions.extend(views.map(|(at, _)| Action::FailView(at)));
        }
        // Whoever restores a checkpoint, or alters a table, takes longer than a request lives, and
        // than a declaration lasts.
        if restores > 0 && state.worker.phase == Phase::Down && state.inserts.is_empty() {
            actions.extend((0..state.copies.len()).map(Action::Restore));
        }
        if mends > 0 && state.refused.is_some() && state.inserts.is_empty() {
            actions.push(Action::Mend);
        }
    }

    fn strike(&self, state: &mut State, action: Action) {
        let left = &mut state.left;
        let kind = match action {
            Action::Work(_) | Action::Serve(_) => return,
            Action::Gust => {
                left.gusts -= 1;
                return;
            }
            Action::KillWorker => &mut left.kills,
            Action::KillServer => &mut left.server_kills,
            Action::GiveUp => &mut left.give_ups,
            Action::Lose(_) => &mut left.losses,
            Action::FailView(_) => &mut left.view_failures,
            Action::Restore(_) => &mut left.restores,
            Action::Mend => &mut left.mends,
        };
        *kind -= 1;
        left.all -= 1;
    }
}

fn nobody_waits(state: &mut State) {
    state.inserts.iter_mut().for_each(|insert| insert.awaited = false);
}

impl Model for Lane {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            worker: Worker::default(),
            stored: Checkpoint::default(),
            copies: if self.faults.restores > 0 { vec![Checkpoint::default()] } else { Vec::new() },
            inserts: Vec::new(),
            kept: Vec::new(),
            events: [0; OFFSETS],
            view: [0; OFFSETS],
            dead_letters: [0; OFFSETS],
            gap: 0,
            declared: 0,
            refused: self.refused,
            left: self.faults,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        self.faults(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.strike(&mut state, action);
        match action {
            Action::Work(cut) => state.step_worker(self, cut),
            Action::Serve(at) => state.serve(self, at),
            Action::KillWorker => {
                nobody_waits(&mut state);
                state.worker = Worker::default();
            }
            Action::KillServer => state.kill_server(),
            Action::GiveUp => {
                nobody_waits(&mut state);
                state.worker.answer = Some(Answer::Error);
            }
            Action::Lose(at) | Action::FailView(at) => state.end(at, Answer::Error),
            Action::Gust => state.gust(self),
            Action::Restore(at) => {
                state.stored = state.copies[at];
                if let Some(intent) = &mut state.stored.pending {
                    intent.age = DEADLINE + 1;
                }
                if state.left.restores == 0 {
                    state.copies = Vec::new();
                }
                // A view that got what the table lost: nobody can see it any more.
                state.gap = rows(0, self.events - 1);
            }
            Action::Mend => state.refused = None,
        }
        state.inserts.sort_unstable();
        state.kept.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONCE, |lane: &Lane, state: &State| {
                lane.offsets().all(|at| state.events[at] <= 1 && state.dead_letters[at] <= 1)
            }),
            Property::always(VIEW_ONCE, |_: &Lane, state: &State| {
                state.done().all(|at| state.has_gap(at) || state.view[at] <= 1)
            }),
            Property::always(DONE_IS_THERE, |_: &Lane, state: &State| {
                state.done().all(|at| state.events[at] + state.dead_letters[at] > 0)
            }),
            Property::always(DONE_IS_IN_VIEW, |_: &Lane, state: &State| {
                state.done().all(|at| state.has_gap(at) || state.view[at] >= state.events[at])
            }),
            Property::always(ROW_OR_DEAD_LETTER, |lane: &Lane, state: &State| {
                lane.offsets().all(|at| state.events[at] == 0 || state.dead_letters[at] == 0)
            }),
            Property::always(DECLARED, |lane: &Lane, state: &State| {
                lane.offsets().all(|at| at < usize::from(state.declared) || state.events[at] == 0)
            }),
            Property::always(TOKEN_NAMES_ONE_BLOCK, |_: &Lane, state: &State| {
                state.inserts.iter().all(|insert| {
                    let (first, last) = insert.block.token.span();
                    insert.block.rows & !rows(first, last) == 0
                })
            }),
            Property::always(ENDS, |lane: &Lane, state: &State| {
                let mut actions = Vec::new();
                lane.progress(state, &mut actions);
                let done = state.worker.phase == Phase::Done && state.stored.next == lane.events;
                state.worker.round < ENDLESS && (done || !actions.is_empty())
            }),
        ]
    }
}

impl State {
    /// The offsets that the lane has passed.
    fn done(&self) -> std::ops::Range<usize> {
        0..usize::from(self.worker.next.max(self.stored.next))
    }

    fn has_gap(&self, at: usize) -> bool {
        self.gap >> at & 1 == 1
    }
}

impl Lane {
    fn offsets(&self) -> std::ops::Range<usize> {
        0..usize::from(self.events)
    }
}
