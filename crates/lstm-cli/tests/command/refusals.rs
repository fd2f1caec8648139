#[cfg(unix)]
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use crate::{Said, TINY, command, folder, line, lstm, piped, trained};

/// A training that is refused: what is said, and that no run was begun.
fn refused(folder: &Path, arguments: &str, expected: &[&str]) {
    let said = line(folder, &format!("train --out new {arguments}"));
    assert_eq!(said.code, Some(2), "{arguments}: {}", said.err);
    for part in expected {
        assert!(said.err.contains(part), "{arguments}: {}", said.err);
    }
    assert!(said.out.is_empty() && !said.err.contains("panicked"), "{arguments}: {}", said.err);
    assert!(!folder.join("new").exists(), "{arguments} left a run behind");
}

#[test]
fn texts_that_cannot_be_read() {
    let folder = folder();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    std::fs::create_dir_all(folder.path().join("none/inner")).unwrap();
    std::fs::create_dir_all(folder.path().join("other")).unwrap();
    write("none/picture.png", b"\x89PNG");
    write("empty.txt", b"");
    write("blank.txt", b" \n\n  \n");
    write("one.txt", b"word");
    write("short.txt", b"a b a\na b\n b a\n");
    write("zeros.txt", b"text\0text\n");
    write("latin.txt", b"good\nbad \xE9\n");
    let tar = [b"text.txt".to_vec(), vec![0; 249], b"ustar\x0000".to_vec(), vec![0; 300]].concat();
    for (name, begin, said) in [
        ("a.zip", &b"PK\x03\x04\x14\0"[..], "a.zip is a zip archive; unpack it"),
        ("a.xz", b"\xFD7zXZ\0\0\x04", "a.xz is compressed with xz; unpack it, or compress it with gzip or zstd"),
        ("a.bz2", b"BZh91AY&SY\0", "a.bz2 is compressed with bzip2"),
        ("a.tar", &tar, "a.tar is a tar archive; unpack it"),
        ("a.txt", b"\x1F\x8B\x08\0", "a.txt is compressed with gzip; unpack it, or give it a name that ends in .gz"),
    ] {
        write(name, &[begin, &[0xFF; 300]].concat());
        refused(folder.path(), name, &[said]);
        refused(folder.path(), &format!("text.txt --valid {name}"), &[said]);
    }
    write("dna.txt", &b"ACGTTGCA".repeat(500));
    write("spaces.txt", &b"   \n".repeat(500));
    write("wide.txt", &[b"\xFF\xFE\0\0".to_vec(), b"a\0\0\0".repeat(50)].concat());
    write("half.txt", &[b"\xFE\xFF".to_vec(), b"\0a".repeat(50)].concat());
    refused(folder.path(), "wide.txt", &["wide.txt is UTF-32", "iconv -f UTF-32"]);
    refused(folder.path(), "half.txt", &["half.txt is UTF-16", "iconv -f UTF-16"]);
    refused(folder.path(), "dna.txt --tokenizer words", &["one token", "another tokenizer, such as chars"]);
    // The text of a token, not how the tokenizer writes it.
    refused(folder.path(), "spaces.txt --tokenizer bpe", &["nothing but the token \"   \\n\""]);
    refused(folder.path(), "missing.txt", &["missing.txt", "No such file"]);
    refused(folder.path(), "empty.txt", &["empty.txt is empty"]);
    refused(folder.path(), "blank.txt --valid text.txt", &["nothing but the token"]);
    refused(folder.path(), "one.txt --valid text.txt --tokenizer words", &["one token"]);
    refused(folder.path(), "one.txt", &["too short to be split", "--valid"]);
    refused(folder.path(), "none", &["none has no text files", ".txt"]);
    refused(folder.path(), "text.txt --batches lines --min-count 100000", &["no token", "100,000 times", "min-count"]);
    refused(folder.path(), "zeros.txt --valid text.txt", &["byte 4", "binary"]);
    refused(folder.path(), "latin.txt --valid text.txt", &["byte 9", "--lossy"]);
    // Also where they are too short to be split.
    refused(folder.path(), "zeros.txt", &["byte 4", "binary"]);
    refused(folder.path(), "latin.txt", &["byte 9", "--lossy"]);
    refused(folder.path(), "/dev/null", &["not a regular file"]);
    refused(folder.path(), "text.txt --valid latin.txt", &["latin.txt", "byte 9", "--lossy"]);
    // A folder is taken where it is clear which of its files are meant.
    refused(folder.path(), "text.txt --valid none", &["none has no text files"]);
    write("other/train.txt", b"a b\n");
    write("other/test.txt", b"a b\n");
    refused(folder.path(), "text.txt --valid other", &["other has no text that is named for validation, but test.txt"]);
    refused(folder.path(), "short.txt --valid text.txt --batch 20", &["--batch 5 would fit"]);
    refused(
        folder.path(),
        "short.txt --valid text.txt --batches lines --batch 20",
        &["3 lines", "--batch 3 would fit"],
    );
    refused(folder.path(), "short.txt --valid text.txt --batches windows(2) --batch 20", &["windows", "would fit"]);
    let lossy = line(folder.path(), "train latin.txt --valid text.txt --lossy --batch 2 --hidden 8 --epochs 1");
    assert_eq!(lossy.code, Some(0), "{}", lossy.err);
}

