//! `lstm data`: the corpora of the literature, from where they are to a folder that `lstm train` reads.

mod catalogue;
mod download;

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use zip::ZipArchive;

use crate::output::{grouped, talk};
use catalogue::{Contents, KNOWN, Known, Member, Remote};
use download::{Expected, Patience, fetch, said};

/// The time that the program waits for a server.
const PATIENCE: Patience = Patience { silence: Duration::from_secs(30), attempts: 5, pause: Duration::from_secs(2) };

/// For tests: a base such as `http://127.0.0.1:8000` that takes the place of the scheme and host of every address; the
/// program then waits for no server longer than a second.
const SERVER: &str = "LSTM_DATA_SERVER";

/// The options of `lstm data`.
#[derive(clap::Args)]
pub struct Data {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Download a corpus, check it, and say what its licence is; goes on where it was broken off
    Get {
        /// Which
        #[arg(value_parser = KNOWN.map(|known| known.name))]
        name: String,
        /// The folder [default: data/NAME]
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// Gets the corpus.
pub fn run(options: Data) -> Result<ExitCode> {
    let Command::Get { name, out } = options.command;
    let Some(known) = KNOWN.iter().find(|known| known.name == name) else { bail!("no corpus is called {name}") };
    let folder = out.unwrap_or_else(|| Path::new("data").join(&name));
    talk(format_args!("{name}: {}", known.about));
    talk(format_args!("licence: {}", known.licence));
    std::fs::create_dir_all(&folder).map_err(said(folder.display()))?;
    for remote in known.remotes {
        get(known, remote, &folder)?;
    }
    talk(format_args!("try: lstm train {}", folder.display()));
    writeln!(std::io::stdout(), "{}", folder.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Brings one file, unless what is kept of it is there.
fn get(known: &Known, remote: &Remote, folder: &Path) -> Result<()> {
    let name = match remote.contents {
        Contents::Text(name) => name,
        Contents::Zip(members) => {
            let files = || members.iter().flat_map(|member| member.files);
            if files().all(|(name, _)| folder.join(name).exists()) {
                talk(format_args!("{} is there already", folder.display()));
                return Ok(());
            }
            remote.url.rsplit('/').next().unwrap_or(known.name)
        }
    };
    let path = folder.join(name);
    let (url, patience) = match std::env::var(SERVER) {
        Ok(base) => {
            let path = remote.url.splitn(4, '/').nth(3).unwrap_or("");
            let (silence, pause) = (Duration::from_secs(1), Duration::from_millis(1));
            (format!("{base}/{path}"), Patience { silence, pause, ..PATIENCE })
        }
        Err(_) => (remote.url.to_owned(), PATIENCE),
    };
    let bar = bar(name);
    let expected = Expected { length: remote.length, sha256: remote.sha256 };
    let fetched = fetch(&url, &path, expected, patience, &mut |done, total| {
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    });
    bar.finish_and_clear();
    fetched?;
    if let Contents::Zip(members) = remote.contents {
        unpack(&path, members, folder)?;
        std::fs::remove_file(&path).map_err(said(path.display()))?;
    } else {
        talk(format_args!("{}: {} bytes, checked", path.display(), grouped(path.metadata()?.len())));
    }
    Ok(())
}

/// A live line on a terminal, nothing elsewhere.
fn bar(name: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0).with_message(name.to_owned());
    let style = ProgressStyle::with_template("{msg} {bar:20} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// Keeps the members of an archive. Each file has its name only when it is whole.
fn unpack(archive: &Path, members: &[Member], folder: &Path) -> Result<()> {
    let mut zip =
        ZipArchive::new(File::open(archive).map_err(said(archive.display()))?).map_err(said(archive.display()))?;
    for member in members {
        let mut text = zip.by_name(member.name).map_err(said(format!("{}: {}", archive.display(), member.name)))?;
        for &(name, length) in member.files {
            let (path, unfinished) = (folder.join(name), folder.join(format!("{name}.part")));
            let mut file = File::create(&unfinished).map_err(said(unfinished.display()))?;
            let bytes = std::io::copy(&mut text.by_ref().take(length), &mut file).map_err(said(archive.display()))?;
            file.sync_all().map_err(said(unfinished.display()))?;
            drop(file);
            std::fs::rename(&unfinished, &path).map_err(said(path.display()))?;
            talk(format_args!("{}: {} bytes, checked", path.display(), grouped(bytes)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zip::write::{SimpleFileOptions, ZipWriter};

    #[test]
    fn members_are_unpacked_and_cut() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("two.zip");
        let mut zip = ZipWriter::new(File::create(&archive).unwrap());
        let text: String = (0..5000).map(|n| format!("line {n}\n")).collect();
        for (name, text) in [("in/one", text.as_str()), ("in/not wanted", "x"), ("in/two", "abcdefghij")] {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let members = [
            Member { name: "in/one", files: &[("one.txt", u64::MAX)] },
            Member { name: "in/two", files: &[("train.txt", 7), ("valid.txt", 2), ("test.txt", u64::MAX)] },
        ];
        unpack(&archive, &members, folder.path()).unwrap();
        for (name, expected) in
            [("one.txt", text.as_str()), ("train.txt", "abcdefg"), ("valid.txt", "hi"), ("test.txt", "j")]
        {
            assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), expected);
        }
        // The archive and the four files, nothing else.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
        let missing = [Member { name: "in/three", files: &[("three.txt", u64::MAX)] }];
        let error = unpack(&archive, &missing, folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("in/three"), "{error:#}");
        std::fs::write(&archive, "no archive").unwrap();
        assert!(unpack(&archive, &members, folder.path()).unwrap_err().to_string().contains("two.zip"));
    }
}
