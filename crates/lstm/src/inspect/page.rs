//! The page of an inspection: the text with its surprisals, what its predictions go back to, heat maps of every gate and state.

use std::fmt::Write;

use lstm_kernels::{Matrix, MatrixMut, Start, product};
use serde_json::{Value, json};

use super::effect::{Change, Effect};
use super::{Inspection, Layer, Looked};
use crate::report::page::{Page, escape, figures, table};
use crate::said::{count, grouped, perplexity};
use crate::train::gates::memory;

const STYLE: &str = include_str!("inspect.css");
const SCRIPT: &str = include_str!("inspect.js");

/// The most values that a page draws: six for each unit and token, a byte each.
const MOST_VALUES: usize = 6_000_000;

/// The units whose loss is shown.
const MOST_ABLATED: usize = 40;

/// What the page is of, in words.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The model.
    pub model: &'a str,
    /// The changes, as they were asked for.
    pub changes: &'a [Change],
}

/// The page.
pub fn page(looked: &Looked, shown: Shown) -> String {
    let Looked { inspection, causes, effect, ablated, followed } = looked;
    let tokens = inspection.read.len();
    let units: usize = inspection.layers.iter().map(|layer| layer.hidden).sum();
    let drawn = (MOST_VALUES / (6 * units).max(1)).clamp(1, tokens);
    let mut body = String::new();
    let _ = writeln!(body, "<p class=\"dim\">{}, reading {}.</p>", escape(shown.model), count(tokens - 1, "token"));
    let loss = inspection.loss();
    body.push_str(&figures(&[
        (perplexity(loss.perplexity()), "perplexity of the text".to_owned()),
        (format!("{:.3}", loss.mean()), "nats a token".to_owned()),
        (grouped(units as u64), format!("units in {}", count(inspection.layers.len() as u64, "layer"))),
    ]));
    body.push_str(
        "<h2>The text</h2>\n<p>The bar under a token is how surprising it was. Choose one: arcs go to the tokens that its probability \
         goes back to, green to those that made it likelier, red to those that made it less likely.</p>\n\
         <div class=\"controls\"><label>Arcs show <select id=\"measure\">",
    );
    let mut option = |value: &str, name: &str| {
        let _ = write!(body, "<option value=\"{value}\">{name}</option>");
    };
    option("integrated", "what each token adds (integrated gradients)");
    option("product", "gradient times embedding");
    option("embedding", "norm of the gradient by the embedding");
    if let Some(cause) = causes.first() {
        for layer in 0..cause.cell.len() {
            option(&format!("cell.{layer}"), &format!("gradient by the cells of layer {}", layer + 1));
        }
        for (layer, gates) in cause.gates.iter().enumerate() {
            let names: &[&str] = if gates.len() == 3 { &["f", "g", "o"] } else { &["i", "f", "g", "o"] };
            for (gate, name) in names.iter().enumerate() {
                option(
                    &format!("gates.{layer}.{gate}"),
                    &format!("gradient by the gates {name} of layer {}", layer + 1),
                );
            }
        }
    }
    body.push_str(
        "</select></label></div>\n<div id=\"text\" class=\"text\"></div>\n<p id=\"cause\" aria-live=\"polite\"></p>\n\
         <div class=\"panel\"><div><h3>Expected in its place</h3><p id=\"chosen\" class=\"mono\"></p><ul id=\"before\" class=\"best\"></ul></div>\
         <div><h3>Expected after it</h3><ul id=\"after\" class=\"best\"></ul></div></div>\n<h2>Gates and states</h2>\n\
         <p>Every column is a token, every row a unit: blue is shut or negative, orange open or positive, cells each by its own largest value. A click shows the unit's \
         course.</p>\n<div class=\"controls\"><label>Layer <select id=\"layer\">",
    );
    for layer in 0..inspection.layers.len() {
        let _ = write!(body, "<option value=\"{layer}\">{}</option>", layer + 1);
    }
    body.push_str(
        "</select></label><label>Shown <select id=\"channel\"><option value=\"c\">cell c</option><option value=\"i\">input gate i</option>\
         <option value=\"f\">forget gate f</option><option value=\"g\">candidate g</option><option value=\"o\">output gate o</option>\
         <option value=\"h\">hidden state h</option></select></label><label>Sorted by <select id=\"sort\"><option value=\"memory\">memory\
         </option><option value=\"cluster\">likeness</option><option value=\"unit\">number</option>",
    );
    for (number, followed) in followed.iter().enumerate() {
        let _ = write!(body, "<option value=\"follow{number}\">what follows {}</option>", escape(&followed.name));
    }
    body.push_str(
        "</select></label><label>Unit <input id=\"unit\" type=\"number\" min=\"0\" value=\"0\"></label></div>\n",
    );
    if drawn < tokens {
        let _ = writeln!(
            body,
            "<p class=\"dim\">The first {} tokens are drawn here; as values all of them are to be had.</p>",
            grouped(drawn as u64)
        );
    }
    body.push_str(
        "<div class=\"scroll\" tabindex=\"0\"><canvas id=\"map\" role=\"img\" aria-label=\"heat map\"></canvas></div>\n\
         <p id=\"of-unit\" aria-live=\"polite\"></p><svg id=\"trace\" viewBox=\"0 0 600 112\" role=\"img\" aria-label=\"trace\"></svg>\n",
    );
    follows(looked, &mut body);
    if let Some(effect) = effect {
        changed(inspection, effect, shown.changes, &mut body);
    }
    if !ablated.is_empty() {
        body.push_str("<h2>What the loss of a unit costs</h2>\n<p>Each is switched off in turn, its output gate shut; the rest is as it was.</p>\n");
        let row = |unit: &super::effect::Ablated| {
            vec![
                unit.layer.to_string(),
                unit.unit.to_string(),
                perplexity(unit.perplexity),
                format!("{:+.4}", unit.cost),
            ]
        };
        let rows: Vec<Vec<String>> = ablated.iter().take(MOST_ABLATED).map(row).collect();
        body.push_str(&table(&["layer", "unit", "perplexity without it", "nats a token more"], &[0, 1, 2, 3], &rows));
        let _ = writeln!(body, "<p class=\"dim\">{} of {} units.</p>", rows.len(), ablated.len());
    }
    let facts = facts(looked, drawn);
    let title = "Inside a model of lstm";
    Page { title, body: &body, facts: Some(&facts), script: SCRIPT, style: STYLE }.html()
}

