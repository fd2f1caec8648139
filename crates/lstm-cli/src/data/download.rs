//! Downloads that go on where they were broken off, and that prove what they brought.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE};

use crate::output::grouped;

/// How patient a download is.
#[derive(Clone, Copy)]
pub struct Patience {
    /// The longest silence of the server.
    pub silence: Duration,
    /// How often a connection that brought nothing is tried again, and the time between.
    pub attempts: usize,
    pub pause: Duration,
}

/// The facts about the file that shall come.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    pub length: Option<u64>,
    pub sha256: &'a str,
}

/// Why a connection ended before the file did.
enum End {
    /// Worth another try.
    Cut(String),
    /// Not worth one.
    Refused(anyhow::Error),
}

/// An error and what it is about, in a sentence.
pub fn said<E: Display>(what: impl Display) -> impl FnOnce(E) -> anyhow::Error {
    move |error| anyhow!("{what}: {error}")
}

/// Brings `url` to `path`. What there is of it is kept in a file beside it, `.part` at the end of its name, until it is
/// whole and has the checksum. `progress` hears the bytes so far, and of how many.
///
/// # Errors
/// A server that cannot be reached, does not have the file or has another one; a file that cannot be written.
pub fn fetch(
    url: &str,
    path: &Path,
    expected: Expected,
    patience: Patience,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    if path.exists() {
        if checksum(path)? == expected.sha256 {
            return Ok(());
        }
        bail!(
            "{} exists and is not the file that {url} should have; remove it, or choose another --out",
            path.display()
        );
    }
    let part = part_of(path);
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(patience.silence))
        .timeout_recv_response(Some(patience.silence))
        .timeout_per_read(Some(patience.silence))
        .build();
    let agent = Agent::new_with_config(config);
    let mut fruitless = 0;
    loop {
        let before = length(&part);
        match connect(&agent, url, &part, expected.length, progress) {
            Ok(()) => break,
            Err(End::Refused(error)) => return Err(error),
            Err(End::Cut(why)) => {
                let now = length(&part);
                fruitless = if now > before { 0 } else { fruitless + 1 };
                if fruitless >= patience.attempts {
                    let kept = match now {
                        0 => String::new(),
                        now => format!("; {} bytes are kept, and the same command goes on from there", grouped(now)),
                    };
                    bail!("{url}: {why}{kept}");
                }
                std::thread::sleep(patience.pause);
            }
        }
    }
    let found = checksum(&part)?;
    if found != expected.sha256 {
        let bytes = grouped(length(&part));
        std::fs::remove_file(&part).map_err(said(part.display()))?;
        bail!(
            "{url}: the {bytes} bytes that came have the SHA-256 {found}, but {} was expected: they were damaged on the way, \
             or the file was replaced; they are removed, so try again",
            expected.sha256
        );
    }
    File::open(&part).and_then(|file| file.sync_all()).map_err(said(part.display()))?;
    std::fs::rename(&part, path).map_err(said(path.display()))?;
    Ok(())
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// The SHA-256 of a file, in hexadecimal.
pub fn checksum(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(said(path.display()))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(said(path.display()))? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// One connection: brings what is missing of `part`.
fn connect(
    agent: &Agent,
    url: &str,
    part: &Path,
    expected: Option<u64>,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), End> {
    let trouble = |error: std::io::Error| End::Refused(said(part.display())(error));
    let mut have = length(part);
    if Some(have) == expected {
        progress(have, expected);
        return Ok(());
    }
    let mut request = agent.get(url).header("accept-encoding", "identity");
    if have > 0 {
        request = request.header("range", format!("bytes={have}-"));
    }
    let response = request.call().map_err(|error| match error {
        ureq::Error::Timeout(_) => End::Cut("the server does not answer".to_owned()),
        ureq::Error::Io(error) => End::Cut(error.to_string()),
        ureq::Error::HostNotFound => {
            End::Cut("the server is not found; is there a connection to the internet?".to_owned())
        }
        error => End::Refused(anyhow!("{url}: {error}")),
    })?;
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<u64>().ok());
    match response.status().as_u16() {
        200 => have = 0,
        206 => {
            // "bytes FROM-TO/ALL"
            let from = header(CONTENT_RANGE).and_then(|range| range.trim().strip_prefix("bytes ")?.split('-').next());
            if number(from) != Some(have) {
                std::fs::remove_file(part).map_err(trouble)?;
                return Err(End::Cut("the server sent another part than was asked for".to_owned()));
            }
        }
        // What there is, is longer than the file.
        416 => {
            std::fs::remove_file(part).map_err(trouble)?;
            return Err(End::Cut("the server has less than was received before".to_owned()));
        }
        status @ (408 | 429 | 500..=599) => {
            return Err(End::Cut(format!("the server answers {status}; try again later")));
        }
        status => {
            let reason = response.status().canonical_reason().unwrap_or("an unknown status");
            return Err(End::Refused(anyhow!(
                "{url}: the server answers {status} ({reason}), so the file is not there now; try again later"
            )));
        }
    }
    let total = number(header(CONTENT_LENGTH)).map(|length| have + length);
    let wrong = |is: String| {
        let expected = grouped(expected.unwrap_or(0));
        End::Refused(anyhow!("{url} is {is} bytes long, but {expected} were expected: it is another file now"))
    };
    if let (Some(total), Some(_)) = (total, expected.filter(|expected| total != Some(*expected))) {
        return Err(wrong(grouped(total)));
    }
    let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(trouble)?;
    file.set_len(have).map_err(trouble)?;
    let total = total.or(expected);
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        progress(have, total);
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                let why = match error.kind() {
                    ErrorKind::TimedOut => "the server fell silent".to_owned(),
                    _ => format!("the connection was cut ({error})"),
                };
                return Err(End::Cut(why));
            }
        };
        file.write_all(&buffer[..read]).map_err(trouble)?;
        have += read as u64;
        if expected.is_some_and(|expected| have > expected) {
            drop(file);
            std::fs::remove_file(part).map_err(trouble)?;
            return Err(wrong(format!("at least {}", grouped(have))));
        }
    }
    match total {
        Some(total) if have < total => Err(End::Cut("the connection was cut".to_owned())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    const PATIENCE: Patience =
        Patience { silence: Duration::from_millis(600), attempts: 3, pause: Duration::from_millis(1) };

    /// A request: its path, and from which byte on.
    #[derive(Clone, Debug, PartialEq)]
    struct Asked {
        path: String,
        from: Option<u64>,
    }

    /// A server on this machine that answers the nth request as it is told, and what it was asked.
    struct Server {
        url: String,
        asked: Arc<Mutex<Vec<Asked>>>,
    }

    impl Server {
        fn new(answer: impl Fn(usize, &Asked, &mut TcpStream) + Send + Sync + 'static) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::new(Mutex::new(Vec::new()));
            let (log, answer) = (asked.clone(), Arc::new(answer));
            std::thread::spawn(move || {
                for (number, stream) in listener.incoming().enumerate() {
                    let (log, answer) = (log.clone(), answer.clone());
                    // One that is slow to answer keeps no other waiting.
                    std::thread::spawn(move || {
                        let mut stream = stream.unwrap();
                        let asked = read(&stream);
                        log.lock().unwrap().push(asked.clone());
                        answer(number, &asked, &mut stream);
                    });
                }
            });
            Self { url, asked }
        }

        fn asked(&self) -> Vec<Asked> {
            self.asked.lock().unwrap().clone()
        }
    }

    fn read(stream: &TcpStream) -> Asked {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
        let mut from = None;
        for line in lines.take_while(|line| !line.is_empty()) {
            if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                from = range.trim_end_matches('-').parse().ok();
            }
        }
        Asked { path, from }
    }

    fn head(stream: &mut TcpStream, status: &str, headers: &str) {
        let _ = write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    }

    /// Answers as a server should that knows ranges.
    fn serve(file: &[u8], asked: &Asked, stream: &mut TcpStream) {
        match asked.from {
            None => {
                head(stream, "200 OK", &format!("Content-Length: {}\r\n", file.len()));
                let _ = stream.write_all(file);
            }
            Some(from) if from >= file.len() as u64 => head(stream, "416 Range Not Satisfiable", ""),
            Some(from) => {
                let (all, rest) = (file.len(), &file[from as usize..]);
                let range = format!("Content-Range: bytes {from}-{}/{all}\r\n", all - 1);
                head(stream, "206 Partial Content", &format!("Content-Length: {}\r\n{range}", rest.len()));
                let _ = stream.write_all(rest);
            }
        }
    }

    fn file() -> Vec<u8> {
        (0..200_000u32).flat_map(|n| (n.wrapping_mul(n) % 9973).to_le_bytes()).collect()
    }

    fn digest(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    struct Fetched {
        result: Result<(), String>,
        /// What lies under the name, and under that of the part.
        whole: Option<Vec<u8>>,
        part: Option<Vec<u8>>,
    }

    /// Fetches `/file` of a server, where `part` of it is there already.
    fn fetch_with(server: &Server, part: Option<&[u8]>, length: Option<u64>, sha256: &str) -> Fetched {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        if let Some(part) = part {
            std::fs::write(part_of(&path), part).unwrap();
        }
        let expected = Expected { length, sha256 };
        let mut last = 0;
        let result = fetch(&format!("{}/file", server.url), &path, expected, PATIENCE, &mut |done, _| last = done);
        let whole = std::fs::read(&path).ok();
        if let Some(whole) = &whole {
            assert_eq!(last, whole.len() as u64);
        }
        Fetched { result: result.map_err(|e| format!("{e:#}")), whole, part: std::fs::read(part_of(&path)).ok() }
    }

    fn assert_whole(fetched: &Fetched) {
        assert_eq!(fetched.result, Ok(()));
        assert!(fetched.whole.as_deref() == Some(&file()) && fetched.part.is_none());
    }

    fn known() -> (Option<u64>, String) {
        (Some(file().len() as u64), digest(&file()))
    }

    #[test]
    fn a_file_comes_whole_with_or_without_a_known_length() {
        for length in [known().0, None] {
            let server = Server::new(|_, asked, stream| serve(&file(), asked, stream));
            assert_whole(&fetch_with(&server, None, length, &known().1));
            assert_eq!(server.asked(), [Asked { path: "/file".to_owned(), from: None }]);
        }
        // Without a Content-Length the connection's end is the file's.
        let server = Server::new(|_, _, stream| {
            head(stream, "200 OK", "");
            let _ = stream.write_all(&file());
        });
        assert_whole(&fetch_with(&server, None, None, &known().1));
    }

    #[test]
    fn a_cut_connection_is_resumed_where_it_broke() {
        let server = Server::new(|number, asked, stream| {
            let all = file();
            let from = asked.from.unwrap_or(0) as usize;
            if number < 5 {
                let (status, range) = match asked.from {
                    None => ("200 OK", String::new()),
                    Some(from) => (
                        "206 Partial Content",
                        format!("Content-Range: bytes {from}-{}/{}\r\n", all.len() - 1, all.len()),
                    ),
                };
                head(stream, status, &format!("Content-Length: {}\r\n{range}", all.len() - from));
                let _ = stream.write_all(&all[from..from + 100_000]);
            } else {
                serve(&all, asked, stream);
            }
        });
        assert_whole(&fetch_with(&server, None, known().0, &known().1));
        let from: Vec<Option<u64>> = server.asked().iter().map(|asked| asked.from).collect();
        assert!(from.len() == 6 && from[0].is_none() && from[1..].is_sorted() && from[5] == Some(500_000), "{from:?}");
    }

    #[test]
    fn a_part_from_before_is_gone_on_with_or_begun_again() {
        let server = Server::new(|_, asked, stream| serve(&file(), asked, stream));
        assert_whole(&fetch_with(&server, Some(&file()[..12_345]), known().0, &known().1));
        assert_eq!(server.asked()[0].from, Some(12_345));
        // All of it is there: nothing is asked for.
        let server = Server::new(|_, asked, stream| serve(&file(), asked, stream));
        assert_whole(&fetch_with(&server, Some(&file()), known().0, &known().1));
        assert!(server.asked().is_empty());
        // A server that knows no ranges sends everything again.
        let server = Server::new(|_, _, stream| serve(&file(), &Asked { path: String::new(), from: None }, stream));
        assert_whole(&fetch_with(&server, Some(&file()[..999]), known().0, &known().1));
        // One that sends another range than was asked for.
        let server = Server::new(|_, asked, stream| {
            serve(&file(), &Asked { from: asked.from.map(|_| 7), ..asked.clone() }, stream)
        });
        assert_whole(&fetch_with(&server, Some(&file()[..999]), known().0, &known().1));
        // A part longer than the file.
        let server = Server::new(|_, asked, stream| serve(&file(), asked, stream));
        let longer = [file(), vec![0; 10]].concat();
        assert_whole(&fetch_with(&server, Some(&longer), None, &known().1));
    }

    #[test]
    fn a_server_that_keeps_cutting_is_given_up_and_what_came_is_kept() {
        let server = Server::new(|_, asked, stream| match asked.from {
            None => {
                head(stream, "200 OK", &format!("Content-Length: {}\r\n", file().len()));
                let _ = stream.write_all(&file()[..4321]);
            }
            Some(_) => head(stream, "503 Service Unavailable", ""),
        });
        let fetched = fetch_with(&server, None, known().0, &known().1);
        let error = fetched.result.unwrap_err();
        assert!(error.contains("answers 503") && error.contains("4,321 bytes are kept"), "{error}");
        assert!(fetched.part.as_deref() == Some(&file()[..4321]) && fetched.whole.is_none());
        assert_eq!(server.asked().len(), 1 + PATIENCE.attempts);
    }

    #[test]
    fn a_wrong_length_is_refused_before_it_is_brought() {
        for wrong in [&file()[..1000], &[file(), vec![1; 5000]].concat()] {
            let bytes = wrong.to_vec();
            let server = Server::new(move |_, asked, stream| serve(&bytes, asked, stream));
            let fetched = fetch_with(&server, None, known().0, &known().1);
            let error = fetched.result.unwrap_err();
            assert!(error.contains(&grouped(wrong.len() as u64)) && error.contains("800,000 were expected"), "{error}");
            assert!(fetched.part.is_none() && fetched.whole.is_none());
        }
        // One that does not say its length, and is longer.
        let server = Server::new(|_, _, stream| {
            head(stream, "200 OK", "");
            let _ = stream.write_all(&[file(), file()].concat());
        });
        let fetched = fetch_with(&server, None, known().0, &known().1);
        assert!(fetched.result.unwrap_err().contains("at least") && fetched.part.is_none());
    }

    #[test]
    fn a_wrong_checksum_leaves_nothing_behind() {
        let server = Server::new(|_, asked, stream| {
            let mut bytes = file();
            bytes[77] ^= 1;
            serve(&bytes, asked, stream);
        });
        let fetched = fetch_with(&server, None, known().0, &known().1);
        let error = fetched.result.unwrap_err();
        assert!(error.contains(&known().1) && error.contains("SHA-256"), "{error}");
        assert!(fetched.part.is_none() && fetched.whole.is_none());
        // A part that was damaged before is found the same way, and the next try begins anew.
        let server = Server::new(|_, asked, stream| serve(&file(), asked, stream));
        let fetched = fetch_with(&server, Some(&[9; 1000]), known().0, &known().1);
        assert!(fetched.result.is_err() && fetched.part.is_none());
    }

    #[test]
    fn redirects_are_followed_but_not_in_a_circle() {
        let server = Server::new(|_, asked, stream| match asked.path.as_str() {
            "/file" => head(stream, "302 Found", "Location: /elsewhere\r\nContent-Length: 0\r\n"),
            _ => serve(&file(), asked, stream),
        });
        assert_whole(&fetch_with(&server, None, known().0, &known().1));
        assert_eq!(server.asked().last().unwrap().path, "/elsewhere");
        let server = Server::new(|_, _, stream| head(stream, "302 Found", "Location: /file\r\nContent-Length: 0\r\n"));
        let error = fetch_with(&server, None, known().0, &known().1).result.unwrap_err();
        assert!(error.contains("redirect"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_not_asked_for_again() {
        for (status, expected) in [("404 Not Found", "404 (Not Found)"), ("403 Forbidden", "403 (Forbidden)")] {
            let server = Server::new(move |_, _, stream| head(stream, status, "Content-Length: 0\r\n"));
            let error = fetch_with(&server, None, known().0, &known().1).result.unwrap_err();
            assert!(error.contains(expected) && error.contains(&server.url), "{error}");
            assert_eq!(server.asked().len(), 1);
        }
    }

    #[test]
    fn a_slow_server_is_waited_for_and_a_silent_one_is_not() {
        let server = Server::new(|_, _, stream| {
            head(stream, "200 OK", &format!("Content-Length: {}\r\n", file().len()));
            for piece in file().chunks(100_000) {
                let _ = stream.write_all(piece);
                std::thread::sleep(Duration::from_millis(60));
            }
        });
        assert_whole(&fetch_with(&server, None, known().0, &known().1));
        assert_eq!(server.asked().len(), 1);
        let server = Server::new(|number, asked, stream| {
            if number < 2 {
                head(stream, "200 OK", &format!("Content-Length: {}\r\n", file().len()));
                let _ = stream.write_all(&file()[..1000]);
                std::thread::sleep(Duration::from_millis(2500));
            } else {
                serve(&file(), asked, stream);
            }
        });
        assert_whole(&fetch_with(&server, None, known().0, &known().1));
        let server = Server::new(|_, _, _| std::thread::sleep(Duration::from_millis(2500)));
        let error = fetch_with(&server, None, known().0, &known().1).result.unwrap_err();
        assert!(error.contains("does not answer"), "{error}");
    }

    #[test]
    fn no_server_is_a_sentence_and_a_file_that_is_there_is_checked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let expected = Expected { length: None, sha256: &known().1 };
        let error = fetch(&url, &path, expected, PATIENCE, &mut |_, _| ()).unwrap_err().to_string();
        assert!(error.contains(&url) && error.contains("refused"), "{error}");
        std::fs::write(&path, "something else").unwrap();
        let error = fetch(&url, &path, expected, PATIENCE, &mut |_, _| ()).unwrap_err().to_string();
        assert!(error.contains("remove it"), "{error}");
        std::fs::write(&path, file()).unwrap();
        fetch(&url, &path, expected, PATIENCE, &mut |_, _| ()).unwrap();
    }
}
