//! Reads the flattened form of a JSON column as ADR 0002 lays it out, and fails where the bytes are
//! anything else. An oracle that needs no engine; it looks at the layout, not at values.

/// Fails unless the bytes are one JSON column of so many rows.
pub(crate) fn check_json_column(bytes: &[u8], rows: usize) {
    let mut reader = Reader(bytes);
    let paths = reader.json_prefix();
    reader.json_data(&paths, rows);
    assert!(reader.0.is_empty(), "{} bytes too many", reader.0.len());
}

/// A type, with what its prefix told.
enum Type {
    Json(Vec<Vec<Self>>),
    Dynamic(Vec<Self>),
    Array(Box<Self>),
    Nullable(Box<Self>),
    String,
    Fixed(usize),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(count).expect("it is cut off");
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> usize {
        let bytes = self.take(8).try_into().unwrap();
        u64::from_le_bytes(bytes).try_into().unwrap()
    }

    fn varuint(&mut self) -> usize {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.take(1)[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn string(&mut self) -> &'a str {
        let length = self.varuint();
        std::str::from_utf8(self.take(length)).expect("all text is UTF-8")
    }

    /// Texts that are sorted, none twice.
    fn sorted(&mut self) -> Vec<&'a str> {
        let texts: Vec<&str> = (0..self.varuint()).map(|_| self.string()).collect();
        assert!(texts.is_sorted_by(|one, other| one < other), "{texts:?}");
        texts
    }

    fn json_prefix(&mut self) -> Vec<Vec<Type>> {
        assert_eq!(self.number(), 3);
        let paths = self.sorted();
        paths.iter().map(|_| self.dynamic_prefix()).collect()
    }

    fn dynamic_prefix(&mut self) -> Vec<Type> {
        assert_eq!(self.number(), 3);
        let names = self.sorted();
        assert!(names.len() < 255);
        names.into_iter().map(|name| self.prefix_of(name)).collect()
    }

    fn prefix_of(&mut self, name: &str) -> Type {
        let within = |outer: &str| name.strip_prefix(outer)?.strip_suffix(')');
        if let Some(inner) = within("Array(") {
            return Type::Array(Box::new(self.prefix_of(inner)));
        }
        if let Some(inner) = within("Nullable(") {
            return Type::Nullable(Box::new(self.prefix_of(inner)));
        }
        match name {
            "Dynamic" => Type::Dynamic(self.dynamic_prefix()),
            "JSON" => Type::Json(self.json_prefix()),
            _ if name.starts_with("JSON(") => Type::Json(self.json_prefix()),
            "String" => Type::String,
            "Bool" => Type::Fixed(1),
            "Int64" | "Float64" | "DateTime64(3, 'UTC')" => Type::Fixed(8),
            _ => panic!("{name} is no type of ours"),
        }
    }

    fn json_data(&mut self, paths: &[Vec<Type>], rows: usize) {
        paths.iter().for_each(|types| self.dynamic_data(types, rows));
    }

    fn dynamic_data(&mut self, types: &[Type], rows: usize) {
        let index = self.take(rows);
        assert!(index.iter().all(|of| usize::from(*of) <= types.len()));
        for (number, of) in types.iter().enumerate() {
            let count = index.iter().filter(|at| usize::from(**at) == number).count();
            assert!(count > 0, "a type without a value");
            self.data(of, count);
        }
    }

    fn data(&mut self, of: &Type, rows: usize) {
        match of {
            Type::Json(paths) => self.json_data(paths, rows),
            // In an array that is empty everywhere, a Dynamic has no types.
            Type::Dynamic(types) => self.dynamic_data(types, rows),
            Type::Array(of) => {
                let ends: Vec<usize> = (0..rows).map(|_| self.number()).collect();
                assert!(ends.is_sorted());
                self.data(of, ends.last().copied().unwrap_or(0));
            }
            Type::Nullable(of) => {
                assert!(self.take(rows).iter().all(|null| *null <= 1));
                self.data(of, rows);
            }
            Type::String => (0..rows).for_each(|_| {
                self.string();
            }),
            Type::Fixed(width) => drop(self.take(rows * width)),
        }
    }
}
