//! The page of the experiment: what each choice is, what it costs, and why, for a reader who has never met an LSTM.

use std::fmt::Write;

use super::{Results, Tried};
use crate::report::chart::{Chart, Curve, Scale, shares};
use crate::report::page::{Page, escape, figures, table};
use crate::said::{grouped, perplexity};
use crate::train::gates::LayerGates;

/// The places of the trials in [`super::Trial::all`].
const STANDARD: usize = 0;
const OUTPUT_GATE: usize = 1;
const ONES: usize = 2;
const REPORT: usize = 3;
const CUT: usize = 4;
const STACKED: usize = 5;
const SKIP: usize = 6;
const SCORES: usize = 7;
const SCORES_ONES: usize = 8;

const STYLE: &str = include_str!("lab.css");

/// The page.
pub fn page(results: &Results) -> String {
    let Results { text, vocabulary, tokens, steps, batch, sizes, seconds, counted, tried } = results;
    let seeds = tried.first().map_or(0, |tried| tried.runs.len());
    let mut body = String::new();
    let _ = writeln!(
        body,
        "<p>An LSTM reads five words and guesses the sixth. Here nine of them do, on {}: the standard one, and eight that differ from it in \
         one choice or two. Each was trained {} from other random numbers, on the same windows, for the same {} steps of {} windows, so \
         what differs between them is the choice, and what differs between the seeds is luck.</p>",
        escape(text),
        if seeds == 1 { "once".to_owned() } else { format!("{seeds} times") },
        grouped(*steps),
        grouped(*batch as u64),
    );
    let standard = &tried[STANDARD];
    body.push_str(&figures(&[
        (perplexity(standard.end().0), "validation perplexity of the standard model".to_owned()),
        (perplexity(*counted), "by counting single words alone, about".to_owned()),
        (grouped(*vocabulary as u64), "words in the vocabulary".to_owned()),
        (grouped(*tokens as u64), "words to learn from".to_owned()),
        (format!("{:.1} min", seconds / 60.0), "for all of this page".to_owned()),
    ]));
    body.push_str(
        "<p>Perplexity says how many equally likely words a model is torn between: 300 is as good as guessing among 300 words, 1 is to know. \
         Lower is better. It is measured on sentences that were not trained on.</p>\n<h2>What an LSTM does</h2>\n\
         <p>It keeps a memory, the cell <b>c</b>, and at every word three gates decide what happens to it. A gate is a number between 0 (shut) \
         and 1 (open) for every unit of the memory:</p>\n<div class=\"formula\">\
i = σ(W x + U h + b)        the input gate: is something written?\n\
f = σ(…)                    the forget gate: is what was there kept?\n\
o = σ(…)                    the output gate: is it shown?\n\
g = tanh(…)                 what would be written\n\
c ← f · c + i · g           the memory goes on\n\
h = o · tanh(c)             what the memory shows</div>\n\
         <p>x is the word that is read, h what the unit showed after the word before. σ presses any number between 0 and 1, tanh between −1 \
         and 1. From h the next word is guessed.</p>\n",
    );
    body.push_str("<h2>All nine</h2>\n");
    let row = |tried: &Tried| {
        let (mean, low, high) = tried.end();
        let against = 100.0 * (mean / standard.end().0 - 1.0);
        vec![
            tried.trial.name.to_owned(),
            perplexity(mean),
            format!("{} – {}", perplexity(low), perplexity(high)),
            format!("{against:+.1} %"),
            grouped(tried.parameters as u64),
        ]
    };
    let rows: Vec<Vec<String>> = tried.iter().map(row).collect();
    body.push_str(&table(
        &["model", "perplexity", "seeds from – to", "against standard", "parameters"],
        &[1, 2, 3, 4],
        &rows,
    ));
    body.push_str(&ranges(tried));

    section(
        &mut body,
        "What is read out: the memory, or the gate before it",
        "<p>The standard model guesses from h, what the memory shows. The report guessed from the output gate o itself:</p>\
         <div class=\"formula\">standard   guess from  h = o · tanh(c)\nreport     guess from  o</div>\
         <p>The gate says how far each drawer is open, not what is in it. What the memory holds can then reach the guess only one word later, \
         by way of U h in the gate. The gate also lies between 0 and 1 where h lies around 0, so that every guess begins with a push of the \
         same sign.</p>",
        &verdict(tried, STANDARD, OUTPUT_GATE),
        &course(tried, "Reading the gate instead of the memory", &[STANDARD, OUTPUT_GATE]),
    );
    section(
        &mut body,
        "How biases begin: around zero, or at one",
        "<p>Every gate has two biases, and the report started all of them at 1. Then a gate that sees nothing yet is σ(1 + 1) = 0.88: the memory \
         keeps nearly all, takes nearly all, and shows nearly all. For the forget gate alone that is a good idea (Jozefowicz et al. 2015): a \
         memory that keeps can learn what to keep. For the others it costs the first steps, until they have learned to close.</p>",
        &format!("{} {}", verdict(tried, STANDARD, ONES), verdict(tried, OUTPUT_GATE, REPORT)),
        &format!(
            "{}<div class=\"small\">{}{}</div>",
            course(tried, "Biases of one", &[STANDARD, ONES, REPORT]),
            gate(tried, STANDARD, 0, "forget gate of the standard model", |gates| &gates.f),
            gate(tried, ONES, 0, "forget gate with biases of one", |gates| &gates.f),
        ),
    );
    section(
        &mut body,
        "How far the blame goes back: the whole window, or one word",
        "<p>To learn, the error of a guess is handed back to every gate that had a part in it, word by word. The report cut it after one word: a \
         gate never hears what came of it two words later.</p><div class=\"formula\">∂loss/∂c(t−1) = f(t) · ∂loss/∂c(t)      handed on\n\
∂loss/∂c(t−1) = 0                        cut</div><p>In windows of five words there is little to hand on, and the memory is filled and read \
         in the same window anyway. On longer texts the cut costs more.</p>",
        &verdict(tried, STANDARD, CUT),
        &course(tried, "The gradient cut at every step", &[STANDARD, CUT]),
    );
    section(
        &mut body,
        "A second layer: what it takes from the first",
        "<p>A second LSTM can read what the first one shows (stacked), the word as well (skip), or, as in the report, what the first one shows \
         beside its guess: a score for each word of the vocabulary (scores).</p><div class=\"formula\">stacked   x₂ = h₁\nskip      x₂ = [x, \
h₁]\nscores    x₂ = [V h₁ + b, h₁]</div>",
        &format!(
            "{} {} {}",
            verdict(tried, STANDARD, STACKED),
            verdict(tried, STACKED, SKIP),
            verdict(tried, STACKED, SCORES)
        ),
        &course(tried, "Two layers", &[STANDARD, STACKED, SKIP, SCORES]),
    );
    let pinned = |place: usize| pinned_open(&tried[place]);
    section(
        &mut body,
        "Scores and ones together: gates that never move",
        &format!(
            "<p>Now take the report's own second layer: it reads {} scores, and every bias, that of the scores too, begins at 1. So every score \
             begins near 1, and each gate of the second layer sums {} numbers that are nearly the same. What should tell one word from another \
             is lost in that sum, and where the sum is large σ is flat: whatever the weights do, the gate says the same, and no blame comes \
             through it.</p><div class=\"formula\">U · (1, 1, …, 1) = the sum of a row of U     for every word\nσ'(z) = σ(z) (1 − σ(z))  →  0      \
             where |z| is large</div><p>The pictures show the gates of the second layer from the first step to the last: blue is shut, orange is open. \
             Where the bands run level, nothing was learned there.</p>",
            grouped(*vocabulary as u64),
            grouped(*vocabulary as u64),
        ),
        &format!(
            "{} {}",
            verdict(tried, SCORES, SCORES_ONES),
            format_args!(
                "At the end {:.0} % of the gates of the second layer stand shut or open for good where all began at one, {:.0} % where they began as \
                 PyTorch's.",
                100.0 * pinned(SCORES_ONES),
                100.0 * pinned(SCORES)
            )
        ),
        &format!(
            "{}<div class=\"small\">{}{}{}{}</div>",
            course(tried, "Scores, begun in two ways", &[SCORES, SCORES_ONES, REPORT]),
            gate(tried, SCORES_ONES, 1, "input gate, all begun at one", |gates| &gates.i),
            gate(tried, SCORES_ONES, 1, "output gate, all begun at one", |gates| &gates.o),
            gate(tried, SCORES, 1, "input gate, begun as PyTorch's", |gates| &gates.i),
            gate(tried, SCORES, 1, "output gate, begun as PyTorch's", |gates| &gates.o),
        ),
    );
    let _ = write!(
        body,
        "<h2>How it was measured</h2>\n<p>Embedding {}, hidden size {}, Adam, windows of five tokens of one sentence, no dropout. The first 6,000 windows of the \
         validation text count; perplexity is exp of their mean loss. The band around a curve goes from the best seed to the worst. With so few \
         seeds a difference smaller than the bands says nothing.</p>\n<p>To try it again, or on another text: <code>lstm lab</code>.</p>\n",
        sizes.0, sizes.1
    );
    let title = "Five choices of an LSTM, and what they cost";
    let facts = serde_json::to_value(results).ok();
    Page { title, body: &body, facts: facts.as_ref(), style: STYLE, ..Page::default() }.html()
}

