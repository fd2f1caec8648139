//! The kind of a file of a folder, by its name: a text, or something else that lies beside texts.

use std::path::Path;

use super::archive::unpacked;

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A name that says nothing: its first bytes do.
    Unknown,
    /// Text with a structure that would be learned too.
    Table,
    /// Text as it is printed.
    Document,
    /// A text compressed in another way than those that are read.
    Packed,
    /// A text of no length.
    Empty,
    Code,
    Archive,
    Picture,
    Binary,
    Checksums,
    Leftover,
    Device,
}

impl Kind {
    /// Whether someone who names such a file for a split means a text.
    pub(super) fn may_hold_text(self) -> bool {
        matches!(self, Self::Text | Self::Unknown | Self::Table | Self::Document | Self::Packed | Self::Empty)
    }

    /// A word for it beside its name.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Text | Self::Unknown => "a text",
            Self::Table => "data, no plain text",
            Self::Document => "a document, no plain text",
            Self::Packed => "compressed in a way that is not read",
            Self::Empty => "empty",
            Self::Code => "code",
            Self::Archive => "an archive",
            Self::Picture => "no text",
            Self::Binary => "binary",
            Self::Checksums => "checksums",
            Self::Leftover => "a leftover",
            Self::Device => "no regular file",
        }
    }

    /// What it does, in a sentence about it.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Packed => "is compressed in a way that is not read",
            Self::Empty => "is empty",
            _ => "is no plain text",
        }
    }

    /// Advice about it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Packed => "unpack it, or compress it with gzip or zstd",
            Self::Empty => "get it again, or remove it",
            _ => "write its text into a .txt file, or give the text files themselves",
        }
    }
}

const EXTENSIONS: [(Kind, &[&str]); 10] = [
    (Kind::Text, &["txt", "text", "md", "markdown", "tokens", "raw"]),
    (
        Kind::Table,
        &[
            "json", "jsonl", "ndjson", "csv", "tsv", "xml", "html", "htm", "yaml", "yml", "sql", "parquet", "arrow",
            "feather", "avro", "conll", "conllu",
        ],
    ),
    (Kind::Document, &["pdf", "ps", "doc", "docx", "odt", "rtf", "epub", "mobi", "djvu", "ppt", "pptx", "xls", "xlsx"]),
    (Kind::Packed, &["xz", "bz2", "lz4", "lzma", "br", "lzo", "z"]),
    (
        Kind::Code,
        &[
            "py", "ipynb", "rs", "c", "h", "cc", "cpp", "hpp", "java", "js", "ts", "go", "rb", "pl", "sh", "bash",
            "bat", "ps1", "r", "jl", "lua", "php", "swift", "kt", "scala", "cs", "css", "toml", "ini", "cfg", "conf",
            "lock", "bib",
        ],
    ),
    (Kind::Archive, &["zip", "tar", "tgz", "tbz", "txz", "7z", "rar", "jar", "iso"]),
    (
        Kind::Picture,
        &[
            "png", "jpg", "jpeg", "gif", "webp", "bmp", "svg", "ico", "tif", "tiff", "mp3", "wav", "flac", "ogg",
            "mp4", "avi", "mov",
        ],
    ),
    (
        Kind::Binary,
        &[
            "bin",
            "npy",
            "npz",
            "pt",
            "pth",
            "ckpt",
            "h5",
            "hdf5",
            "safetensors",
            "onnx",
            "pkl",
            "pickle",
            "gguf",
            "model",
            "db",
            "sqlite",
            "exe",
            "dll",
            "so",
            "o",
            "a",
            "class",
            "pyc",
            "idx",
        ],
    ),
    (Kind::Checksums, &["md5", "sha1", "sha256", "sha512", "sig", "asc", "crc"]),
    (Kind::Leftover, &["bak", "orig", "tmp", "partial", "crdownload", "swp", "stdin"]),
];

/// The kind that the name of a file says; of a compressed one, the name without that.
pub(super) fn kind_of(path: &Path) -> Kind {
    let unpacked = unpacked(path);
    let extension = unpacked.extension().and_then(|extension| extension.to_str()).unwrap_or("").to_ascii_lowercase();
    if unpacked.to_string_lossy().ends_with(['~', '#']) {
        return Kind::Leftover;
    }
    let known = EXTENSIONS.iter().find(|(_, extensions)| extensions.contains(&extension.as_str()));
    match known.map_or(Kind::Unknown, |(kind, _)| *kind) {
        // Of `archive.tar.xz` and `picture.png.xz`, what is in it.
        Kind::Packed => match kind_of(&unpacked.with_extension("")) {
            inner if inner.may_hold_text() => Kind::Packed,
            inner => inner,
        },
        kind => kind,
    }
}

/// Whether a name in lower case is that of a file about the texts rather than one of them.
pub(super) fn is_documentation(name: &str) -> bool {
    const NAMES: [&str; 18] = [
        "license",
        "licence",
        "copying",
        "copyright",
        "changelog",
        "authors",
        "contributors",
        "contributing",
        "citation",
        "manifest",
        "requirements",
        "vocab",
        "vocabulary",
        "checksums",
        "md5sums",
        "sha256sums",
        "makefile",
        "dockerfile",
    ];
    let stem = name.split('.').next().unwrap_or_default();
    let of_licence = ["license", "licence", "copying"].iter().any(|word| {
        stem.strip_prefix(word).is_some_and(|rest| rest.starts_with(['-', '_']) && !rest[1..].contains(['-', '_', ' ']))
    });
    stem.starts_with("readme") || stem.starts_with("read_me") || NAMES.contains(&stem) || of_licence
}
