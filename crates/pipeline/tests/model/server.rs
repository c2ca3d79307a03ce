//! ClickHouse and the network: a block is committed by table partition, the token before the rows;
//! then it goes to the view, which keeps tokens of its own.

use crate::state::{
    Answer, Block, DEADLINE, Insert, Kept, LIFE, Lane, Log, OFFSETS, Offset, Rows, Stage, State,
    Table, Token,
};

/// Table partitions: an event's is its offset, modulo this.
const PARTITIONS: u8 = 2;

fn in_partition(rows: Rows, partition: u8) -> Rows {
    (0..OFFSETS as u8)
        .filter(|offset| offset % PARTITIONS == partition)
        .fold(0, |sum, offset| sum | rows & 1 << offset)
}

fn count(counts: &mut [u8; OFFSETS], rows: Rows) {
    for (offset, count) in counts.iter_mut().enumerate() {
        if rows & 1 << offset != 0 {
            *count = (*count + 1).min(2);
        }
    }
}

/// The offsets that have a row.
pub(crate) fn there(counts: &[u8; OFFSETS]) -> Rows {
    let counts = counts.iter().enumerate();
    counts.fold(0, |there, (offset, count)| if *count > 0 { there | 1 << offset } else { there })
}

/// The next step of a block that is done with everything before `partition`.
fn from(insert: &Insert, partition: u8) -> Stage {
    (partition..PARTITIONS)
        .find(|partition| in_partition(insert.block.rows, *partition) != 0)
        .map_or(Stage::View, Stage::Token)
}

impl State {
    /// Ends a request; whoever waits for it is answered.
    pub(crate) fn end(&mut self, at: usize, answer: Answer) {
        if self.inserts.remove(at).awaited {
            self.worker.answer = Some(answer);
        }
    }

    /// Ends all requests that are lost.
    pub(crate) fn lose(&mut self, lost: impl Fn(&Insert) -> bool) {
        while let Some(at) = self.inserts.iter().position(&lost) {
            self.end(at, Answer::Error);
        }
    }

    fn keep(&mut self, lane: &Lane, log: Log, token: Token) -> bool {
        if !lane.rules.tokens {
            return true;
        }
        let new = !self.kept.iter().any(|kept| (kept.log, kept.token) == (log, token));
        if new {
            self.kept.push(Kept { log, token, age: 0 });
        }
        new
    }

    fn refuses(&self, block: Block) -> bool {
        let refused = self.refused.map_or(0, |offset| 1 << offset);
        block.table == Table::Events && block.rows & refused != 0
    }

    /// One step of the server with one request.
    pub(crate) fn serve(&mut self, lane: &Lane, at: usize) {
        let insert = self.inserts[at];
        let block = insert.block;
        let stage = match insert.stage {
            Stage::Sent => {
                if !lane.by_view && self.refuses(block) {
                    return self.end(at, Answer::Refused);
                }
                from(&insert, 0)
            }
            Stage::Token(partition) => {
                let log = match block.table {
                    Table::Events => Log::Events(partition),
                    Table::DeadLetters => Log::DeadLetters(partition),
                };
                if self.keep(lane, log, block.token) {
                    Stage::Part(partition)
                } else {
                    from(&insert, partition + 1)
                }
            }
            Stage::Part(partition) => {
                let rows = in_partition(block.rows, partition);
                match block.table {
                    Table::Events => count(&mut self.events, rows),
                    Table::DeadLetters => count(&mut self.dead_letters, rows),
                }
                from(&insert, partition + 1)
            }
            Stage::View => {
                if lane.by_view && self.refuses(block) {
                    return self.end(at, Answer::Refused);
                }
                if block.table == Table::Events && self.keep(lane, Log::View, block.token) {
                    count(&mut self.view, block.rows);
                }
                return self.end(at, Answer::Ok);
            }
        };
        self.inserts[at].stage = stage;
    }

    /// The server dies and starts: what it was doing is lost.
    pub(crate) fn kill_server(&mut self) {
        self.lose(|insert| insert.stage != Stage::Sent);
    }

    /// Other lanes insert: the oldest tokens are forgotten, the oldest requests die.
    pub(crate) fn gust(&mut self, lane: &Lane) {
        self.kept.iter_mut().for_each(|kept| kept.age += 1);
        self.kept.retain(|kept| kept.age <= lane.window);
        self.inserts.iter_mut().for_each(|insert| insert.age += 1);
        self.lose(|insert| insert.age > LIFE);
        let intents = [&mut self.worker.pending, &mut self.stored.pending].into_iter();
        let copies = self.copies.iter_mut().map(|copy| &mut copy.pending);
        for intent in intents.chain(copies).flatten() {
            intent.age = (intent.age + 1).min(DEADLINE + 1);
        }
    }

    /// An insert of the Range runs on the server.
    pub(crate) fn runs(&self, first: Offset, last: Offset) -> bool {
        self.inserts.iter().any(|insert| {
            let token = insert.block.token;
            insert.stage != Stage::Sent && (token.first, token.last) == (first, last)
        })
    }
}
