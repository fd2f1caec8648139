//! Embedding, LSTM, readout, loss.
