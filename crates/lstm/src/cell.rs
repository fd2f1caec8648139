//! One step of one LSTM, gate by gate.
