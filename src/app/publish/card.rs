//! The model card of a run: what the Hub shows, and searches.
//!
//! A YAML header (`library_name`, `tags`, `datasets`, `model-index`: the Hub's metadata of model repositories),
//! then what a reader needs: algorithm, data, scores, and how to load it.

use std::fmt::Write as _;

use crate::app::checkpoint::{RunDir, RunSpec, RunState};
use crate::app::config::RunConfig;
use crate::app::evaluate::Evaluation;
use crate::app::evaluations::Evaluations;
use crate::app::hub::Reference;
use trajformer_algorithms::registry::{ALGORITHMS, Registered};
use trajformer_core::error::{Error, Result};

/// What a card says of a run.
struct Facts<'a> {
    reference: &'a Reference,
    algorithm: &'a Registered,
    config: RunConfig,
    spec: RunSpec,
    state: RunState,
    evaluation: Option<Evaluation>,
}

/// README.md for the run in `directory`, published as `reference`.
///
/// # Errors
/// If the run can't be read, or has no checkpoint.
pub fn card(directory: &RunDir, reference: &Reference) -> Result<String> {
    let config = directory.measured_config()?;
    let name = config.algorithm.name();
    let registered = ALGORITHMS.iter().find(|algorithm| algorithm.name == name);
    let env = config.evaluate.env.clone().unwrap_or_default();
    let fail = |problem: &str| Error::Run {
        path: directory.path().to_path_buf(),
        problem: problem.to_owned(),
    };
    if let Some(encoder) = &config.encoder {
        return Err(Error::Encoder {
            name: encoder.clone(),
            problem: "only the program that it belongs to opens this run: say so in a README.md of your own in the run directory, \
                      which is published in place of a model card"
                .to_owned(),
        });
    }
    let facts = Facts {
        reference,
        algorithm: registered.ok_or_else(|| fail("its algorithm is not registered"))?,
        spec: directory.spec()?,
        state: directory.state()?.ok_or_else(|| Error::NoCheckpoint {
            path: directory.path().to_path_buf(),
        })?,
        evaluation: Evaluations::last(directory.path(), &env)?,
        config,
    };
    let mut text = header(&facts);
    text.push_str(&body(&facts));
    Ok(text)
}

/// A string as YAML and JSON write it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Names of the data: of its files, without folders and endings.
fn data_names(facts: &Facts<'_>) -> Vec<String> {
    let stems = facts.config.data.path.iter().filter_map(|path| {
        let stem = path.file_stem()?;
        Some(stem.to_string_lossy().into_owned())
    });
    stems.collect()
}

fn header(facts: &Facts<'_>) -> String {
    let name = facts
        .reference
        .id()
        .split('/')
        .next_back()
        .unwrap_or_default();
    let algorithm = facts.algorithm.name.replace('_', "-");
    let mut tags = vec![
        "reinforcement-learning",
        "offline-reinforcement-learning",
        &algorithm,
    ];
    let env = facts.config.evaluate.env.as_deref();
    tags.extend(env);
    let library = if is_transformers(facts) {
        "transformers"
    } else {
        "trajformer"
    };
    let mut text = format!(
        "---\nlibrary_name: {library}\npipeline_tag: reinforcement-learning\ntags:\n- trajformer\n"
    );
    for tag in tags {
        let _ = writeln!(text, "- {}", quoted(tag));
    }
    let data = data_names(facts);
    if !data.is_empty() {
        text.push_str("datasets:\n");
        data.iter().for_each(|name| {
            let _ = writeln!(text, "- {}", quoted(name));
        });
    }
    if let (Some(found), Some(env)) = (&facts.evaluation, env) {
        let (name, env) = (quoted(name), quoted(env));
        let _ = write!(
            text,
            "model-index:\n- name: {name}\n  results:\n  - task:\n      type: reinforcement-learning\n      \
             name: reinforcement-learning\n    dataset:\n      name: {env}\n      type: {env}\n    metrics:\n"
        );
        let mut metric = |kind: &str, mean: f64, std: f64| {
            let _ = writeln!(
                text,
                "    - type: {kind}\n      value: {mean:.2} +/- {std:.2}\n      name: {kind}\n      verified: false"
            );
        };
        metric("mean_reward", found.return_mean, found.return_std);
        if let Some((mean, std)) = found.score_mean.zip(found.score_std) {
            metric("normalized_score", mean, std);
        }
    }
    text.push_str("---\n\n");
    text
}

