//! Tables in Parquet files, where the program was built with the feature `parquet`: every cell becomes the text that a file of comma-separated
//! values would have.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use super::{DataError, Table};

/// What such a file begins with.
const MAGIC: [u8; 4] = *b"PAR1";

/// Whether it is one, by its first bytes; it is read from its beginning afterwards.
pub(super) fn is_parquet(file: &mut File) -> std::io::Result<bool> {
    // What is no file has no beginning to go back to.
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut first = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut first)?;
    file.rewind()?;
    Ok(first == MAGIC)
}

/// Refuses the file.
#[cfg(not(feature = "parquet"))]
pub(super) fn read(path: &Path, _file: File) -> Result<Table, DataError> {
    let why = "it is a Parquet file, and this program was built without the feature parquet; write the table as comma-separated values, or \
               build with that feature";
    Err(DataError::of_file(path, why))
}

/// Reads the table of a file.
///
/// # Errors
/// A file that is damaged or compressed in a way that is not known, and columns that hold more than one value a row.
#[cfg(feature = "parquet")]
pub(super) fn read(path: &Path, file: File) -> Result<Table, DataError> {
    use parquet::basic::{LogicalType, TimeUnit};
    use parquet::file::reader::{FileReader, SerializedFileReader};

    let cannot = |error: parquet::errors::ParquetError| {
        DataError::of_file(path, format!("it cannot be read as a Parquet file: {error}"))
    };
    let reader = SerializedFileReader::new(file).map_err(cannot)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let mut names = Vec::new();
    let mut stamps = Vec::new();
    for column in schema.columns() {
        if column.max_rep_level() > 0 || column.path().parts().len() > 1 {
            let why = "it holds a list or an object where a table has one value; leave it out".to_owned();
            let column = Some(column.path().parts()[0].clone());
            return Err(DataError { column, ..DataError::of_file(path, why) });
        }
        names.push(column.name().to_owned());
        let Some(LogicalType::Timestamp(of)) = column.logical_type_ref() else {
            stamps.push(Stamps::default());
            continue;
        };
        stamps.push(Stamps { is_nanos: of.unit == TimeUnit::NANOS, is_utc: of.is_adjusted_to_u_t_c });
    }
    let mut table = Table::empty(path, names);
    for (number, row) in reader.get_row_iter(None).map_err(cannot)?.enumerate() {
        // The first line of such a table would be its header.
        table.begin_row(number as u64 + 2);
        for ((name, field), stamps) in row.map_err(cannot)?.get_column_iter().zip(&stamps) {
            let Some(cell) = cell(field, *stamps) else {
                let why = "its bytes are no text".to_owned();
                return Err(DataError { column: Some(name.clone()), ..DataError::of_file(path, why) });
            };
            table.push(&cell);
        }
    }
    if table.rows() == 0 {
        return Err(DataError::of_file(path, "it has no rows"));
    }
    Ok(table)
}

/// The time stamps of a column.
#[cfg(feature = "parquet")]
#[derive(Clone, Copy, Default)]
struct Stamps {
    /// Whether they are nanoseconds, which the format's older types have no name for.
    is_nanos: bool,
    /// Whether they are instants, and not what a clock on the wall showed somewhere.
    is_utc: bool,
}

/// A value as a text; `None` for bytes that are none.
#[cfg(feature = "parquet")]
fn cell(field: &parquet::record::Field, stamps: Stamps) -> Option<String> {
    use parquet::record::Field;

    Some(match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Bytes(bytes) => bytes.as_utf8().ok()?.to_owned(),
        // As short as it can be read back.
        Field::Float(value) => value.to_string(),
        Field::Double(value) => value.to_string(),
        Field::Date(days) => super::Clock::Date.write(i64::from(*days) * 86_400),
        Field::TimestampMillis(value) => time(*value, 1_000, stamps.is_utc),
        Field::TimestampMicros(value) => time(*value, 1_000_000, stamps.is_utc),
        Field::Long(value) if stamps.is_nanos => time(*value, 1_000_000_000, stamps.is_utc),
        other => other.to_string(),
    })
}

/// A time stamp of so many parts of a second.
#[cfg(feature = "parquet")]
fn time(value: i64, parts: i64, is_utc: bool) -> String {
    let write = |offset| super::Clock::DateTime { t: false, seconds: true, offset }.write(value.div_euclid(parts));
    match value.rem_euclid(parts) {
        0 => write(is_utc.then_some(0)),
        // Refused by who reads time stamps, with the row.
        rest => format!("{}.{:09}", write(None), rest * (1_000_000_000 / parts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four rows by pandas and pyarrow (`tests/golden/parquet.py`): stamps in nanoseconds, without and with a time zone, a gap, text, an
    /// integer.
    const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/table.parquet");

    #[cfg(feature = "parquet")]
    #[test]
    fn a_table_of_pandas_is_that_of_its_csv() {
        let table = Table::read(Path::new(TABLE)).unwrap();
        let csv = "date,instant,load,note,count\n2020-01-01 00:00:00,2019-12-31 23:00:00Z,1.5,\"a, b\",1\n\
                   2020-01-01 01:00:00,2020-01-01 00:00:00Z,,,2\n2020-01-01 02:00:00,2020-01-01 01:00:00Z,-0.25,ü,3\n\
                   2020-01-01 03:00:00,2020-01-01 02:00:00Z,1e-7,x,4\n";
        let expected = Table::parse(Path::new("a.csv"), csv.as_bytes()).unwrap();
        assert_eq!((table.columns(), table.rows()), (expected.columns(), expected.rows()));
        for name in ["date", "instant", "note"] {
            let [found, own] = [&table, &expected].map(|table| table.column(name).unwrap());
            (0..4).for_each(|row| assert_eq!(table.cell(row, found), expected.cell(row, own)));
        }
        for name in ["load", "count"] {
            let [found, own] = [&table, &expected].map(|table| table.numbers(table.column(name).unwrap()).unwrap());
            assert_eq!(found, own);
        }
        assert_eq!(time(1_500, 1_000, true), "1970-01-01 00:00:01.500000000");
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn a_parquet_file_is_named_as_what_it_is() {
        let error = Table::read(Path::new(TABLE)).unwrap_err().to_string();
        assert!(error.contains("it is a Parquet file"), "{error}");
    }
}
