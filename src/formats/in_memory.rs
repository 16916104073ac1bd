//! [`read`]: data sets from arrays in memory. Their names, shapes and rules are those of [`npz`](crate::formats::npz).

use std::path::Path;

use crate::formats::arrays::{ArrayFile, ArrayInfo, Kind, Sink};
use crate::formats::ends;
use crate::formats::flat;
use crate::formats::options::LoadOptions;
use trajformer_core::dataset::Dataset;
use trajformer_core::dataset_checks;
use trajformer_core::error::{Error, Result};

/// Numbers passed on at a time.
const WINDOW: usize = 1 << 15;

/// What messages call the place of the arrays.
const PLACE: &str = "arrays";

/// An array of numbers in memory, row-major.
#[derive(Debug, Clone)]
pub struct Array<'a> {
    /// Its name in the schema of [`npz`](crate::formats::npz).
    pub name: &'a str,
    /// Its dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many numbers as `shape` says.
    pub values: Values<'a>,
}

/// Numbers of an [`Array`].
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision, rounded to single where a data set keeps them.
    F64(&'a [f64]),
    /// Whole numbers: as actions, choices.
    I64(&'a [i64]),
    /// Flags.
    Bool(&'a [bool]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::F32(_) | Self::F64(_) => Kind::Float,
            Self::I64(_) => Kind::Integer,
            Self::Bool(_) => Kind::Bool,
        }
    }

    /// Appends the numbers from `first` on, `count` of them.
    fn extend(&self, window: &mut Vec<f64>, first: usize, count: usize) {
        let range = first..first + count;
        match self {
            Self::F32(values) => window.extend(values[range].iter().map(|&v| f64::from(v))),
            Self::F64(values) => window.extend_from_slice(&values[range]),
            Self::I64(values) => window.extend(values[range].iter().map(|&v| v as f64)),
            Self::Bool(values) => window.extend(values[range].iter().map(|&v| f64::from(v))),
        }
    }
}

/// A data set from arrays, as the same arrays in an `.npz` file would give it; `env_name` is that of the environment, `instructions` say what each
/// episode was asked to do. It has no sources.
///
/// # Errors
/// If an array is missing, has another shape than it must have, or holds a number that is not finite or of the wrong kind: names array,
/// shape and row.
pub fn read(
    arrays: &[Array<'_>],
    env_name: Option<String>,
    instructions: Option<Vec<String>>,
    options: &LoadOptions,
) -> Result<Dataset> {
    let place = Path::new(PLACE);
    for array in arrays {
        if array.values.len() != array.shape.iter().product::<usize>() {
            let (name, shape, found) = (array.name, &array.shape, array.values.len());
            let problem = format!("array `{name}` holds {found} numbers, its shape is {shape:?}");
            return Err(Error::data(place, problem));
        }
    }
    let mut file = InMemory(arrays);
    let steps = flat::read_steps(&mut file, &[])?;
    let mut cutting = ends::npz_cutting(&mut file, steps.count(), options)?;
    cutting.env_name = env_name;
    let mut data = flat::assemble(&mut file, steps, &cutting)?;
    if let Some(texts) = instructions {
        flat::instruct(&mut data, place, texts)?;
    }
    dataset_checks::drop_false_finals(&mut data);
    data.sources = Vec::new();
    if let Some(columns) = &options.observation_columns {
        columns.keep_in(&mut data)?;
    }
    let found = dataset_checks::warnings(&data);
    data.warnings.extend(found);
    Ok(data)
}

struct InMemory<'a>(&'a [Array<'a>]);

impl InMemory<'_> {
    fn find(&self, name: &str) -> Option<&Array<'_>> {
        self.0.iter().find(|array| array.name == name)
    }
}