/// Whether `transformers` opens it.
fn is_transformers(facts: &Facts<'_>) -> bool {
    facts.algorithm.name == "decision_transformer"
}

fn body(facts: &Facts<'_>) -> String {
    let Registered {
        title, paper, name, ..
    } = facts.algorithm;
    let id = facts.reference.id();
    let spec = &facts.spec;
    let env = facts.config.evaluate.env.as_deref();
    let on = env.map_or_else(String::new, |env| format!(" for `{env}`"));
    let early = if facts.state.early_stop(&facts.config).is_some() {
        format!(" (stopped early, of {})", facts.config.total_updates())
    } else {
        String::new()
    };
    let mut text = format!(
        "# {title}{on}\n\nA policy trained offline with [Trajformer](https://github.com/trajformer/trajformer): \
         [{title}]({paper}) (`{name}`), {} observations, {} actions, {} updates{early}, seed {}.\n\n## Data\n\n",
        spec.observation_dim, spec.action_dim, facts.state.update, facts.config.seed
    );
    let names = data_names(facts);
    let names = if names.is_empty() {
        "Not named".to_owned()
    } else {
        format!("`{}`", names.join("`, `"))
    };
    let _ = write!(text, "{names}");
    if let Some(data) = &spec.data {
        let _ = write!(
            text,
            ": {} steps in {} episodes (CRC-32 {})",
            data.steps, data.episodes, data.checksum
        );
    }
    if let Some(env) = &spec.env_name {
        let _ = write!(text, ", collected in `{env}`");
    }
    text.push_str("\n\n## Scores\n\n");
    match &facts.evaluation {
        None => text.push_str("Not evaluated.\n"),
        Some(found) => {
            let _ = writeln!(
                text,
                "| environment | return | normalised score | episodes | evaluation seed |\n|---|---|---|---|---|\n\
                 | `{}` | {:.1} ± {:.1} | {} | {} | {} |\n\nOne training seed ({}); ± is the deviation over episodes.",
                found.env,
                found.return_mean,
                found.return_std,
                found.score_mean.zip(found.score_std).map_or_else(
                    || "-".to_owned(),
                    |(mean, std)| format!("{mean:.1} ± {std:.1}")
                ),
                found.episodes,
                facts.config.evaluate.seed,
                facts.config.seed
            );
        }
    }
    let env = env.unwrap_or("ENV");
    let _ = write!(
        text,
        "\n## Use\n\n```sh\ntrajformer evaluate hf://{id} --env {env}\n```\n\n```rust\nlet folder = \
         trajformer::hub::local(std::path::Path::new(\"hf://{id}\"))?;\nlet run = trajformer::run::open(&folder, \
         &[])?;\nlet mut policy = run.algorithm.policy()?;\n```\n"
    );
    if is_transformers(facts) {
        let _ = write!(
            text,
            "\nIn Python, with `transformers`; observations are normalised with `normalizer.mean` and \
             `normalizer.scale` of policy.safetensors, returns divided by {}:\n\n```python\nfrom transformers import \
             DecisionTransformerModel\n\nmodel = DecisionTransformerModel.from_pretrained(\"{id}\")\n```\n",
            return_scale(facts)
        );
    }
    text
}

/// What returns are divided by, as the stored configuration says it.
fn return_scale(facts: &Facts<'_>) -> String {
    let value = serde_json::to_value(&facts.config.algorithm).unwrap_or_default();
    value[facts.algorithm.name]["return_scale"].to_string()
}
