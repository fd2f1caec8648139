//! Runs of several models: alike but for their seeds, resumed wherever they stopped, used as one.

use std::path::{Path, PathBuf};

use lstm::Ensemble;
use lstm::ensemble::members_of;
use lstm::run::config::RunConfig;
use lstm::run::folder::{Existing, RunFolder};
use lstm::run::settings::Settings as _;
use lstm::run::training::Member;
use lstm::text::shuffle::Shuffle;
use lstm::train::data::Data;
use lstm::train::event::{End, Event};
use lstm::train::trainer::{Extension, Trainer};

use crate::training::{config, create, finish, left, run_until, texts};

/// A run of three members of two epochs.
fn three(texts: &tempfile::TempDir) -> RunConfig {
    let mut config = config(texts);
    config.training.epochs = Some(2);
    config.training.set_members(3);
    config
}

/// Trains a member and all that follow; gives the folders.
fn train_all(mut trainer: Trainer) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    loop {
        finish(&mut trainer);
        folders.push(trainer.folder().to_owned());
        if !trainer.has_next_member() {
            return folders;
        }
        trainer = trainer.next_member().unwrap();
    }
}

fn member(run: &Path, number: usize) -> PathBuf {
    RunFolder(run.to_owned()).member(number).0
}

#[test]
fn members_are_runs_of_their_own_by_seeds_that_follow_one_another() {
    let texts = texts(600);
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let config = three(&texts);
    let folders = train_all(create(&config, &run).unwrap());
    assert_eq!(folders, [run.clone(), run.join("members/2"), run.join("members/3")]);
    for (number, folder_of) in (1..).zip(&folders) {
        // The same as a run of one model with that seed.
        let mut alone = config.clone();
        (alone.training.seed, alone.training.member) = (config.training.seed + number - 1, None);
        let other = folder.path().join(format!("alone-{number}"));
        finish(&mut create(&alone, &other).unwrap());
        assert_eq!(left(folder_of), left(&other), "{number}");
        let stored = RunConfig::load(&RunFolder(folder_of.clone())).unwrap().training;
        assert_eq!(stored.member, Some(Member { number: number as usize, of: 3 }));
    }
    // As one they are the mean.
    assert_eq!(members_of(&run).unwrap(), folders);
    let all = Ensemble::open_runs([&run], usize::MAX).unwrap();
    let text = all.first().test_text().unwrap().unwrap();
    let mean = |ensemble: &Ensemble| ensemble.read(&text, &mut |_, _| ()).unwrap().mean(ensemble.shares());
    assert_eq!(mean(&all), mean(&Ensemble::open(&folders).unwrap()));
    assert_eq!(Ensemble::open_runs([&run], 1).unwrap().members().len(), 1);
    // One by itself has no members.
    let resumed = Trainer::resume(&folders[1], Extension::default()).unwrap();
    assert!(resumed.member().is_none() && !resumed.has_next_member());
    assert!(resumed.next_member().unwrap_err().to_string().contains("no further member"));
}

#[test]
fn a_run_goes_on_with_the_member_that_was_trained() {
    let texts = texts(600);
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    train_all(create(&three(&texts), &whole).unwrap());
    let mut trainer = create(&three(&texts), &broken).unwrap();
    finish(&mut trainer);
    // Between two members, then within one.
    drop(trainer);
    let mut trainer = Trainer::resume(&broken, Extension::default()).unwrap();
    finish(&mut trainer);
    let mut second = trainer.next_member().unwrap();
    let stopped = run_until(&mut second, |event| matches!(event, Event::Step { step: 30, .. }));
    assert_eq!(stopped.end, End::Interrupted);
    // The run is this process's while any of its members is trained.
    let error = Trainer::resume(&broken, Extension::default()).unwrap_err().to_string();
    assert!(error.contains("is being written by process"), "{error}");
    assert_eq!(
        members_of(&broken).unwrap(),
        std::slice::from_ref(&broken),
        "one that is not tested is not trained to its end"
    );
    drop(second);
    let folders = train_all(Trainer::resume(&broken, Extension::default()).unwrap());
    assert_eq!(folders.len(), 3);
    for number in 1..=3 {
        let [a, b] = [&whole, &broken].map(|run| left(&member(run, number)));
        assert_eq!((a.1, a.2), (b.1, b.2), "{number}");
    }
}

#[test]
fn a_run_gets_more_members_and_is_not_made_longer() {
    let texts = texts(600);
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut config = three(&texts);
    config.training.member = None;
    finish(&mut create(&config, &run).unwrap());
    let with = |members| Extension { members: Some(members), ..Extension::default() };
    let refused = |extension, said: &str| {
        let error = Trainer::resume(&run, extension).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    };
    refused(with(0), "`members` is 0");
    refused(Extension { epochs: Some(4), ..with(2) }, "leave out one or the other");
    assert_eq!(train_all(Trainer::resume(&run, with(2)).unwrap()).len(), 2);
    assert_eq!(train_all(Trainer::resume(&run, with(3)).unwrap()).len(), 3);
    assert_eq!(train_all(Trainer::resume(&run, Extension::default()).unwrap()).len(), 3);
    refused(with(2), "`members` is 2, but 3 members of the run are begun already");
    refused(Extension { epochs: Some(4), ..Extension::default() }, "`members` 6 adds as many again");
    let error = Trainer::resume(&run.join("members/2"), with(4)).unwrap_err().to_string();
    assert!(error.contains("member 2 of 3"), "{error}");
    // One of them by itself is made longer.
    finish(
        &mut Trainer::resume(&run.join("members/2"), Extension { epochs: Some(3), ..Extension::default() }).unwrap(),
    );
    assert_eq!(members_of(&run).unwrap().len(), 3);
}

#[test]
fn a_run_that_is_replaced_takes_its_members_with_it() {
    let texts = texts(600);
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train_all(create(&three(&texts), &run).unwrap());
    let mine = run.join("members/3/notes.txt");
    std::fs::write(&mine, "a person's own").unwrap();
    let replace = || {
        let mut config = config(&texts);
        config.training.epochs = Some(1);
        let data = Data::read(&config, None).unwrap();
        Trainer::create(config, data, &run, Existing::Replace)
    };
    let second = Trainer::resume(&run.join("members/2"), Extension::default()).unwrap();
    let error = replace().unwrap_err().to_string();
    assert!(error.contains("members/2") && error.contains("is being written by process"), "{error}");
    drop(second);
    assert!(member(&run, 3).join("model.safetensors").exists(), "what is refused changes nothing");
    drop(replace().unwrap());
    assert!(!run.join("members/2").exists() && mine.exists() && !run.join("members/3/config.toml").exists());
    assert_eq!(members_of(&run).unwrap(), std::slice::from_ref(&run));
}

#[test]
fn members_share_their_texts_whatever_the_seed() {
    let texts = texts(600);
    let mut one = config(&texts);
    (one.data.valid, one.data.test, one.data.shuffle) = (None, None, Some(Shuffle::Lines));
    let with = |seed, member| {
        let mut config = one.clone();
        (config.training.seed, config.training.member) = (seed, member);
        Data::read(&config, None).unwrap().fingerprint()
    };
    assert_eq!(with(1, None), with(3, Some(Member { number: 3, of: 4 })));
    assert_ne!(with(1, None), with(3, None));
}
