//! The neutral form of a network against the models it comes from and becomes.

use lstm::formats::network::{Activation, Input, Linear, Network, Reads, Stack};
use lstm::model::{LanguageModel, LanguageModelConfig};
use lstm::nn::config::{Init, LstmConfig};
use lstm::nn::params::Params;
use lstm::nn::segment::Segment;
use lstm::nn::stack::Lstm;
use lstm::text::source::Source;
use lstm::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};

const SEGMENT: Segment<'static> = Segment { steps: 5, batch: 3, lengths: None, packed: None };

fn stack(config: LstmConfig, seed: u64) -> Stack {
    let lstm = Lstm::new(config).unwrap();
    let mut params = Params::zeros(lstm.layout().clone());
    lstm.initialise(&mut params, &Init::default(), seed);
    Stack { lstm, params, reverse: false, functions: None, initial: None }
}

fn wave(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 0.7).sin()).collect()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::build(TokenizerKind::Chars, &Source::from_text("abcdef\n"), VocabularyOptions::default(), false).unwrap()
}

/// Scores of a model's own stream, `[T, V]`, for one row of tokens.
fn scores(model: &LanguageModel, params: &Params, tokens: &[u32]) -> Vec<f32> {
    let mut stream = model.stream(params, 1).unwrap();
    tokens.iter().flat_map(|&token| stream.step(&[token]).to_vec()).collect()
}

#[test]
fn a_language_model_is_a_network_that_gives_the_same_scores_and_comes_back() {
    let tokenizer = tokenizer();
    let vocabulary = tokenizer.vocabulary_size();
    let plain = LanguageModelConfig::of(vocabulary, LstmConfig { layers: 2, ..LstmConfig::new(4, 6) });
    let tied = LanguageModelConfig { tied: true, ..plain.clone() };
    let same_size = LanguageModelConfig { tied: true, ..LanguageModelConfig::new(vocabulary, 6, vec![5, 6]) };
    let same_size = LanguageModelConfig { lstm: LstmConfig { layers: 2, ..same_size.lstm.clone() }, ..same_size };
    let projected =
        LanguageModelConfig { lstm: LstmConfig { projection: Some(3), ..plain.lstm.clone() }, ..plain.clone() };
    let mixture = LanguageModelConfig { softmaxes: 3, ..plain.clone() };
    let tied_mixture = LanguageModelConfig { tied: true, ..mixture.clone() };
    for config in [plain, tied, same_size, projected, mixture, tied_mixture] {
        let model = LanguageModel::new(config.clone()).unwrap();
        let params = model.initialise(&Init::default(), 7);
        let network = Network::from_language_model(&model, &params, Some(&tokenizer)).unwrap();
        network.validate().unwrap();
        assert_eq!(network.parameters(), model.layout().len());
        let tokens: Vec<u32> = (0..5).map(|i| (i * 3 + 1) % vocabulary as u32).collect();
        let segment = Segment { steps: 5, batch: 1, lengths: None, packed: None };
        let output = network.forward(Input::Tokens(&tokens), segment, &mut network.states(1)).unwrap();
        for (ours, stream) in output.values.iter().zip(scores(&model, &params, &tokens)) {
            assert!((ours - stream).abs() < 1e-5, "{config:?}: {ours} against {stream}");
        }
        let language = network.into_language_model().unwrap();
        assert_eq!(language.model.config(), &config);
        assert_eq!(language.params, params);
    }
}

#[test]
fn a_reverse_stack_is_the_second_half_of_one_in_both_directions() {
    for lengths in [None, Some(&[5, 2, 4][..])] {
        let segment = Segment { lengths, ..SEGMENT };
        let both = stack(LstmConfig { bidirectional: true, ..LstmConfig::new(3, 4) }, 1);
        let reverse =
            Stack::new(LstmConfig::new(3, 4), |name, _| Ok(both.get(&format!("{name}_reverse")).unwrap().into()));
        let reverse = Network { stacks: vec![Stack { reverse: true, ..reverse.unwrap() }], ..Network::default() };
        let both = Network { stacks: vec![both], ..Network::default() };
        let input = wave(5 * 3 * 3);
        let run = |network: &Network| {
            let mut states = network.states(3);
            (network.forward(Input::Vectors(&input), segment, &mut states).unwrap().hidden, states)
        };
        let ((all, of_both), (half, of_half)) = (run(&both), run(&reverse));
        let second: Vec<f32> = all.chunks_exact(8).flat_map(|row| row[4..].to_vec()).collect();
        assert_eq!(half, second);
        assert_eq!(of_half[0].h, of_both[0].h[3 * 4..]);
        assert_eq!(of_half[0].c, of_both[0].c[3 * 4..]);
        // What is read of the end is both directions' last states, side by side.
        let last = Network { reads: Reads::Final, ..both };
        let end = last.forward(Input::Vectors(&input), segment, &mut last.states(3)).unwrap().values;
        let row = |row: usize| [&of_both[0].h[row * 4..][..4], &of_both[0].h[3 * 4 + row * 4..][..4]].concat();
        assert_eq!(end, (0..3).flat_map(row).collect::<Vec<_>>());
    }
}