impl ArrayFile for InMemory<'_> {
    fn path(&self) -> &Path {
        Path::new(PLACE)
    }

    fn describe(&mut self, name: &str) -> Result<Option<ArrayInfo>> {
        Ok(self.find(name).map(|array| ArrayInfo {
            name: name.to_owned(),
            shape: array.shape.clone(),
            kind: array.values.kind(),
            fortran_order: false,
        }))
    }

    fn keys(&mut self, _: &str) -> Result<Option<Vec<String>>> {
        Ok(None)
    }

    fn visit(&mut self, info: &ArrayInfo, sink: &mut Sink<'_>) -> Result<()> {
        let Some(array) = self.find(&info.name) else {
            return Ok(());
        };
        let total = array.values.len();
        let mut window = Vec::with_capacity(WINDOW.min(total));
        for first in (0..total).step_by(WINDOW) {
            window.clear();
            array
                .values
                .extend(&mut window, first, WINDOW.min(total - first));
            sink(first, &window)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five steps: an episode of three, then one of two that a limit ends.
    fn arrays<'a>(observations: &'a [f64], rewards: &'a [f32]) -> Vec<Array<'a>> {
        let array = |name, shape: &[usize], values| Array {
            name,
            shape: shape.to_vec(),
            values,
        };
        vec![
            array("observations", &[5, 2], Values::F64(observations)),
            array("actions", &[5, 1], Values::F32(&[0.1, 0.2, 0.3, 0.4, 0.5])),
            array("rewards", &[5], Values::F32(rewards)),
            array(
                "terminals",
                &[5],
                Values::Bool(&[false, false, true, false, false]),
            ),
            array("timeouts", &[5], Values::I64(&[0, 0, 0, 0, 1])),
        ]
    }

    #[test]
    fn arrays_become_what_their_file_becomes() {
        let observations: Vec<f64> = (0..10).map(|at| f64::from(at) / 3.0).collect();
        let rewards = [1.0, 2.0, 3.0, 4.0, 5.0];
        let given = arrays(&observations, &rewards);
        let name = Some("Mine-v0".to_owned());
        let found = read(&given, name, None, &LoadOptions::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.npz");
        crate::formats::files::save(&found, &path).unwrap();
        let stored = crate::formats::files::load_one(&path).unwrap();
        assert_eq!(found.observations, stored.observations);
        assert_eq!(found.observations[1], (1.0_f64 / 3.0) as f32);
        assert_eq!(found.rewards, stored.rewards);
        assert_eq!(found.episodes, stored.episodes);
        assert_eq!(found.env_name, stored.env_name);
        let ends = |episode: usize| {
            let episode = &found.episodes[episode];
            (episode.steps, episode.terminated, episode.truncated)
        };
        assert_eq!((ends(0), ends(1)), ((3, true, false), (2, false, true)));
        assert!(found.sources.is_empty());
    }

    #[test]
    fn long_arrays_are_read_to_their_end() {
        let steps = WINDOW + 3;
        let observations: Vec<f64> = (0..steps).map(|at| at as f64).collect();
        let actions = vec![0.5; steps];
        let array = |name, values| Array {
            name,
            shape: vec![steps, 1],
            values: Values::F64(values),
        };
        let lengths = [steps as i64];
        let given = [
            array("observations", &observations),
            array("actions", &actions),
            array("rewards", &observations),
            Array {
                name: "episode_lengths",
                shape: vec![1],
                values: Values::I64(&lengths),
            },
        ];
        let found = read(&given, None, None, &LoadOptions::default()).unwrap();
        assert_eq!(found.observations[steps - 1], (steps - 1) as f32);
        assert_eq!(found.rewards, found.observations);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (good, rewards) = ([0.5; 10], [1.0; 5]);
        let refused = |arrays: &[Array<'_>]| {
            let read = read(arrays, None, None, &LoadOptions::default());
            read.expect_err("an error").to_string()
        };
        let mut bad = good;
        bad[7] = f64::NAN;
        let text = refused(&arrays(&bad, &rewards));
        assert!(text.contains("`observations`, row 3, column 1"), "{text}");
        let mut short = arrays(&good, &rewards);
        short[2].shape = vec![4];
        assert!(refused(&short).contains("holds 5 numbers"));
        short[2].values = Values::F32(&rewards[..4]);
        let text = refused(&short);
        assert!(text.contains("`rewards` has 4 rows, expected 5"), "{text}");
        let text = refused(&arrays(&good, &rewards)[..3]);
        assert!(text.contains("nothing says where episodes end"), "{text}");
        let text = refused(&arrays(&good, &rewards)[1..]);
        assert!(
            text.contains("array `observations` or `obs` is missing"),
            "{text}"
        );
    }
}
