//! Which files of a folder are read as what: to train on, to validate with, to test with, by the names of files and folders.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::TextError;
use super::archive::Compression;
use super::file_kind::{Kind, is_documentation, kind_of};
use super::purpose::{Purpose, are_parts, joined, lower, purposes};

/// The texts of a folder, each list in the order of the names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    root: PathBuf,
    /// To train on.
    pub train: Vec<PathBuf>,
    /// To watch the training with; empty if none is named for it.
    pub valid: Vec<PathBuf>,
    /// To measure the result with; empty if none is named for it.
    pub test: Vec<PathBuf>,
    /// The files that are left out, and why.
    left_out: Vec<(PathBuf, &'static str)>,
}

/// The files and folders that are looked at before it is said that this is no folder of texts.
const MOST_ENTRIES: usize = 1_000_000;

/// Folders within folders.
const MOST_DEPTH: usize = 64;

/// A file that was found, its path within the folder, and what it is named for.
#[derive(Clone, Debug)]
struct Found {
    path: PathBuf,
    relative: PathBuf,
    /// The purpose that its name or those of its folders say.
    purposes: BTreeSet<Purpose>,
    /// The folder that names its purpose, if it is not the file itself.
    named_folder: Option<String>,
}

impl Layout {
    /// Looks through a folder and the folders in it. Hidden files, runs and what is no plain text are left out; files named for
    /// validation or test are never trained on.
    ///
    /// # Errors
    /// A folder without text, or one that could be read in more than one way.
    pub fn of(root: &Path) -> Result<Self, TextError> {
        Self::found(root)?.check()
    }

    /// One file to train on.
    pub(crate) fn of_file(path: &Path) -> Self {
        Self { train: vec![path.to_owned()], ..Self::default() }
    }

    /// With the text to validate with at `path`, which takes the place of the folder's own.
    ///
    /// # Errors
    /// Those of [`Self::with_test`].
    pub(crate) fn with_valid(mut self, path: &Path) -> Result<Self, TextError> {
        self.valid = self.given(path, Purpose::Valid)?;
        Ok(self)
    }

    /// With the text to test with at `path`: a file, or of a folder what is named for test, or all of one where nothing is named
    /// for validation or test.
    ///
    /// # Errors
    /// A folder without text, or one whose texts are named for other purposes.
    pub(crate) fn with_test(mut self, path: &Path) -> Result<Self, TextError> {
        self.test = self.given(path, Purpose::Test)?;
        Ok(self)
    }

    fn given(&mut self, path: &Path, purpose: Purpose) -> Result<Vec<PathBuf>, TextError> {
        if !path.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        let mut found = Self::found(path)?;
        let own = if purpose == Purpose::Valid { &mut found.valid } else { &mut found.test };
        let mut files = std::mem::take(own);
        if files.is_empty() && found.is_split() {
            let other = found.valid.first().or(found.test.first());
            let other = other.map_or_else(String::new, |file| format!(", but {} is", found.relative(file).display()));
            return Err(TextError::Unusable(format!(
                "{} has no text that is named for {purpose}{other} named for something else; give the file itself",
                path.display()
            )));
        }
        if files.is_empty() {
            found = found.check()?;
            files = std::mem::take(&mut found.train);
        }
        let unread = [found.train.iter(), found.valid.iter(), found.test.iter()].into_iter().flatten();
        let unread = unread.map(|file| (file.clone(), "not for this"));
        let others = found.left_out.iter().map(|(file, why)| (path.join(file), *why));
        self.left_out.extend(unread.chain(others));
        Ok(files)
    }