fn section(body: &mut String, title: &str, words: &str, verdict: &str, pictures: &str) {
    let _ = write!(
        body,
        "<h2>{}</h2>\n{words}\n<p class=\"verdict\">{}</p>\n<div class=\"pictures\">{pictures}</div>\n",
        escape(title),
        escape(verdict)
    );
}

/// What one trial's choice costs against another's, or that the seeds differ by more.
fn verdict(tried: &[Tried], from: usize, to: usize) -> String {
    let (before, after) = (&tried[from], &tried[to]);
    let ((a, a_low, a_high), (b, b_low, b_high)) = (before.end(), after.end());
    let change = 100.0 * (b / a - 1.0);
    let numbers = format!("perplexity {} instead of {}", perplexity(b), perplexity(a));
    let apart = b_low > a_high || b_high < a_low;
    let (name, than) = (after.trial.name, before.trial.name);
    let than = if from == STANDARD { "the standard model".to_owned() } else { format!("“{than}”") };
    match (apart || before.runs.len() < 2, change) {
        (false, _) => format!("“{name}” is not to be told from {than}: {numbers}, and the seeds of both overlap."),
        (true, change) if change >= 0.0 => format!("“{name}” costs {change:.1} % against {than}: {numbers}."),
        (true, change) => format!("“{name}” gains {:.1} % against {than}: {numbers}.", -change),
    }
}

