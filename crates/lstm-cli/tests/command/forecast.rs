//! Forecasts: from a table to what comes next, and every table that is refused.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::{Said, line, lstm};

/// A table of hours: a day's wave, a drift, and some noise that is always the same.
fn hours(rows: usize) -> String {
    let mut text = "date,load,other\n".to_owned();
    for row in 0..rows {
        let (day, hour) = (row / 24, row % 24);
        let wave = (hour as f64 / 24.0 * std::f64::consts::TAU).sin();
        let noise = ((row * 7919) % 101) as f64 / 101.0 - 0.5;
        let value = 20.0 + 5.0 * wave + 0.01 * row as f64 + noise;
        writeln!(text, "2020-{:02}-{:02} {hour:02}:00:00,{value:.4},{}", 1 + day / 28, 1 + day % 28, row % 3).unwrap();
        assert!(day < 28, "a month of hours is enough");
    }
    text
}

const SMALL: &str = "--horizon 6 --context 24 --hidden 8 --epochs 3 --batch 16";

fn train(folder: &Path, table: &str, options: &str) -> Said {
    std::fs::write(folder.join("table.csv"), table).unwrap();
    line(folder, &format!("train table.csv --task forecast --out run --force {options}"))
}

#[test]
fn a_precision_that_is_given_stays_where_the_rest_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    for precision in ["f32", "bf16x3"] {
        let options = format!("--target load --horizon 6 --context 24 --hidden 8 --budget 1s --precision {precision}");
        let said = train(folder.path(), &hours(600), &options);
        assert_eq!(said.code, Some(0), "{}", said.err);
        let config = std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
        assert!(config.contains(&format!("precision = \"{precision}\"")), "{config}");
    }
}

#[test]
fn a_table_becomes_a_model_that_says_what_comes_next() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let said = train(folder, &hours(600), &format!("--target load {SMALL}"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("the time is \"date\""), "{}", said.err);
    for name in ["model", "naive, season of 24", "exponential smoothing"] {
        assert!(said.out.lines().any(|line| line.starts_with(name)), "{}", said.out);
    }

    // As a table, and as JSON lines: the hours after the last, quantiles in order.
    let csv = line(folder, "predict run table.csv");
    let rows: Vec<&str> = csv.out.lines().collect();
    assert_eq!((csv.code, rows.len()), (Some(0), 7), "{}", csv.err);
    assert!(rows[0].starts_with("time,target,point,q0.05,q0.1"), "{}", rows[0]);
    assert!(rows[1].starts_with("2020-01-26 00:00:00,load,"), "{}", rows[1]);
    for row in &rows[1..] {
        let values: Vec<f64> = row.split(',').skip(3).map(|value| value.parse().unwrap()).collect();
        assert!(values.len() == 11 && values.windows(2).all(|pair| pair[0] <= pair[1]), "{row}");
        assert!((10.0..45.0).contains(&values[5]), "{row}");
    }
    // The model's file is the whole model, and standard input a table.
    std::fs::copy(folder.join("run/model.safetensors"), folder.join("moved.safetensors")).unwrap();
    let piped = super::piped(folder, "predict moved.safetensors - --json", &hours(600));
    let first: serde_json::Value = serde_json::from_str(piped.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["time"], "2020-01-26 00:00:00", "{}", piped.err);
    let point: f64 = rows[1].split(',').nth(2).unwrap().parse().unwrap();
    assert!((first["point"].as_f64().unwrap() - point).abs() < 1e-4);

    // Measured again it is what training said; and where the origin rolls forward.
    let measured = line(folder, "eval run --json").json();
    let row = said.out.lines().find(|line| line.starts_with("model ")).unwrap();
    assert!(row.contains(&format!("{:.4}", measured["model"]["mse_scaled"].as_f64().unwrap())), "{row} {measured}");
    let rolled = line(folder, "eval run table.csv --backtest 3 --json").json();
    assert_eq!((&rolled["origins"], &rolled["model"]["count"]), (&3.into(), &18.into()));
    let said = line(folder, "eval run table.csv --backtest 300");
    assert!(said.code == Some(2) && said.err.contains("too few for --backtest of 300"), "{}", said.err);

    let shown = line(folder, "show run");
    for row in ["task        forecast", "target      load", "season of 24", "says        quantiles"] {
        assert!(shown.out.contains(row), "{}", shown.out);
    }
    assert_eq!(line(folder, "show run --json").json()["config"]["task"], "forecast");
    // A model of another task is no language model.
    let said = line(folder, "generate run");
    assert!(said.code == Some(2) && said.err.contains("forecast"), "{}", said.err);
}

