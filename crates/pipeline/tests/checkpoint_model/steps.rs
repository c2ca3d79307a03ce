//! The steps that anybody may take, and the invariants that must hold after each.

use stateright::{Model, Property};

use crate::state::{
    Faults, Id, Late, PROCESSES, Phase, Process, Producer, STREAM_OF, STREAMS, Seq, State, Topic,
    Transaction,
};

pub(crate) const ONCE: &str = "under read_committed each stream is dense and unique";
pub(crate) const FORWARD: &str = "the checkpoint never goes backwards";
pub(crate) const ENDS: &str = "every start ends, and each stream reaches the end";

/// One step of anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A process goes on.
    Work(Id),
    /// A process begins a transaction of so many events.
    Begin(Id, Seq),
    /// A process finds that the group has given its stream to another one.
    StepDown(Id),
    /// The coordinator tells the partitions how a transaction has ended.
    Mark(usize),
    /// The coordinator ends a transaction that took too long.
    Expire(usize),
    /// A commit arrives that was given up.
    Arrive(usize),
    Kill(Id),
    TakeOver,
    LoseAnswer(Id),
    GiveUp(Id),
}

impl Topic {
    /// What goes on without any fault.
    pub(crate) fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.processes.iter().enumerate() {
            let left = self.events[STREAM_OF[id]].saturating_sub(process.next);
            if process.phase == Phase::Idle {
                let cuts = self.cuts.iter().filter(|cut| **cut <= left);
                actions.extend(cuts.map(|cut| Action::Begin(id, *cut)));
            }
            if state.process_can_step(self, id) {
                actions.push(Action::Work(id));
            }
            if state.can_step_down(self, id) {
                actions.push(Action::StepDown(id));
            }
        }
        for (at, producer) in state.producers.iter().enumerate() {
            match producer.transaction {
                Some(Transaction::Open) if !self.is_alive(state, *producer) => {
                    actions.push(Action::Expire(at));
                }
                Some(Transaction::Committing | Transaction::Aborting) => {
                    actions.push(Action::Mark(at));
                }
                _ => {}
            }
        }
        actions.extend((0..state.late.len()).map(Action::Arrive));
    }

    /// Whether the process of an open transaction will end it.
    fn is_alive(&self, state: &State, producer: Producer) -> bool {
        producer.holder.is_some_and(|id| {
            let phase = state.processes[id].phase;
            matches!(phase, Phase::Checkpoint | Phase::Commit | Phase::Unsure)
        })
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let left = state.left;
        if left.all == 0 {
            return;
        }
        if left.takeovers > 0 {
            actions.push(Action::TakeOver);
        }
        for (id, process) in state.processes.iter().enumerate() {
            if left.kills > 0 && process.phase != Phase::Standby {
                actions.push(Action::Kill(id));
            }
            if process.phase == Phase::Commit && state.holds(self, id) {
                if left.lost_answers > 0 {
                    actions.push(Action::LoseAnswer(id));
                }
                if left.late_commits > 0 {
                    actions.push(Action::GiveUp(id));
                }
            }
        }
        if left.expiries > 0 {
            for (at, producer) in state.producers.iter().enumerate() {
                if producer.transaction == Some(Transaction::Open)
                    && self.is_alive(state, *producer)
                {
                    actions.push(Action::Expire(at));
                }
            }
        }
    }

    fn strike(&self, state: &mut State, action: Action) {
        let kind = match action {
            Action::Work(_)
            | Action::Begin(..)
            | Action::StepDown(_)
            | Action::Mark(_)
            | Action::Arrive(_) => return,
            Action::Expire(at) => {
                if !self.is_alive(state, state.producers[at]) {
                    return;
                }
                &mut state.left.expiries
            }
            Action::Kill(_) => &mut state.left.kills,
            Action::TakeOver => &mut state.left.takeovers,
            Action::LoseAnswer(_) => &mut state.left.lost_answers,
            Action::GiveUp(_) => &mut state.left.late_commits,
        };
        *kind -= 1;
        state.left.all -= 1;
        if state.left.all == 0 {
            state.left = Faults::default();
        }
    }
}

impl Model for Topic {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        // The second stream runs already.
        let mut processes = [Process::default(); PROCESSES];
        let mut producers = [Producer::default(); PROCESSES];
        processes[2].phase = Phase::Idle;
        producers[self.transactional_id(2)].holder = Some(2);
        vec![State {
            processes,
            active: 0,
            producers,
            late: Vec::new(),
            topics: [const { Vec::new() }; STREAMS],
            visible: [0; STREAMS],
            broken: false,
            checkpoints: Vec::new(),
            stable: [0; STREAMS],
            backwards: false,
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
            Action::Work(id) => state.step_process(self, id),
            Action::Begin(id, cut) => state.begin(id, cut),
            Action::StepDown(id) | Action::Kill(id) => state.reset(id),
            Action::Mark(at) => state.mark(at),
            Action::Expire(at) => state.abort(self, at),
            Action::Arrive(at) => state.commit_late(self, at),
            Action::TakeOver => state.active = 1 - state.active,
            Action::LoseAnswer(id) => {
                state.commit(self, id);
                state.processes[id].phase = Phase::Unsure;
            }
            Action::GiveUp(id) => {
                state.late.push(Late { by: id, first: state.processes[id].next });
                state.late.sort_unstable();
                state.processes[id].phase = Phase::Unsure;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONCE, |_: &Topic, state: &State| !state.broken),
            Property::always(FORWARD, |_: &Topic, state: &State| !state.backwards),
            Property::always(ENDS, |topic: &Topic, state: &State| {
                let mut actions = Vec::new();
                topic.progress(state, &mut actions);
                let done = state.visible == topic.events && state.stable == topic.events;
                done || !actions.is_empty()
            }),
        ]
    }
}
