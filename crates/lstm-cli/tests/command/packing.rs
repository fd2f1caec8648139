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