#[test]
fn a_table_is_unpacked_and_comes_from_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let options = format!("--task forecast --target load {}", SMALL.replace("--epochs 3", "--epochs 1"));
    std::fs::write(folder.join("table.csv"), hours(300)).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(hours(300).as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    std::fs::write(folder.join("packed.csv.gz"), &packed).unwrap();
    for (table, run) in [("table.csv", "plain"), ("packed.csv.gz", "packed")] {
        let said = line(folder, &format!("train {table} {options} --out {run}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    let said = super::piped(folder, &format!("train - {options} --out piped"), &hours(300));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(std::fs::read_to_string(folder.join("piped/text.txt")).unwrap(), hours(300));
    let model = |run: &str| std::fs::read(folder.join(run).join("model.safetensors")).unwrap();
    assert!(model("plain") == model("packed") && model("plain") == model("piped"));
    let next = line(folder, "predict plain table.csv").out;
    assert_eq!(line(folder, "predict packed packed.csv.gz").out, next);
    std::fs::rename(folder.join("piped"), folder.join("moved")).unwrap();
    assert_eq!(line(folder, "eval moved").out, line(folder, "eval plain").out);
    assert_eq!(line(folder, "train --resume moved --epochs 2").code, Some(0));
    std::fs::write(folder.join("cut.csv.gz"), &packed[..packed.len() / 2]).unwrap();
    std::fs::write(folder.join("plain.csv.gz"), hours(300)).unwrap();
    std::fs::write(folder.join("plain.csv.zst"), hours(300)).unwrap();
    for (table, why) in [
        ("cut.csv.gz", "it was cut short; get it again"),
        ("plain.csv.gz", "it is not what its name says, a file of gzip"),
        ("plain.csv.zst", "it is not what its name says, a file of Zstandard"),
    ] {
        let said = line(folder, &format!("predict plain {table}"));
        let expected = format!("{table}: cannot be unpacked: {why}");
        assert!(said.code == Some(2) && said.err.contains(&expected), "{}", said.err);
    }
}

#[test]
fn a_run_goes_on_to_the_same_bits_and_not_with_another_table() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("table.csv"), hours(300)).unwrap();
    let run = |out: &str, options: &str| {
        let said = line(
            folder,
            &format!(
                "train table.csv --task forecast --target load {SMALL} --patience 0 --schedule constant --warmup 0 --out {out} {options}"
            ),
        );
        assert_eq!(said.code, Some(0), "{}", said.err);
    };
    run("whole", "--steps 20");
    run("parts", "--steps 9");
    let said = line(folder, "train --resume parts --steps 20");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let [whole, parts] = ["whole", "parts"].map(|run| line(folder, &format!("predict {run} table.csv")).out);
    assert_eq!(whole, parts);
    std::fs::rename(folder.join("table.csv"), folder.join("moved.csv")).unwrap();
    let said = line(folder, "train --resume parts moved.csv --steps 21");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(line(folder, "train --resume parts --steps 22").code, Some(0));
    std::fs::rename(folder.join("moved.csv"), folder.join("table.csv")).unwrap();
    assert_eq!(line(folder, "train --resume parts table.csv --steps 23").code, Some(0));
    std::fs::write(folder.join("table.csv"), hours(301)).unwrap();
    let said = line(folder, "train --resume parts --steps 30");
    assert!(said.code == Some(2) && said.err.contains("is not what the run was trained on"), "{}", said.err);
    // Measured on it is it by its name alone.
    let said = line(folder, "eval parts");
    assert!(said.code == Some(2) && said.err.contains("changed since the model was trained on it"), "{}", said.err);
    assert_eq!(line(folder, "eval parts table.csv").code, Some(0));
    let page = std::fs::read_to_string(folder.join("parts/report.html")).unwrap();
    for part in ["Loss of a value", "MASE, ", "seasonal naive", "steps from"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn several_series_known_columns_and_missing_values_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut text = "day;shop;kind;sold;open\n".to_owned();
    for day in 1..=200 {
        for (shop, kind, level) in [("north", "small", 10), ("south", "large", 40)] {
            let open = usize::from(day % 7 < 6);
            let sold = if day == 33 { String::new() } else { (open * (level + day % 5)).to_string() };
            writeln!(text, "{day};{shop};{kind};{sold};{open}").unwrap();
        }
    }
    let options = "--time day --series shop --target sold --known open --static kind --horizon 7 --context 14 --hidden 8 \
                   --epochs 3 --likelihood negative-binomial";
    let said = train(folder, &text, options);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("2 series") && said.err.contains("2 values missing"), "{}", said.err);

    // Text among numbers is a slip, and no class of its own.
    let slip = text.replacen(";1\n", ";yes\n", 1);
    let said = refused(&slip, options);
    assert!(said.contains("line 2, column \"open\": \"yes\" is no number"), "{said}");
    // What is known of the days to come has to be said.
    let said = line(folder, "predict run table.csv");
    assert!(
        said.code == Some(2) && said.err.contains("the known columns are needed for each of 7 steps"),
        "{}",
        said.err
    );
    let future: String = (201..=207)
        .flat_map(|day| {
            [("north", "small"), ("south", "large")].map(|(shop, kind)| format!("{day};{shop};{kind};;1\n"))
        })
        .collect();
    std::fs::write(folder.join("table.csv"), text.clone() + &future).unwrap();
    let said = line(folder, "predict run table.csv");
    assert_eq!((said.code, said.out.lines().count()), (Some(0), 15), "{}", said.err);
    for row in said.out.lines().skip(1) {
        let values: Vec<f64> = row.split(',').skip(4).map(|value| value.parse().unwrap()).collect();
        assert!(values.iter().all(|value| *value >= 0.0 && value.fract() == 0.0), "{row}");
    }
    // A series that was not trained on is scaled by itself, and that is said; a kind that was not is refused.
    let other = text.replace("south", "west");
    std::fs::write(folder.join("table.csv"), other + &future.replace("south", "west")).unwrap();
    let said = line(folder, "predict run table.csv");
    assert!(said.code == Some(0) && said.err.contains("\"west\" was not trained on"), "{}", said.err);
    std::fs::write(folder.join("table.csv"), text.replace("large", "huge") + &future.replace("large", "huge")).unwrap();
    let said = line(folder, "predict run table.csv");
    assert!(
        said.code == Some(2) && said.err.contains("line 3, column \"kind\": \"huge\" was not among"),
        "{}",
        said.err
    );
}

#[test]
fn a_time_alone_chooses_the_run_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let said = train(folder.path(), &hours(300), "--target load --horizon 6 --budget 2s --hidden 8");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let plan: Vec<&str> = said.err.lines().filter(|line| line.starts_with("plan ")).collect();
    assert_eq!(plan.len(), 5, "{}", said.err);
    // What is given stays.
    assert!(plan[2].contains("1 layer of 8 units"), "{}", said.err);
    let config = std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
    let precision = config.lines().find_map(|line| line.strip_prefix("precision = ")).unwrap().trim_matches('"');
    assert!(plan[2].contains(&format!("; products in {precision}")), "{config}{}", said.err);
}

