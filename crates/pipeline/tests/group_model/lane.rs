//! The lane: `write_ahead.rs` with the group's commits as its store, one step at a time. Between
//! any two steps its process may be killed, or stopped for as long as it takes.

use crate::group::other;
use crate::state::{
    Answer, Checkpoint, DEADLINE, Group, Id, Insert, Intent, Lane, Phase, Poll, Stage, State, Then,
    Token, View,
};

/// More rounds than the faults can call for: the finishing does not end.
pub(crate) const ENDLESS: u8 = 4;

impl State {
    /// The polling thread waits for the lane to stop.
    pub(crate) fn is_stopping(&self, id: Id) -> bool {
        matches!(self.workers[id].poll, Poll::Revoking(_) | Poll::Losing)
    }

    /// Whether the lane can stop where it is.
    pub(crate) fn lane_can_stop(&self, group: &Group, id: Id) -> bool {
        let Lane { phase, answer, .. } = self.workers[id].lane;
        self.is_stopping(id)
            && match phase {
                Phase::Off => false,
                Phase::Commit(_) => match answer {
                    None => !group.rules.stop_waits_for_commits,
                    Some(Answer::Ok) => false,
                    Some(_) => group.rules.refused_ends_a_stop,
                },
                _ => true,
            }
    }

    /// The lane stops: what it has declared stays pending, what it has sent may arrive.
    pub(crate) fn stop_lane(&mut self, id: Id) {
        self.abandon(id);
        self.workers[id].lane = Lane::default();
    }

    /// Whether the lane can take its next step, the beginning of a Range aside.
    pub(crate) fn lane_can_step(&self, group: &Group, id: Id) -> bool {
        let worker = &self.workers[id];
        let lane = &worker.lane;
        match lane.phase {
            Phase::Off => false,
            Phase::Idle => lane.unsaved && (self.is_stopping(id) || lane.next == group.end()),
            Phase::Commit(_) => match lane.answer {
                None => false,
                Some(Answer::Ok) => true,
                // Once more, in the generation that the polling thread has found.
                Some(Answer::No) => {
                    let asks = worker.poll == Poll::In || lane.orphan;
                    asks && worker.view == View::Current
                }
                Some(Answer::Unknown) => {
                    !self.is_stopping(id) || !group.rules.only_an_answer_counts
                }
            },
            Phase::Wait => lane.answer.is_some(),
            Phase::Quiesce => {
                let runs = lane.pending.is_some_and(|at| self.runs(at.first, at.last));
                !(group.rules.quiesce && runs)
            }
            Phase::Send | Phase::Look => true,
        }
    }

    /// The next step of the lane.
    pub(crate) fn step_lane(&mut self, group: &Group, id: Id) {
        match self.workers[id].lane.phase {
            Phase::Off => {}
            Phase::Idle => self.commit_for(group, id, Then::Settle),
            Phase::Commit(then) => self.take_commit(group, id, then),
            Phase::Send => self.send(group, id),
            Phase::Wait => self.take_insert(group, id),
            Phase::Quiesce => self.workers[id].lane.phase = Phase::Look,
            Phase::Look => self.look(group, id),
        }
    }

    /// A worker that was assigned the partition reads where to go on.
    pub(crate) fn start_lane(&mut self, group: &Group, id: Id) {
        let rules = group.rules;
        let begin = if rules.nothing_committed_is_the_beginning { 0 } else { group.end() };
        let nothing = Checkpoint { next: begin, pending: None };
        let Checkpoint { next, mut pending } = self.committed.unwrap_or(nothing);
        if !rules.recover_on_assign {
            pending = None;
        }
        let expected = pending.map_or(next, |intent| intent.last + 1);
        let seen = (8 - self.there.leading_zeros()) as u8;
        let guard = if rules.guard && seen > expected { seen } else { 0 };
        let prove = guard.max(expected) + 1;
        let lane = Lane { phase: Phase::Idle, next, guard, prove, pending, ..Lane::default() };
        self.workers[id].lane = lane;
        if pending.is_some() {
            self.finish(group, id);
        }
    }

    fn commit_for(&mut self, group: &Group, id: Id, then: Then) {
        self.workers[id].lane.phase = Phase::Commit(then);
        self.commit(group, id);
    }

