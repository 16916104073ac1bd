//! What requests say, as JSON or as plain numbers, and how they are answered.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::model::Acted;
use super::problem::{Answer, Problem};
use super::sessions::Step;
use crate::app::act::Starts;

/// Which checkpoint acted.
pub(super) const UPDATE: HeaderName = HeaderName::from_static("trajformer-update");
/// The reward before a step that is given as plain numbers.
pub(super) const REWARD: HeaderName = HeaderName::from_static("trajformer-reward");
/// The number of such a step.
pub(super) const STEP: HeaderName = HeaderName::from_static("trajformer-step");
/// The seed of rows that are given as plain numbers.
pub(super) const SEED: HeaderName = HeaderName::from_static("trajformer-seed");

/// How a body is written, and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    /// Little-endian f32, row-major.
    Binary,
}

impl Form {
    pub(super) fn of(headers: &HeaderMap) -> Answer<Self> {
        let given = headers.get(header::CONTENT_TYPE);
        let text = given.and_then(|value| value.to_str().ok()).unwrap_or("");
        let kind = text.split(';').next().unwrap_or("").trim();
        match kind.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "application/octet-stream" => Ok(Self::Binary),
            _ => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!(
                    "Content-Type is `{}`, expected application/json, or application/octet-stream for little-endian 32-bit floats",
                    text.escape_default()
                ),
            )),
        }
    }
}

/// Rows that are each by themselves.
pub(super) struct Rows {
    /// (rows, O), row-major.
    pub observations: Vec<f32>,
    pub rows: usize,
    pub seed: Option<u64>,
    /// One observation by itself, which is answered with one action.
    is_single: bool,
    form: Form,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowsBody {
    observation: Option<Vec<f32>>,
    observations: Option<Vec<Vec<f32>>>,
    seed: Option<u64>,
}

impl Rows {
    pub(super) fn parse(headers: &HeaderMap, body: &[u8], dim: usize) -> Answer<Self> {
        let form = Form::of(headers)?;
        if form == Form::Binary {
            let observations = floats(body)?;
            check_rows(observations.len(), dim)?;
            check_finite("observations", &observations, dim)?;
            return Ok(Self {
                rows: observations.len() / dim,
                observations,
                seed: number(headers, &SEED)?,
                is_single: false,
                form,
            });
        }
        let body: RowsBody = json_of(body)?;
        let (name, rows) = match (body.observation, body.observations) {
            (Some(one), None) => ("observation", vec![one]),
            (None, Some(rows)) if !rows.is_empty() => ("observations", rows),
            (None, Some(_)) => return Err(Problem::unfit("`observations` is empty")),
            _ => {
                return Err(Problem::unfit(
                    "expected either `observation`, a list of numbers, or `observations`, a list of such lists",
                ));
            }
        };
        for (row, observation) in rows.iter().enumerate() {
            if observation.len() != dim {
                return Err(Problem::unfit(format!(
                    "`{name}`, row {row}: {} numbers, expected {dim}",
                    observation.len()
                )));
            }
        }
        let (count, is_single) = (rows.len(), name == "observation");
        let observations = rows.concat();
        check_finite(name, &observations, dim)?;
        Ok(Self {
            observations,
            rows: count,
            seed: body.seed,
            is_single,
            form,
        })
    }