    /// All files that are read.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.train, &self.valid, &self.test].into_iter().flatten().map(PathBuf::as_path)
    }

    /// The text of a folder to measure on, as its test: what is named for test, else for validation, else all of it.
    ///
    /// # Errors
    /// Those of [`Self::of`].
    pub(super) fn to_measure(root: &Path) -> Result<Self, TextError> {
        let mut layout = Self::found(root)?;
        let others = if !layout.test.is_empty() {
            [std::mem::take(&mut layout.train), std::mem::take(&mut layout.valid)]
        } else if !layout.valid.is_empty() {
            layout.test = std::mem::take(&mut layout.valid);
            [std::mem::take(&mut layout.train), Vec::new()]
        } else {
            layout = layout.check()?;
            layout.test = std::mem::take(&mut layout.train);
            [Vec::new(), Vec::new()]
        };
        let others: Vec<_> =
            others.into_iter().flatten().map(|path| (layout.relative(&path).to_owned(), "not to measure on")).collect();
        layout.left_out.extend(others);
        layout.left_out.sort();
        Ok(layout)
    }

    fn found(root: &Path) -> Result<Self, TextError> {
        let mut walk = Walk { root: root.to_owned(), ..Walk::default() };
        walk.folder(root, 0)?;
        let Walk { mut texts, others, mut left_out, .. } = walk;
        texts.sort_by(|a, b| a.path.cmp(&b.path));
        let unnamed: Vec<&mut Found> = texts.iter_mut().filter(|found| found.purposes.is_empty()).collect();
        let names: Vec<String> = unnamed.iter().map(|found| found.relative.to_string_lossy().to_lowercase()).collect();
        unnamed.into_iter().zip(joined(&names)).for_each(|(found, purpose)| found.purposes.extend(purpose));
        refuse_twins(root, &texts)?;
        drop_links(root, &mut texts, &mut left_out)?;
        let of = |purpose| -> Vec<Found> {
            texts.iter().filter(|found| found.purposes.first() == Some(&purpose)).cloned().collect()
        };
        for found in &texts {
            let mut named = found.purposes.iter();
            if let (Some(one), Some(other)) = (named.next(), named.next()) {
                return Err(unclear(root, format!("{} is named both for {one} and for {other}", shown(found))));
            }
        }
        let [train, mut valid, mut test, mut either] =
            [Purpose::Train, Purpose::Valid, Purpose::Test, Purpose::Evaluation].map(of);
        // A text to evaluate on is that of the two that has no other.
        match (valid.is_empty(), test.is_empty()) {
            (true, _) => valid.append(&mut either),
            (false, true) => test.append(&mut either),
            (false, false) if !either.is_empty() => {
                let (one, other) = (shown(&either[0]), shown(&valid[0]));
                return Err(unclear(root, format!("{one} and {other} could both be the validation")));
            }
            _ => {}
        }
        let unnamed: Vec<Found> = texts.iter().filter(|found| found.purposes.is_empty()).cloned().collect();
        let has_partner = !valid.is_empty() || !test.is_empty();
        let train = if train.is_empty() {
            unnamed
        } else if has_partner || unnamed.is_empty() {
            check_parts(root, &train, Purpose::Train)?;
            left_out
                .extend(unnamed.into_iter().map(|found| (found.relative, "named for nothing, beside some that are")));
            train
        } else if let Some(folder) = train.iter().find_map(|found| found.named_folder.as_ref()) {
            let why = format!("{} lies beside the folder {folder}, but not in it", shown(&unnamed[0]));
            return Err(unclear(root, why));
        } else {
            // Without a partner, a name with "train" in it is a text like any other.
            texts.clone()
        };
        check_parts(root, &valid, Purpose::Valid)?;
        check_parts(root, &test, Purpose::Test)?;
        for (found, why) in others {
            let named = found.purposes.first().filter(|purpose| match purpose {
                Purpose::Train => has_partner && train.iter().all(|text| !text.purposes.contains(&Purpose::Train)),
                Purpose::Valid => valid.is_empty(),
                Purpose::Test => test.is_empty(),
                Purpose::Evaluation => valid.is_empty() || test.is_empty(),
            });
            if let Some(purpose) = named {
                return Err(TextError::Unusable(format!(
                    "{} is named for {purpose}, but it {}; {}",
                    found.path.display(),
                    why.verb(),
                    why.advice()
                )));
            }
            left_out.push((found.relative, why.word()));
        }
        left_out.sort();
        let paths = |found: Vec<Found>| found.into_iter().map(|found| found.path).collect();
        let root = root.to_owned();
        Ok(Self { root, train: paths(train), valid: paths(valid), test: paths(test), left_out })
    }

    /// Refuses a folder without anything to train on.
    fn check(self) -> Result<Self, TextError> {
        let root = self.root.display();
        if !self.train.is_empty() {
            return Ok(self);
        }
        if let Some(other) = self.valid.first().or(self.test.first()) {
            return Err(TextError::Unusable(format!(
                "{root} has no text to train on: all of it, such as {}, is named for validation or test; add a file named \
                 train.txt, or give the training text itself",
                self.relative(other).display()
            )));
        }
        let holds =
            if self.left_out.is_empty() { String::new() } else { format!("; it holds {}", self.said_left_out()) };
        Err(TextError::Unusable(format!(
            "{root} has no text files (.txt, .text, .md, .tokens, .raw, others that are plain text, also with .gz or .zst) \
             with anything in them{holds}; give the text file itself"
        )))
    }

    /// Whether files are named for validation or test.
    pub fn is_split(&self) -> bool {
        !self.valid.is_empty() || !self.test.is_empty()
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// The files of a list, or the first and the last of many.
    fn listed(&self, files: &[PathBuf]) -> String {
        let name = |file: &PathBuf| visible(self.relative(file));
        match files {
            [first, .., last] if files.len() > 4 => {
                format!("{} files from {} to {}", files.len(), name(first), name(last))
            }
            _ => files.iter().map(name).collect::<Vec<_>>().join(", "),
        }
    }

    fn said_left_out(&self) -> String {
        const SHOWN: usize = 4;
        let shown = self.left_out.iter().take(SHOWN).map(|(path, why)| format!("{} ({why})", visible(path)));
        let mut said = shown.collect::<Vec<_>>().join(", ");
        if self.left_out.len() > SHOWN {
            said.push_str(&format!(" and {} more", self.left_out.len() - SHOWN));
        }
        said
    }
}