#[test]
fn archives_that_cannot_be_unpacked_and_an_empty_input() {
    let folder = folder();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&std::fs::read(folder.path().join("text.txt")).unwrap()).unwrap();
    let packed = encoder.finish().unwrap();
    std::fs::write(folder.path().join("cut.txt.gz"), &packed[..packed.len() - 9]).unwrap();
    std::fs::write(folder.path().join("none.zst"), "plain text\n").unwrap();
    refused(folder.path(), "cut.txt.gz", &["cut.txt.gz cannot be unpacked", "cut short"]);
    refused(folder.path(), "none.zst", &["none.zst cannot be unpacked", "not what its name says"]);
    refused(folder.path(), "text.txt --valid cut.txt.gz", &["cut.txt.gz cannot be unpacked"]);
    for (input, expected) in [
        ("", "standard input is empty"),
        ("one line\n", "too short"),
        (&"a\0b\n".repeat(50), "standard input: byte 1 is NUL, so this looks like a binary"),
    ] {
        let said = piped(folder.path(), "train - --out new", input);
        assert!(said.code == Some(2) && said.err.contains(expected), "{}", said.err);
        // Neither a run nor what was read is left.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}

/// It was unpacked whole before it was said that it is no text. Here it is cut short, so that this would be said.
#[test]
fn a_compressed_file_that_is_no_text_is_refused_by_its_beginning_wherever_it_is_given() {
    let folder = trained("");
    let path = folder.path();
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..1 << 20).map(|_| next()).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"a b\0").unwrap();
    encoder.write_all(&noise).unwrap();
    let packed = encoder.finish().unwrap();
    std::fs::create_dir_all(path.join("c")).unwrap();
    std::fs::copy(path.join("text.txt"), path.join("c/part1")).unwrap();
    for name in ["image.gz", "c/part2.txt.gz"] {
        std::fs::write(path.join(name), &packed[..packed.len() / 2]).unwrap();
    }
    for (command, file) in [
        ("train text.txt --out new --valid image.gz", "image.gz"),
        ("train text.txt --out new --test image.gz", "image.gz"),
        ("train text.txt --out new --valid text.txt --test c", "part2.txt.gz"),
        ("train image.gz --out new", "image.gz"),
        ("train c --out new", "part2.txt.gz"),
        ("train c --out new --preset small --shuffle lines", "part2.txt.gz"),
        ("train c --find-lr", "part2.txt.gz"),
        ("eval run image.gz", "image.gz"),
        ("score run image.gz", "image.gz"),
        ("eval run c", "part2.txt.gz"),
        ("score run c --json", "part2.txt.gz"),
    ] {
        let said = line(path, command);
        assert!(said.code == Some(2) && said.err.contains("byte 3 is NUL"), "{command}: {}", said.err);
        assert!(said.err.contains(file) && said.out.is_empty(), "{command}: {}", said.err);
        // Where any bytes are taken it is read to its end, which is not there.
        let said = line(path, &format!("{command} --lossy"));
        assert!(said.code == Some(2) && said.err.contains("cannot be unpacked"), "{command}: {}", said.err);
    }
}

#[test]
fn texts_longer_than_the_memory() {
    let folder = trained("");
    // Text, and then a hole of four tebibytes.
    let huge = std::fs::File::create(folder.path().join("huge.txt")).unwrap();
    (&huge).write_all("the cat sees a dog\n".repeat(300_000).as_bytes()).unwrap();
    if huge.set_len(1 << 42).is_err() {
        eprintln!("skipped: the file system has no files of 4 TiB");
        return;
    }
    refused(folder.path(), "text.txt --valid huge.txt", &["huge.txt has 4.0 TiB", "are free", "shorter"]);
    refused(folder.path(), "huge.txt --preset small", &["huge.txt", "are free", "shorter"]);
    // Where the run is planned, a part of it is looked at; the part that the hole is in is no text.
    refused(folder.path(), "huge.txt", &["huge.txt", "is NUL"]);
    let said = line(folder.path(), "eval run huge.txt");
    assert!(said.code == Some(2) && said.err.contains("huge.txt has 4.0 TiB"), "{}", said.err);
}