/// The sentence of a table that cannot be used; nothing is left of the run.
fn refused(table: &str, options: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let said = train(folder.path(), table, options);
    assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
    assert!(said.out.is_empty() && !folder.path().join("run").exists(), "{}", said.err);
    assert!(said.err.lines().last().unwrap().starts_with("error: "), "{}", said.err);
    said.err
}

/// The table with one line changed.
fn with_line(number: usize, change: impl Fn(&str) -> String) -> String {
    let lines = hours(300);
    let changed =
        lines.lines().enumerate().map(|(at, row)| if at + 1 == number { change(row) } else { row.to_owned() });
    changed.map(|row| row + "\n").collect()
}

#[test]
fn tables_that_cannot_be_used_are_refused_with_line_and_column() {
    let load = format!("--target load {SMALL}");
    let cell = |value: &str| with_line(50, |row| format!("{},{value},0", row.split(',').next().unwrap()));
    for (table, said) in [
        (cell("warm"), "line 50, column \"load\": \"warm\" is no number"),
        (cell("inf"), "line 50, column \"load\": inf is infinite"),
        (cell("\"3,5\""), "write a decimal point, 3.5"),
        (
            with_line(50, |_| String::new()).replace("\n\n", "\n"),
            "line 50, column \"date\": the time stamps are not regular",
        ),
        (
            with_line(50, |row| format!("{row}\n{row}")),
            "line 51, column \"date\": the time stamp 2020-01-03 00:00:00 comes twice",
        ),
        (
            with_line(50, |row| row.replace("2020-01-03", "2019-01-03")),
            "line 50, column \"date\": the time stamp 2019-01-03",
        ),
        (with_line(50, |row| row.replace("2020-01-03 00", "yesterday")), "line 50, column \"date\": \"yesterday"),
        (with_line(50, |row| format!("{row},1")), "line 50: it has 4 values"),
    ] {
        let found = refused(&table, &load);
        assert!(found.contains(said), "{said}: {found}");
    }
    let empty: String = hours(300).lines().map(|row| format!("{},\n", row.rsplit_once(',').unwrap().0)).collect();
    let empty = empty.replacen("date,load,\n", "date,load,other\n", 1);
    assert!(refused(&empty, &format!("--target other {SMALL}")).contains("the column \"other\" is empty"));
    let constant: String = hours(300).lines().map(|row| format!("{},1\n", row.rsplit_once(',').unwrap().0)).collect();
    let constant = constant.replacen("date,load,1\n", "date,load,other\n", 1);
    let said = refused(&constant, &format!("--target other {SMALL}"));
    assert!(said.contains("column \"other\": the series has the same value, 1,"), "{said}");
}

