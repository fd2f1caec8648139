//! Sequences of numbers from a table: a row a step, and a column that says which sequence it belongs to.

use std::collections::HashMap;
use std::path::Path;

use super::{Column, DataError, Label, Sequences, Table};

/// The columns of a table of sequences.
#[derive(Clone, Copy, Debug)]
pub struct SequenceColumns<'a> {
    /// Tells the sequences apart.
    pub sequence: &'a str,
    /// What each sequence is labelled with, the same in all of its rows; none where there are no labels to be read.
    pub labels: &'a [String],
    /// Whether labels are numbers.
    pub numbers: bool,
    /// The values of a step; none for all columns but the others.
    pub features: &'a [String],
}

impl Sequences {
    /// Reads a table whose rows are steps: those of a sequence stand in their order, beside each other or not.
    ///
    /// # Errors
    /// A table that cannot be read, a column that it has not, text where a number should be, a sequence with two labels.
    pub fn of_table(path: &Path, columns: SequenceColumns) -> Result<Self, DataError> {
        let table = Table::read(path)?;
        let sequence = table.column(columns.sequence)?;
        let labels: Vec<Column> = columns.labels.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?;
        let others =
            || table.columns().iter().filter(|name| *name != columns.sequence && !columns.labels.contains(name));
        let names: Vec<String> = match columns.features {
            [] => others().cloned().collect(),
            named => named.to_vec(),
        };
        if names.is_empty() {
            return Err(DataError::of_file(
                path,
                "it has no column of values beside those of the sequence and the label",
            ));
        }
        if let Some(name) = names.iter().find(|name| *name == columns.sequence || columns.labels.contains(name)) {
            let why = "it says which sequence a step is of, or its label, and cannot be a value of the step too";
            return Err(DataError { column: Some(name.clone()), ..DataError::of_file(path, why) });
        }
        let features: Vec<Column> = names.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?;
        let mut found = Self { features: names.len(), columns: names, ..Self::empty() };
        let mut places: HashMap<&str, usize> = HashMap::new();
        // The row that said each label of a sequence.
        let mut said: Vec<Vec<Option<usize>>> = Vec::new();
        for row in 0..table.rows() {
            let name = table.cell(row, sequence).trim();
            if name.is_empty() {
                return Err(table.error(row, sequence, "it is empty: which sequence is the step of?"));
            }
            let at = *places.entry(name).or_insert(said.len());
            if at == said.len() {
                said.push(vec![None; labels.len()]);
                found.values.push(Vec::new());
                found.lines.push(Some(table.line(row)));
            }
            for (label, said) in labels.iter().zip(&mut said[at]) {
                let cell = table.cell(row, *label).trim();
                match *said {
                    _ if cell.is_empty() => {}
                    None => *said = Some(row),
                    Some(before) if table.cell(before, *label).trim() == cell => {}
                    Some(before) => {
                        let why = format!(
                            "the sequence \"{name}\" has the label {cell} here, and {} in line {}; a sequence has one",
                            table.cell(before, *label).trim(),
                            table.line(before)
                        );
                        return Err(table.error(row, *label, why));
                    }
                }
            }
            for feature in &features {
                found.values[at].push(table.number(row, *feature)?.map_or(f32::NAN, |value| value as f32));
            }
        }
        let mut names: Vec<&str> = vec![""; places.len()];
        places.iter().for_each(|(name, at)| names[*at] = *name);
        for (at, said) in said.iter().enumerate() {
            let missing = said.iter().position(Option::is_none);
            if let Some(column) = missing {
                let line = found.lines[at].unwrap_or(1);
                let why = format!("the sequence \"{}\" has no label; fill it in one of its rows at least", names[at]);
                let column = Some(columns.labels[column].clone());
                return Err(DataError { column, ..DataError::of_line(path, line, why) });
            }
            let cells = said.iter().zip(&labels).filter_map(|(row, label)| Some((row.as_ref()?, label)));
            let label = match columns.numbers {
                _ if labels.is_empty() => Label::None,
                true => {
                    let number = |(row, label): (&usize, &Column)| {
                        let number = table.number(*row, *label)?;
                        number.ok_or_else(|| {
                            table.error(
                                *row,
                                *label,
                                "it says that there is no number; remove the sequence, or fill it",
                            )
                        })
                    };
                    Label::Numbers(cells.map(number).collect::<Result<_, _>>()?)
                }
                false => {
                    let cells: Vec<&str> = cells.map(|(row, label)| table.cell(*row, *label).trim()).collect();
                    Label::Class(cells.join(","))
                }
            };
            found.labels.push(label);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, labels: &[&str], numbers: bool) -> Result<Sequences, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
        let columns = SequenceColumns { sequence: "id", labels: &labels, numbers, features: &[] };
        Sequences::of_table(&path, columns).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_are_the_steps_of_their_sequences() {
        let text = "id,kind,x,y\na,up,1,2\nb,down,3,\na,,5,6\n";
        let read_ = read(text, &["kind"], false).unwrap();
        assert_eq!((read_.features, &read_.columns[..]), (2, &["x".to_owned(), "y".to_owned()][..]));
        assert_eq!(read_.values[0], [1.0, 2.0, 5.0, 6.0]);
        assert!(read_.values[1][0] == 3.0 && read_.values[1][1].is_nan());
        assert_eq!(read_.labels, ["up", "down"].map(|name| Label::Class(name.to_owned())));
        assert_eq!(read_.lines, [Some(2), Some(3)]);
        let read_ = read("id,a,b,x\ns,1,2.5,0\n", &["a", "b"], true).unwrap();
        assert_eq!(read_.labels, [Label::Numbers(vec![1.0, 2.5])]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_line_and_column() {
        for (text, numbers, why) in [
            (
                "id,kind,x\na,up,1\na,down,2\n",
                false,
                "line 3, column \"kind\": the sequence \"a\" has the label down here, and up in line 2",
            ),
            ("id,kind,x\na,up,1\na,up,warm\n", false, "line 3, column \"x\": \"warm\" is no number"),
            ("id,kind,x\na,up,inf\n", false, "line 2, column \"x\": inf is infinite"),
            ("id,kind,x\na,up,1\n,up,1\n", false, "line 3, column \"id\": it is empty"),
            ("id,kind,x\na,up,1\nb,,1\n", false, "line 3, column \"kind\": the sequence \"b\" has no label"),
            ("id,kind,x\na,up,1\n", true, "line 2, column \"kind\": \"up\" is no number"),
            ("id,kind\na,up\n", false, "no column of values"),
            ("id,x\na,1\n", false, "no column is named \"kind\""),
        ] {
            let said = read(text, &["kind"], numbers).unwrap_err();
            assert!(said.contains(why), "{said}\n{why}");
        }
    }
}
