//! One cell of one unit, step by step: a switch that remembers what it was told last.
//!
//! ```sh
//! cargo run --release --example cell
//! ```
//!
//! The input is +1 ("on"), -1 ("off") or 0 (nothing). Set by hand, the input gate opens for anything but 0, the forget
//! gate keeps the cell when it is closed, and the candidate is the sign of the input. The backward pass then says how
//! much each input mattered to the last state: the latest order counts, all before it is forgotten.

use lstm::cell::{Cell, CellState};

fn main() {
    // Two inputs: the order and its absolute value.
    let mut cell = Cell::<f64>::zeros(2, 1);
    (cell.w_ii, cell.b_ii) = (vec![0.0, 20.0], vec![-10.0]); // open when there is an order
    (cell.w_if, cell.b_if) = (vec![0.0, -20.0], vec![10.0]); // closed when there is one
    cell.w_ig = vec![1.0, 0.0]; // what is ordered
    cell.b_io = vec![10.0]; // always show it

    let orders: [f64; 9] = [0.0, 1.0, 0.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0];
    let inputs = orders.map(|order| [order, order.abs()]);
    let mut states = vec![CellState::zeros(&cell)];
    let mut gates = Vec::new();
    println!("order   input gate  forget gate  candidate  output gate     cell   hidden");
    for x in &inputs {
        let (state, step) = cell.forward(x, &states[states.len() - 1]);
        println!(
            "{:5.0} {:12.3} {:12.3} {:10.3} {:12.3} {:8.3} {:8.3}",
            x[0], step.i[0], step.f[0], step.g[0], step.o[0], state.c[0], state.h[0]
        );
        states.push(state);
        gates.push(step);
    }

    // Backward from the last hidden state.
    let mut gradients = cell.zeros_like();
    let mut after = CellState { h: vec![1.0], c: vec![0.0] };
    let mut mattered = Vec::new();
    for t in (0..inputs.len()).rev() {
        let (d_x, before) = cell.backward(&inputs[t], &states[t], &gates[t], &after, None, &mut gradients);
        mattered.push(d_x[0]);
        after = before;
    }
    println!("\nHow much the last state would change with each order:");
    for (order, d) in orders.iter().zip(mattered.iter().rev()) {
        println!("{order:5.0} {d:10.6}");
    }
}
