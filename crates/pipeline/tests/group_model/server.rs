//! The database server and the network: a block's token is kept before its rows are there.

use crate::state::{
    Answer, DEADLINE, Group, Insert, Intent, Kept, LIFE, Offset, Rows, Stage, State, Token,
};

impl State {
    /// Ends an insert; whoever waits for it is answered.
    fn end(&mut self, at: usize, answer: Answer) {
        if let Some(id) = self.inserts.remove(at).awaited_by {
            self.workers[id].lane.answer = Some(answer);
        }
    }

    /// Ends all inserts that are lost.
    pub(crate) fn lose(&mut self, lost: impl Fn(&Insert) -> bool) {
        while let Some(at) = self.inserts.iter().position(&lost) {
            self.end(at, Answer::No);
        }
    }

    fn keep(&mut self, token: Token) -> bool {
        let new = !self.kept.iter().any(|kept| kept.token == token);
        if new {
            self.kept.push(Kept { token, age: 0 });
        }
        new
    }

    fn write(&mut self, rows: Rows) {
        self.twice |= self.there & rows;
        self.there |= rows;
    }

    /// One step of the server with one insert.
    pub(crate) fn serve(&mut self, at: usize) {
        let Insert { token, rows, stage, .. } = self.inserts[at];
        match stage {
            Stage::Sent if self.keep(token) => self.inserts[at].stage = Stage::Runs,
            Stage::Sent => self.end(at, Answer::Ok),
            Stage::Runs => {
                self.write(rows);
                self.end(at, Answer::Ok);
            }
        }
    }

    /// The server dies and starts: what it was doing is lost.
    pub(crate) fn kill_server(&mut self) {
        self.lose(|insert| insert.stage == Stage::Runs);
    }

    /// Every intent that anybody has or keeps.
    fn intents(&mut self) -> impl Iterator<Item = &mut Intent> {
        let kept = self.commits.iter_mut().map(|commit| &mut commit.checkpoint.pending);
        let kept = kept.chain(self.committed.iter_mut().map(|at| &mut at.pending));
        let workers = self.workers.iter_mut().flat_map(|worker| {
            let deferred = worker.deferred.iter_mut().map(|commit| &mut commit.checkpoint.pending);
            deferred.chain([&mut worker.lane.pending])
        });
        kept.chain(workers).flatten()
    }

    /// Other lanes insert: the oldest tokens are forgotten, the oldest requests die.
    pub(crate) fn gust(&mut self, group: &Group) {
        self.kept.iter_mut().for_each(|kept| kept.age += 1);
        self.kept.retain(|kept| kept.age <= group.window);
        self.inserts.iter_mut().for_each(|insert| insert.age += 1);
        self.lose(|insert| insert.age > LIFE);
        self.intents().for_each(|intent| intent.age = (intent.age + 1).min(DEADLINE + 1));
    }

    /// An insert of the Range runs on the server.
    pub(crate) fn runs(&self, first: Offset, last: Offset) -> bool {
        self.inserts.iter().any(|Insert { token, stage, .. }| {
            *stage == Stage::Runs && (token.first, token.last) == (first, last)
        })
    }
}
