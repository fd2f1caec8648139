//! Sequences of numbers `T × features` with a label each: the files `.ts` of the UCR and UEA archives (Dau 2019; Bagnall 2018), and
//! NumPy's arrays.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Array, DataError, number, read_arrays, shortened};
use crate::said;
use crate::text::archive::{Compression, trouble, unpacked};

/// The label of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    /// None is given.
    None,
    /// A class, as the file writes it.
    Class(String),
    /// Numbers to regress on.
    Numbers(Vec<f64>),
}

/// Sequences of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequences {
    /// The values of a step.
    pub features: usize,
    /// The values of each sequence, `[T, features]`, T its own; not a number where missing.
    pub values: Vec<Vec<f32>>,
    /// The label of each.
    pub labels: Vec<Label>,
    /// The classes that the file's header names, if it does.
    pub classes: Vec<String>,
    /// The line that each begins on, from 1; of arrays none.
    pub lines: Vec<Option<u64>>,
    /// The names of the values of a step, of a table.
    pub columns: Vec<String>,
}

impl Sequences {
    /// None yet.
    pub(super) fn empty() -> Self {
        let (values, labels, classes) = (Vec::new(), Vec::new(), Vec::new());
        Self { features: 0, values, labels, classes, lines: Vec::new(), columns: Vec::new() }
    }

    /// Whether a file's name says that it holds sequences of numbers.
    pub fn is_one(path: &Path) -> bool {
        let is = |own: &&str| unpacked(path).extension().is_some_and(|extension| extension.eq_ignore_ascii_case(own));
        ["ts", "npz", "npy"].iter().any(is)
    }

