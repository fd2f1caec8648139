use std::collections::HashMap;

use super::*;
use crate::generate::Generator;
use crate::generate::tiny::{VOCABULARY, model};

fn rules() -> Rules {
    Rules { start: 1, banned: vec![0], ..Rules::default() }
}

fn writing(prompt: &[u32], length: usize, seed: u64) -> Writing {
    Writing { prompt: prompt.to_vec(), length, seed, ..Writing::default() }
}

/// What every text writes, when each begins before the step of its number.
fn written(writers: &mut Writers, begins: &[(usize, Writing)]) -> Vec<Vec<Token>> {
    let (mut ids, mut texts) = (HashMap::new(), vec![Vec::new(); begins.len()]);
    for step in 0.. {
        for (text, (_, writing)) in begins.iter().enumerate().filter(|(_, (begin, _))| *begin == step) {
            ids.insert(writers.begin(writing.clone()).unwrap(), text);
        }
        writers.step(&mut |token| texts[ids[&token.writer]].push(token));
        if writers.is_empty() && ids.len() == begins.len() {
            break;
        }
    }
    texts
}

fn ids(tokens: &[Token]) -> Vec<u32> {
    tokens.iter().map(|token| token.id).collect()
}

/// The same text alone, by the generator that has no company.
fn alone(rules: &Rules, writing: &Writing) -> Vec<u32> {
    let (model, params) = model();
    let Writing { sampling, seed, sample, .. } = *writing;
    let mut generator = Generator::new(&model, &params, rules.clone(), sampling, seed, sample).unwrap();
    writing.prompt.iter().for_each(|&token| generator.read(token));
    generator.take(writing.length).collect()
}

#[test]
fn a_text_is_the_same_whatever_is_written_beside_it_and_whatever_is_kept() {
    let (model, params) = model();
    for window in [None, Some(3)] {
        let rules = Rules { window, line_end: Some(9), ..rules() };
        let hot = Sampling { temperature: 1.7, top_k: 6, repetition_penalty: 1.2, ..Sampling::default() };
        let mut begins: Vec<(usize, Writing)> = (0..40)
            .map(|text| {
                let prompt: Vec<u32> =
                    (0..text * 7 % 90).map(|at| ((at * at + text % 5) % VOCABULARY) as u32).collect();
                let mut own = writing(&prompt, 1 + text * 13 % 50, text as u64 % 3);
                own.sample = text as u64 / 3;
                own.sampling = if text % 2 == 0 { hot } else { Sampling::default() };
                (text * 11 % 60, own)
            })
            .collect();
        let expected: Vec<Vec<u32>> = begins.iter().map(|(_, writing)| alone(&rules, writing)).collect();
        for prefix_bytes in [0, 5_000, 1 << 20] {
            let mut writers = Writers::new(&model, &params, rules.clone(), 40, prefix_bytes).unwrap();
            for _ in 0..2 {
                let texts = written(&mut writers, &begins);
                assert_eq!(texts.iter().map(|text| ids(text)).collect::<Vec<_>>(), expected);
                begins.iter_mut().for_each(|(begin, _)| *begin = *begin * 5 % 31);
            }
            assert!(writers.prefixes().bytes() <= prefix_bytes);
            let reused = writers.prompt_tokens().1;
            assert_eq!(reused > 0, prefix_bytes > 0 && window.is_none(), "{prefix_bytes}: {reused}");
        }
    }
}

#[test]
fn a_text_that_goes_on_reads_its_new_tokens_alone() {
    let (model, params) = model();
    let mut writers = Writers::new(&model, &params, rules(), 2, 1 << 20).unwrap();
    let mut text: Vec<u32> = (0..200).map(|at| 1 + at % 7).collect();
    let first = written(&mut writers, &[(0, writing(&text, 20, 1))]);
    assert_eq!(writers.prompt_tokens(), (200, 0));
    text.extend(ids(&first[0]));
    text.extend([3, 4, 5]);
    let more = writing(&text, 10, 1);
    let second = written(&mut writers, &[(0, more.clone())]);
    // The last that was written had not been read.
    assert_eq!(writers.prompt_tokens(), (204, 219));
    assert_eq!(ids(&second[0]), alone(&rules(), &more));
    // The same again reads its last token, another one goes on where they part.
    written(&mut writers, &[(0, more)]);
    assert_eq!(writers.prompt_tokens(), (205, 219 + 222));
    text[130] = 9;
    written(&mut writers, &[(0, writing(&text, 1, 1))]);
    assert_eq!(writers.prompt_tokens(), (205 + 223 - 128, 219 + 222 + 128));
}