#[test]
fn layers_that_are_one_lstm_become_one() {
    let below = stack(LstmConfig::new(3, 4), 1);
    let above = stack(LstmConfig { layers: 2, ..LstmConfig::new(4, 5) }, 2);
    let other = stack(LstmConfig { bidirectional: true, ..LstmConfig::new(5, 2) }, 3);
    let network = Network { stacks: vec![below, above, other], ..Network::default() };
    let joined = network.clone().joined().unwrap();
    assert_eq!(joined.stacks.iter().map(|stack| stack.config().layers).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(joined.stacks[0].config().hidden, vec![4, 5, 5].into());
    let input = wave(5 * 3 * 3);
    let run =
        |network: &Network| network.forward(Input::Vectors(&input), SEGMENT, &mut network.states(3)).unwrap().values;
    assert_eq!(run(&joined), run(&network));
}

#[test]
fn readouts_follow_each_other_with_their_activations() {
    let mut network = Network { stacks: vec![stack(LstmConfig::new(2, 2), 1)], ..Network::default() };
    let input = wave(5 * 3 * 2);
    let run =
        |network: &Network| network.forward(Input::Vectors(&input), SEGMENT, &mut network.states(3)).unwrap().values;
    let hidden = run(&network);
    let linear =
        |activation| Linear { activation, ..Linear::new([2, 2], vec![1., 2., 3., -4.], Some(vec![0.5, -0.5])) };
    network.readouts = vec![linear(Activation::Relu), linear(Activation::Softmax)];
    for (got, h) in run(&network).chunks_exact(2).zip(hidden.chunks_exact(2)) {
        let map = |x: [f32; 2]| [x[0] + 2. * x[1] + 0.5, 3. * x[0] - 4. * x[1] - 0.5];
        let scores = map(map([h[0], h[1]]).map(|value| value.max(0.0))).map(f32::exp);
        let expected = scores.map(|score| score / (scores[0] + scores[1]));
        assert!(got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6));
    }
    for (activation, at_zero) in
        [(Activation::Sigmoid, 0.5), (Activation::Tanh, 0.0), (Activation::LogSoftmax, 0.5f32.ln())]
    {
        network.readouts = vec![Linear { activation, ..Linear::new([2, 2], vec![0.0; 4], None) }];
        assert!(run(&network).iter().all(|value| (value - at_zero).abs() < 1e-6), "{activation:?}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let tokenizer = tokenizer();
    let model = LanguageModel::new(LanguageModelConfig::new(tokenizer.vocabulary_size(), 4, 6)).unwrap();
    let params = model.initialise(&Init::default(), 7);
    let network = Network::from_language_model(&model, &params, Some(&tokenizer)).unwrap();
    type Change = fn(&mut Network);
    let cases: [(Change, &str); 9] = [
        (|n| n.stacks.clear(), "no LSTM"),
        (|n| n.readouts[0].input = 5, "reads 5 values, but what is below it gives 6"),
        (|n| n.embedding.as_mut().unwrap().weight[0] = f32::NAN, "no finite number (NaN)"),
        (|n| n.embedding = None, "reads vectors, not tokens"),
        (|n| n.reads = Reads::Final, "one answer at the end"),
        (|n| n.readouts.clear(), "no readout"),
        (|n| n.readouts[0].activation = Activation::Tanh, "no softmax"),
        (|n| n.stacks[0].reverse = true, "reads what it should predict"),
        (|n| n.vocabulary = None, "nothing says what its tokens are"),
    ];
    for (change, expected) in cases {
        let mut changed = network.clone();
        change(&mut changed);
        let error = changed.into_language_model().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let outside = network.forward(Input::Tokens(&[99; 15]), SEGMENT, &mut network.states(3)).unwrap_err();
    assert!(outside.to_string().contains("token 99 is no row"), "{outside}");
}
