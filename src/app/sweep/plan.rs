//! [`Plan`]: the runs of a sweep, with their configurations and folders, checked before the first one starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::app::asked::Asked;
use crate::app::checkpoint::RunDir;
use crate::app::checkpoint::fingerprint::{all_settings, differences, listed};
use crate::app::config::RunConfig;
use crate::app::sweep::expand;
use crate::app::sweep::file::SweepFile;
use crate::app::sweep::line::Line;
use crate::app::sweep::standing::Standing;
use crate::envs;
use trajformer_core::atomic::write_synced;
use trajformer_core::error::{Error, Origin, Result};

/// What a sweep has beside its runs, inside its folder. A pattern such as `OUT/*` does not match it: what is left are runs.
const OWN: &str = ".sweep";
const CONFIGS: &str = "configs";
const LOGS: &str = "logs";
/// Most runs of one sweep.
const MOST_RUNS: usize = 100_000;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRun {
    /// Number of its line.
    pub line: usize,
    /// Its seed.
    pub seed: u64,
    /// Its folder.
    pub folder: PathBuf,
}

/// How far the runs of a sweep have come, by their numbers.
#[derive(Debug, Default)]
pub struct Standings {
    /// All of them.
    pub found: BTreeMap<usize, Standing>,
    /// What is wrong with those that are damaged.
    pub damaged: BTreeMap<usize, Error>,
}

/// The runs of a sweep: every seed of every line, in the order of the file.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Folder of everything.
    pub out: PathBuf,
    /// The configurations.
    pub lines: Vec<Line>,
    /// The runs.
    pub runs: Vec<PlannedRun>,
    /// What the names of its configurations' files end in.
    mark: String,
}

impl Plan {
    /// The plan of a file, with its folder `out`.
    ///
    /// # Errors
    /// If a configuration can't be read or is wrong, or two of them have one folder.
    pub fn of_file(file: &SweepFile, out: &Path) -> Result<Self> {
        let said =
            |error: Error| error.said_by(Some(Origin::File(file.path.display().to_string())));
        Self::new(expand::lines(file)?, out).map_err(said)
    }

    /// The plan of these lines, each in a folder of its name inside `out`.
    ///
    /// # Errors
    /// If two of them have one name, or there are too many runs.
    pub fn new(lines: Vec<Line>, out: &Path) -> Result<Self> {
        let mut by_name: BTreeMap<&str, &Line> = BTreeMap::new();
        for line in &lines {
            if let Some(other) = by_name.insert(&line.name, line) {
                return Err(same_folder(other, line)?);
            }
        }
        let run = |line: usize, name: &str, seed: u64| PlannedRun {
            line,
            seed,
            folder: out.join(name).join(format!("seed-{seed}")),
        };
        let runs: Vec<PlannedRun> = lines
            .iter()
            .enumerate()
            .flat_map(|(at, line)| {
                line.seeds
                    .iter()
                    .map(move |seed| run(at, &line.name, *seed))
            })
            .collect();
        if runs.len() > MOST_RUNS {
            return Err(Error::settings(format!(
                "{} runs, expected at most {MOST_RUNS}",
                runs.len()
            )));
        }
        Ok(Self {
            out: out.to_path_buf(),
            lines,
            runs,
            mark: String::new(),
        })
    }

    /// The plan of these seeds of one configuration, which came from the file `source`, in `out/seed-N`.
    ///
    /// # Errors
    /// If the configuration can't be written as TOML.
    pub fn of_seeds(config: &RunConfig, source: &Path, seeds: &[u64], out: &Path) -> Result<Self> {
        let run = |seed: &u64| PlannedRun {
            line: 0,
            seed: *seed,
            folder: out.join(format!("seed-{seed}")),
        };
        // `.` and `..` are no names.
        let whole = out.canonicalize().ok();
        let named = out.file_name().or_else(|| whole.as_deref()?.file_name());
        let name = named.map_or_else(|| "run".into(), |name| name.to_string_lossy());
        // Another command may train other seeds here, with another configuration.
        let mark = crc32fast::hash(config.to_toml()?.as_bytes());
        Ok(Self {
            out: out.to_path_buf(),
            runs: seeds.iter().map(run).collect(),
            lines: vec![Line {
                name: name.into_owned(),
                config: config.clone(),
                source: source.to_path_buf(),
                seeds: seeds.to_vec(),
            }],
            mark: format!("-{mark:08x}"),
        })
    }

    /// The line of a run.
    pub fn line(&self, run: &PlannedRun) -> &Line {
        &self.lines[run.line]
    }

    /// The configuration of a run.
    pub fn config(&self, run: &PlannedRun) -> RunConfig {
        RunConfig {
            seed: run.seed,
            ..self.line(run).config.clone()
        }
    }

    /// `LINE/seed-N`.
    pub fn name(&self, run: &PlannedRun) -> String {
        format!("{}/seed-{}", self.line(run).name, run.seed)
    }

    /// Where a file of the sweep itself lies: a table, say.
    pub fn own_path(&self, name: &str) -> PathBuf {
        self.out.join(OWN).join(name)
    }

    /// Where the resolved configuration of a line lies, once [`write_configs`](Self::write_configs) has been called.
    pub fn config_path(&self, line: &Line) -> PathBuf {
        self.own_path(CONFIGS)
            .join(format!("{}{}.toml", line.name, self.mark))
    }