#[test]
fn probabilities_are_those_of_the_model_and_an_echo_has_them_too() {
    let (model, params) = model();
    let mut writers = Writers::new(&model, &params, rules(), 3, 1 << 20).unwrap();
    let cold = Sampling { temperature: 0.0, ..Sampling::default() };
    let asked = Writing { echo: true, alternatives: Some(3), sampling: cold, ..writing(&[4, 2, 7], 5, 1) };
    let texts = written(&mut writers, &[(0, asked.clone()), (1, Writing { length: 0, ..asked })]);
    assert_eq!(
        texts[0][..3].iter().map(|token| (token.id, token.is_prompt)).collect::<Vec<_>>(),
        [(4, true), (2, true), (7, true)]
    );
    assert_eq!(texts[1].len(), 3);
    let mut stream = model.stream(&params, 1).unwrap();
    let mut last = 1;
    for (at, token) in texts[0].iter().enumerate() {
        let scores = stream.step(&[last]).to_vec();
        let total: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
        let probability = |id: u32| f64::from(scores[id as usize]).exp() / total;
        let close = |log: f32, id: u32| (f64::from(log).exp() - probability(id)).abs() < 1e-5;
        assert!(close(token.log_probability.unwrap(), token.id), "{at}");
        assert_eq!(token.alternatives.len(), 3);
        assert!(token.alternatives.iter().all(|other| close(other.log_probability, other.id)));
        assert!(token.alternatives.is_sorted_by(|a, b| a.log_probability >= b.log_probability));
        let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(scores[token.alternatives[0].id as usize], best);
        assert_eq!((token.is_prompt, token.is_last), (at < 3, at == 7));
        last = token.id;
    }
}

#[test]
fn a_clamped_unit_says_its_value_and_changes_its_own_text_alone() {
    let (model, params) = model();
    let inside = |part| Some(Inside { layer: 0, part });
    let free = Writing { inside: inside(Part::Hidden), ..writing(&[3, 5], 30, 4) };
    let clamps = vec![Clamp { layer: 0, unit: 2, value: -4.0 }, Clamp { layer: 1, unit: 0, value: 3.0 }];
    let clamped = Writing { clamps, ..free.clone() };
    let mut writers = Writers::new(&model, &params, rules(), 3, 1 << 20).unwrap();
    let texts = written(&mut writers, &[(0, clamped), (0, free.clone()), (3, free)]);
    assert!(texts[0].iter().all(|token| token.inside.len() == 6 && token.inside[2] == -4.0));
    assert_ne!(ids(&texts[0]), ids(&texts[1]));
    assert_eq!(ids(&texts[1]), ids(&texts[2]));
    assert_eq!(ids(&texts[1]), alone(&rules(), &writing(&[3, 5], 30, 4)));
    assert!(texts[1].iter().all(|token| token.inside[2].abs() < 1.0));
    for part in [Part::Input, Part::Forget, Part::Output] {
        let texts = written(&mut writers, &[(0, Writing { inside: inside(part), ..writing(&[], 3, 1) })]);
        assert!(texts[0].iter().flat_map(|token| &token.inside).all(|gate| (0.0..=1.0).contains(gate)));
    }
}

#[test]
fn one_who_waits_or_leaves_changes_nothing_for_the_others() {
    let (model, params) = model();
    let mut writers = Writers::new(&model, &params, rules(), 3, 0).unwrap();
    let texts: Vec<Writing> = (0..3).map(|text| writing(&[text + 2; 20], 30, 1)).collect();
    let ids: Vec<WriterId> = texts.iter().map(|text| writers.begin(text.clone()).unwrap()).collect();
    assert!(!writers.has_room());
    let mut written: HashMap<WriterId, Vec<u32>> = HashMap::new();
    for step in 0.. {
        writers.hold(ids[0], (5..40).contains(&step));
        if step == 8 {
            writers.end(ids[1]);
        }
        assert_eq!(writers.can_step(), !(5..40).contains(&step) || writers.len() > 1);
        writers.step(&mut |token| written.entry(token.writer).or_default().push(token.id));
        if writers.is_empty() {
            break;
        }
    }
    assert_eq!(written[&ids[0]], alone(&rules(), &texts[0]));
    assert_eq!(written[&ids[2]], alone(&rules(), &texts[2]));
    assert!(written[&ids[1]].len() < 30);
}

#[test]
fn what_the_model_has_not_is_refused_by_name() {
    let (model, params) = model();
    let mut writers = Writers::new(&model, &params, rules(), 1, 0).unwrap();
    let base = writing(&[1], 3, 1);
    let clamp = |layer, unit, value| Writing { clamps: vec![Clamp { layer, unit, value }], ..base.clone() };
    for (writing, said) in [
        (writing(&[99], 3, 1), "token 99"),
        (writing(&[1], 0, 1), "nothing to write"),
        (clamp(2, 0, 0.0), "layer 2"),
        (clamp(1, 6, 0.0), "unit 6"),
        (clamp(1, 5, f32::NAN), "NaN"),
        (Writing { inside: Some(Inside { layer: 7, part: Part::Cell }), ..base.clone() }, "layer 7"),
        (Writing { sampling: Sampling { temperature: -1.0, ..Sampling::default() }, ..base.clone() }, "temperature"),
    ] {
        let error = writers.begin(writing).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(writers.is_empty());
}