/// The share of the second layer's gates i, f and o that stand in the lowest or the highest tenth at the end, over all seeds.
fn pinned_open(tried: &Tried) -> f64 {
    let last = tried.runs.iter().filter_map(|run| run.gates.last()?.1.get(1));
    let shares: Vec<f64> =
        last.flat_map(|gates| [gates.i, gates.f, gates.o].map(|gate| gate[0] + gate[gate.len() - 1])).collect();
    shares.iter().sum::<f64>() / shares.len().max(1) as f64
}

/// The validation perplexity of some trials on their way, with the spread of their seeds.
fn course(tried: &[Tried], title: &str, places: &[usize]) -> String {
    let curve = |(colour, place): (usize, &usize)| {
        let tried = &tried[*place];
        let stops = tried.runs.first().map_or(0, |run| run.valid.len());
        let at = |stop: usize| {
            let values: Vec<f64> = tried.runs.iter().map(|run| run.valid[stop].1).collect();
            let mean = (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp();
            let (low, high) =
                values.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(*v), high.max(*v)));
            (tried.runs[0].valid[stop].0 as f64, mean, low, high)
        };
        let points: Vec<(f64, f64, f64, f64)> = (0..stops).map(at).collect();
        Curve {
            spread: points.iter().map(|&(step, _, low, high)| (step, low, high)).collect(),
            ..Curve::new(tried.trial.name, colour, points.iter().map(|&(step, mean, ..)| (step, mean)).collect())
        }
    };
    let curves = places.iter().enumerate().map(curve).collect();
    Chart { title, x: "steps", y_scale: Scale::Log, curves, ..Chart::default() }.html()
}

