//! One vector per row: an array, or several of a dictionary whose columns are put side by side.

use crate::formats::arrays::{ArrayFile, ArrayInfo, not_finite, position, read_f32_into, reserve};
use trajformer_core::error::{Error, Result};

/// The arrays that make up the vectors; all have as many rows.
#[derive(Debug, Clone)]
pub(super) struct Vectors {
    parts: Vec<ArrayInfo>,
}

impl Vectors {
    /// Looks for vectors under the first of `names` that the file has: a plain array if `keys` is empty, else the
    /// arrays of these keys in the dictionary of that name. `None` if no name is there.
    ///
    /// # Errors
    /// If a dictionary is found and no keys are given, or the reverse; if a key is missing, or parts have other
    /// shapes than (rows, columns) or (rows) with as many rows.
    pub fn find(file: &mut dyn ArrayFile, names: &[&str], keys: &[String]) -> Result<Option<Self>> {
        for name in names {
            let found = if keys.is_empty() {
                file.describe(name)?.map(|info| vec![info])
            } else {
                dictionary(file, name, keys)?
            };
            let Some(parts) = found else {
                continue;
            };
            let vectors = Self { parts };
            vectors.check(file)?;
            return Ok(Some(vectors));
        }
        Ok(None)
    }

    fn check(&self, file: &mut dyn ArrayFile) -> Result<()> {
        let rows = self.rows();
        let joined = self.parts.len() > 1;
        for part in &self.parts {
            let (name, shape) = (&part.name, &part.shape);
            let problem = if shape.len() > 2 || (shape.len() < 2 && !joined) {
                let rank = shape.len();
                format!(
                    "array `{name}` has rank {rank} (shape {shape:?}), expected (steps, observation_dim)"
                )
            } else if shape.is_empty() {
                format!("array `{name}` is a scalar, expected one row per step")
            } else if part.width() == 0 {
                format!("array `{name}` has no columns")
            } else if part.rows() != rows {
                let first = &self.parts[0].name;
                format!(
                    "array `{name}` has {} rows, expected {rows} as in `{first}`",
                    part.rows()
                )
            } else {
                continue;
            };
            return Err(Error::data(file.path(), problem));
        }
        Ok(())
    }

    /// How messages call them.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.parts.iter().map(|part| part.name.as_str()).collect();
        names.join("`, `")
    }

    /// How many vectors.
    pub fn rows(&self) -> usize {
        self.parts.first().map_or(0, ArrayInfo::rows)
    }

    /// Numbers in a vector.
    pub fn width(&self) -> usize {
        self.parts.iter().map(ArrayInfo::width).sum()
    }

    /// Appends all vectors to `values`, row by row.
    ///
    /// # Errors
    /// If a number is not finite, or too large for f32: names array, row and column.
    pub fn read_into(&self, file: &mut dyn ArrayFile, values: &mut Vec<f32>) -> Result<()> {
        if let [only] = self.parts.as_slice() {
            return read_f32_into(file, only, values);
        }
        let (start, width) = (values.len(), self.width());
        let path = file.path().to_path_buf();
        reserve(&path, &self.name(), values, self.rows() * width)?;
        values.resize(start + self.rows() * width, 0.0);
        self.visit(file, &mut |row, column, value, info, at| {
            let narrow = value as f32;
            if !narrow.is_finite() {
                return Err(not_finite(&path, info, at, value));
            }
            values[start + row * width + column] = narrow;
            Ok(())
        })
    }

    /// Passes every number to `sink`: row, column of the vector, number, the array and its own row and column.
    ///
    /// # Errors
    /// If the file is damaged, and what `sink` says.
    pub fn visit(&self, file: &mut dyn ArrayFile, sink: &mut NumberSink<'_>) -> Result<()> {
        let mut before = 0;
        for info in &self.parts {
            file.visit(info, &mut |first, window| {
                for (offset, &value) in window.iter().enumerate() {
                    let (row, column) = position(info, first + offset);
                    sink(row, before + column, value, info, (row, column))?;
                }
                Ok(())
            })?;
            before += info.width();
        }
        Ok(())
    }

    /// The vectors of `rows` (ascending); `None` for those that are NaN from end to end.
    ///
    /// # Errors
    /// If a number is infinite, or only some of a vector are NaN: names array, row and column.
    pub fn rows_at(
        &self,
        file: &mut dyn ArrayFile,
        rows: &[usize],
    ) -> Result<Vec<Option<Box<[f32]>>>> {
        let (width, path) = (self.width(), file.path().to_path_buf());
        let mut place = vec![u32::MAX; self.rows()];
        for (index, &row) in rows.iter().enumerate() {
            place[row] = index as u32;
        }
        let mut picked = vec![0.0f32; rows.len() * width];
        let mut unknown = vec![0usize; rows.len()];
        let mut first_unknown = vec![None; rows.len()];
        self.visit(file, &mut |row, column, value, info, at| {
            let index = place[row] as usize;
            if place[row] == u32::MAX {
                return Ok(());
            }
            let narrow = value as f32;
            if narrow.is_infinite() {
                return Err(not_finite(&path, info, at, value));
            }
            if value.is_nan() {
                unknown[index] += 1;
                first_unknown[index].get_or_insert((info.clone(), at));
            }
            picked[index * width + column] = narrow;
            Ok(())
        })?;
        let partly = unknown.iter().zip(first_unknown);
        if let Some((info, at)) = partly
            .filter(|(count, _)| **count < width)
            .find_map(|(_, first)| first)
        {
            return Err(not_finite(&path, &info, at, f64::NAN));
        }
        let vectors = picked.chunks_exact(width.max(1)).zip(&unknown);
        Ok(vectors
            .map(|(vector, &unknown)| (unknown == 0).then(|| vector.into()))
            .collect())
    }
}