    /// Reads a `.ts`, which may be compressed (`.gz`, `.zst`), an `.npz` or an `.npy`.
    ///
    /// # Errors
    /// A file that is none of them, or is damaged.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let name = unpacked(path);
        if name.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("ts")) {
            let mut bytes = Vec::new();
            let read = File::open(path).and_then(|mut file| match Compression::of(path) {
                Some(packed) => packed.reader(file).read_to_end(&mut bytes),
                None => file.read_to_end(&mut bytes),
            });
            read.map_err(|e| DataError::of_file(path, trouble(&e)))?;
            let text =
                String::from_utf8(bytes).map_err(|_| DataError::of_file(path, "it is not UTF-8; convert the file"))?;
            return Self::of_archive(path, &text);
        }
        if Compression::of(path).is_some() {
            return Err(DataError::of_file(
                path,
                "an array of NumPy is read as it is; unpack it, or write an .npz, which is compressed itself",
            ));
        }
        Self::of_arrays(path)
    }

    /// Of an `.npz`: `x: [N, T, features]` or `[N, T]`, of which the first `lengths: [N]` steps count where there are such; `y: [N]`
    /// with classes (texts or whole numbers) or `[N, ·]` with numbers, if it is there.
    fn of_arrays(path: &Path) -> Result<Self, DataError> {
        let mut arrays = read_arrays(path)?;
        let names: Vec<String> = arrays.keys().cloned().collect();
        let wrong = |why: String| DataError::of_file(path, why);
        let Some(Array::Numbers(shape, values)) = arrays.remove("x").or_else(|| arrays.remove("X")) else {
            let why = format!(
                "it has no numbers named \"x\", of shape [sequences, steps, features]; there are {}",
                names.join(", ")
            );
            return Err(wrong(why));
        };
        let (count, steps, features) = match shape[..] {
            [count, steps, features] => (count, steps, features),
            [count, steps] => (count, steps, 1),
            _ => return Err(wrong(format!("its array \"x\" is {shape:?}; it should be [sequences, steps, features]"))),
        };
        if count == 0 || steps == 0 || features == 0 {
            return Err(wrong(format!("its array \"x\" is {shape:?}: it is empty")));
        }
        if let Some(at) = values.iter().position(|value| value.is_infinite()) {
            let why = format!(
                "the value {:?} of its array \"x\" is infinite; write NaN if it is missing",
                [at / (steps * features), at / features % steps, at % features,]
            );
            return Err(wrong(why));
        }
        let lengths = match arrays.remove("lengths") {
            None => vec![steps; count],
            Some(Array::Numbers(shape, lengths)) if shape == [count] => {
                let fits = |length: &f64| *length >= 1.0 && *length <= steps as f64 && length.fract() == 0.0;
                if let Some(at) = lengths.iter().position(|length| !fits(length)) {
                    let why = format!("length {at} is {}; it should be a whole number from 1 to {steps}", lengths[at]);
                    return Err(wrong(why));
                }
                lengths.iter().map(|length| *length as usize).collect()
            }
            Some(other) => {
                return Err(wrong(format!("its array \"lengths\" is {:?}; it should be [{count}]", other.shape())));
            }
        };
        let y = arrays.remove("y").or_else(|| arrays.remove("Y"));
        let labels = match y {
            None => vec![Label::None; count],
            Some(y) if y.shape().first() != Some(&count) => {
                return Err(wrong(format!(
                    "its array \"y\" is {:?}, where \"x\" has {}",
                    y.shape(),
                    said::count(count, "sequence")
                )));
            }
            Some(Array::Texts(_, texts)) if texts.len() == count => texts.into_iter().map(Label::Class).collect(),
            Some(Array::Texts(shape, _)) => {
                return Err(wrong(format!("its array \"y\" is {shape:?}; it should be [{count}]")));
            }
            Some(Array::Numbers(_, numbers)) => {
                let each = numbers.len() / count;
                if each == 1 && numbers.iter().all(|number| number.fract() == 0.0) {
                    numbers.iter().map(|number| Label::Class(number.to_string())).collect()
                } else {
                    numbers.chunks(each.max(1)).map(|numbers| Label::Numbers(numbers.to_vec())).collect()
                }
            }
        };
        let rows = values.chunks(steps * features).zip(&lengths);
        let values =
            rows.map(|(row, length)| row[..length * features].iter().map(|value| *value as f32).collect()).collect();
        let lines = vec![None; count];
        Ok(Self { features, values, labels, classes: Vec::new(), lines, columns: Vec::new() })
    }

    /// Of the text of a `.ts`.
    fn of_archive(path: &Path, text: &str) -> Result<Self, DataError> {
        let mut found = Self::empty();
        let (mut has_class, mut has_target, mut in_data) = (false, false, false);
        for (at, line) in text.lines().enumerate() {
            let at = at as u64 + 1;
            let wrong = |why: String| DataError::of_line(path, at, why);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with('%') {
                continue;
            }
            if !in_data {
                let mut words = line.split_whitespace();
                let key = words.next().unwrap_or_default().to_ascii_lowercase();
                let first = words.next().unwrap_or_default();
                match key.as_str() {
                    "@data" => in_data = true,
                    "@timestamps" if first.eq_ignore_ascii_case("true") => {
                        let why =
                            "its values have time stamps of their own, which are not read; write the values alone";
                        return Err(wrong(why.to_owned()));
                    }
                    "@classlabel" if first.eq_ignore_ascii_case("true") => {
                        has_class = true;
                        found.classes = words.map(str::to_owned).collect();
                    }
                    "@targetlabel" if first.eq_ignore_ascii_case("true") => has_target = true,
                    key if key.starts_with('@') => {}
                    _ => {
                        let why = "the file has to begin with lines such as @classLabel, and a line @data before its sequences";
                        return Err(wrong(why.to_owned()));
                    }
                }
                continue;
            }
            let mut dimensions: Vec<&str> = line.split(':').collect();
            let label = match (has_class, has_target) {
                (false, false) => Label::None,
                _ if dimensions.len() < 2 => return Err(wrong("it has no label after a colon".to_owned())),
                (true, _) => Label::Class(dimensions.pop().unwrap_or_default().trim().to_owned()),
                (false, true) => {
                    let target = number(dimensions.pop().unwrap_or_default()).map_err(wrong)?;
                    Label::Numbers(vec![target.ok_or_else(|| wrong("its target is missing".to_owned()))?])
                }
            };
            if let Label::Class(class) = &label
                && !found.classes.is_empty()
                && !found.classes.contains(class)
            {
                let why = format!("its class \"{}\" is none of those that @classLabel names", shortened(class));
                return Err(wrong(why));
            }
            if found.features != 0 && found.features != dimensions.len() {
                return Err(wrong(format!(
                    "it has {}, those before {}",
                    said::count(dimensions.len(), "dimension"),
                    found.features
                )));
            }
            found.features = dimensions.len();
            let mut columns: Vec<Vec<f32>> = Vec::new();
            for (dimension, text) in dimensions.iter().enumerate() {
                let cells =
                    text.split(',').map(|cell| number(cell).map(|value| value.map_or(f32::NAN, |value| value as f32)));
                let values: Vec<f32> = cells
                    .collect::<Result<_, _>>()
                    .map_err(|why| wrong(format!("dimension {}: {why}", dimension + 1)))?;
                columns.push(values);
            }
            // A dimension that ends before the others is missing from there on.
            let steps = columns.iter().map(Vec::len).max().unwrap_or(0);
            let value = |step: usize, column: &Vec<f32>| column.get(step).copied().unwrap_or(f32::NAN);
            let values = (0..steps).flat_map(|step| columns.iter().map(move |column| value(step, column))).collect();
            found.values.push(values);
            found.labels.push(label);
            found.lines.push(Some(at));
        }
        if found.values.is_empty() {
            return Err(DataError::of_file(path, "it has no sequences after a line @data"));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_of_the_archives_are_read() {
        let text = "# A set.\n@problemName Two\n@timeStamps false\n@univariate false\n@classLabel true up down\n@data\n\
                    1,2,3:4,5,6:up\n1,?:2,3.5:down\n";
        let read = Sequences::of_archive(Path::new("a.ts"), text).unwrap();
        assert_eq!((read.features, &read.values[0][..]), (2, &[1., 4., 2., 5., 3., 6.][..]));
        assert_eq!(read.values[1][..2], [1.0, 2.0]);
        assert!(read.values[1][2].is_nan() && read.values[1][3] == 3.5);
        assert_eq!(read.labels, [Label::Class("up".to_owned()), Label::Class("down".to_owned())]);
        let text = "@targetLabel true\n@data\n1,2:0.5\n";
        assert_eq!(Sequences::of_archive(Path::new("a.ts"), text).unwrap().labels, [Label::Numbers(vec![0.5])]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_line() {
        let said = |text: &str| Sequences::of_archive(Path::new("a.ts"), text).unwrap_err().to_string();
        assert!(said("1,2:up\n").contains("line 1: the file has to begin"));
        assert!(said("@classLabel true up\n@data\n1,2:down\n").contains("line 3: its class \"down\" is none"));
        assert!(
            said("@classLabel true up\n@data\n1,2:up\n1:2:up\n")
                .contains("line 4: it has 2 dimensions, those before 1")
        );
        assert!(said("@data\n1,x\n").contains("line 2: dimension 1: \"x\" is no number"));
        assert!(said("@data\n1,inf\n").contains("infinite"));
        assert!(said("@data\n").contains("no sequences"));
    }
}
