//! Training: trainer.