#[test]
fn options_out_of_range() {
    let folder = folder();
    for (options, expected) in [
        ("--hidden 0", "--hidden is 0"),
        ("--embedding 0", "--embedding is 0"),
        ("--layers 0", "--layers is 0"),
        ("--batch 0", "--batch is 0"),
        ("--segment 0", "--segment is 0"),
        ("--epochs 0", "--epochs is 0"),
        ("--steps 0", "--steps is 0"),
        ("--threads 0", "--threads is 0"),
        ("--vocab-size 0", "--vocab-size is 0"),
        ("--dropout 1", "--dropout is 1"),
        ("--dropout=-0.1", "--dropout is -0.1"),
        ("--dropout-input 1", "--dropout-input is 1"),
        ("--layers 2 --dropout-hidden 2", "--dropout-hidden is 2"),
        ("--dropout-output nan", "--dropout-output is NaN"),
        ("--dropout-kind sometimes", "standard, locked"),
        ("--dropout-embedding 1", "--dropout-embedding is 1"),
        ("--dropout-weights=-1", "--dropout-weights is -1"),
        ("--zoneout 1", "--zoneout is 1"),
        ("--zoneout-cell=-0.1", "--zoneout-cell is -0.1"),
        ("--zoneout 0.1 --zoneout-hidden nan", "--zoneout-hidden is NaN"),
        ("--layer-norm --hidden 1", "nothing of one cell"),
        ("--layer-norm --hidden 8,1", "nothing of one cell"),
        ("--ar=-1", "--ar is -1"),
        ("--tar inf", "--tar is inf"),
        ("--label-smoothing 1", "--label-smoothing is 1"),
        ("--rate 0", "--learning-rate is 0"),
        ("--lr nan", "--learning-rate is NaN"),
        ("--decay 0", "--decay is 0"),
        ("--schedule wave", "constant, step, linear, cosine, one-cycle, wsd, plateau"),
        ("--schedule plateau --decay 1", "--decay is 1; it must be above 1"),
        ("--warmup 1.5", "`warmup` is 1.5"),
        ("--accumulate 0", "--accumulate is 0"),
        ("--candidates 0", "--candidates is 0"),
        ("--candidates 5 --candidates-until 1.5", "--candidates-until is 1.5"),
        ("--dropout-start 1.5", "--dropout-start is 1.5; it must be a share"),
        ("--dropout-start=-0.5", "--dropout-start is -0.5"),
        ("--beta1 1", "--beta1 is 1"),
        ("--beta2=-0.5", "--beta2 is -0.5"),
        ("--epsilon 0", "--epsilon is 0"),
        ("--optimizer rmsprop", "sgd, nt-asgd, adam, adamw"),
        ("--optimizer nt-asgd --rate 30 --non-monotone 0", "--non-monotone is 0"),
        ("--average ema(1)", "such as ema(0.999)"),
        ("--warmup=-5", "`warmup` is -5"),
        ("--clip=-1", "--clip is -1"),
        ("--weight-decay=-1 --optimizer sgd --rate 1", "--weight-decay is -1"),
        ("--horizon 0", "at least 1"),
        ("--horizon never", "`segment`"),
        ("--budget 10x", "write it like 90s"),
        ("--budget 1h30", "write it like 90s"),
        ("--budget 0", "write it like 90s"),
        ("--budget 1e9h", "write it like 90s"),
        ("--budget 1000000000h", "is too long; the most is 365d"),
        ("--split 90/20", "add up to 100"),
        ("--split half", "90/5/5"),
        ("--wiring circle", "stacked, skip, scores"),
        ("--readout all", "hidden, output-gate"),
        ("--init ones", "ones-bias"),
        ("--tokenizer letters", "words, chars, bytes, bpe, unigram, wordpiece, or the path of a tokenizer.json"),
        ("--tokenizer bpe --vocab-size 100", "100 is too small: bpe starts from the 256 bytes"),
        ("--tokenizer unigram --vocab-size 5", "one for each character"),
        ("--tokenizer missing.json", "missing.json"),
        ("--tokenizer text.txt", "text.txt: not a tokenizer.json"),
        ("--batches windows(0)", "windows(n)"),
        ("--preset huge", "textlstm"),
        ("--hidden 200 --projection 300", "smaller than the hidden size"),
        ("--hidden 100000000", "smaller --hidden"),
        ("--hidden 18446744073709551615", "smaller --hidden"),
        ("--batches windows(1000000000)", "segment of 1,000,000,000 steps"),
        ("--forget-bias inf", "--forget-bias is inf"),
        ("--preset small --layers 4294967296", "4,294,967,296 layers"),
        ("--preset small --layers 18446744073709551615", "smaller --hidden"),
        ("--preset small --embedding 18446744073709551615", "smaller --hidden"),
        ("--preset small --hidden 18446744073709551615 --projection 18446744073709551614", "smaller --hidden"),
        ("--preset small --batch 18446744073709551615", "rows needs"),
        ("--preset small --batches windows(18446744073709551615)", "segment of 18,446,744,073,709,551,615 steps"),
        ("--preset small --threads 4294967296", "--threads is 4294967296"),
        ("--preset small --seed 18446744073709551615", "--seed is 18446744073709551615"),
        ("--preset small --accumulate 18446744073709551615", "but an epoch has"),
        ("--min-count 1000000", "no token of the training text occurs 1,000,000 times"),
        (
            "--preset small --tokenizer chars --min-count 1000000",
            "no token of the training text occurs 1,000,000 times",
        ),
        ("--preset small --min-count 0", "--min-count is 0"),
        ("--preset small --vocab-size 1", "--vocab-size is 1"),
        ("--preset small --tokenizer unigram --vocab-size 10000000000", "--vocab-size is 10000000000"),
        ("--preset small --text-limit 1e300", "no number of MiB"),
        ("--preset small --split 4294967295/1/100", "percentages"),
        ("--preset small --learning-rate 1e6", "--learning-rate is 1000000"),
        ("--preset small --lr 1e-40", "--learning-rate is 0.0000"),
        ("--preset small --decay 1e-40", "--decay is 0.0000"),
        ("--preset small --decay 0.5", "from 1 to 1000000 (2 to halve it)"),
        ("--preset small --decay-after 0", "--decay-after is 0"),
        ("--preset small --clip 1e-40", "--clip is 0.0000"),
        ("--preset small --dropout 1e-40", "0 or at least 0.000001"),
        ("--preset small --candidates 5 --candidates-until 0", "--candidates-until is 0"),
        ("--preset small --dropout-start 0.5", "--dropout-start is 0.5, but nothing is dropped"),
        ("--preset small --candidates 5000", "vocabulary has"),
        ("--preset small --horizon 50", "its segment of 20 steps"),
        ("--preset small --weight-decay 0.5", "must be below 1"),
        ("--preset small --init uniform(0)", "from 0.000001 to 10"),
        ("--preset small --forget-bias 1e30", "--forget-bias is 1"),
        ("--preset small --warmup 18446744073709551615", "--warmup is 18446744073709551615"),
        ("--preset small --patience 18446744073709551615", "--patience is"),
        ("--preset small --epochs 18446744073709551615", "--epochs is"),
        ("--preset small --steps 18446744073709551615", "--steps is"),
        ("--hidden -5", "error"),
        ("--hidden many", "invalid digit"),
    ] {
        refused(folder.path(), &format!("text.txt {options}"), &[expected]);
    }
}

