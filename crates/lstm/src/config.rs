//! The choices a model can make.
