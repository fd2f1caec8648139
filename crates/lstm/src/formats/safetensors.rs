//! Named tensors in a safetensors file.
