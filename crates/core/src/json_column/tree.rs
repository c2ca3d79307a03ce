//! The paths of one level of JSON: a trie over field names, which finds a field's column with one
//! comparison as long as documents keep the order of their fields.

use std::collections::HashMap;

use crate::bson::{BsonError, Doc, Value};
use crate::native::{write_string, write_varuint};

use super::dynamic::{Dynamic, Failure};
use super::scalar::Dates;

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

/// From so many rows times paths on, neither a column nor the objects of arrays may be sparse. Each takes a byte, so
/// one large array of objects with keys of their own (`[{"<uuid>": …}, …]`) would take gigabytes.
const MANY_CELLS: usize = 32 << 20;

/// So many rows times paths for each value is sparse.
const SPARSE: usize = 64;

/// Paths without a value in the last block that are kept for the next.
const MAX_IDLE: usize = 1024;

/// One JSON column, or the objects of an array.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    columns: Vec<PathColumn>,
    /// How many columns have a value.
    active: usize,
    /// How many values there are.
    filled: usize,
    rows: usize,
    /// Counts rows over all blocks, to tell what the current row has seen.
    tick: u64,
    dates: Dates,
    level: u8,
}

/// A field name at its place.
#[derive(Debug)]
struct Node {
    key: Box<[u8]>,
    /// Dotted, and with the dots of the names escaped.
    path: Box<[u8]>,
    column: u32,
    /// The field that came first in this one, and the one that came after it, when last looked up.
    first: u32,
    next: u32,
    /// The row that has this field.
    tick: u64,
    children: HashMap<Box<[u8]>, u32>,
}

#[derive(Debug)]
struct PathColumn {
    path: Box<[u8]>,
    values: Dynamic,
}

/// The place in a document after which the next field is expected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    parent: u32,
    previous: u32,
}

impl Cursor {
    /// Before the first field of a row.
    pub(super) const START: Self = Self { parent: ROOT, previous: NONE };
}

