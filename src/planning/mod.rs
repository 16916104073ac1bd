//! Planning with a Trajectory Transformer.
