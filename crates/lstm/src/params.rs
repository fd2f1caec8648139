//! One flat buffer of parameters and the layout that names its slices.
