//! An inspection in the terminal: the text coloured by surprisal, the busiest units as rows of colours, within the window.

use std::io::{self, Write};

use lstm::inspect::effect::Change;
use lstm::inspect::{Inspection, Looked};
use lstm::train::gates::memory;

use crate::output::{count, perplexity};

/// Where it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its columns.
    pub columns: usize,
    /// Whether it has colours.
    pub coloured: bool,
}

/// The units of each layer that are shown.
const UNITS: usize = 12;

/// The columns before a unit's row.
const MARGIN: usize = 14;

impl Window {
    /// That of the terminal, if there is one; colours unless `NO_COLOR` says otherwise.
    pub fn of_terminal(is_terminal: bool) -> Self {
        let given = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let columns = given.or_else(width).unwrap_or(100).clamp(MARGIN + 10, 1000);
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { columns, coloured: is_terminal && !refused }
    }
}

/// The columns of the terminal.
fn width() -> Option<usize> {
    #[cfg(unix)]
    {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }
    #[cfg(not(unix))]
    None
}

/// A share from 0 to 1 as a background: from the terminal's own to orange.
fn background(share: f32) -> String {
    const RAMP: [u8; 6] = [0, 58, 94, 130, 166, 202];
    match RAMP[((share * RAMP.len() as f32) as usize).min(RAMP.len() - 1)] {
        0 => String::new(),
        colour => format!("\x1b[48;5;{colour}m\x1b[38;5;231m"),
    }
}

/// A value from −1 to 1 as a cell of a row: blue to orange, or as a sign of its own.
fn cell(value: f32, coloured: bool) -> String {
    const RAMP: [u8; 9] = [27, 33, 67, 239, 237, 239, 137, 172, 208];
    const SIGNS: [&str; 9] = ["#", "=", "-", ".", " ", ".", "+", "*", "@"];
    let at = (((value.clamp(-1.0, 1.0) + 1.0) * 4.5) as usize).min(8);
    if coloured { format!("\x1b[38;5;{}m█\x1b[0m", RAMP[at]) } else { SIGNS[at].to_owned() }
}

/// Shows it.
pub fn show(looked: &Looked, changes: &[Change], window: Window, out: &mut dyn Write) -> io::Result<()> {
    let inspection = &looked.inspection;
    let loss = inspection.loss();
    writeln!(out, "perplexity {} on {}", perplexity(loss.perplexity()), count(loss.tokens, "token"))?;
    text(inspection, window, out)?;
    for layer in 0..inspection.layers.len() {
        units(inspection, layer, window, out)?;
    }
    for found in &looked.followed {
        let best = found
            .units
            .first()
            .map_or(String::new(), |u| format!("cell {} of layer {} ({:+.2})", u.unit, u.layer, u.correlation));
        let right = match found.rule_accuracy {
            Some(right) => {
                format!(", alone right {:.0} %; all cells {:.0} % (50 is chance)", 100.0 * right, 100.0 * found.probe)
            }
            None => format!("; all cells r = {:.2}", found.probe),
        };
        writeln!(out, "follows {}: {best}{right}", found.name)?;
    }
    if let Some(effect) = &looked.effect {
        let said: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let (without, with) = (effect.without.perplexity(), effect.with.perplexity());
        writeln!(out, "{}: perplexity {} instead of {}", said.join("; "), perplexity(with), perplexity(without))?;
    }
    for unit in looked.ablated.iter().take(10) {
        writeln!(
            out,
            "without unit {} of layer {}: perplexity {} ({:+.4} nats a token)",
            unit.unit,
            unit.layer,
            perplexity(unit.perplexity),
            unit.cost
        )?;
    }
    Ok(())
}

/// The tokens, coloured by their surprisal, or with it behind them.
fn text(inspection: &Inspection, window: Window, out: &mut dyn Write) -> io::Result<()> {
    let most = inspection.read.iter().filter_map(|token| token.nats).fold(1e-3, f32::max);
    let mut column = 0;
    for token in inspection.read.iter().filter(|token| !token.begins) {
        let nats = token.nats.unwrap_or(0.0);
        let ends = token.text.contains('\n');
        let shown = token.text.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"");
        let piece = if window.coloured { shown } else { format!("{shown}:{nats:.1}") };
        let width = piece.chars().count() + 1;
        if column + width > window.columns && column > 0 {
            writeln!(out)?;
            column = 0;
        }
        match window.coloured {
            true => write!(out, "{}{piece}\x1b[0m ", background(nats / most))?,
            false => write!(out, "{piece} ")?,
        }
        column += width;
        if ends {
            writeln!(out)?;
            column = 0;
        }
    }
    if column > 0 {
        writeln!(out)?;
    }
    Ok(())
}

/// The units of a layer whose cells move most, the longest memory first.
fn units(inspection: &Inspection, layer: usize, window: Window, out: &mut dyn Write) -> io::Result<()> {
    let states = &inspection.layers[layer];
    let drawn = inspection.read.len().min(window.columns.saturating_sub(MARGIN));
    let of = |unit: usize| states.c.iter().skip(unit).step_by(states.hidden).copied();
    let spread = |unit: usize| {
        let (sum, squares, n) = of(unit).fold((0.0, 0.0, 0.0), |(s, q, n), c| (s + c, q + c * c, n + 1.0));
        squares / n - (sum / n) * (sum / n)
    };
    let remembers = |unit: usize| memory(inspection.forget(layer, unit));
    let mut busiest: Vec<usize> = (0..states.hidden).collect();
    busiest.sort_by(|a, b| spread(*b).total_cmp(&spread(*a)));
    busiest.truncate(UNITS);
    busiest.sort_by(|a, b| remembers(*b).total_cmp(&remembers(*a)));
    writeln!(
        out,
        "layer {}: the {} cells that move most, and for how many tokens they remember",
        layer + 1,
        busiest.len()
    )?;
    for unit in busiest {
        let most = of(unit).fold(1e-6_f32, |most, c| most.max(c.abs()));
        let row: String = of(unit).take(drawn).map(|c| cell(c / most, window.coloured)).collect();
        writeln!(out, "{unit:>4} {:>7.1}  {row}", remembers(unit).min(99_999.0))?;
    }
    Ok(())
}
