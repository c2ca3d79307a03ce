use bson::{Bson, doc};
use proptest::prelude::*;
use tailwater_core::bson::{Doc, MAX_DEPTH};
use tailwater_core::json_column::{Dates, JsonColumn};
use tailwater_core::native::Column;

use crate::sample::{self, Fields, Sample, without_repeats};

fn written(column: &JsonColumn) -> Vec<u8> {
    let mut out = Vec::new();
    column.write(&mut out);
    out
}

fn push(column: &mut JsonColumn, fields: &[(String, Sample)]) {
    column.push(Doc::new(&sample::bytes(fields)).unwrap()).unwrap();
}

pub(crate) fn column_of(rows: &[Fields], dates: Dates) -> JsonColumn {
    let mut column = JsonColumn::new(dates);
    for row in rows {
        push(&mut column, row);
    }
    column
}

fn rows() -> impl Strategy<Value = Vec<Fields>> {
    proptest::collection::vec(sample::fields(), 1..6)
}

proptest! {
    #[test]
    fn of_equal_names_the_last_wins_at_every_level(rows in rows()) {
        let clean: Vec<_> = rows.iter().map(|row| without_repeats(row)).collect();
        for dates in [Dates::Text, Dates::DateTime64] {
            prop_assert_eq!(written(&column_of(&rows, dates)), written(&column_of(&clean, dates)));
        }
    }

    #[test]
    fn a_cleared_column_is_as_good_as_new(before in rows(), after in rows()) {
        let mut column = column_of(&before, Dates::DateTime64);
        column.clear();
        prop_assert_eq!(column.rows(), 0);
        prop_assert_eq!(written(&column), written(&JsonColumn::new(Dates::DateTime64)));
        for row in &after {
            push(&mut column, row);
        }
        prop_assert_eq!(written(&column), written(&column_of(&after, Dates::DateTime64)));
    }

    #[test]
    fn a_row_that_is_not_bson_leaves_nothing(
        before in rows(),
        fields in sample::fields(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        after in rows(),
    ) {
        let mut bytes = sample::bytes(&fields);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(doc) = Doc::new(&bytes) {
            let mut column = column_of(&before, Dates::Text);
            if column.push(doc).is_err() {
                prop_assert!(doc.validate().is_err());
                let mut expected = column_of(&before, Dates::Text);
                prop_assert_eq!(written(&column), written(&expected));
                for row in &after {
                    push(&mut column, row);
                    push(&mut expected, row);
                }
                prop_assert_eq!(written(&column), written(&expected));
            }
        }
    }

    #[test]
    fn fields_one_by_one_are_the_document(rows in rows()) {
        let mut column = JsonColumn::new(Dates::Text);
        for row in &rows {
            column.begin_row();
            for element in Doc::new(&sample::bytes(row)).unwrap().elements() {
                let element = element.unwrap();
                column.field(element.key, &element.value).unwrap();
            }
            column.end_row();
        }
        prop_assert_eq!(written(&column), written(&column_of(&rows, Dates::Text)));
    }

    #[test]
    fn scalars_are_the_top_level_without_id_documents_and_arrays(rows in rows()) {
        let mut column = JsonColumn::new(Dates::Text);
        let mut expected = Vec::new();
        for row in &rows {
            let mut with_id = row.clone();
            with_id.insert(0, ("_id".to_owned(), Sample::Scalar(Bson::Int32(1))));
            column.begin_row();
            column.scalars(Doc::new(&sample::bytes(&with_id)).unwrap()).unwrap();
            column.end_row();
            let mut scalars = without_repeats(row);
            scalars.retain(|(key, value)| key != "_id" && matches!(value, Sample::Scalar(_)));
            expected.push(scalars);
        }
        prop_assert_eq!(written(&column), written(&column_of(&expected, Dates::Text)));
    }

    #[test]
    fn the_estimate_is_near_the_size(rows in rows()) {
        let column = column_of(&rows, Dates::Text);
        let size = written(&column).len();
        prop_assert!(column.bytes() * 4 + 64 >= size, "{} for {}", column.bytes(), size);
    }
}

#[test]
fn a_value_cut_off_twice_leaves_nothing() {
    let text = |text: &str| Sample::Scalar(Bson::String(text.to_owned()));
    let one = |key: &str, value: Sample| (key.to_owned(), value);
    let repeated = vec![one("b", text("longer")), one("b", Sample::Scalar(Bson::Null))];
    let objects = vec![Sample::Document(vec![one("b", text("x"))]), Sample::Document(repeated)];
    let objects = one("a", Sample::Array(objects));
    let rows = [vec![objects.clone(), one("a", text("y"))], vec![objects]];
    let clean: Vec<_> = rows.iter().map(|row| without_repeats(row)).collect();
    assert_eq!(written(&column_of(&rows, Dates::Text)), written(&column_of(&clean, Dates::Text)));
}

fn block(rows: &[bson::Document]) -> Vec<u8> {
    let mut column = JsonColumn::new(Dates::DateTime64);
    for row in rows {
        column.push(Doc::new(&row.to_vec().unwrap()).unwrap()).unwrap();
    }
    written(&column)
}

/// The type names in a column's bytes, in their order.
fn types(column: &[u8]) -> Vec<String> {
    column
        .split(|byte| !(b' '..=b'~').contains(byte))
        .filter_map(|text| std::str::from_utf8(text).ok())
        .filter_map(|text| {
            let starts = ["Array(", "Int64", "Float64", "Bool", "String", "DateTime64(", "JSON"];
            let at = starts.iter().filter_map(|start| text.find(start)).min()?;
            Some(text[at..].to_owned())
        })
        .collect()
}

#[test]
fn arrays_get_the_narrowest_type_that_loses_nothing() {
    let date = bson::DateTime::from_millis(0);
    let cases: [(Bson, &[&str]); 14] = [
        (Bson::Array(vec![]), &["Array(Nullable(String))"]),
        (vec![Bson::Null].into(), &["Array(Nullable(String))"]),
        (vec![Bson::Int32(1), Bson::Int64(2), Bson::Null].into(), &["Array(Nullable(Int64))"]),
        (vec![Bson::DateTime(date)].into(), &["Array(Nullable(DateTime64(3, 'UTC')))"]),
        (vec![Bson::Int32(1), Bson::Double(2.5)].into(), &["Array(Dynamic)", "Float64", "Int64"]),
        (vec![Bson::Int32(1), Bson::Boolean(true)].into(), &["Array(Dynamic)", "Bool", "Int64"]),
        (
            vec![doc! { "b": 1 }].into(),
            &["Array(JSON(max_dynamic_types=16, max_dynamic_paths=256))", "Int64"],
        ),
        (
            vec![doc! { "b": [{ "c": 1 }] }].into(),
            &[
                "Array(JSON(max_dynamic_types=16, max_dynamic_paths=256))",
                "Array(JSON(max_dynamic_types=8, max_dynamic_paths=64))",
                "Int64",
            ],
        ),
        (
            vec![Bson::Document(doc! { "b": 1 }), Bson::Null].into(),
            &["Array(Dynamic)", "JSON", "Int64"],
        ),
        (vec![vec![1], vec![], vec![2]].into(), &["Array(Array(Nullable(Int64)))"]),
        (
            vec![Bson::from(vec![1]), Bson::from(vec!["x"])].into(),
            &["Array(Array(Dynamic))", "Int64", "String"],
        ),
        (
            vec![Bson::from(vec![1]), Bson::Null].into(),
            &["Array(Dynamic)", "Array(Nullable(Int64))"],
        ),
        (
            vec![Bson::from(vec![vec![1]]), Bson::from(vec![1])].into(),
            &["Array(Dynamic)", "Array(Array(Nullable(Int64)))", "Array(Nullable(Int64))"],
        ),
        (
            vec![vec![vec![vec![vec![1]]]]].into(),
            &["Array(Array(Array(Array(Dynamic))))", "Array(Nullable(Int64))"],
        ),
    ];
    for (array, expected) in cases {
        let column = block(&[doc! { "a": array.clone() }]);
        // The last name may be followed by printable data.
        let found = types(&column);
        assert_eq!(found.len(), expected.len(), "{array}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{array}: {found} is not {expected}");
        }
    }
}