    /// Declares the next Range; it has so many events.
    pub(crate) fn declare(&mut self, group: &Group, id: Id, cut: usize) {
        let lane = &mut self.workers[id].lane;
        let ahead = group.events.iter().copied().filter(|at| *at >= lane.next);
        let Some(last) = ahead.take(cut).last() else { return };
        let foreign = lane.next < lane.guard;
        lane.pending = Some(Intent { first: lane.next, last, age: 0, foreign });
        lane.finishes = lane.next < lane.prove;
        let then = if lane.finishes { Then::Finish } else { Then::Send };
        if group.rules.declared_before_sent {
            self.commit_for(group, id, then);
        } else {
            lane.phase = Phase::Send;
            lane.sending = group.rows(lane.next, last);
        }
    }

    fn take_commit(&mut self, group: &Group, id: Id, then: Then) {
        let lane = &mut self.workers[id].lane;
        let answer = lane.answer.take();
        let unknown_counts = !group.rules.only_an_answer_counts;
        let done = answer == Some(Answer::Ok) || answer == Some(Answer::Unknown) && unknown_counts;
        if !done {
            return self.commit(group, id);
        }
        match then {
            Then::Settle => {
                lane.phase = Phase::Idle;
                lane.unsaved = false;
            }
            Then::Finish => lane.phase = Phase::Quiesce,
            Then::Send => {
                lane.phase = Phase::Send;
                lane.sending = lane.pending.map_or(0, |at| group.rows(at.first, at.last));
            }
        }
    }

    /// A finishing begins.
    fn finish(&mut self, group: &Group, id: Id) {
        let lane = &mut self.workers[id].lane;
        let Some(intent) = &mut lane.pending else { return };
        lane.finishes = true;
        lane.outlived = false;
        lane.round = 0;
        lane.sending = 0;
        lane.phase = Phase::Quiesce;
        if intent.foreign || intent.age > DEADLINE {
            self.redeclare(group, id);
        }
    }

    /// Declares the Range again: from here on other blocks may be sent than the whole one under T.
    fn redeclare(&mut self, group: &Group, id: Id) {
        if let Some(intent) = &mut self.workers[id].lane.pending {
            intent.age = 0;
            intent.foreign = true;
        }
        self.commit_for(group, id, Then::Finish);
    }

    fn send(&mut self, group: &Group, id: Id) {
        let lane = &mut self.workers[id].lane;
        let Some(Intent { first, last, age, .. }) = lane.pending else { return };
        if group.rules.deadline && age > DEADLINE {
            return self.finish(group, id);
        }
        let token = Token { first, last, round: lane.round };
        let rows = lane.sending;
        lane.phase = Phase::Wait;
        let awaited_by = Some(id);
        self.inserts.push(Insert { token, rows, stage: Stage::Sent, age: 0, awaited_by });
    }

    fn take_insert(&mut self, group: &Group, id: Id) {
        let lane = &mut self.workers[id].lane;
        match lane.answer.take() {
            Some(Answer::Ok) if lane.finishes => {
                lane.sending = 0;
                lane.round = (lane.round + 1).min(ENDLESS);
                lane.phase = Phase::Quiesce;
            }
            Some(Answer::Ok) => self.advance(id),
            _ => self.finish(group, id),
        }
    }

    fn look(&mut self, group: &Group, id: Id) {
        let lane = self.workers[id].lane;
        let Some(intent) = lane.pending else { return };
        let all = group.rows(intent.first, intent.last);
        let missing = all & !self.there;
        if missing == 0 {
            return self.advance(id);
        }
        let whole = missing == all && lane.round == 0;
        if !whole && !intent.foreign {
            return self.redeclare(group, id);
        }
        if intent.foreign && !lane.outlived {
            self.outlive(group, id);
            if group.rules.looks_after_outliving {
                return self.redeclare(group, id);
            }
        }
        self.workers[id].lane.sending = missing;
        self.workers[id].lane.phase = Phase::Send;
    }

    /// The lane waits until no unanswered request can be alive, but on the server; and until no
    /// earlier owner may send one, for none can have declared anything since.
    fn outlive(&mut self, group: &Group, id: Id) {
        if group.rules.outlive_requests {
            self.lose(|insert| insert.stage == Stage::Sent);
        }
        if group.rules.outlive_owners
            && let Some(intent) = &mut self.workers[other(id)].lane.pending
        {
            intent.age = DEADLINE + 1;
        }
        self.workers[id].lane.outlived = true;
    }

    fn advance(&mut self, id: Id) {
        let lane = &mut self.workers[id].lane;
        let next = lane.pending.map_or(lane.next, |intent| intent.last + 1);
        *lane = Lane {
            phase: Phase::Idle,
            next,
            unsaved: true,
            pending: None,
            finishes: false,
            round: 0,
            outlived: false,
            sending: 0,
            answer: None,
            ..*lane
        };
    }
}
