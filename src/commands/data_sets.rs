//! `trajformer data list` and `trajformer data pull`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use trajformer::Error;
use trajformer::data::named::{DataSet, Named, known};
use trajformer::data::{self, LoadOptions};
use trajformer::error::shell_quoted;
use trajformer::hub::{self, Checked, PulledData};

use crate::commands::hints;
use crate::output::{self, say};

/// Arguments of `data list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only names, or publishers (D4RL, Minari, OGBench), with this part in them; `*` stands for anything.
    pub pattern: Option<String>,
    /// Print one JSON array, with addresses, checksums and where licences are stated.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// A name of `data list`, or hf://datasets/OWNER/NAME[/FOLDER][@REVISION].
    pub name: String,
    /// Folder to put it into, in place of the cache; its name is no name of data there: give its path.
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// A data set as `data list --json` prints it.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    set: &'a DataSet,
    /// Where it is in the cache, if it is there.
    cached: Option<PathBuf>,
}

/// Lists the data sets that have a name.
///
/// # Errors
/// If none fits, or it can't be printed.
pub fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let known = known::all()?;
    let sets = match &args.pattern {
        None => known.iter().collect(),
        Some(pattern) => known.matching(pattern),
    };
    if sets.is_empty() {
        anyhow::bail!(
            "no data set is called `{}`: `trajformer data list` shows all; others of the Hub are named \
             hf://datasets/OWNER/NAME",
            args.pattern.as_deref().unwrap_or_default()
        );
    }
    let cached = |set: &'static DataSet| {
        let named = Named::Known(set);
        named.opened(&named.cached())
    };
    if args.json {
        let listed = |&set: &&'static DataSet| Listed {
            set,
            cached: cached(set),
        };
        let listed: Vec<Listed<'_>> = sets.iter().map(listed).collect();
        say!("{}", serde_json::to_string(&listed)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(sets.iter().map(|&set| row(set, cached(set).is_some())));
    output::whole(aligned(&rows))?;
    for note in notes(&sets) {
        say!("{note}")?;
    }
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; 8] = [
    "NAME",
    "FROM",
    "STEPS",
    "EPISODES",
    "SIZE",
    "SCORED IN",
    "READ",
    "HERE",
];

fn row(set: &DataSet, is_here: bool) -> [String; 8] {
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let word = |is: bool| if is { "yes" } else { "no" }.to_owned();
    [
        set.name.clone(),
        set.family.clone(),
        number(set.steps),
        number(set.episodes),
        set.size.map_or("-".to_owned(), mebibytes),
        set.env.clone().unwrap_or("-".to_owned()),
        word(set.reads),
        word(is_here),
    ]
}

fn mebibytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 10.0 {
        format!("{mebibytes:.1} MiB")
    } else {
        format!("{mebibytes:.0} MiB")
    }
}

/// Rows with their columns under each other, numbers to the right.
fn aligned(rows: &[[String; 8]]) -> String {
    const RIGHT: std::ops::Range<usize> = 2..5;
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            if RIGHT.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What there is to say of the publishers of these data sets, and of what is missing in the table.
fn notes(sets: &[&DataSet]) -> Vec<String> {
    let mut notes = vec![String::new()];
    for family in ["D4RL", "Minari", "OGBench"] {
        let Some(set) = sets.iter().find(|set| set.family == family) else {
            continue;
        };
        let licence = match (&set.licence, &set.licence_source) {
            (Some(licence), Some(source)) => format!("{licence} ({source})"),
            _ => "unknown: its publisher states none for the data".to_owned(),
        };
        let note = set
            .note
            .as_ref()
            .map_or_else(String::new, |note| format!("; {note}"));
        notes.push(format!("{family}: licence {licence}{note}"));
    }
    notes.push(
        "A dash: its publisher does not say. `trajformer data pull NAME` fetches one; the name then stands for its file."
            .to_owned(),
    );
    notes
}

/// Fetches a data set, says where it is, and looks whether it opens.
///
/// # Errors
/// What failed, and where.
pub fn pull(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let named = Named::find(&args.name).map_err(|error| match error {
        Error::Unknown { name, problem } => Error::Unknown {
            name,
            problem: format!(
                "{problem}; `trajformer data list` shows all, and others of the Hub are named hf://datasets/OWNER/NAME"
            ),
        },
        other => other,
    })?;
    let set = match &named {
        Named::Known(set) => Some(*set),
        Named::Hub(_) => None,
    };
    if let Some(note) = set
        .filter(|set| !set.reads)
        .and_then(|set| set.note.as_ref())
    {
        tracing::warn!("{}: {note}", named.name());
    }
    let pulled = hub::pull_data(&named, args.to.as_deref())?;
    for file in &pulled.files {
        say!("{:>12}  {}  sha256 {}", file.size, file.name, file.sha256)?;
    }
    let was = if pulled.is_new {
        "fetched"
    } else {
        "there already"
    };
    let checked = match pulled.checked {
        Checked::Published => "its checksum is the published one",
        Checked::AsBefore => "its checksum is that of its first time",
        Checked::First => "no checksum is published: this one is noted, and compared next time",
    };
    say!("{was}; {checked}")?;
    say!("{}", pulled.place.display())?;
    let keys = set.map(|set| &set.observation_keys[..]).unwrap_or_default();
    if set.is_none_or(|set| set.reads) {
        opens(&pulled, keys)?;
    }
    if args.json {
        say!("{}", serde_json::to_string(&pulled)?)?;
    } else if set.is_none_or(|set| set.reads) {
        for line in uses(&pulled, args.to.is_some(), keys) {
            say!("{line}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens what came, and prints what is in it.
fn opens(pulled: &PulledData, keys: &[String]) -> anyhow::Result<()> {
    let options = LoadOptions {
        observation_keys: keys.to_vec(),
        ..LoadOptions::default()
    };
    let Some(path) = &pulled.path else {
        return Ok(());
    };
    let info = data::info(&data::load_with(std::slice::from_ref(path), &options)?);
    output::whole(hints::with_data_flags(&info.to_string()))
}

/// How to learn from it.
fn uses(pulled: &PulledData, is_elsewhere: bool, keys: &[String]) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let names = match &pulled.path {
        Some(found) if is_elsewhere => vec![path(found)],
        Some(_) => vec![pulled.name.clone()],
        None => pulled.readable.iter().map(|file| path(file)).collect(),
    };
    let keys = match keys {
        [] => String::new(),
        keys => format!(" --set 'data.observation_keys={keys:?}'"),
    };
    let mut lines = vec!["train on it with".to_owned()];
    lines.extend(names.iter().map(|name| {
        format!(
            "  --set {}{keys}",
            shell_quoted(Path::new(&format!("data.path={name}")))
        )
    }));
    lines
}