#[test]
fn options_that_contradict_each_other() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("split")).unwrap();
    for name in ["train.txt", "valid.txt"] {
        std::fs::copy(folder.path().join("text.txt"), folder.path().join("split").join(name)).unwrap();
    }
    for (options, expected) in [
        ("text.txt --valid text.txt --split 90/10", "--valid has no part with --split"),
        ("split --split 90/10", "--split contradicts"),
        ("--valid text.txt", "--valid has no part without a TEXT"),
        ("text.txt --batches windows(5) --segment 20", "contradict"),
        ("text.txt --preset textlstm --segment 20", "contradict"),
        ("text.txt --optimizer adam --weight-decay 0.1", "adamw"),
        ("text.txt --schedule cosine --decay 2", "--schedule step and plateau divide"),
        ("text.txt --schedule plateau --decay-after 2", "--schedule step counts epochs"),
        ("text.txt --schedule plateau --split 90/0/10", "no validation text"),
        ("text.txt --optimizer nt-asgd --rate 30 --split 90/0/10", "no validation text"),
        ("text.txt --preset char --optimizer sgd", "--find-lr finds one"),
        ("text.txt --preset small --optimizer adam", "--find-lr finds one"),
        ("text.txt --optimizer nt-asgd --rate 30 --average ema(0.9)", "averages the weights itself"),
        ("text.txt --find-lr", "--out has no part with --find-lr"),
        ("text.txt --candidates 5 --label-smoothing 0.1", "a sampled softmax scores a few"),
        ("text.txt --softmaxes 0", "--softmaxes is 0"),
        ("text.txt --softmaxes 18446744073709551615", "choose a smaller --softmaxes, "),
        ("text.txt --softmaxes 3 --label-smoothing 0.1", "leave one of --softmaxes and --label-smoothing out"),
        ("text.txt --text-limit 0", "`0` is no number of MiB from 0.001 on"),
        ("text.txt --optimizer sgd --lazy --rate 1", "it is of adam and adamw"),
        ("text.txt --optimizer sgd --beta2 0.9", "it is of adam and adamw"),
        ("text.txt --preset small --epsilon 1e-6", "it is of adam and adamw"),
        ("text.txt --variable-segment --batches lines", "not from lines"),
        ("text.txt --variable-segment --batches windows(5)", "not from windows(5)"),
        ("text.txt --optimizer sgd --non-monotone 3", "it is of nt-asgd"),
        ("text.txt --schedule one-cycle --warmup 0.1", "rises by itself"),
        ("text.txt --warmup 50 --steps 50", "no shorter than the run, which has 50"),
        ("text.txt --warmup 100000 --epochs 3", "no shorter than the run"),
        ("text.txt --preset small --decay-after 4 --epochs 3", "longer than the 3 epochs"),
        ("text.txt --decay-after 11", "longer than the 10 epochs"),
        ("text.txt --tokenizer bytes --min-count 3", "contradict"),
        ("text.txt --tokenizer bpe --min-count 3", "rare words are made of subwords"),
        ("text.txt --tokenizer some.json --vocab-size 300", "the vocabulary is the file's"),
        ("text.txt --tokenizer bytes --lossy", "contradict"),
        ("text.txt --split 90/0/10 --patience 2", "no validation text"),
        ("text.txt --layers 1 --wiring skip", "at least 2"),
        ("text.txt --hidden 8,9 --layers 3", "2 sizes for 3 layers"),
        ("text.txt --hidden 8,9 --projection 8", "smaller than the hidden size"),
        ("text.txt --layers 1 --residual", "no layer after the first has the size of the one below"),
        ("text.txt --hidden 8,9 --residual", "no layer after the first has the size of the one below"),
        ("text.txt --layers 2 --residual --wiring skip", "use the wiring stacked"),
        ("text.txt --layers 2 --residual --readout output-gate", "use the readout hidden"),
        ("text.txt --layers 1 --dropout-hidden 0.2", "--layers of at least 2"),
        ("text.txt --segment 1 --tar 1", "a segment has one step"),
        ("text.txt --dropout 0 --dropout-kind locked", "nothing is dropped"),
        (
            "text.txt --layers 2 --dropout 0.1 --dropout-input 0 --dropout-hidden 0.1 --dropout-output 0",
            "--dropout has no",
        ),
        ("text.txt --zoneout 0.1 --zoneout-cell 0.2 --zoneout-hidden 0.3", "--zoneout has no part"),
        ("text.txt --candidates-until 0.5", "--candidates-until has no part without --candidates"),
        ("text.txt --preset awd --epochs 3 --non-monotone 3", "nothing to compare with in a run of 3 epochs"),
        ("text.txt --preset char --tied --lazy", "--lazy has no part in a tied model"),
        ("--split 80/10/10", "--split has no part without a TEXT"),
        ("--lossy", "--lossy has no part without a TEXT"),
        ("--text-limit 1", "--text-limit has no part without a TEXT"),
        // Also where there is no such run: an option that would not be used is the first thing to say.
        ("--resume run", "--out has no part with --resume"),
        ("--resume run --hidden 5", "--hidden has no part with --resume"),
        ("--resume run --dropout 0.2", "--dropout has no part with --resume"),
        ("--resume run --zoneout 0.2", "--zoneout has no part with --resume"),
        ("--resume run --peepholes", "--peepholes has no part with --resume"),
    ] {
        refused(folder.path(), options, &[expected]);
    }
}