/// What units follow.
fn follows(looked: &Looked, body: &mut String) {
    if looked.followed.is_empty() {
        return;
    }
    body.push_str(
        "<h2>What units follow</h2>\n<p>Units and rules are chosen on the first seven tenths of the text; how often they are right is counted on the \
         rest, yes and no weighing the same, so that a half is chance. The probe reads the cells together, by a straight line.</p>\n",
    );
    let share = |value: f64| format!("{:.1} %", 100.0 * value);
    let row = |found: &super::follow::Followed| {
        let unit = found
            .units
            .first()
            .map_or(String::new(), |unit| format!("{}.{}: {:+.2}", unit.layer, unit.unit, unit.correlation));
        let probe = found.rule_accuracy.map_or(format!("r = {:.2}", found.probe), |_| share(found.probe));
        vec![
            found.name.clone(),
            unit,
            found.rule.clone().unwrap_or("-".to_owned()),
            found.rule_accuracy.map_or("-".to_owned(), share),
            probe,
            grouped(found.tokens as u64),
        ]
    };
    let rows: Vec<Vec<String>> = looked.followed.iter().map(row).collect();
    let head = ["what", "layer.unit: correlation", "rule", "rule right", "probe right", "held-out tokens"];
    body.push_str(&table(&head, &[3, 4, 5], &rows));
}

