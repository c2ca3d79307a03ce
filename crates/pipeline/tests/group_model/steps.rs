//! The steps that anybody may take, and the invariants that must hold after each.

use stateright::{Model, Property};

use crate::lane::ENDLESS;
use crate::state::{
    Checkpoint, Faults, Group, Id, Insert, LIFE, Offset, Phase, Poll, Stage, State, View, Worker,
};

pub(crate) const ONCE: &str = "every offset is there at most once";
pub(crate) const DONE_IS_THERE: &str = "what is done is there";
pub(crate) const DECLARED: &str = "no row is above what was declared";
pub(crate) const OWNER: &str = "nobody commits for a partition that another one has";
pub(crate) const ENDS: &str = "every recovery ends, and the lane reaches the end";

/// One step of anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The polling thread goes on.
    Poll(Id),
    /// The lane goes on.
    Work(Id),
    /// The lane declares a Range of so many events.
    Declare(Id, usize),
    /// The lane stops, as it was told.
    Stop(Id),
    /// A client sends a commit that it kept.
    Transmit(Id),
    /// The coordinator answers a commit.
    Coordinate(usize),
    /// The coordinator misses a worker that died.
    Expire(Id),
    /// The database server goes on with an insert.
    Serve(usize),
    KillWorker(Id),
    TimeOut(Id),
    /// The partition is asked back, for a worker.
    HandOver(Id, Id),
    /// A new generation.
    Renew,
    GiveUp(usize),
    Defer(usize),
    KillServer,
    /// Another offset is committed by hand, or none.
    Reset(Option<Offset>),
    /// Another lane's inserts.
    Gust,
}

impl Group {
    /// What goes on without any fault.
    pub(crate) fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, worker) in state.workers.iter().enumerate() {
            if state.poll_can_step(self, id) {
                actions.push(Action::Poll(id));
            }
            if worker.lane.phase == Phase::Idle && !state.is_stopping(id) {
                let ahead = self.events.iter().filter(|at| **at >= worker.lane.next).count();
                let cuts = self.cuts.iter().filter(|cut| **cut <= ahead);
                actions.extend(cuts.map(|cut| Action::Declare(id, *cut)));
            }
            if state.lane_can_step(self, id) {
                actions.push(Action::Work(id));
            }
            if state.lane_can_stop(self, id) {
                actions.push(Action::Stop(id));
            }
            if worker.deferred.is_some() {
                actions.push(Action::Transmit(id));
            }
            if worker.poll == Poll::Out && state.members[id] {
                actions.push(Action::Expire(id));
            }
        }
        actions.extend((0..state.commits.len()).map(Action::Coordinate));
        actions.extend((0..state.inserts.len()).map(Action::Serve));
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let left = state.left;
        // What the server runs ends in time; what the network holds does not.
        let busy = |insert: &Insert| insert.stage == Stage::Runs && insert.age >= LIFE;
        if left.gusts > 0 && !state.inserts.iter().any(busy) {
            actions.push(Action::Gust);
        }
        if left.all == 0 {
            return;
        }
        for (id, worker) in state.workers.iter().enumerate() {
            if worker.lane.phase == Phase::Off {
                continue;
            }
            if left.kills > 0 {
                actions.push(Action::KillWorker(id));
            }
            if state.owner != Some(id) {
                continue;
            }
            if left.timeouts > 0 {
                actions.push(Action::TimeOut(id));
            }
            if left.handovers > 0 && worker.poll == Poll::In {
                let takes = |to: &Id| state.members[*to] && state.workers[*to].poll == Poll::In;
                actions.extend((0..2).filter(takes).map(|to| Action::HandOver(id, to)));
            }
            if left.generations > 0 {
                actions.push(Action::Renew);
            }
        }
        for (at, _) in state.commits.iter().enumerate().filter(|(_, commit)| commit.awaited) {
            if left.late_commits > 0 {
                actions.push(Action::GiveUp(at));
            }
            if left.deferrals > 0 {
                actions.push(Action::Defer(at));
            }
        }
        if left.server_kills > 0 && state.inserts.iter().any(|insert| insert.stage == Stage::Runs) {
            actions.push(Action::KillServer);
        }
        // Whoever commits by hand must stop the group first.
        if left.resets > 0
            && state.is_quiet()
            && let Some(at) = state.committed
        {
            actions.push(Action::Reset(None));
            let cut = |offset: &Offset| *offset == 0 || self.events.contains(&(offset - 1));
            let earlier = (0..at.next).filter(cut);
            actions.extend(earlier.map(|offset| Action::Reset(Some(offset))));
        }
    }

    fn strike(left: &mut Faults, action: Action) {
        let kind = match action {
            Action::Poll(_)
            | Action::Work(_)
            | Action::Declare(..)
            | Action::Stop(_)
            | Action::Transmit(_)
            | Action::Coordinate(_)
            | Action::Expire(_)
            | Action::Serve(_) => return,
            Action::Gust => {
                left.gusts -= 1;
                return;
            }
            Action::KillWorker(_) => &mut left.kills,
            Action::TimeOut(_) => &mut left.timeouts,
            Action::HandOver(..) => &mut left.handovers,
            Action::Renew => &mut left.generations,
            Action::GiveUp(_) => &mut left.late_commits,
            Action::Defer(_) => &mut left.deferrals,
            Action::KillServer => &mut left.server_kills,
            Action::Reset(_) => &mut left.resets,
        };
        *kind -= 1;
        left.all -= 1;
        if left.all == 0 {
            *left = Faults { gusts: left.gusts, ..Faults::default() };
        }
    }

    fn is_done(&self, state: &State) -> bool {
        state.committed == Some(Checkpoint { next: self.end(), pending: None })
    }
}

