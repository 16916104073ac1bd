//! The range of actions that a file gives: what is no range is not used, and said.

/// Lowest and highest actions (A each), infinite where there is no bound.
pub(super) type Bounds = (Vec<f32>, Vec<f32>);

/// Numbers this large stand for no bound.
const UNBOUNDED: f64 = 1e30;

/// Columns that one warning names.
const NAMED: usize = 6;

/// The bounds of `dim` actions that lists of lowest and highest ones give, `None` if they bound nothing; and what to
/// say about numbers that can't be meant. `names` are those of the two lists.
///
/// A column without a bound is infinite, or very large, on that side. One whose bounds are NaN, swapped or equal has
/// none.
pub(super) fn check_bounds(
    names: (&str, &str),
    sides: (Option<Vec<f64>>, Option<Vec<f64>>),
    dim: usize,
) -> (Option<Bounds>, Option<String>) {
    let (low_name, high_name) = names;
    let advice = "give the range as `data.action_range` if it matters";
    let (low, high) = match sides {
        (Some(low), Some(high)) => (low, high),
        (None, None) => return (None, None),
        (low, _) => {
            let (there, missing) = match low {
                Some(_) => (low_name, high_name),
                None => (high_name, low_name),
            };
            let text = format!("there is `{there}` but no `{missing}`: it is not used; {advice}");
            return (None, Some(text));
        }
    };
    if low.len() != dim || high.len() != dim {
        let (low, high) = (low.len(), high.len());
        let text = format!(
            "`{low_name}` and `{high_name}` have {low} and {high} numbers, but actions have {dim}: they are not used; \
             {advice}"
        );
        return (None, Some(text));
    }
    let mut wrong = Vec::new();
    let mut bounds = (Vec::new(), Vec::new());
    for (column, pair) in low.into_iter().zip(high).enumerate() {
        let (low, high) = checked(pair).unwrap_or_else(|| {
            let (low, high) = (shown(pair.0), shown(pair.1));
            wrong.push(format!("column {column} from {low} to {high}"));
            (f32::NEG_INFINITY, f32::INFINITY)
        });
        bounds.0.push(low);
        bounds.1.push(high);
    }
    let any = bounds.0.iter().chain(&bounds.1).any(|b| b.is_finite());
    let warning = (!wrong.is_empty()).then(|| {
        let (count, more) = (wrong.len(), wrong.len().saturating_sub(NAMED));
        wrong.truncate(NAMED);
        let more = match more {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!(
            "`{low_name}` and `{high_name}` give no range in {count} of {dim} columns ({}{more}): they are not used \
             there; {advice}",
            wrong.join(", ")
        )
    });
    (any.then_some(bounds), warning)
}

/// A bound as messages show it.
fn shown(bound: f64) -> f64 {
    if bound.abs() < UNBOUNDED || bound.is_nan() {
        bound
    } else {
        f64::INFINITY.copysign(bound)
    }
}

/// Lower and upper bound of a column, infinite where it has none; `None` if they are no range.
fn checked((low, high): (f64, f64)) -> Option<(f32, f32)> {
    let is_range = low < high && low < UNBOUNDED && high > -UNBOUNDED;
    let single = |value: f64, none: f32| {
        if value.abs() < UNBOUNDED {
            value as f32
        } else {
            none
        }
    };
    let (low, high) = (single(low, f32::NEG_INFINITY), single(high, f32::INFINITY));
    (is_range && low < high).then_some((low, high))
}
