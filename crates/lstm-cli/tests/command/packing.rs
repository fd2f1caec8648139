use crate::{line, piped, trained};

#[test]
fn a_text_is_packed_and_comes_back_on_any_number_of_threads() {
    let folder = trained("");
    let text = std::fs::read(folder.path().join("text.txt")).unwrap();
    let packed = line(folder.path(), "pack run text.txt --threads 1");
    assert_eq!(packed.code, Some(0), "{}", packed.err);
    let size = std::fs::metadata(folder.path().join("text.txt.packed")).unwrap().len();
    assert!(size * 4 < text.len() as u64, "{size} bytes of {}", text.len());
    assert!(packed.err.contains("bits a character"), "{}", packed.err);
    let back = line(folder.path(), "unpack run text.txt.packed --out back.txt --threads 2");
    assert_eq!(back.code, Some(0), "{}", back.err);
    assert_eq!(std::fs::read(folder.path().join("back.txt")).unwrap(), text);
    // From standard input.
    let said = piped(folder.path(), "pack run - --out piped", "the cat\nsees zebras");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(line(folder.path(), "unpack run piped --out piped.txt").code, Some(0));
    assert_eq!(std::fs::read(folder.path().join("piped.txt")).unwrap(), b"the cat\nsees zebras");
    // To standard output, which is no file of the name -, and of nothing.
    let said = line(folder.path(), "unpack run piped --out -");
    assert_eq!((said.code, &said.out[..]), (Some(0), "the cat\nsees zebras"), "{}", said.err);
    let said = piped(folder.path(), "pack run - --out nothing", "");
    assert!(said.code == Some(0) && !said.err.contains("a character"), "{}", said.err);
    for command in
        ["inspect run --text a --out -", "convert run - --to run", "report run --out -", "train text.txt --out -"]
    {
        let said = line(folder.path(), command);
        assert!(said.code == Some(2) && said.err.contains("is -, which is no name"), "{command}: {}", said.err);
    }
    assert!(!folder.path().join("-").exists());
}

#[test]
fn nothing_is_replaced_or_guessed() {
    let folder = trained("");
    let said = |arguments: &str, expected: &str| {
        let said = line(folder.path(), arguments);
        assert!(said.code == Some(2) && said.err.contains(expected), "{arguments}: {}", said.err);
    };
    assert_eq!(line(folder.path(), "pack run text.txt").code, Some(0));
    said("pack run text.txt", "--force");
    said("unpack run text.txt.packed", "text.txt is there already");
    said("unpack run text.txt --out back", "no packed text");
    said("unpack run text.txt", "--out PATH");
    said("pack run missing.txt", "missing.txt cannot be read");
    assert!(!folder.path().join("back").exists());
    assert_eq!(line(folder.path(), "pack run text.txt --force").code, Some(0));
}

#[test]
fn a_model_that_goes_on_learning_packs_and_finds_again_how() {
    let folder = trained("");
    let text = std::fs::read(folder.path().join("text.txt")).unwrap();
    let learning = "--adapt dynamic --dynamic-rate 0.003 --dynamic-decay 0.001 --dynamic-segment 10";
    let said = line(folder.path(), &format!("pack run text.txt {learning} --threads 1"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    let back = line(folder.path(), "unpack run text.txt.packed --out back.txt --threads 2");
    assert_eq!(back.code, Some(0), "{}", back.err);
    assert_eq!(std::fs::read(folder.path().join("back.txt")).unwrap(), text);
    // As `eval --adapt dynamic` says, with a head of some forty bytes and what it takes to learn how lines end.
    let eval = line(folder.path(), &format!("eval run text.txt {learning} --json")).json();
    let adapted = &eval["adapted"];
    let bits = adapted["nll"].as_f64().unwrap() * adapted["tokens"].as_f64().unwrap() / std::f64::consts::LN_2;
    let taken = 8.0 * size("text.txt.packed") as f64;
    assert!(taken > 0.999 * bits && taken < 1.05 * bits + 800.0, "{taken} of {bits}");
    let refused = |arguments: &str, expected: &str| {
        let said = line(folder.path(), arguments);
        assert!(said.code == Some(2) && said.err.contains(expected), "{arguments}: {}", said.err);
    };
    for other in ["cache", "both", "none"] {
        refused(&format!("pack run text.txt --adapt {other} --out other"), "or by one that goes on learning: dynamic");
    }
    refused("pack run text.txt --dynamic-rate 1 --out other", "--dynamic-rate has no part without --adapt");
    // Help lists what it takes.
    let help = line(folder.path(), "pack --help").out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("--dynamic-rate") && help.contains("need the run folder"), "{help}");
    for other in ["cache", "--dynamic-columns", "both"] {
        assert!(!help.contains(other), "{other}: {help}");
    }
    refused(&format!("pack run text.txt {learning} --dynamic-columns 2 --out other"), "--dynamic-columns");
    let alone = "was packed by a model that went on learning (--adapt dynamic)";
    refused("unpack run/model.safetensors text.txt.packed --out other", alone);
    refused("unpack run/model.safetensors text.txt.packed --out other", "give the folder of its run");
    std::fs::rename(folder.path().join("text.txt"), folder.path().join("moved.txt")).unwrap();
    refused("unpack run text.txt.packed --out other", alone);
    std::fs::write(folder.path().join("text.txt"), "another text\n".repeat(300)).unwrap();
    refused("unpack run text.txt.packed --out other", "training text changed");
    assert!(!folder.path().join("other").exists());
}