    /// How the actions are sent.
    pub(super) fn answer(&self, acted: &Acted) -> Response {
        let Acted { actions, update } = acted;
        let dim = actions.len() / self.rows;
        let response = match self.form {
            Form::Binary => bytes(actions),
            Form::Json if self.is_single => {
                json_response(&json!({"action": actions, "update": update}))
            }
            Form::Json => {
                let rows: Vec<&[f32]> = actions.chunks_exact(dim).collect();
                json_response(&json!({"actions": rows, "update": update}))
            }
        };
        with_update(response, *update)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepBody {
    observation: Vec<f32>,
    reward: Option<f32>,
    action: Option<Vec<f32>>,
    step: Option<u64>,
}

impl Step {
    /// A step of a session, and how its answer is written.
    pub(super) fn parse(headers: &HeaderMap, body: &[u8], dim: usize) -> Answer<(Self, Form)> {
        let form = Form::of(headers)?;
        let step = if form == Form::Binary {
            Self {
                observation: floats(body)?,
                reward: number(headers, &REWARD)?,
                taken: None,
                number: number(headers, &STEP)?,
            }
        } else {
            let body: StepBody = json_of(body)?;
            Self {
                observation: body.observation,
                reward: body.reward,
                taken: body.action,
                number: body.step,
            }
        };
        if step.observation.len() != dim {
            return Err(Problem::unfit(format!(
                "`observation` has {} numbers, expected {dim}",
                step.observation.len()
            )));
        }
        check_finite("observation", &step.observation, dim)?;
        check_finite("action", step.taken.as_deref().unwrap_or(&[]), usize::MAX)?;
        check_finite("reward", step.reward.as_slice(), usize::MAX)?;
        Ok((step, form))
    }
}

/// How the action of a step is sent.
pub(super) fn step_answer(form: Form, action: &[f32], step: u64, update: u64) -> Response {
    let mut response = match form {
        Form::Binary => bytes(action),
        Form::Json => json_response(&json!({"action": action, "step": step, "update": update})),
    };
    response.headers_mut().insert(STEP, step.into());
    with_update(response, update)
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct StartBody {
    target_return: Option<f32>,
    goal: Option<Vec<f32>>,
    instruction: Option<String>,
    seed: Option<u64>,
}

/// What a session begins with; an empty body is what the run says.
pub(super) fn starts(headers: &HeaderMap, body: &[u8], dim: usize) -> Answer<Starts> {
    let body: StartBody = if body.is_empty() {
        StartBody::default()
    } else if Form::of(headers)? == Form::Json {
        json_of(body)?
    } else {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a session begins with application/json, or without a body",
        ));
    };
    if let Some(goal) = &body.goal {
        if goal.len() != dim {
            return Err(Problem::unfit(format!(
                "`goal` has {} numbers, expected {dim}: an observation to reach",
                goal.len()
            )));
        }
        check_finite("goal", goal, usize::MAX)?;
    }
    check_finite("target_return", body.target_return.as_slice(), usize::MAX)?;
    Ok(Starts {
        target_returns: body.target_return.map(|target| vec![target]),
        goals: body.goal.map(|goal| vec![goal]),
        instructions: body.instruction.map(|text| vec![text.into()]),
        seed: body.seed,
    })
}

pub(super) fn json_response(value: &Value) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], value.to_string()).into_response()
}

fn with_update(mut response: Response, update: u64) -> Response {
    response.headers_mut().insert(UPDATE, update.into());
    response
}

fn bytes(values: &[f32]) -> Response {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let kind = HeaderValue::from_static("application/octet-stream");
    ([(header::CONTENT_TYPE, kind)], bytes).into_response()
}

fn json_of<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let found = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner());
        let place = if path == "." {
            String::new()
        } else {
            format!("`{path}`: ")
        };
        let is_data = inner.is_data();
        let detail = format!("the body is not what was expected: {place}{inner}");
        if is_data {
            Problem::unfit(detail)
        } else {
            Problem::new(StatusCode::BAD_REQUEST, detail)
        }
    })?;
    reader
        .end()
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body: {error}")))?;
    Ok(found)
}

fn floats(body: &[u8]) -> Answer<Vec<f32>> {
    let (numbers, rest) = body.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Problem::unfit(format!(
            "the body has {} bytes, expected a multiple of 4: little-endian 32-bit floats",
            body.len()
        )));
    }
    Ok(numbers
        .iter()
        .map(|number| f32::from_le_bytes(*number))
        .collect())
}

fn check_rows(numbers: usize, dim: usize) -> Answer<()> {
    if numbers > 0 && numbers.is_multiple_of(dim) {
        return Ok(());
    }
    Err(Problem::unfit(format!(
        "the body has {numbers} numbers, expected rows of {dim}"
    )))
}

fn check_finite(name: &str, values: &[f32], width: usize) -> Answer<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Problem::unfit(format!(
            "`{name}`, row {}, number {}: {} as a 32-bit float, expected finite numbers",
            at / width,
            at % width,
            values[at]
        ))),
    }
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &HeaderName) -> Answer<Option<T>> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("");
    let found = text.trim().parse().map_err(|_| {
        Problem::unfit(format!(
            "the header {name} is `{}`, expected a number",
            text.escape_default()
        ))
    })?;
    Ok(Some(found))
}