/// The distribution of a gate of the first seed, from the first step to the last.
fn gate(tried: &[Tried], place: usize, layer: usize, title: &str, of: fn(&LayerGates) -> &[f64]) -> String {
    let Some(run) = tried[place].runs.first() else { return String::new() };
    let steps: Vec<f64> = run.gates.iter().map(|(step, _)| *step as f64).collect();
    let bands: Vec<Vec<f64>> =
        run.gates.iter().filter_map(|(_, layers)| Some(of(layers.get(layer)?).to_vec())).collect();
    if bands.is_empty() { String::new() } else { shares(title, "steps", &steps, &bands) }
}

/// Every trial's seeds on one scale.
fn ranges(tried: &[Tried]) -> String {
    const WIDTH: f64 = 640.0;
    const ROW: f64 = 24.0;
    const LEFT: f64 = 270.0;
    let all: Vec<f64> = tried.iter().flat_map(Tried::ends).map(f64::ln).collect();
    let (low, high) = all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    let x = |value: f64| LEFT + (WIDTH - LEFT - 60.0) * (value.ln() - low) / (high - low).max(1e-9);
    let mut svg = String::new();
    for (number, tried) in tried.iter().enumerate() {
        let (mean, least, most) = tried.end();
        let y = ROW * (number as f64 + 0.5);
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            y + 4.0,
            escape(tried.trial.name)
        );
        let _ =
            write!(svg, "<path class=\"curve s1\" d=\"M{:.1} {y:.1}H{:.1}\"/>", x(least), x(most).max(x(least) + 0.5));
        for end in tried.ends() {
            let _ = write!(svg, "<circle class=\"f0\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>", x(end));
        }
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", x(most) + 8.0, y + 4.0, perplexity(mean));
    }
    let height = ROW * tried.len() as f64;
    format!(
        "<figure style=\"max-width:46rem\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"the perplexity of every seed of every \
         model, the standard one on top\">{svg}</svg><figcaption>Every dot is a seed; left is better.</figcaption></figure>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Run, Trial};

    /// Results in which the trial number n ends at 100 + n, but for the last, which ends far above.
    fn results() -> Results {
        let gates = |open: f64| LayerGates {
            i: std::array::from_fn(|bin| if bin == 9 { open } else { (1.0 - open) / 9.0 }),
            f: [0.1; 10],
            g: [0.1; 10],
            o: [0.1; 10],
            memory: [1.0, 2.0, 3.0],
        };
        let tried = Trial::all().into_iter().enumerate().map(|(number, trial)| {
            let end = if number == SCORES_ONES { 400.0 } else { 100.0 + number as f64 };
            let run = |seed: u64| Run {
                seed,
                valid: vec![(10, 2.0 * end), (20, end + 0.1 * seed as f64)],
                gates: vec![(0, vec![gates(0.1); trial.layers]), (20, vec![gates(0.9); trial.layers])],
            };
            Tried { runs: vec![run(1), run(2)], parameters: 1000, trial }
        });
        Results {
            text: "a <text>".to_owned(),
            vocabulary: 319,
            tokens: 1000,
            steps: 20,
            batch: 128,
            sizes: (64, 64),
            seconds: 60.0,
            counted: 250.0,
            tried: tried.collect(),
        }
    }

    #[test]
    fn the_page_says_what_each_choice_costs_and_what_the_seeds_cannot_tell() {
        let mut results = results();
        let html = page(&results);
        assert!(html.contains(
            "“output gate read out” costs 1.0 % against the standard model: perplexity 101.15 instead of 100.15"
        ));
        assert!(html.contains("a &lt;text&gt;") && html.contains("σ(1 + 1) = 0.88") && !html.contains("NaN"));
        assert!(html.len() < 1 << 20);
        results.tried[OUTPUT_GATE].runs[0].valid[1].1 = 90.0;
        assert!(page(&results).contains("“output gate read out” is not to be told from the standard model"));
    }
}