    /// Where the output of a run is kept.
    pub fn log_path(&self, run: &PlannedRun) -> PathBuf {
        let name = format!("{}-seed-{}.log", self.line(run).name, run.seed);
        self.own_path(LOGS).join(name)
    }

    /// How far a run has come.
    ///
    /// # Errors
    /// If there is something that can't be read.
    pub fn standing(&self, run: &PlannedRun) -> Result<Standing> {
        Standing::of(&run.folder, &self.config(run))
    }

    /// How far all runs have come, by their numbers, and what is wrong with those that are damaged: one that can't be read keeps no other from being
    /// looked at.
    pub fn standings(&self) -> Standings {
        let mut all = Standings::default();
        for (at, run) in self.runs.iter().enumerate() {
            let config = self.config(run);
            let standing = Standing::checked(&run.folder, &config).unwrap_or_else(|error| {
                all.damaged.insert(at, error);
                Standing::damaged(&config)
            });
            all.found.insert(at, standing);
        }
        all
    }

    /// Fails if the folder of a run holds a run of another configuration, or one that has trained longer: all of them are named,
    /// and none is touched. Those that can't be read are [`standings`](Self::standings)' to name.
    ///
    /// # Errors
    /// If so.
    pub fn check_folders(&self) -> Result<()> {
        let (mut wrong, mut asked) = (Vec::new(), Asked::default());
        for run in &self.runs {
            if !run.folder.join("config.toml").is_file() {
                continue;
            }
            let read = || {
                let there = RunDir::open(&run.folder)?;
                let (state, _, _) = (there.state()?, there.config()?, there.spec()?);
                Ok::<_, Error>((there, state))
            };
            let Ok((there, state)) = read() else {
                continue;
            };
            let misfits = match asked.misfits(&there, &self.config(run)) {
                Ok(misfits) => misfits,
                Err(error) => {
                    wrong.push(format!("\n  {error}"));
                    continue;
                }
            };
            let (done, total) = (
                state.map_or(0, |state| state.update),
                self.line(run).config.total_updates(),
            );
            let problem = match (misfits, done > total) {
                (Some(misfits), _) => misfits,
                (None, true) => format!("{done} updates are done, the sweep has {total}"),
                (None, false) => continue,
            };
            wrong.push(format!("\n  {}: {problem}", run.folder.display()));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::Occupied {
            path: self.out.clone(),
            problem: format!(
                "{} of its runs are there with another configuration, and stay as they are; choose another folder, move them away, \
                 or give the sweep their configuration:{}",
                wrong.len(),
                wrong.concat()
            ),
        })
    }

    /// Fails if data or an environment of a run that is to be trained is missing: everything that is, at once.
    ///
    /// # Errors
    /// If so.
    pub fn check_needs(&self, standings: &BTreeMap<usize, Standing>) -> Result<()> {
        let mut needed: BTreeMap<&Path, &str> = BTreeMap::new();
        let mut environments: BTreeMap<&str, &str> = BTreeMap::new();
        for (at, run) in self.runs.iter().enumerate() {
            if standings.get(&at).is_some_and(|found| !found.is_left()) {
                continue;
            }
            let line = self.line(run);
            for path in &line.config.data.path {
                needed.entry(path).or_insert(&line.name);
            }
            let evaluate = &line.config.evaluate;
            if let Some(env) = evaluate.env.as_deref().filter(|_| evaluate.episodes > 0) {
                environments.entry(env).or_insert(&line.name);
            }
        }
        let mut problems: Vec<String> = Vec::new();
        for (path, line) in needed {
            if !path.exists() {
                problems.push(format!(
                    "\n  {}: no such data, which {line} learns from (`data.path`)",
                    path.display()
                ));
            }
        }
        for (env, line) in environments {
            if !envs::gym::is_gym(env)
                && let Err(error) = envs::make(env)
            {
                problems.push(format!("\n  {error} (for {line})"));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Unsuitable(format!(
            "the sweep can't run:{}",
            problems.concat()
        )))
    }

    /// Writes the resolved configuration of every line, which its runs are started with: what happens to the sweep's own files
    /// while it runs changes nothing.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write_configs(&self) -> Result<()> {
        for name in [CONFIGS, LOGS] {
            let folder = self.own_path(name);
            fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        }
        for line in &self.lines {
            let path = self.config_path(line);
            let text = format!(
                "# {}, resolved from {}\n{}",
                line.name,
                line.source.display(),
                line.config.to_toml()?
            );
            if fs::read_to_string(&path).is_ok_and(|there| there == text) {
                continue;
            }
            write_table(&path, &text)?;
        }
        Ok(())
    }
}

/// Writes a text that is made anew each time, as a whole; several processes may do so at once.
///
/// # Errors
/// If the disk fails.
pub fn write_table(path: &Path, text: &str) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    write_synced(&beside, text.as_bytes())?;
    fs::rename(&beside, path).map_err(Error::io(path))
}

/// The error about two lines of one name.
fn same_folder(first: &Line, second: &Line) -> Result<Error> {
    let found = differences(
        &all_settings(&first.config)?,
        &all_settings(&second.config)?,
    );
    let why = match &found[..] {
        [] => "they are equal: leave one out".to_owned(),
        some => format!(
            "they differ ({}): give one of them a `label` or a configuration file of another name",
            listed(some)
        ),
    };
    Ok(Error::settings(format!(
        "two configurations have the folder `{}`, of {} and {}; {why}",
        first.name,
        first.source.display(),
        second.source.display()
    )))
}