/// The text with and without the changes.
fn changed(inspection: &Inspection, effect: &Effect, changes: &[Change], body: &mut String) {
    let (without, with) = (effect.without.perplexity(), effect.with.perplexity());
    body.push_str("<h2>Changed</h2>\n");
    let said: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let _ = writeln!(body, "<p>{}.</p>", escape(&said.join("; ")));
    body.push_str(&figures(&[
        (perplexity(without), "perplexity as it is".to_owned()),
        (perplexity(with), "perplexity changed".to_owned()),
        (format!("{:+.4}", (with / without).ln()), "nats a token".to_owned()),
    ]));
    let mut next = effect.without.nats.iter().zip(&effect.with.nats);
    let best = |best: &[(String, f32)]| -> String {
        best.iter()
            .take(3)
            .map(|(text, p)| format!("{} {:.0} %", text.replace('\n', "⏎"), 100.0 * p))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut rows: Vec<(f32, Vec<String>)> = Vec::new();
    for place in 0..inspection.read.len() {
        let token = inspection.read.get(place + 1).filter(|token| !token.begins);
        let nats = token.and_then(|_| next.next());
        let (before, after) =
            nats.map_or(("-".to_owned(), "-".to_owned()), |(a, b)| (format!("{a:.2}"), format!("{b:.2}")));
        rows.push((
            effect.divergence[place],
            vec![
                inspection.read[place].text.replace('\n', "⏎"),
                token.map_or("-".to_owned(), |token| token.text.replace('\n', "⏎")),
                before,
                after,
                format!("{:.3}", effect.divergence[place]),
                best(&effect.without.best[place]),
                best(&effect.with.best[place]),
            ],
        ));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let rows: Vec<Vec<String>> = rows.into_iter().take(MOST_ABLATED).map(|(_, row)| row).collect();
    let head = ["after", "came", "nats", "changed", "divergence", "expected as it is", "expected changed"];
    body.push_str(&table(&head, &[2, 3, 4], &rows));
    body.push_str("<p class=\"dim\">Where what is expected changes most.</p>\n");
}

/// The numbers that the script draws.
fn facts(looked: &Looked, drawn: usize) -> Value {
    let Looked { inspection, causes, followed, .. } = looked;
    let mut place = vec![0];
    place.extend((0..inspection.read.len()).filter(|at| !inspection.read[*at].begins));
    let layers: Vec<Value> = inspection
        .layers
        .iter()
        .enumerate()
        .map(|(number, layer)| {
            // The largest of each unit's cells and hidden states; a candidate's is one.
            let most = |values: &[f32], width: usize| -> Vec<f32> {
                let of_unit = |unit: usize| values.iter().skip(unit).step_by(width).fold(1e-6_f32, |most, v| most.max(v.abs()));
                (0..width).map(of_unit).collect()
            };
            let (cells, hidden) = (most(&layer.c, layer.hidden), most(&layer.h, layer.recurrent));
            let scales = [("c", cells), ("g", vec![1.0; layer.hidden]), ("h", hidden)];
            let channels = layer.channels().map(|(name, values, width)| {
                let scale = scales.iter().find(|(of, _)| *of == name).map(|(_, scale)| scale);
                let byte = |(place, value): (usize, &f32)| match scale {
                    Some(scale) => ((value / scale[place % width] + 1.0) * 127.5).round() as u8,
                    None => (value * 255.0).round() as u8,
                };
                let bytes: Vec<u8> = values[..drawn * width].iter().enumerate().map(byte).collect();
                (name.to_owned(), Value::from(base64(&bytes)))
            });
            let memories: Vec<f64> = (0..layer.hidden).map(|unit| memory(inspection.forget(number, unit))).collect();
            let descending = |by: &dyn Fn(usize) -> f64| {
                let mut order: Vec<usize> = (0..layer.hidden).collect();
                order.sort_by(|a, b| by(*b).total_cmp(&by(*a)));
                order
            };
            let mut orders = serde_json::Map::new();
            orders.insert("memory".to_owned(), json!(descending(&|unit| memories[unit])));
            orders.insert("cluster".to_owned(), json!(likeness(layer)));
            for (number_of, found) in followed.iter().enumerate() {
                orders.insert(format!("follow{number_of}"), json!(descending(&|unit| f64::from(found.all[number][unit]))));
            }
            let follows: Vec<&Vec<f32>> = followed.iter().map(|found| &found.all[number]).collect();
            json!({
                "hidden": layer.hidden, "recurrent": layer.recurrent,
                "channels": Value::Object(channels.into_iter().collect()),
                "scale": scales.iter().map(|(name, scale)| ((*name).to_owned(), json!(scale))).collect::<serde_json::Map<_, _>>(),
                "memory": memories.iter().map(|tokens| format!("{tokens:.1}")).collect::<Vec<_>>(),
                "orders": orders, "follows": follows,
            })
        })
        .collect();
    json!({
        "tokens": inspection.read, "drawn": drawn, "layers": layers, "causes": causes, "place": place,
        "follows": followed.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(),
    })
}

/// The units of a layer in an order in which those whose cells go together stand together: each is followed by the one that is most like
/// it of those that are left.
fn likeness(layer: &Layer) -> Vec<usize> {
    let (hidden, tokens) = (layer.hidden, layer.c.len() / layer.hidden.max(1));
    // Rows of units with mean 0 and norm 1: their products are correlations.
    let mut units = vec![0.0_f32; hidden * tokens];
    let mut norms = vec![0.0_f32; hidden];
    for unit in 0..hidden {
        let row = &mut units[unit * tokens..][..tokens];
        row.iter_mut().enumerate().for_each(|(token, value)| *value = layer.c[token * hidden + unit]);
        let mean = row.iter().sum::<f32>() / tokens as f32;
        row.iter_mut().for_each(|value| *value -= mean);
        norms[unit] = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value /= norms[unit].max(1e-9));
    }
    let mut alike = vec![0.0; hidden * hidden];
    let rows = Matrix::new(&units, hidden, tokens);
    product(MatrixMut::new(&mut alike, hidden, hidden), Start::Zero, rows, rows.transposed());
    let mut left: Vec<usize> = (0..hidden).collect();
    let Some(first) = left.iter().copied().max_by(|a, b| norms[*a].total_cmp(&norms[*b])) else { return left };
    let mut order = vec![first];
    left.retain(|unit| *unit != first);
    while let Some(last) = order.last().copied().filter(|_| !left.is_empty()) {
        let like = |unit: usize| alike[last * hidden + unit].abs();
        let next = (0..left.len()).max_by(|a, b| like(left[*a]).total_cmp(&like(left[*b]))).unwrap_or(0);
        order.push(left.swap_remove(next));
    }
    order
}

/// Base 64, as browsers read it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or(0)) << 8
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        for place in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_rfc_4648_has_them() {
        let said = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(said, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn units_that_go_together_stand_together() {
        // Units 0 and 2 do the same, 1 and 3 do.
        let row = |t: usize| [t as f32, (t * 7 % 5) as f32, 2.0 * t as f32, (t * 7 % 5) as f32 * -3.0];
        let layer = Layer { hidden: 4, recurrent: 4, c: (0..20).flat_map(row).collect(), ..Layer::default() };
        let order = likeness(&layer);
        let at = |unit: usize| order.iter().position(|found| *found == unit).unwrap();
        assert!(at(0).abs_diff(at(2)) == 1 && at(1).abs_diff(at(3)) == 1, "{order:?}");
    }
}
