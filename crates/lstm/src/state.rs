//! What streaming carries.
