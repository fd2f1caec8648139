//! Optimizer steps: one threaded pass over the flat buffers.

use rayon::prelude::*;

use crate::vector::CHUNK;

/// p -= rate · (scale · g + weight_decay · p).
pub fn sgd(params: &mut [f32], gradient: &[f32], rate: f32, scale: f32, weight_decay: f32) {
    params.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).for_each(|(params, gradient)| {
        for (p, g) in params.iter_mut().zip(gradient) {
            *p -= rate * (scale * g + weight_decay * *p);
        }
    });
}

/// The settings of one Adam step.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// The learning rate.
    pub rate: f32,
    /// The decay of the first moment.
    pub beta1: f32,
    /// The decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// What the gradient is multiplied by first (clipping).
    pub scale: f32,
    /// The number of this step, from 1.
    pub step: u64,
    /// Decoupled weight decay (Loshchilov & Hutter 2019); 0 for plain Adam.
    pub weight_decay: f32,
}

/// Adam (Kingma & Ba 2015) with bias correction, PyTorch's formula.
pub fn adam(params: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], settings: AdamStep) {
    let AdamStep { rate, beta1, beta2, epsilon, scale, step, weight_decay } = settings;
    let correction = |beta: f32| (1.0 - f64::from(beta).powf(step as f64)) as f32;
    let (rate_1, root_2) = (rate / correction(beta1), correction(beta2).sqrt());
    let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
    let chunks = params.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(moments);
    chunks.for_each(|((params, gradient), (first, second))| {
        for (((p, g), m), v) in params.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = scale * g;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *p -= rate * weight_decay * *p + rate_1 * *m / (v.sqrt() / root_2 + epsilon);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_adam_step_has_the_size_of_the_rate() {
        let (mut p, mut m, mut v) = (vec![1.0; 3], vec![0.0; 3], vec![0.0; 3]);
        let settings =
            AdamStep { rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, scale: 0.5, step: 1, weight_decay: 0.0 };
        adam(&mut p, &[4.0, -2.0, 0.0], &mut m, &mut v, settings);
        crate::vector::tests::close(&p, &[0.9, 1.1, 1.0], 1e-6);
        crate::vector::tests::close(&m, &[0.2, -0.1, 0.0], 1e-6);
    }

    #[test]
    fn sgd_scales_and_decays() {
        let mut p = vec![1.0, 2.0];
        sgd(&mut p, &[1.0, -1.0], 0.5, 0.1, 0.2);
        crate::vector::tests::close(&p, &[1.0 - 0.5 * 0.3, 2.0 - 0.5 * 0.3], 1e-6);
    }
}
