//! Integration tests.
#![allow(clippy::unwrap_used)]

mod golden;
mod gradients;
mod hashed_weights;
mod parity;
mod value_based;

mod act;
mod acting;
mod acting_keys;
mod anytime;
mod book;
mod changed_bytes;
mod choices;
mod choose;
mod cli;
mod compare;
mod damaged;
mod data;
mod data_corpus;
mod data_names;
mod data_order;
mod data_properties;
#[cfg(feature = "hub")]
mod data_pull;
mod data_views;
#[cfg(feature = "hub")]
mod data_wrong;
mod defaults;
mod device;
mod diagnose;
mod diagnose_codes;
mod discretizer;
mod encoder;
mod envs;
mod export;
mod fast_chunks;
mod fast_tokenizer;
mod goals;
mod guards;
mod gym;
mod held_out;
mod hostile;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod hub_network;
#[cfg(feature = "hub")]
mod hub_publishing;
#[cfg(feature = "hub")]
mod hub_server;
#[cfg(not(feature = "hub"))]
mod hub_without_network;
mod in_memory;
mod initial_values;
mod instructions;
mod interrupts;
mod kept;
mod killed;
mod killed_early;
mod layers;
mod learning;
mod lost_files;
mod low_data;
mod missed_breaks;
mod nonfinite;
mod online;
mod online_dt;
mod opening;
mod parity_awac;
mod parity_bc;
mod parity_bear;
mod parity_brac;
mod parity_choices;
mod parity_cql;
mod parity_crr;
mod parity_decision_transformer;
mod parity_edac;
mod parity_fast;
mod parity_iql;
mod parity_lamo;
mod parity_muon;
mod parity_online;
mod parity_online_dt;
mod parity_qt;
mod parity_rebrac;
mod parity_reinformer;
mod parity_sac;
mod parity_sac_n;
mod parity_sac_rnd;
mod parity_tap;
mod parity_td3;
mod parity_td3_bc;
mod parity_trajectory_transformer;
mod parity_trajectory_transformer_multi_token;
mod parity_trajectory_transformer_parts;
mod planner;
mod planner_critic;
mod planner_multi_token;
mod planner_parity;
mod policies;
mod pretrained;
mod ranks;
mod render;
mod report;
mod reproduce;
mod return_conditioned;
mod rows;
mod run_report;
mod runs;
mod score_tables;
mod seeds;
mod sequence_starts;
mod sequences;
#[cfg(feature = "serve")]
mod serve;
mod settings;
#[cfg(feature = "mujoco")]
mod setup;
mod shell;
mod stored_runs;
mod sweep;
mod text_loss;
mod tidy;
mod token_report;
mod warnings;
mod weights;
