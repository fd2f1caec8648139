//! Checkpoints that are kept, and the steps between two of them taken again.

use lstm::optim::averaging::Averaging;
use lstm::optim::schedule::ScheduleKind;
use lstm::run::config::RunConfig;
use lstm::run::folder::Existing;
use lstm::train::data::Data;
use lstm::train::event::{End, Event};
use lstm::train::trainer::{Extension, Stretch, Trainer};

use crate::training::{config, create, finish, run_until, texts};

/// The names of the checkpoints that a run keeps, in order.
fn kept(trainer: &Trainer) -> Vec<String> {
    let names = std::fs::read_dir(trainer.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("checkpoint-"));
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

/// Every stretch is the same when it is taken again; gives them.
fn assert_verified(trainer: &Trainer) -> Vec<Stretch> {
    let stretches = trainer.stretches().unwrap();
    for stretch in &stretches {
        let mut taken = 0;
        let verified = trainer.verify(*stretch, &mut |steps| taken = steps, None).unwrap().unwrap();
        assert!(verified.is_same(), "{verified:?}");
        assert_eq!((taken, verified.isas), (stretch.to - stretch.from, vec![lstm::isa().to_owned()]));
        assert!(verified.values > trainer.model().layout().len() && verified.loss[0] > 1.0);
    }
    stretches
}

#[test]
fn a_stretch_comes_out_with_the_same_bits_however_the_run_went() {
    let texts = texts(600);
    let mut base = config(&texts);
    (base.training.epochs, base.training.keep_checkpoints) = (Some(4), 3);
    let with = |change: fn(&mut RunConfig)| {
        let mut config = base.clone();
        change(&mut config);
        config
    };
    let cases = [
        ("adam", base.clone()),
        ("an average that begins by a trigger", with(|config| config.training.set_average(Averaging::NonMonotone(1)))),
        ("an average from the start", with(|config| config.training.average = Averaging::Ema(0.9))),
        ("an average of the tail", with(|config| config.training.average = Averaging::Tail(0.4))),
        ("candidates for a part of it", with(|config| (config.candidates, config.candidates_until) = (Some(10), 0.4))),
        ("plateau", with(|config| config.training.schedule.kind = ScheduleKind::Plateau)),
    ];
    for (name, config) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = create(&config, &folder.path().join("run")).unwrap();
        // Broken off within an epoch, the trail goes on.
        let stopped = run_until(&mut trainer, |event| matches!(event, Event::Step { step: 30, .. }));
        assert_eq!(stopped.end, End::Interrupted, "{name}");
        drop(trainer);
        let mut trainer = Trainer::resume(&folder.path().join("run"), Extension::default()).unwrap();
        finish(&mut trainer);
        let names = ["checkpoint-38.safetensors", "checkpoint-57.safetensors", "checkpoint-76.safetensors"];
        assert_eq!(kept(&trainer), names, "{name}");
        let stretches = assert_verified(&trainer);
        assert_eq!(stretches, [Stretch { from: 38, to: 57 }, Stretch { from: 57, to: 76 }], "{name}");
        // Parameters and two moments; an average beside them where there is one by then.
        let compared = trainer.verify(stretches[1], &mut |_| (), None).unwrap().unwrap().values;
        let averages = config.training.average != Averaging::None && !name.contains("trigger");
        let parts = if averages { 4 } else { 3 };
        assert!(compared > parts * trainer.model().layout().len(), "{name}");
    }
}

#[test]
fn a_run_by_the_clock_is_taken_again_by_its_notes() {
    let texts = texts(600);
    let mut config = config(&texts);
    (config.training.epochs, config.training.budget, config.training.keep_checkpoints) = (None, Some(1.0), 1000);
    config.training.set_schedule(ScheduleKind::Cosine);
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = create(&config, &folder.path().join("run")).unwrap();
    let used = finish(&mut trainer).seconds;
    let stretches = assert_verified(&trainer);
    assert_eq!(stretches[0].from, 0);
    assert_eq!(stretches.last().unwrap().to, trainer.step());
    assert!(stretches.windows(2).all(|pair| pair[0].to == pair[1].from));
    // Longer, with a schedule that goes on from where it was: what was before stays provable.
    drop(trainer);
    let extension = Extension { budget: Some(used + 0.5), ..Extension::default() };
    let mut trainer = Trainer::resume(&folder.path().join("run"), extension).unwrap();
    finish(&mut trainer);
    assert!(assert_verified(&trainer).len() > stretches.len());
}

#[test]
fn what_was_changed_is_found() {
    let texts = texts(600);
    let mut config = config(&texts);
    (config.training.epochs, config.training.keep_checkpoints) = (Some(3), 2);
    let folder = tempfile::tempdir().unwrap();
    let [run, other] = ["run", "other"].map(|name| folder.path().join(name));
    let mut trainer = create(&config, &run).unwrap();
    finish(&mut trainer);
    // The end of another run, of which only the rate differs.
    config.training.schedule.learning_rate *= 1.5;
    let mut changed = create(&config, &other).unwrap();
    finish(&mut changed);
    let name = "checkpoint-57.safetensors";
    std::fs::copy(other.join(name), run.join(name)).unwrap();
    let stretch = trainer.stretches().unwrap()[0];
    let verified = trainer.verify(stretch, &mut |_| (), None).unwrap().unwrap();
    assert!(!verified.is_same() && verified.differences.iter().any(|found| found.name == "embedding.weight"));
    let found = &verified.differences[0];
    assert!(found.most > 0.0 && found.differing.0 > 0 && found.differing.0 <= found.differing.1);
    // Half a file is no proof of anything.
    let bytes = std::fs::read(run.join(name)).unwrap();
    std::fs::write(run.join(name), &bytes[..bytes.len() / 2]).unwrap();
    let error = trainer.stretches().and_then(|all| trainer.verify(all[0], &mut |_| (), None)).unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
}

#[test]
fn kept_checkpoints_come_and_go_with_the_run() {
    let texts = texts(600);
    let mut config = config(&texts);
    config.training.epochs = Some(1);
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut trainer = create(&config, &run).unwrap();
    finish(&mut trainer);
    assert!(kept(&trainer).is_empty() && trainer.stretches().unwrap().is_empty());
    drop(trainer);
    // From now on: the way to the first is not known.
    let longer = |epochs, keep| Extension { epochs: Some(epochs), keep_checkpoints: keep, ..Extension::default() };
    let mut trainer = Trainer::resume(&run, longer(3, Some(5))).unwrap();
    finish(&mut trainer);
    assert_eq!(assert_verified(&trainer), [Stretch { from: 38, to: 57 }]);
    drop(trainer);
    // No longer.
    let mut trainer = Trainer::resume(&run, longer(4, Some(0))).unwrap();
    finish(&mut trainer);
    assert!(kept(&trainer).is_empty());
    drop(trainer);
    // A run that is replaced takes them with it.
    let mut trainer = Trainer::resume(&run, longer(5, Some(5))).unwrap();
    finish(&mut trainer);
    assert_eq!(kept(&trainer).len(), 1);
    drop(trainer);
    let data = Data::read(&config, None).unwrap();
    let trainer = Trainer::create(config, data, &run, Existing::Replace).unwrap();
    assert!(kept(&trainer).is_empty());
}
