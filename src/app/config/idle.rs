//! [`idle_keys`]: keys of a configuration that do nothing because another one is not set.

use std::collections::BTreeMap;

use toml::Value;

use crate::app::config::departures::values;
use crate::app::config::run_config::RunConfig;
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_core::error::Result;

/// Keys that count only where another one has a certain value. Keys that are not whole begin with a dot: the algorithm's table stands before it.
struct Needs {
    keys: &'static [&'static str],
    /// The other key, with the values that it may have; `None` stands for any number above 0 or text.
    switch: (&'static str, Option<&'static [&'static str]>),
}

// A configuration without `evaluate.env` is not scored, and says how often and where to once one is named: that is no slip.
const OF_ALL: &[Needs] = &[Needs {
    keys: &["online.noise", "online.data_share"],
    switch: ("online.steps", None),
}];

const OF_TRAJECTORY_TRANSFORMER: &[Needs] = &[
    Needs {
        keys: &[".decay_fraction"],
        switch: (".schedule", Some(&["warmup_stable_decay"])),
    },
    Needs {
        keys: &[".decay_updates"],
        switch: (".schedule", Some(&["cosine", "cosine_unclamped"])),
    },
    Needs {
        keys: &[
            ".muon_learning_rate",
            ".muon_momentum",
            ".muon_weight_decay",
        ],
        switch: (".optimizer", Some(&["muon"])),
    },
    Needs {
        keys: &[".multi_token_weight", ".planner.multi_token"],
        switch: (".multi_token", Some(&["true"])),
    },
    Needs {
        keys: &[".planner.percentile"],
        switch: (".planner.objective", Some(&["return"])),
    },
];

const OF_IQL: &[Needs] = &[Needs {
    keys: &[".log_std_range"],
    switch: (".actor", Some(&["gaussian"])),
}];

const OF_ONLINE_DT: &[Needs] = &[Needs {
    keys: &[".replay_episodes", ".updates_per_episode"],
    switch: ("online.steps", None),
}];

const OF_CQL: &[Needs] = &[Needs {
    keys: &[".target_entropy"],
    switch: (".automatic_temperature", Some(&["true"])),
}];

/// What to say of keys that differ from their defaults and do nothing, one sentence for each key that they need, and of those that ask for
/// what the networks will not have.
///
/// # Errors
/// If the configuration has no TOML form.
pub(crate) fn idle_keys(config: &RunConfig) -> Result<Vec<String>> {
    let name = config.algorithm.name();
    let own = match &config.algorithm {
        AlgorithmConfig::TrajectoryTransformer(_) => OF_TRAJECTORY_TRANSFORMER,
        AlgorithmConfig::Iql(_) => OF_IQL,
        AlgorithmConfig::Cql(_) => OF_CQL,
        AlgorithmConfig::OnlineDt(_) => OF_ONLINE_DT,
        // A learning rule of somebody's own has keys that are not known here.
        AlgorithmConfig::Custom(_) => return Ok(Vec::new()),
        _ => &[],
    };
    let usual = RunConfig::parse(&format!("[algorithm.{name}]"))?;
    let (here, usual) = (values(config)?, values(&usual)?);
    let whole = |key: &str| match key.strip_prefix('.') {
        Some(rest) => format!("algorithm.{name}.{rest}"),
        None => key.to_owned(),
    };
    let said = |needs: &Needs| {
        let switch = whole(needs.switch.0);
        if is_on(&here, &switch, needs.switch.1) {
            return None;
        }
        let keys = needs.keys.iter().map(|key| whole(key));
        let set = keys.filter(|key| here.contains_key(key) && here.get(key) != usual.get(key));
        let set: Vec<String> = set.map(|key| format!("`{key}`")).collect();
        let (verb, they) = match set.len() {
            0 => return None,
            1 => ("does", "it"),
            _ => ("do", "them"),
        };
        let is = here
            .get(&switch)
            .map_or("not set".to_owned(), Value::to_string);
        let needed = match needs.switch.1 {
            Some(words) => format!("and would have to be `{}`", words.join("` or `")),
            None => "and would have to be set".to_owned(),
        };
        Some(format!(
            "{} {verb} nothing: `{switch}` is {is}, {needed}; leave {they} out, or set that",
            set.join(", ")
        ))
    };
    let asked = config.algorithm.check_will_act().err();
    let said = OF_ALL.iter().chain(own).filter_map(said);
    Ok(said.chain(asked.map(|error| error.to_string())).collect())
}

fn is_on(values: &BTreeMap<String, Value>, key: &str, wanted: Option<&[&str]>) -> bool {
    match (values.get(key), wanted) {
        (None, _) => false,
        (Some(value), None) => value.as_integer() != Some(0),
        (Some(Value::String(found)), Some(words)) => words.contains(&found.as_str()),
        (Some(value), Some(words)) => words.contains(&value.to_string().as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(text: &str) -> Vec<String> {
        let config = RunConfig::parse(text).expect("a configuration");
        idle_keys(&config).expect("TOML")
    }

    #[test]
    fn keys_that_need_another_one_are_named_with_it() {
        let table = "[algorithm.trajectory_transformer]\n";
        let check = |keys: &str, on: &str, words: [&str; 3]| {
            assert_eq!(
                idle(&format!("{table}{keys}\n{on}")),
                [""; 0],
                "{keys} {on}"
            );
            let said = idle(&format!("{table}{keys}"));
            assert_eq!(said.len(), 1, "{said:?}");
            for words in words {
                assert!(said[0].contains(words), "{words}: {said:?}");
            }
        };
        check(
            "decay_fraction = 0.3",
            "schedule = \"warmup_stable_decay\"",
            [
                "`algorithm.trajectory_transformer.decay_fraction` does nothing",
                "schedule` is \"cosine\"",
                "`warmup_stable_decay`",
            ],
        );
        check(
            "muon_learning_rate = 0.1\nmuon_momentum = 0.9",
            "optimizer = \"muon\"",
            ["muon_learning_rate`, `", "do nothing", "`muon`"],
        );
        check(
            "multi_token_weight = 0.5\nplanner.multi_token = false",
            "multi_token = true",
            [
                "multi_token_weight`, `",
                "planner.multi_token` do nothing",
                "multi_token` is false",
            ],
        );
        check(
            "planner.multi_token = true",
            "multi_token = true",
            [
                "`planner.multi_token` is true, but the network will predict",
                "no heads for several at once",
                "set `multi_token = true` for this training, or leave `planner.multi_token` out",
            ],
        );
        let noise = "[online]\nnoise = 0.2\n";
        let said = idle(&format!("{noise}[algorithm.td3_bc]"));
        assert!(
            said.len() == 1 && said[0].contains("`online.steps` is 0"),
            "{said:?}"
        );
        let on = "steps = 5\n[evaluate]\nenv = \"pendulum-v1\"\n[algorithm.td3_bc]";
        assert_eq!(idle(&format!("{noise}{on}")), [""; 0]);
        let said = idle("[algorithm.online_dt]\nreplay_episodes = 7\n");
        assert!(
            said.len() == 1
                && said[0].contains(
                    "`algorithm.online_dt.replay_episodes` does nothing: `online.steps` is 0"
                ),
            "{said:?}"
        );
    }

    #[test]
    fn every_key_there_is_one() {
        for (name, needs) in [
            ("trajectory_transformer", OF_TRAJECTORY_TRANSFORMER),
            ("iql", OF_IQL),
            ("cql", OF_CQL),
            ("online_dt", OF_ONLINE_DT),
        ] {
            let config = RunConfig::parse(&format!("[algorithm.{name}]")).expect("defaults");
            let there = values(&config).expect("TOML");
            let optional = [
                ".planner.percentile",
                ".planner.multi_token",
                ".target_entropy",
            ];
            for key in needs
                .iter()
                .flat_map(|needs| needs.keys.iter().chain([&needs.switch.0]))
            {
                let whole = match key.strip_prefix('.') {
                    Some(own) => format!("algorithm.{name}.{own}"),
                    None => (*key).to_owned(),
                };
                assert!(
                    there.contains_key(&whole) || optional.contains(key),
                    "{whole}"
                );
            }
        }
    }
}