impl Tree {
    pub(super) fn new(dates: Dates, level: u8) -> Self {
        let root = Node::new(&[], Box::default());
        Self {
            nodes: vec![root],
            columns: Vec::new(),
            active: 0,
            filled: 0,
            rows: 0,
            tick: 0,
            dates,
            level,
        }
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn begin_row(&mut self) {
        self.tick += 1;
    }

    pub(super) fn end_row(&mut self) {
        self.rows += 1;
    }

    /// Puts an object as a row of its own.
    pub(super) fn put_row(&mut self, doc: Doc<'_>, levels: usize) -> Result<(), Failure> {
        self.begin_row();
        self.document(ROOT, doc, levels)?;
        self.end_row();
        if self.is_sparse() {
            return Err(Failure::TooWide);
        }
        Ok(())
    }

    /// Whether it takes far more bytes to say where values are than for the values.
    pub(super) fn is_sparse(&self) -> bool {
        let cells = self.active * self.rows;
        cells > MANY_CELLS && cells / SPARSE > self.filled
    }

    /// How many paths it has, those of the objects in arrays included.
    pub(super) fn paths(&self) -> usize {
        self.active_columns().map(|column| 1 + column.values.paths()).sum()
    }

    /// Puts all fields of a document into the current row.
    pub(super) fn fields(&mut self, doc: Doc<'_>, levels: usize) -> Result<(), Failure> {
        self.document(ROOT, doc, levels)
    }

    /// Puts one field into the current row.
    #[inline]
    pub(super) fn field(
        &mut self,
        cursor: &mut Cursor,
        key: &[u8],
        value: &Value<'_>,
        levels: usize,
    ) -> Result<(), Failure> {
        let node = self.enter(cursor, key);
        match value {
            Value::Document(doc) => self.document(node, *doc, levels),
            Value::Null | Value::Undefined => Ok(()),
            _ => self.put(node, value, levels),
        }
    }

    fn document(&mut self, parent: u32, doc: Doc<'_>, levels: usize) -> Result<(), Failure> {
        let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
        let mut cursor = Cursor { parent, previous: NONE };
        for element in doc.elements() {
            let element = element?;
            self.field(&mut cursor, element.key, &element.value, levels)?;
        }
        Ok(())
    }

    fn put(&mut self, node: u32, value: &Value<'_>, levels: usize) -> Result<(), Failure> {
        let mut column = self.nodes[node as usize].column;
        if column == NONE {
            column = self.add_column(node);
        }
        let values = &mut self.columns[column as usize].values;
        let before = values.present();
        values.put(self.rows, value, levels)?;
        self.active += usize::from(before == 0);
        self.filled += 1;
        Ok(())
    }

    #[cold]
    fn add_column(&mut self, node: u32) -> u32 {
        let column = self.columns.len() as u32;
        let node = &mut self.nodes[node as usize];
        node.column = column;
        let values = Dynamic::new(self.dates, self.level.saturating_add(1));
        self.columns.push(PathColumn { path: node.path.clone(), values });
        column
    }

    /// Steps to a field; of equal keys the last wins, so what the row had there goes.
    #[inline]
    pub(super) fn enter(&mut self, cursor: &mut Cursor, key: &[u8]) -> u32 {
        let node = self.child(*cursor, key);
        cursor.previous = node;
        if self.nodes[node as usize].tick == self.tick {
            self.remove(node);
        }
        self.nodes[node as usize].tick = self.tick;
        node
    }

    #[inline]
    fn child(&mut self, cursor: Cursor, key: &[u8]) -> u32 {
        let mut expected = match cursor.previous {
            NONE => self.nodes[cursor.parent as usize].first,
            previous => self.nodes[previous as usize].next,
        };
        // One more, since optional fields are often missing.
        for _ in 0..2 {
            match self.nodes.get(expected as usize) {
                Some(node) if *node.key == *key => return expected,
                Some(node) => expected = node.next,
                None => break,
            }
        }
        self.look_up(cursor, key)
    }

    #[cold]
    fn look_up(&mut self, cursor: Cursor, key: &[u8]) -> u32 {
        let parent = cursor.parent as usize;
        let found = match self.nodes[parent].children.get(key) {
            Some(child) => *child,
            None => self.add_child(parent, key),
        };
        match cursor.previous {
            NONE => self.nodes[parent].first = found,
            previous => self.nodes[previous as usize].next = found,
        }
        found
    }

    fn add_child(&mut self, parent: usize, key: &[u8]) -> u32 {
        let escaped = escape(key);
        // `a.b` and a literal `a%2Eb` are one path.
        let alias = self.nodes[parent].children.get(&escaped).copied();
        let child = alias.unwrap_or(self.nodes.len() as u32);
        if alias.is_none() {
            let mut path = self.nodes[parent].path.to_vec();
            if parent != ROOT as usize {
                path.push(b'.');
            }
            path.extend_from_slice(&escaped);
            self.nodes.push(Node::new(key, path.into()));
            self.nodes[parent].children.insert(escaped, child);
        }
        self.nodes[parent].children.insert(key.into(), child);
        child
    }

    #[cold]
    fn remove(&mut self, node: u32) {
        let Node { column, ref mut tick, ref children, .. } = self.nodes[node as usize];
        *tick = 0;
        let inner: Vec<u32> = children.values().copied().collect();
        if let Some(column) = self.columns.get_mut(column as usize) {
            let before = column.values.present();
            column.values.truncate(self.rows);
            self.active -= usize::from(before > 0 && column.values.present() == 0);
            self.filled -= before - column.values.present();
        }
        for child in inner {
            if self.nodes[child as usize].tick == self.tick {
                self.remove(child);
            }
        }
    }

    /// Takes out all rows from `rows` on, the current one included.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.rows = rows;
        for column in &mut self.columns {
            column.values.truncate(rows);
        }
        self.active = self.active_columns().count();
        self.filled = self.columns.iter().map(|column| column.values.present()).sum();
    }

    /// Takes out all rows; the paths stay, unless most were of no use.
    pub(super) fn clear(&mut self) {
        if self.columns.len() > 2 * self.active + MAX_IDLE
            || self.nodes.len() > 2 * self.columns.len() + MAX_IDLE
        {
            *self = Self::new(self.dates, self.level);
            return;
        }
        self.rows = 0;
        self.active = 0;
        self.filled = 0;
        for column in &mut self.columns {
            column.values.clear();
        }
    }

    fn active_columns(&self) -> impl Iterator<Item = &PathColumn> {
        self.columns.iter().filter(|column| column.values.present() > 0)
    }

    fn sorted(&self) -> Vec<&PathColumn> {
        let mut columns: Vec<_> = self.active_columns().collect();
        columns.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        columns
    }

    pub(super) fn bytes(&self) -> usize {
        self.active_columns()
            .map(|column| column.path.len() + 32 + column.values.bytes(self.rows))
            .sum()
    }

    pub(super) fn write_prefix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&super::FLATTENED.to_le_bytes());
        let columns = self.sorted();
        write_varuint(columns.len(), out);
        for column in &columns {
            write_string(&column.path, out);
        }
        for column in &columns {
            column.values.write_prefix(out);
        }
    }

    pub(super) fn write_data(&self, out: &mut Vec<u8>) {
        for column in self.sorted() {
            column.values.write_data(self.rows, out);
        }
    }
}

impl Node {
    fn new(key: &[u8], path: Box<[u8]>) -> Self {
        Self {
            key: key.into(),
            path,
            column: NONE,
            first: NONE,
            next: NONE,
            tick: 0,
            children: HashMap::new(),
        }
    }
}

/// A field name as one component of a path.
pub(crate) fn escape(key: &[u8]) -> Box<[u8]> {
    String::from_utf8_lossy(key).replace('.', "%2E").into_bytes().into()
}