#[test]
fn nights_in_which_clocks_change_are_named() {
    let row = |day: usize, hour: usize| format!("2020-10-{day:02} {hour:02}:00,{}\n", day * hour % 17);
    let mut back = "date,load\n".to_owned();
    for hour in 0..48 {
        back += &row(24 + hour / 24, hour % 24);
        if hour == 26 {
            back += &row(25, 2);
        }
    }
    let said = refused(&back, SMALL);
    assert!(said.contains("2020-10-25 02:00 comes twice") && said.contains("put back for the winter"), "{said}");
    let forward = back.replace("2020-10-25 02:00", "gone").replace("2020-10", "2020-03");
    let forward: String = forward.lines().filter(|row| !row.contains("gone")).map(|row| format!("{row}\n")).collect();
    let said = refused(&forward, SMALL);
    assert!(said.contains("2020-03-25 03:00 comes 2 hours after") && said.contains("put forward"), "{said}");
}

#[test]
fn settings_that_do_not_fit_the_table_are_refused() {
    let table = hours(300);
    let said = refused(&table, "--target load --horizon 400 --context 24 --epochs 1");
    assert!(said.contains("but a forecast of 400 needs") && said.contains("--horizon"), "{said}");
    assert!(refused(&table, "--target nothing --horizon 6").contains("no column is named \"nothing\""));
    let said = refused(&table, "--horizon 6");
    assert!(said.contains("several columns have numbers") && said.contains("--target"), "{said}");
    assert!(refused(&table, &format!("--target load --known load {SMALL}")).contains("named twice"));
    assert!(refused(&table, &format!("--target load --split 500/50/50 {SMALL}")).contains("the table has 300"));
    let said = refused(&table, &format!("--target load --likelihood negative-binomial {SMALL}"));
    assert!(said.contains("line 2, column \"load\":") && said.contains("is no count"), "{said}");
    assert!(refused("date,load\n2020-01-01,1\n", SMALL).contains("one time stamp only"));
    let folder = tempfile::tempdir().unwrap();
    let said = lstm(folder.path(), &["train", "--task", "forecast"]);
    assert!(said.code == Some(2) && said.err.contains("needs a table"), "{}", said.err);
}