impl Model for Group {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let worker = Worker { poll: Poll::In, view: View::Current, ..Worker::default() };
        vec![State {
            workers: [worker; 2],
            members: [true; 2],
            owner: Some(0),
            committed: None,
            usurped: false,
            commits: Vec::new(),
            inserts: Vec::new(),
            kept: Vec::new(),
            there: 0,
            twice: 0,
            declared: 0,
            left: self.faults,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        self.faults(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        Self::strike(&mut state.left, action);
        match action {
            Action::Poll(id) => state.step_poll(self, id),
            Action::Work(id) => state.step_lane(self, id),
            Action::Declare(id, cut) => state.declare(self, id, cut),
            Action::Stop(id) => state.stop_lane(id),
            Action::Transmit(id) => {
                if let Some(commit) = state.workers[id].deferred.take() {
                    state.transmit(id, commit);
                }
            }
            Action::Coordinate(at) => state.coordinate(self, at),
            Action::Expire(id) | Action::TimeOut(id) => state.remove_member(id),
            Action::Serve(at) => state.serve(at),
            Action::KillWorker(id) => state.kill_worker(id),
            Action::HandOver(id, to) => state.workers[id].poll = Poll::Revoking(to),
            Action::Renew => state.begin_generation(),
            Action::GiveUp(at) => state.give_up(at),
            Action::Defer(at) => {
                let commit = state.commits.remove(at);
                state.workers[commit.by].deferred = Some(commit);
            }
            Action::KillServer => state.kill_server(),
            Action::Reset(offset) => {
                state.committed = offset.map(|next| Checkpoint { next, pending: None });
            }
            Action::Gust => state.gust(self),
        }
        state.commits.sort_unstable();
        state.inserts.sort_unstable();
        state.kept.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONCE, |_: &Group, state: &State| state.twice == 0),
            Property::always(DONE_IS_THERE, |group: &Group, state: &State| {
                let lanes = state.workers.iter().map(|worker| worker.lane);
                let lanes = lanes.filter(|lane| !lane.ended).map(|lane| lane.next);
                let committed = state.committed.map_or(0, |at| at.next);
                lanes.chain([committed]).all(|next| group.before(next) & !state.there == 0)
            }),
            Property::always(DECLARED, |_: &Group, state: &State| {
                u32::from(state.declared) >= 8 - state.there.leading_zeros()
            }),
            Property::always(OWNER, |_: &Group, state: &State| !state.usurped),
            Property::always(ENDS, |group: &Group, state: &State| {
                let mut actions = Vec::new();
                group.progress(state, &mut actions);
                let endless = state.workers.iter().any(|worker| worker.lane.round >= ENDLESS);
                !endless && (group.is_done(state) || !actions.is_empty())
            }),
        ]
    }
}
