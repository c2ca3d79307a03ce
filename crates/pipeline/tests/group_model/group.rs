//! The coordinator and the polling threads: members, generations, who has the partition, and what
//! becomes of a commit.
//!
//! The coordinator checks that a commit comes from a member in the current generation. It does not
//! check who has the partition.

use crate::state::{
    Answer, Checkpoint, Commit, Group, Id, Phase, Poll, Sender, State, View, Worker,
};

pub(crate) fn other(id: Id) -> Id {
    1 - id
}

impl State {
    /// A new generation: what was sent in the old one will be refused.
    pub(crate) fn begin_generation(&mut self) {
        for commit in self.commits.iter_mut().filter(|commit| commit.sender == Sender::Member) {
            commit.sender = Sender::Former;
        }
        for worker in &mut self.workers {
            let asks = worker.lane.phase != Phase::Off || worker.deferred.is_some();
            if worker.view == View::Current && asks {
                worker.view = View::Old;
            }
        }
        if self.owner.is_none() {
            self.owner = (0..2).find(|id| self.members[*id]);
        }
    }

    /// A worker has the partition no more, or has it anew.
    fn end_assignment(&mut self, id: Id) {
        let worker = &mut self.workers[id];
        worker.lane.ended = worker.lane.phase != Phase::Off;
        let sent = self.commits.iter_mut().filter(|commit| commit.by == id);
        sent.chain(&mut worker.deferred).for_each(|commit| commit.ended = true);
    }

    /// The coordinator counts a worker as a member no more.
    pub(crate) fn remove_member(&mut self, id: Id) {
        self.members[id] = false;
        if self.owner == Some(id) {
            self.owner = None;
            self.end_assignment(id);
        }
        self.begin_generation();
    }

    fn join(&mut self, id: Id) {
        self.members[id] = true;
        self.begin_generation();
        self.workers[id].poll = Poll::In;
        self.workers[id].view = View::Current;
    }

    /// Whether the polling thread can take its next step.
    pub(crate) fn poll_can_step(&self, group: &Group, id: Id) -> bool {
        let Worker { poll, view, lane, deferred } = self.workers[id];
        let stopped = lane.phase == Phase::Off;
        match poll {
            Poll::Out => !self.members[id],
            Poll::In if !self.members[id] => true,
            Poll::In if self.owner == Some(id) && stopped => true,
            Poll::In => view == View::Old && (!stopped || deferred.is_some()),
            Poll::Revoking(_) => stopped || !group.rules.revoke_waits_for_the_lane,
            Poll::Losing => stopped || !group.rules.lost_waits_for_the_lane,
        }
    }

    /// The next step of the polling thread.
    pub(crate) fn step_poll(&mut self, group: &Group, id: Id) {
        let lane = self.workers[id].lane;
        match self.workers[id].poll {
            Poll::Out => self.join(id),
            Poll::In if !self.members[id] => {
                let nothing = lane.phase == Phase::Off || lane.orphan;
                self.workers[id].poll = if nothing { Poll::Out } else { Poll::Losing };
                self.workers[id].view = View::None;
            }
            Poll::In => {
                self.workers[id].view = View::Current;
                if self.owner == Some(id) && lane.phase == Phase::Off {
                    self.start_lane(group, id);
                }
            }
            Poll::Revoking(_) if !self.members[id] => self.leave(id),
            Poll::Revoking(to) => {
                self.end_assignment(id);
                self.workers[id].lane.orphan = lane.phase != Phase::Off;
                self.owner = Some(if self.members[to] { to } else { id });
                self.begin_generation();
                self.workers[id].poll = Poll::In;
                self.workers[id].view = View::Current;
            }
            Poll::Losing => self.leave(id),
        }
    }

    fn leave(&mut self, id: Id) {
        let worker = &mut self.workers[id];
        worker.lane.orphan = worker.lane.phase != Phase::Off;
        worker.poll = Poll::Out;
        worker.view = View::None;
    }

    /// The lane commits where it is.
    pub(crate) fn commit(&mut self, group: &Group, id: Id) {
        let Worker { poll, lane, .. } = self.workers[id];
        if group.rules.lost_never_commits && poll == Poll::Losing {
            self.workers[id].lane.answer = Some(Answer::No);
            return;
        }
        let checkpoint = Checkpoint { next: lane.next, pending: lane.pending };
        let commit =
            Commit { by: id, sender: Sender::Nobody, checkpoint, ended: lane.ended, awaited: true };
        self.transmit(id, commit);
    }

    /// A commit goes out, in the generation that the client believes in by then.
    pub(crate) fn transmit(&mut self, id: Id, commit: Commit) {
        let sender = match self.workers[id].view {
            View::Current => Sender::Member,
            View::Old => Sender::Former,
            View::None => Sender::Nobody,
        };
        self.commits.push(Commit { sender, ..commit });
    }

    /// The coordinator takes a commit, or refuses it.
    pub(crate) fn coordinate(&mut self, group: &Group, at: usize) {
        let commit = self.commits.remove(at);
        let taken = match commit.sender {
            Sender::Member => true,
            Sender::Former => false,
            // It takes a session for a group to become empty: what its last owner sent is dead. And
            // what is ahead of the table is a hole, see `docs/model.md`.
            Sender::Nobody => {
                let idle = self.workers[other(commit.by)].lane.phase == Phase::Off;
                let ahead = group.before(commit.checkpoint.next) & !self.there != 0;
                self.members == [false; 2] && self.inserts.is_empty() && idle && !ahead
            }
        };
        if taken {
            self.committed = Some(commit.checkpoint);
            self.usurped |= commit.ended && self.owner.is_some();
            if let Some(intent) = commit.checkpoint.pending {
                self.declared = self.declared.max(intent.last + 1);
            }
        }
        if !commit.awaited {
            return;
        }
        let worker = &mut self.workers[commit.by];
        let lost = worker.view == View::None && group.rules.lost_never_commits;
        worker.lane.answer = Some(if taken && !lost { Answer::Ok } else { Answer::No });
        if taken && group.rules.outlive_commits {
            self.commits.retain(|late| late.by != commit.by);
        }
    }

    /// A commit is given up.
    pub(crate) fn give_up(&mut self, at: usize) {
        let commit = &mut self.commits[at];
        commit.awaited = false;
        self.workers[commit.by].lane.answer = Some(Answer::Unknown);
    }

    /// A worker dies, and is started again.
    pub(crate) fn kill_worker(&mut self, id: Id) {
        self.abandon(id);
        self.workers[id] = Worker::default();
    }

    /// Nobody waits any more for what a worker's lane has sent.
    pub(crate) fn abandon(&mut self, id: Id) {
        let worker = &mut self.workers[id];
        let sent = self.commits.iter_mut().filter(|commit| commit.by == id);
        sent.chain(&mut worker.deferred).for_each(|commit| commit.awaited = false);
        for insert in self.inserts.iter_mut().filter(|insert| insert.awaited_by == Some(id)) {
            insert.awaited_by = None;
        }
    }

    /// No lane runs, nothing is on its way, and no client keeps anything.
    pub(crate) fn is_quiet(&self) -> bool {
        let idle = |worker: &Worker| worker.lane.phase == Phase::Off && worker.deferred.is_none();
        self.workers.iter().all(idle) && self.commits.is_empty() && self.inserts.is_empty()
    }
}