/// Which files are read as what, in one line.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [("train", &self.train), ("valid", &self.valid), ("test", &self.test)];
        let lists = lists.into_iter().filter(|(_, files)| !files.is_empty());
        let mut said: Vec<String> = lists.map(|(name, files)| format!("{name}: {}", self.listed(files))).collect();
        if !self.left_out.is_empty() {
            said.push(format!("left out: {}", self.said_left_out()));
        }
        f.write_str(&said.join("; "))
    }
}

fn shown(found: &Found) -> String {
    visible(&found.relative)
}

/// A name in one line, whatever is in it.
fn visible(name: &Path) -> String {
    let name = name.to_string_lossy();
    name.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() }).collect()
}

/// The sentence about a folder that could be read in more than one way.
fn unclear(root: &Path, why: String) -> TextError {
    TextError::Unusable(format!(
        "{} can be read in more than one way: {why}; give the training text itself, with `valid` and `test`, or move what is \
         not meant out of the folder",
        root.display()
    ))
}

/// The names of a folder's files, as they are found.
#[derive(Default)]
struct Walk {
    root: PathBuf,
    texts: Vec<Found>,
    others: Vec<(Found, Kind)>,
    left_out: Vec<(PathBuf, &'static str)>,
    entries: usize,
    /// The folders that were looked into, without links, so that none is twice.
    folders: BTreeSet<PathBuf>,
}

impl Walk {
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<(), TextError> {
        let trouble = |path: &Path| {
            let path = path.to_owned();
            |source| TextError::Io { path, source }
        };
        if !self.folders.insert(folder.canonicalize().map_err(trouble(folder))?) {
            return Ok(());
        }
        let entries: Result<Vec<PathBuf>, _> =
            std::fs::read_dir(folder).map_err(trouble(folder))?.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut entries = entries.map_err(trouble(folder))?;
        entries.sort();
        self.entries += entries.len();
        if self.entries > MOST_ENTRIES || depth > MOST_DEPTH {
            return Err(TextError::Unusable(format!(
                "{} holds more than {MOST_ENTRIES} files or {MOST_DEPTH} folders within folders, so it does not look like \
                 one of texts; give the folder of the texts, or one file",
                self.root.display()
            )));
        }
        let is_run = entries.iter().any(|path| path.ends_with("config.toml"))
            && entries
                .iter()
                .any(|path| path.ends_with("checkpoint.safetensors") || path.ends_with("model.safetensors"));
        if is_run && depth > 0 {
            let relative = folder.strip_prefix(&self.root).unwrap_or(folder).to_owned();
            self.left_out.push((relative, "a run"));
            return Ok(());
        }
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || name.starts_with("__") {
                continue;
            }
            // A link that leads nowhere is a text that is missing.
            let metadata = std::fs::metadata(&path).map_err(trouble(&path))?;
            if metadata.is_dir() {
                self.folder(&path, depth + 1)?;
            } else {
                self.file(path, &metadata)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf, metadata: &std::fs::Metadata) -> Result<(), TextError> {
        let relative = path.strip_prefix(&self.root).unwrap_or(&path).to_owned();
        let components: Vec<String> =
            relative.components().map(|part| lower(&part.as_os_str().to_string_lossy())).collect();
        let named = |component: &&String| !purposes(component).is_empty();
        let (file, folders) = components.split_last().map_or(("", &[][..]), |(file, folders)| (file.as_str(), folders));
        if is_documentation(file) {
            self.left_out.push((relative, "about the texts"));
            return Ok(());
        }
        let found = Found {
            purposes: components.iter().flat_map(|component| purposes(component)).collect(),
            named_folder: folders.iter().find(named).cloned(),
            relative,
            path,
        };
        let mut kind = if metadata.is_file() { kind_of(&found.path) } else { Kind::Device };
        if metadata.is_file() && metadata.len() == 0 && kind.may_hold_text() {
            kind = Kind::Empty;
        }
        if kind == Kind::Unknown {
            kind = if looks_like_text(&found.path)? { Kind::Text } else { Kind::Binary };
        }
        match kind {
            Kind::Text => self.texts.push(found),
            // What is no text by its kind is no part of a split either.
            kind if !kind.may_hold_text() => self.left_out.push((found.relative, kind.word())),
            kind => self.others.push((found, kind)),
        }
        Ok(())
    }
}

/// Whether the first bytes of a file, unpacked, are those of a text.
fn looks_like_text(path: &Path) -> Result<bool, TextError> {
    const LOOKED_AT: u64 = 4096;
    let trouble = |source| TextError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(trouble)?;
    let mut first = Vec::new();
    let read = match Compression::of(path) {
        None => file.take(LOOKED_AT).read_to_end(&mut first),
        Some(packed) => packed.reader(file).take(LOOKED_AT).read_to_end(&mut first),
    };
    match (read, Compression::of(path)) {
        (Ok(_), _) => Ok(!first.contains(&0)),
        // What it is is said when it is read.
        (Err(_), Some(_)) => Ok(true),
        (Err(error), None) => Err(trouble(error)),
    }
}

/// Refuses a text beside a compressed one of the same name.
fn refuse_twins(root: &Path, texts: &[Found]) -> Result<(), TextError> {
    let mut names: BTreeMap<PathBuf, &Found> = BTreeMap::new();
    for found in texts {
        let packed = Compression::of(&found.path).is_some();
        let name = if packed { found.relative.with_extension("") } else { found.relative.clone() };
        if let Some(other) = names.insert(name, found) {
            let why = format!("{} and {} are one text twice, or two texts of one name", shown(other), shown(found));
            return Err(unclear(root, why));
        }
    }
    Ok(())
}

/// Leaves out the second name of a file; refuses one file that is named for two purposes.
fn drop_links(
    root: &Path,
    texts: &mut Vec<Found>,
    left_out: &mut Vec<(PathBuf, &'static str)>,
) -> Result<(), TextError> {
    let mut files: BTreeMap<PathBuf, Found> = BTreeMap::new();
    let mut kept = Vec::new();
    for found in texts.drain(..) {
        let file = found.path.canonicalize().map_err(|source| TextError::Io { path: found.path.clone(), source })?;
        match files.get(&file) {
            Some(first) if first.purposes != found.purposes => {
                return Err(unclear(root, format!("{} and {} are the same file", shown(first), shown(&found))));
            }
            Some(_) => left_out.push((found.relative, "the same file as another")),
            None => {
                files.insert(file, found.clone());
                kept.push(found);
            }
        }
    }
    *texts = kept;
    Ok(())
}

/// Refuses several files named for one purpose that are not parts of one text.
fn check_parts(root: &Path, files: &[Found], purpose: Purpose) -> Result<(), TextError> {
    let in_folders: Vec<&Found> = files.iter().filter(|found| found.named_folder.is_some()).collect();
    let alone: Vec<&Found> = files.iter().filter(|found| found.named_folder.is_none()).collect();
    if let (Some(one), Some(other)) = (alone.first(), in_folders.first()) {
        return Err(unclear(root, format!("{} and {} are both named for {purpose}", shown(one), shown(other))));
    }
    let name = |found: &&Found| {
        let own = || found.path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        found.named_folder.clone().unwrap_or_else(own)
    };
    let names: BTreeSet<String> = files.iter().map(|found| name(&found)).collect();
    if are_parts(&names) {
        return Ok(());
    }
    let mut names = names.into_iter();
    let [one, other] = [names.next(), names.next()].map(Option::unwrap_or_default);
    Err(unclear(root, format!("{one} and {other} are both named for {purpose} and are not parts of one text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, each followed by what stands in it after `=`, or by a word of its own; of `a->b` a link.
    fn folder(files: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files.split_whitespace() {
            let (name, text) = file.split_once('=').unwrap_or((file, "a text\n"));
            let (name, target) = name.split_once("->").unwrap_or((name, ""));
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if target.is_empty() {
                std::fs::write(path, text.replace("NUL", "\0")).unwrap();
            } else {
                #[cfg(unix)]
                std::os::unix::fs::symlink(folder.path().join(target), path).unwrap();
            }
        }
        folder
    }

    /// What a folder of these files is read as, in one line.
    fn layout(files: &str) -> Result<String, String> {
        let folder = folder(files);
        let said = Layout::of(folder.path()).map(|layout| layout.to_string()).map_err(|error| error.to_string());
        let root = folder.path().display().to_string();
        said.map_err(|error| error.replace(&root, "ROOT"))
    }

    /// Every layout that people have: the files, and which of them are read as what.
    #[test]
    fn folders_are_read_as_their_names_say() {
        for (files, expected) in [
            // Without names for it, all of it is one text.
            ("a.txt b.txt", "train: a.txt, b.txt"),
            ("one", "train: one"),
            ("ptbtrain.txt ptbvalid.txt ptbtest.txt", "train: ptbtrain.txt; valid: ptbvalid.txt; test: ptbtest.txt"),
            ("data.txt myTest.txt", "train: data.txt; test: myTest.txt"),
            ("a\u{1b}[31m.txt", "train: a\\u{1b}[31m.txt"),
            ("xaa xab xac", "train: xaa, xab, xac"),
            ("part-00000 part-00001 _SUCCESS=", "train: part-00000, part-00001; left out: _SUCCESS (empty)"),
            ("1 2 3 4 5", "train: 5 files from 1 to 5"),
            ("A/one.txt B/C/two.txt", "train: A/one.txt, B/C/two.txt"),
            ("corpus.en", "train: corpus.en"),
            ("a.txt training.md", "train: a.txt, training.md"),
            ("contest.txt latest.txt", "train: contest.txt, latest.txt"),
            // Names of files.
            ("train.txt valid.txt test.txt", "train: train.txt; valid: valid.txt; test: test.txt"),
            ("TRAIN.TXT Valid.Txt TEST", "train: TRAIN.TXT; valid: Valid.Txt; test: TEST"),
            (
                "ptb.train.txt ptb.valid.txt ptb.test.txt",
                "train: ptb.train.txt; valid: ptb.valid.txt; test: ptb.test.txt",
            ),
            ("wiki.train.tokens wiki.valid.tokens", "train: wiki.train.tokens; valid: wiki.valid.tokens"),
            ("train.txt test.txt", "train: train.txt; test: test.txt"),
            ("train.txt dev.txt", "train: train.txt; valid: dev.txt"),
            ("train.txt validation.txt", "train: train.txt; valid: validation.txt"),
            ("train.txt held-out.txt test.txt", "train: train.txt; valid: held-out.txt; test: test.txt"),
            ("train.txt eval.txt", "train: train.txt; valid: eval.txt"),
            ("train.txt dev.txt eval.txt", "train: train.txt; valid: dev.txt; test: eval.txt"),
            ("train.txt eval.txt test.txt", "train: train.txt; valid: eval.txt; test: test.txt"),
            ("corpus.train corpus.val corpus.test", "train: corpus.train; valid: corpus.val; test: corpus.test"),
            // Never trained on, whatever lies beside them.
            ("a.txt b.txt test.txt", "train: a.txt, b.txt; test: test.txt"),
            ("a.txt valid/x", "train: a.txt; valid: valid/x"),
            ("train/part1 valid.txt test.txt", "train: train/part1; valid: valid.txt; test: test.txt"),
            ("train/b.txt train/a test/c.txt dev/d", "train: train/a, train/b.txt; valid: dev/d; test: test/c.txt"),
            ("c/train/1/x c/train/2/y c/test/z", "train: c/train/1/x, c/train/2/y; test: c/test/z"),
            ("a/train.txt b/train.txt a/valid.txt", "train: a/train.txt, b/train.txt; valid: a/valid.txt"),
            (
                "train.txt valid.txt more.txt",
                "train: train.txt; valid: valid.txt; left out: more.txt (named for nothing, beside some that are)",
            ),
            // Parts.
            (
                "train-00000-of-00002.txt train-00001-of-00002.txt valid.txt",
                "train: train-00000-of-00002.txt, train-00001-of-00002.txt; valid: valid.txt",
            ),
            ("train.aa train.ab test.aa", "train: train.aa, train.ab; test: test.aa"),
            (
                "training-mono/news-1 heldout-mono/news.en.heldout-00000-of-00050",
                "train: training-mono/news-1; valid: heldout-mono/news.en.heldout-00000-of-00050",
            ),
            // What lies beside texts.
            (
                "a.txt README.md LICENSE LICENSE-MIT .hidden .git/x",
                "train: a.txt; left out: LICENSE (about the texts), LICENSE-MIT (about the texts), README.md (about the texts)",
            ),
            (
                "a.txt b.csv c.json d.pdf e.png",
                "train: a.txt; left out: b.csv (data, no plain text), c.json (data, no plain text), d.pdf (a document, no plain text), e.png (no text)",
            ),
            ("a.txt empty.txt= x=NUL", "train: a.txt; left out: empty.txt (empty), x (binary)"),
            (
                "input.txt train.bin val.bin prepare.py meta.pkl",
                "train: input.txt; left out: meta.pkl (binary), prepare.py (code), train.bin (binary), val.bin (binary)",
            ),
            (
                "train.txt train.py test.txt test.sh",
                "train: train.txt; test: test.txt; left out: test.sh (code), train.py (code)",
            ),
            (
                "a.txt runs/a/config.toml runs/a/model.safetensors runs/a/text.txt",
                "train: a.txt; left out: runs/a (a run)",
            ),
            ("a.txt a.txt~ b.bak", "train: a.txt; left out: a.txt~ (a leftover), b.bak (a leftover)"),
            #[cfg(unix)]
            ("a.txt b.txt->a.txt", "train: a.txt; left out: b.txt (the same file as another)"),
            #[cfg(unix)]
            ("x/a.txt x/loop->x", "train: x/a.txt"),
            #[cfg(unix)]
            (".blobs/1f .blobs/2e=b train.txt->.blobs/1f test.txt->.blobs/2e", "train: train.txt; test: test.txt"),
        ] {
            assert_eq!(layout(files).as_deref(), Ok(expected), "{files}");
        }
    }

    #[test]
    fn what_to_measure_on_is_the_test_else_the_validation_else_all() {
        for (files, expected) in [
            (
                "train.txt valid.txt test.txt",
                "test: test.txt; left out: train.txt (not to measure on), valid.txt (not to measure on)",
            ),
            ("valid.txt", "test: valid.txt"),
            ("test/a test/b", "test: test/a, test/b"),
            ("a.txt b.txt", "test: a.txt, b.txt"),
        ] {
            let folder = folder(files);
            assert_eq!(Layout::to_measure(folder.path()).unwrap().to_string(), expected, "{files}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(Layout::to_measure(empty.path()).unwrap_err().to_string().contains("has no text files"));
    }

    /// What is ambiguous, or would drop a text that is named for a split, is refused by a sentence.
    #[test]
    fn folders_that_could_be_read_in_more_than_one_way_are_refused() {
        for (files, expected) in [
            ("part.txt part.txt.gz", "part.txt and part.txt.gz are one text twice"),
            ("train.txt valid.txt dev.txt", "dev.txt and valid.txt are both named for validation"),
            ("train.txt valid.txt eval.txt test.txt", "eval.txt and valid.txt could both be the validation"),
            ("train.en train.de valid.en", "train.de and train.en are both named for training"),
            ("ptb.train.txt ptb.char.train.txt ptb.valid.txt", "ptb.char.train.txt and ptb.train.txt are both"),
            ("train/part1 train.txt test.txt", "train.txt and train/part1 are both named for training"),
            ("train/part1 more.txt", "more.txt lies beside the folder train"),
            ("train/valid.txt train/a", "train/valid.txt is named both for training and for validation"),
            ("train_test.txt a.txt", "train_test.txt is named both for training and for test"),
            ("valid.txt test.txt", "has no text to train on: all of it, such as valid.txt"),
            ("train.csv valid.txt", "train.csv is named for training, but it is no plain text"),
            ("train.txt valid.csv", "valid.csv is named for validation, but it is no plain text"),
            ("train.txt valid.txt test.txt.xz", "test.txt.xz is named for test, but it is compressed in a way"),
            ("train.txt valid.txt=", "valid.txt is named for validation, but it is empty"),
            ("a.csv", "has no text files"),
            ("README.md", "it holds README.md (about the texts)"),
            (".hidden", "has no text files"),
            #[cfg(unix)]
            ("train.txt valid.txt->train.txt", "train.txt and valid.txt are the same file"),
            #[cfg(unix)]
            ("train.txt valid.txt->missing", "ROOT/valid.txt cannot be read"),
        ] {
            let said = layout(files);
            assert!(said.as_ref().is_err_and(|error| error.contains(expected)), "{files}: {said:?}");
        }
    }
}