#[test]
fn the_deepest_document_does_not_overflow_the_stack() {
    let leaf = || Sample::Scalar(Bson::Int32(1));
    let wrap: [fn(Sample) -> Sample; 4] = [
        |inner| Sample::Document(vec![("a".to_owned(), inner)]),
        |inner| Sample::Array(vec![inner]),
        |inner| Sample::Array(vec![Sample::Scalar(Bson::Int32(1)), inner]),
        |inner| Sample::Array(vec![Sample::Document(vec![("a".to_owned(), inner)])]),
    ];
    for (wrap, levels) in wrap.into_iter().zip([1, 1, 1, 2]) {
        let value = (0..(MAX_DEPTH - 1) / levels).fold(leaf(), |inner, _| wrap(inner));
        let row = vec![("a".to_owned(), value)];
        let mut column = column_of(&[row.clone(), row.clone()], Dates::Text);
        assert!(written(&column).len() > MAX_DEPTH);
        column.clear();
        push(&mut column, &row);
        let deeper = vec![("a".to_owned(), wrap(row[0].1.clone()))];
        let bytes = sample::bytes(&deeper);
        let refused = column.push(Doc::new(&bytes).unwrap()).unwrap_err();
        assert!(refused.to_string().contains("levels"), "{refused}");
        assert_eq!(column.rows(), 1);
    }
}

#[test]
fn names_and_strings_are_always_text() {
    let mut column = JsonColumn::new(Dates::Text);
    column.push(Doc::new(b"\x0f\0\0\0\x02\xff.\0\x02\0\0\0\xfe\0\0").unwrap()).unwrap();
    let text = String::from_utf8_lossy(&written(&column)).into_owned();
    assert!(text.contains("\x06\u{fffd}%2E"), "{text:?}");
    assert!(text.ends_with("\x03\u{fffd}"), "{text:?}");
}

#[test]
fn a_wide_array_of_objects_does_not_explode() {
    // Each object with a name of its own: a table of them would take a byte for each pair.
    let wide: Vec<_> = (0..20_000).map(|n| doc! { format!("key{n}"): n }).collect();
    let rows = [doc! { "a": [{ "b": 1 }] }, doc! { "a": wide }, doc! { "a": [{ "b": 2 }] }];
    let column = block(&rows);
    assert!(column.len() < 2_000_000, "{} bytes", column.len());
    assert!(column.windows(24).any(|part| part == br#"{"key19999":{"$numberInt"#));
}