/// Gets a number: row, column of the vector, number, the array and its own row and column.
pub(super) type NumberSink<'a> =
    dyn FnMut(usize, usize, f64, &ArrayInfo, (usize, usize)) -> Result<()> + 'a;

/// The arrays of `keys` in the dictionary `name`; `None` if there is no such name.
fn dictionary(
    file: &mut dyn ArrayFile,
    name: &str,
    keys: &[String],
) -> Result<Option<Vec<ArrayInfo>>> {
    let Some(known) = file.keys(name)? else {
        if file.describe(name)?.is_none() {
            return Ok(None);
        }
        let full = file.full_name(name);
        let problem =
            format!("`{full}` is a plain array, no dictionary: leave `data.observation_keys` out");
        return Err(Error::data(file.path(), problem));
    };
    let mut parts = Vec::new();
    for key in keys {
        let Some(info) = file.describe(&format!("{name}/{key}"))? else {
            let full = file.full_name(name);
            let known = known.join("`, `");
            let problem = format!(
                "the dictionary `{full}` has no `{key}`, which `data.observation_keys` asks for: it has `{known}`"
            );
            return Err(Error::data(file.path(), problem));
        };
        parts.push(info);
    }
    Ok(Some(parts))
}

/// What to say about the dictionary `name`, which messages call `full`, of `keys` where one array is needed.
pub(super) fn choose_keys(full: &str, name: &str, keys: &[String]) -> String {
    let listed = keys.join("`, `");
    let (base, inner) = name.split_once('/').unwrap_or((name, ""));
    if !base.ends_with("observations") && !base.ends_with("obs") {
        return format!(
            "`{full}` is a dictionary (of `{listed}`), expected an array of numbers: only observations are put together \
             from several arrays"
        );
    }
    // Keys are those of the outermost dictionary.
    let keys: Vec<String> = match inner {
        "" => keys.to_vec(),
        inner => keys.iter().map(|key| format!("{inner}/{key}")).collect(),
    };
    let usual: Vec<&String> = ["observation", "desired_goal"]
        .iter()
        .filter_map(|usual| {
            let is_usual = |key: &&String| key.rsplit('/').next() == Some(usual);
            keys.iter().find(is_usual)
        })
        .collect();
    let example: Vec<&str> = match usual.len() {
        2 => usual.into_iter().map(String::as_str).collect(),
        _ => keys.iter().take(2).map(String::as_str).collect(),
    };
    let quoted = example.join("\", \"");
    format!(
        "`{full}` is a dictionary (of `{listed}`): choose the keys whose vectors are put side by side with \
         `data.observation_keys = [\"{quoted}\"]`"
    )
}