#[test]
fn a_folder_to_replace_is_named() {
    let folder = folder();
    let said = line(folder.path(), "train text.txt --force");
    assert!(said.code == Some(2) && said.err.contains("--force has no part without --out"), "{}", said.err);
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn a_training_that_diverges_saves_no_best_model() {
    let folder = folder();
    for options in ["--preset small --lr 1e4 --clip 0", "--preset small --lr 1e4 --clip 1000 --split 90/0/10"] {
        let said = line(folder.path(), &format!("train text.txt {TINY} --out run {options}"));
        assert_eq!(said.code, Some(2), "{options}: {}", said.err);
        assert!(said.err.contains("lower learning rate") && !said.err.contains("inf  best"), "{options}: {}", said.err);
        std::fs::remove_dir_all(folder.path().join("run")).unwrap();
    }
}

/// A reader that has seen enough ends a command quietly, whatever it prints.
#[cfg(unix)]
#[test]
fn nobody_reads_to_the_end() {
    let folder = trained("");
    for arguments in [
        "completions bash",
        "completions zsh",
        "train --help",
        "generate run --length 100000",
        "score run text.txt",
        "show run",
        "eval run text.txt",
        "train text.txt --preset small --hidden 8 --embedding 8 --epochs 1 --out other",
        "bench train --hidden 8 --vocab 10 --seconds 0",
    ] {
        // The pipe is closed before anything is written to it.
        let script = format!("{{ sleep 0.3; exec {} {arguments}; }} | true", env!("CARGO_BIN_EXE_lstm"));
        let script = format!("set -o pipefail; {script}");
        let said = Said::new(
            std::process::Command::new("bash").current_dir(folder.path()).args(["-c", &script]).output().unwrap(),
        );
        assert!(
            said.code == Some(0) && !said.err.contains("panicked") && !said.err.contains("error"),
            "{arguments}: {}",
            said.err
        );
    }
}

/// Numbers that no model has, in the files of a run.
#[test]
fn absurd_numbers_in_the_files_of_a_run() {
    let folder = trained("--tokenizer bpe --vocab-size 300");
    let run = |file: &str| folder.path().join("run").join(file);
    let write = |file: &str, text: &str| std::fs::write(run(file), text).unwrap();
    let config = std::fs::read_to_string(run("config.toml")).unwrap();
    let tokenizer = std::fs::read_to_string(run("tokenizer.json")).unwrap();
    let check = |what: &str| {
        for arguments in ["show run", "eval run text.txt", "generate run", "score run text.txt", "train --resume run"] {
            let said = line(folder.path(), arguments);
            assert!(said.code == Some(2) && said.err.contains("error: "), "{what}, {arguments}: {}", said.err);
            assert!(!said.err.contains("panicked"), "{what}, {arguments}: {}", said.err);
        }
    };
    for (key, value) in [
        ("layers = 2", "layers = 4294967296"),
        ("layers = 2", "layers = 9223372036854775807"),
        ("hidden = 8", "hidden = 9223372036854775807"),
        ("input = 6", "input = 9223372036854775807"),
        ("softmaxes = 1", "softmaxes = 9223372036854775807"),
        ("batch = 4", "batch = 0"),
        ("learning_rate = ", "learning_rate = -"),
        ("\ndecay = ", "\ndecay = -"),
    ] {
        assert!(config.contains(key), "{key} in {config}");
        write("config.toml", &config.replacen(key, value, 1));
        check(value);
    }
    write("config.toml", &config);
    // The last number of the vocabulary, and one far beyond it.
    let last = "\": 255";
    assert!(tokenizer.contains(last));
    for id in ["4294967295", "18446744073709551615", "-1", "1e400"] {
        write("tokenizer.json", &tokenizer.replacen(last, &format!("\": {id}"), 1));
        check(id);
    }
}

#[test]
fn a_range_test_refuses_what_it_would_not_use_and_what_cannot_train() {
    let folder = folder();
    for (options, expected) in [
        ("text.txt --rate 0.1", "--learning-rate has no part with --find-lr"),
        ("text.txt --schedule cosine", "--schedule has no part with --find-lr"),
        ("text.txt --warmup 5", "--warmup has no part with --find-lr"),
        ("text.txt --epochs 3", "--epochs has no part with --find-lr"),
        ("text.txt --budget 3m", "--budget has no part with --find-lr"),
        ("text.txt --average ema(0.9)", "--average has no part with --find-lr"),
        ("--resume run", "--find-lr has no part with --resume"),
        ("missing.txt", "missing.txt"),
        ("text.txt --hidden 0", "--hidden is 0"),
        ("text.txt --batch 100000", "would fit"),
    ] {
        let said = line(folder.path(), &format!("train --find-lr {options}"));
        assert!(said.code == Some(2) && said.err.contains(expected) && said.out.is_empty(), "{options}: {}", said.err);
        assert!(!folder.path().join("runs").exists(), "{options}");
    }
}

#[test]
fn what_measures_the_noise_of_gradients_refuses_what_it_would_not_use_and_what_is_too_short() {
    let folder = folder();
    for (options, expected) in [
        ("text.txt --budget 3m", "--budget has no part with --find-batch"),
        ("text.txt --schedule cosine", "--schedule has no part with --find-batch"),
        ("text.txt --out run", "--out has no part with --find-batch"),
        ("text.txt --find-lr", "--find-lr has no part with --find-batch"),
        ("--resume run", "--find-batch has no part with --resume"),
        ("missing.txt", "missing.txt"),
        ("text.txt --batch 100000", "would fit"),
        ("text.txt --preset small --batch 64 --segment 1000", "at least 4 batches, but the training text has"),
    ] {
        let said = line(folder.path(), &format!("train --find-batch {options}"));
        assert!(said.code == Some(2) && said.err.contains(expected), "{options}: {}", said.err);
        assert!(!folder.path().join("runs").exists(), "{options}");
    }
}

#[test]
fn a_share_of_a_decay_that_there_is_not_and_one_of_no_group_are_refused() {
    let folder = folder();
    let of = |options: &str| line(folder.path(), &format!("train text.txt {TINY} {options}"));
    for (options, expected) in [
        ("--weight-decay-shares vectors=0", "give --weight-decay too"),
        ("--weight-decay 0.1 --weight-decay-shares biases=0", "embedding=0.1,vectors=0"),
        ("--weight-decay 0.1 --weight-decay-shares vectors=-1", "--weight-decay-shares is -1"),
        ("--weight-decay 0.1 --weight-decay-shares input=1000", "their product must be below 1"),
    ] {
        let said = of(&format!("--optimizer adamw --rate 0.01 {options}"));
        assert!(said.code == Some(2) && said.err.contains(expected) && said.out.is_empty(), "{options}: {}", said.err);
    }
    let said =
        of("--optimizer adamw --rate 0.01 --weight-decay 0.1 --weight-decay-shares recurrent=3,vectors=0 --out run");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let shown = line(folder.path(), "show run");
    assert!(shown.out.contains("weight decay 0.1, of it recurrent=3,vectors=0"), "{}", shown.out);
}

#[test]
fn folders_that_exist_or_cannot_be_made() {
    let folder = trained("");
    let model = || std::fs::read(folder.path().join("run/model.safetensors")).unwrap();
    let before = model();
    for (out, expected) in [("run", "--force"), ("text.txt", "is a file"), ("text.txt/run", "cannot be written")] {
        let said = line(folder.path(), &format!("train text.txt {TINY} --out {out}"));
        assert!(said.code == Some(2) && said.err.contains(expected), "{}", said.err);
    }
    let said = line(folder.path(), &format!("train text.txt {TINY} --out ."));
    assert!(said.code == Some(2) && said.err.contains("not a run folder"), "{}", said.err);
    assert_eq!(model(), before);
    let said = line(folder.path(), &format!("train text.txt {TINY} --out run --force --seed 2"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_ne!(model(), before);
}

/// Curves that cannot be written, or would be mixed with others: before a text is read, and nothing is left.
#[test]
fn folders_that_cannot_take_curves() {
    let folder = trained("--tensorboard curves");
    let path = folder.path();
    std::fs::create_dir(path.join("foreign")).unwrap();
    std::fs::write(path.join("foreign/events.out.tfevents.1764000000.host.1.0"), "").unwrap();
    let cases = [
        ("text.txt", "cannot be written"),
        ("text.txt/curves", "cannot be written"),
        ("curves", "event files already"),
        ("foreign", "event files already"),
    ];
    for (curves, expected) in cases {
        let said = line(path, &format!("train no-such-text {TINY} --out new --tensorboard {curves}"));
        assert!(said.code == Some(2) && said.err.contains(expected), "{curves}: {}", said.err);
        assert!(!path.join("new").exists(), "{curves}");
    }
    for (curves, expected) in &cases[..2] {
        let said = line(path, &format!("train --resume run --epochs 3 --tensorboard {curves}"));
        assert!(said.code == Some(2) && said.err.contains(expected), "{curves}: {}", said.err);
    }
    let said = line(path, "train --resume run --tensorboard foreign");
    assert!(said.code == Some(2) && said.err.contains("host.1.0"), "{}", said.err);
    let said = line(path, &format!("train text.txt {TINY} --out other"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let said = line(path, "train --resume other --tensorboard curves");
    assert!(said.code == Some(2) && said.err.contains("of the run run, not of other"), "{}", said.err);
    let said = line(path, "train text.txt --find-lr --tensorboard new-curves");
    assert!(said.code == Some(2) && said.err.contains("--tensorboard has no part with --find-lr"), "{}", said.err);
    assert!(!path.join("new-curves").exists());
}

/// Runs `lstm` where a file can have at most `blocks` of 512 bytes, and a file beyond that is an error, as on a full
/// disk.
#[cfg(unix)]
fn in_little_space(folder: &Path, blocks: usize, arguments: &str) -> Said {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec {} {arguments}", env!("CARGO_BIN_EXE_lstm"));
    Said::new(std::process::Command::new("sh").current_dir(folder).args(["-c", &script]).output().unwrap())
}

/// Every file of a folder with its bytes.
#[cfg(unix)]
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

#[cfg(unix)]
#[test]
fn a_full_disk_at_the_start_leaves_no_run_and_loses_none() {
    let folder = trained("");
    let before = files(&folder.path().join("run"));
    for (out, options) in [("new", ""), ("run", "--force --seed 2")] {
        let said = in_little_space(folder.path(), 2, &format!("train text.txt {TINY} --out {out} {options}"));
        assert!(said.code == Some(2) && said.err.contains("free some space"), "{}", said.err);
    }
    assert!(!folder.path().join("new").exists());
    assert!(files(&folder.path().join("run")) == before, "the old run is as it was");
}

#[cfg(unix)]
#[test]
fn a_full_disk_later_says_how_to_go_on() {
    let folder = folder();
    let size = |file: &str| std::fs::metadata(folder.path().join("run").join(file)).map_or(0, |data| data.len());
    let said = line(folder.path(), &format!("train text.txt {TINY} --steps 1 --out run"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    // The model fits, the checkpoint with its moments does not.
    let blocks = size("checkpoint.safetensors") as usize / 512;
    let before = files(&folder.path().join("run"))["checkpoint.safetensors"].clone();
    let said = in_little_space(folder.path(), blocks, "train --resume run --steps 100");
    assert_eq!(said.code, Some(2), "{}", said.err);
    for part in ["checkpoint.safetensors cannot be written", "free some space", "lstm train --resume run"] {
        assert!(said.err.contains(part), "{}", said.err);
    }
    let after = files(&folder.path().join("run"));
    assert!(after["checkpoint.safetensors"] == before && !after.keys().any(|name| name.contains("partial")));
    let said = line(folder.path(), "train --resume run");
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission_to_write() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::create_dir(locked.join("try")).is_ok() {
        eprintln!("skipped: this user may write anywhere");
        return;
    }
    let said = line(folder.path(), &format!("train text.txt {TINY} --out locked/run"));
    assert!(said.code == Some(2) && said.err.contains("that you may write to"), "{}", said.err);
}

#[test]
fn runs_of_a_newer_version_or_with_a_strange_tokenizer() {
    let folder = trained("");
    let path = |file: &str| folder.path().join("run").join(file);
    let said = |arguments: &str| {
        let said = line(folder.path(), arguments);
        assert_eq!(said.code, Some(2), "{arguments}: {}", said.err);
        said.err
    };
    let newer = |file: &str, version: &[u8]| {
        let mut bytes = std::fs::read(path(file)).unwrap();
        let at = bytes.windows(version.len()).position(|part| part == version).unwrap() + version.len() - 1;
        bytes[at] = b'9';
        std::fs::write(path(file), bytes).unwrap();
    };
    let healthy = ["config.toml", "tokenizer.json", "model.safetensors", "checkpoint.safetensors"]
        .map(|file| (file, std::fs::read(path(file)).unwrap()));
    for (file, version) in [
        ("config.toml", "version = 2"),
        ("tokenizer.json", "\"version\": 3"),
        ("model.safetensors", "version\\\":1"),
        ("checkpoint.safetensors", "version\\\":1"),
    ] {
        newer(file, version.as_bytes());
        let arguments = if file.starts_with("checkpoint") { "train --resume run" } else { "eval run text.txt" };
        let error = said(arguments);
        assert!(
            error.contains("version 9 is newer than") && error.contains("update the program") && error.contains(file),
            "{error}"
        );
        for (file, bytes) in &healthy {
            std::fs::write(path(file), bytes).unwrap();
        }
    }
    let tokenizer = std::fs::read_to_string(path("tokenizer.json")).unwrap();
    std::fs::write(path("tokenizer.json"), tokenizer.replace("\"cat\"", "\"cow\"")).unwrap();
    for arguments in ["eval run text.txt", "generate run", "score run text.txt", "show run"] {
        assert!(said(arguments).contains("another tokenizer"), "{arguments}");
    }
    assert!(said("train --resume run").contains("another tokenizer"));
    std::fs::write(path("tokenizer.json"), tokenizer.replacen("\"cat\",", "", 1)).unwrap();
    for arguments in ["eval run text.txt", "train --resume run"] {
        assert!(said(arguments).contains("it was trained with beside it"), "{arguments}");
    }
}

#[test]
fn runs_that_are_none_or_damaged() {
    let folder = trained("");
    let path = |file: &str| folder.path().join(file);
    let said = |arguments: &str| {
        let said = line(folder.path(), arguments);
        assert_eq!(said.code, Some(2), "{arguments}: {}", said.err);
        said.err
    };
    for subcommand in ["eval missing text.txt", "generate missing", "score missing text.txt", "show missing"] {
        assert!(said(subcommand).contains("not a run folder"), "{subcommand}");
    }
    assert!(said("train --resume missing").contains("not a run folder"));
    assert!(said("eval run missing.txt").contains("missing.txt"));
    let bytes = std::fs::read(path("run/checkpoint.safetensors")).unwrap();
    std::fs::write(path("run/checkpoint.safetensors"), &bytes[..bytes.len() - 10]).unwrap();
    assert!(said("train --resume run").contains("truncated or damaged"));
    let mut bytes = std::fs::read(path("run/model.safetensors")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(path("run/model.safetensors"), &bytes).unwrap();
    assert!(said("generate run").contains("checksum"));
    std::fs::remove_file(path("run/model.safetensors")).unwrap();
    assert!(said("show run").contains("no model yet"));
}

#[test]
fn sampling_out_of_range() {
    let folder = trained("");
    for (option, value, expected) in [
        ("--temperature", "-1", "--temperature is -1"),
        ("--top-p", "0", "--top-p is 0"),
        ("--top-p", "1.5", "--top-p is 1.5"),
        ("--min-p", "2", "--min-p is 2"),
        ("--repetition-penalty", "-1", "--repetition-penalty is -1"),
        ("--samples", "0", "--samples is 0"),
        ("--beam", "0", "--beam is 0"),
        ("--stop", "", "empty stop text"),
        ("--length", "some", "whole number"),
    ] {
        let said = lstm(folder.path(), &["generate", "run", &format!("{option}={value}")]);
        assert!(said.code == Some(2) && said.err.contains(expected), "{}", said.err);
    }
}

#[test]
fn sampling_that_contradicts_itself() {
    let folder = trained("");
    for (options, expected) in [
        ("--beam 3 --temperature 1", "--temperature has no part with --beam"),
        ("--beam 3 --top-k 5", "--top-k has no part with --beam"),
        ("--beam 3 --top-p 0.9", "--top-p has no part with --beam"),
        ("--beam 3 --min-p 0.1", "--min-p has no part with --beam"),
        ("--beam 3 --repetition-penalty 1.2", "--repetition-penalty has no part with --beam"),
        ("--beam 3 --seed 4", "--seed has no part with --beam"),
        ("--beam 3 --samples 4", "--samples 4 is more than --beam 3 finds"),
        ("--temperature 0 --top-k 3", "top-k would change nothing"),
        ("--temperature 0 --min-p 0.1", "min-p would change nothing"),
        ("--temperature 0 --seed 4", "--seed has no part with --temperature 0"),
        ("--temperature 0 --samples 2", "--samples has no part with --temperature 0"),
    ] {
        let said = line(folder.path(), &format!("generate run {options}"));
        assert!(said.code == Some(2) && said.err.contains(expected) && said.out.is_empty(), "{options}: {}", said.err);
    }
}

#[test]
fn an_instruction_set_that_is_none() {
    let folder = folder();
    let said = Said::new(command(folder.path(), &["train"]).env("LSTM_ISA", "sse9").output().unwrap());
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("LSTM_ISA is `sse9`") && said.err.contains("scalar"), "{}", said.err);
    assert!(!folder.path().join("runs").exists());
}

/// It was said that there is no option of this name, and advised to write `-- -1`, which is a text.
#[test]
fn a_number_that_cannot_be_one_is_said_to_be_the_options() {
    let folder = trained("");
    for (arguments, expected) in [
        ("train text.txt --seed -1", &["--seed <SEED>", "'-1'", "whole number, 0 or more"][..]),
        ("train text.txt --epochs 1.5", &["--epochs <EPOCHS>", "'1.5'", "whole number"]),
        ("train text.txt --seed 18446744073709551616", &["--seed <SEED>", "too large"]),
        ("train text.txt --preset small --dropout -0.1", &["dropout is -0.1"]),
        ("train text.txt --clip some", &["--clip <CLIP>", "'some'", "must be a number"]),
        ("train text.txt --budget -5", &["--budget <TIME>", "`-5` is not a duration"]),
        ("generate run --temperature -1", &["temperature is -1"]),
        ("bench --hidden -1", &["--hidden <HIDDEN>", "whole number"]),
    ] {
        let said = line(folder.path(), arguments);
        assert!(said.code == Some(2) && said.out.is_empty(), "{arguments}: {}", said.err);
        for part in expected {
            assert!(said.err.contains(part) && !said.err.contains("-- -"), "{arguments}: {}", said.err);
        }
    }
}

/// Each of them would train the whole run, and write the same folder.
#[cfg(not(feature = "mpi"))]
#[test]
fn one_of_several_processes_is_refused_without_mpi() {
    let folder = folder();
    for (variable, rank) in [("OMPI_COMM_WORLD_", "RANK"), ("PMI_", "RANK")] {
        let mut command = command(folder.path(), &["train", "text.txt"]);
        command.env(format!("{variable}SIZE"), "8").env(format!("{variable}{rank}"), "3");
        let said = Said::new(command.output().unwrap());
        assert_eq!(said.code, Some(2));
        assert!(said.err.contains("this is process 3 of 8 that were started together"), "{}", said.err);
        assert!(said.err.contains("built without MPI") && said.err.contains("--features mpi"), "{}", said.err);
        assert!(!folder.path().join("runs").exists());
    }
}
