//! The vectorised loops and matrix products behind `lstm`.
