//! The processes that train: several of this program side by side, each with one run of a plan.
//!
//! A child's standard input is a pipe that it watches: when this process ends, however it does, the pipe closes, and the child
//! ends with a checkpoint. Its output goes to a log that is locked as long as it lives, so that a sweep that is started again waits
//! for what the last one has left behind.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
#[cfg(unix)]
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use trajformer::Error;
use trajformer::checkpoint::is_in_training;
use trajformer::checkpoint::origin::STARTED_BY;
use trajformer::interrupt::Interrupt;
use trajformer::sweep::{Line, Plan, PlannedRun, Standing};

use crate::process::{INTERRUPTED, TERMINATED_STATUS, this_program};

/// How often children are asked whether they have ended.
const POLL: Duration = Duration::from_millis(50);
/// How often the table is drawn anew.
const REDRAW: Duration = Duration::from_secs(1);
/// Seeds of one configuration that a process can be told of.
const MOST_BESIDE: u64 = 10_000;
/// What a line of a log begins with that is a warning.
const WARNING: &str = " WARN ";
/// What is shown of the end of a log.
const LAST_LINES: usize = 6;
const LAST_BYTES: u64 = 8 << 10;

/// How runs are started.
#[derive(Debug, Clone)]
pub struct Workers {
    /// Processes side by side.
    pub jobs: usize,
    /// Threads of each.
    pub threads: usize,
    /// Devices that they are spread over; none: each configuration's own.
    pub devices: Vec<String>,
    /// The command that their runs say they were begun with, where it is not each process's own.
    pub command: Option<String>,
}

/// What is asked of workers; the rest follows from the machine and the runs.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Processes side by side.
    pub jobs: Option<usize>,
    /// Threads of each.
    pub threads: Option<usize>,
    /// Devices that they are spread over.
    pub devices: Vec<String>,
}

impl Workers {
    /// Who trains `runs` runs of `lines`: one process per device that is named, else one per core, with the threads divided among them. A GPU that one
    /// run fills is not divided unasked.
    pub fn new(wanted: Wanted, lines: &[Line], runs: usize) -> Self {
        let cores = rayon::current_num_threads();
        let on_cores = lines.iter().any(|line| line.config.device == "cpu");
        let many = match wanted.devices.len() {
            0 if on_cores => cores,
            0 => 1,
            devices => devices,
        };
        let jobs = wanted.jobs.unwrap_or(many).min(runs.max(1));
        Self {
            jobs,
            threads: wanted.threads.unwrap_or((cores / jobs).max(1)),
            devices: wanted.devices,
            command: None,
        }
    }
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It is finished, by this process or before.
    Finished,
    /// It failed; the last lines that it wrote.
    Failed(String),
    /// It was interrupted, or not begun.
    Left,
}

/// Something to be shown.
pub enum Event<'a> {
    /// A run, its number, begins or goes on.
    Started(usize),
    /// A run has ended.
    Ended(usize, &'a Fate),
    /// A run gives a warning.
    Warned(&'a str),
    /// What is left is trained by other processes.
    Waiting(usize),
    /// Now and then: these runs are being trained.
    Running(&'a [usize]),
}

/// A run that is being trained.
struct Running {
    run: usize,
    child: Child,
    log: PathBuf,
    /// Where its part of the log begins.
    begin: u64,
    /// Up to where its log has been looked through for warnings.
    seen: u64,
    slot: usize,
}

/// Trains `runs`, numbers of the plan's, in this order; `fates` has a place for every run of the plan, and those that are finished
/// already are left out.
///
/// # Errors
/// If a log can't be written or the program can't be started; children end then.
pub fn train(
    plan: &Plan,
    runs: &[usize],
    workers: &Workers,
    interrupt: &Interrupt,
    show: &mut dyn FnMut(&Event<'_>),
) -> anyhow::Result<Vec<Fate>> {
    let mut fates = vec![Fate::Left; plan.runs.len()];
    let mut queue: VecDeque<usize> = runs.iter().copied().collect();
    let mut running: Vec<Running> = Vec::new();
    let (mut drawn, mut is_waiting) = (Instant::now(), false);
    loop {
        if interrupt.is_set() {
            queue.clear();
            // Closed pipes: they write their checkpoints.
            running
                .iter_mut()
                .for_each(|running| drop(running.child.stdin.take()));
        }
        let mut busy = 0;
        while running.len() < workers.jobs && busy < queue.len() {
            let Some(run) = queue.pop_front() else { break };
            match plan.standing(&plan.runs[run]) {
                Ok(standing) if standing.is_finished() => {
                    fates[run] = Fate::Finished;
                    continue;
                }
                Ok(_) => {}
                Err(error) => {
                    fates[run] = Fate::Failed(error.to_string());
                    show(&Event::Ended(run, &fates[run]));
                    continue;
                }
            }
            let slot = (0..).find(|slot| running.iter().all(|other| other.slot != *slot));
            // One that was started by itself has no log here.
            let is_free = !is_in_training(&plan.runs[run].folder);
            let slot = slot.filter(|_| is_free);
            let started = slot.map(|slot| start(plan, run, workers, slot));
            match started.transpose()?.flatten() {
                Some(child) => {
                    running.push(child);
                    show(&Event::Started(run));
                }
                // Another process has it.
                None => {
                    queue.push_back(run);
                    busy += 1;
                }
            }
        }
        if running.is_empty() && queue.is_empty() {
            return Ok(fates);
        }
        if running.is_empty() && !is_waiting {
            is_waiting = true;
            show(&Event::Waiting(queue.len()));
        }
        let mut at = 0;
        while at < running.len() {
            match running[at].child.try_wait().context("a run's process")? {
                None => at += 1,
                Some(status) => {
                    let mut ended = running.swap_remove(at);
                    tell_warnings(&mut ended, show);
                    let fate = fate(plan, &ended, status)?;
                    show(&Event::Ended(ended.run, &fate));
                    fates[ended.run] = fate;
                }
            }
        }
        if drawn.elapsed() >= REDRAW {
            drawn = Instant::now();
            for running in &mut running {
                tell_warnings(running, show);
            }
            let numbers: Vec<usize> = running.iter().map(|running| running.run).collect();
            show(&Event::Running(&numbers));
        }
        std::thread::sleep(if running.is_empty() { REDRAW / 4 } else { POLL });
    }
}

/// The arguments that train a run: a command that anybody can type.
pub fn arguments(plan: &Plan, run: &PlannedRun, threads: Option<usize>) -> Vec<String> {
    let line = plan.line(run);
    let shown = |path: &Path| match path.display().to_string() {
        option if option.starts_with('-') => format!("./{option}"),
        path => path,
    };
    let mut arguments = vec![
        "train".to_owned(),
        shown(&plan.config_path(line)),
        "--seeds".to_owned(),
        format!("{}..{}", run.seed, run.seed + 1),
        "--out".to_owned(),
        shown(run.folder.parent().unwrap_or(&plan.out)),
    ];
    if let Some(threads) = threads {
        arguments.extend(["--threads".to_owned(), threads.to_string()]);
    }
    arguments
}

/// Starts a run, unless another process has its log.
fn start(
    plan: &Plan,
    run: usize,
    workers: &Workers,
    slot: usize,
) -> anyhow::Result<Option<Running>> {
    let planned = &plan.runs[run];
    let path = plan.log_path(planned);
    let shown = || format!("{}", path.display());
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(shown)?;
    match log.try_lock() {
        Ok(()) | Err(TryLockError::Error(_)) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
    }
    let mut arguments = arguments(plan, planned, Some(workers.threads));
    arguments.push("--until-stdin-closes".to_owned());
    let seeds = &plan.line(planned).seeds;
    if let (Some(first), Some(last)) = (seeds.iter().min(), seeds.iter().max())
        && last - first < MOST_BESIDE
    {
        // They are no strangers in its folder, whatever is there of them.
        arguments.extend(["--beside".to_owned(), format!("{first}..{}", last + 1)]);
    }
    if !workers.devices.is_empty() {
        let device = &workers.devices[slot % workers.devices.len()];
        arguments.extend(["--device".to_owned(), device.clone()]);
    }
    writeln!(log, "$ trajformer {}", arguments.join(" ")).with_context(shown)?;
    let begin = log.metadata().with_context(shown)?.len();
    let (program, name) = this_program().context("this program's own file")?;
    let mut command = Command::new(program);
    #[cfg(unix)]
    command.arg0(&name);
    command
        .args(&arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().with_context(shown)?)
        .stderr(log);
    // A scheduler may ask all processes to end: a run that was is none that is finished.
    command.env(TERMINATED_STATUS, INTERRUPTED.to_string());
    if let Some(typed) = &workers.command {
        command.env(STARTED_BY, typed);
    }
    // Ctrl-C is for this process, which then closes the pipe.
    #[cfg(unix)]
    command.process_group(0);
    let child = command.spawn();
    let child = child.with_context(|| format!("{}", name.display()))?;
    Ok(Some(Running {
        run,
        child,
        log: path,
        begin,
        seen: begin,
        slot,
    }))
}

/// What became of a run whose process has ended.
fn fate(plan: &Plan, ended: &Running, status: ExitStatus) -> anyhow::Result<Fate> {
    let standing: Result<Standing, Error> = plan.standing(&plan.runs[ended.run]);
    if status.code() == Some(INTERRUPTED.into()) {
        return Ok(Fate::Left);
    }
    let how = match (status.code(), signal(status)) {
        (Some(0), _) => match standing {
            Ok(standing) if standing.is_finished() => return Ok(Fate::Finished),
            Ok(standing) => format!(
                "it ended after {} of {} updates",
                standing.updates, standing.total
            ),
            Err(error) => error.to_string(),
        },
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(9)) => "killed (signal 9): out of memory?".to_owned(),
        (None, signal) => format!("killed (signal {})", signal.unwrap_or_default()),
    };
    let last = last_lines(&ended.log, ended.begin).unwrap_or_default();
    Ok(Fate::Failed([how, last].join("\n").trim_end().to_owned()))
}

/// The signal that ended a process, where there are signals.
fn signal(status: ExitStatus) -> Option<i32> {
    #[cfg(unix)]
    let found = status.signal();
    #[cfg(not(unix))]
    let found = status.code();
    found
}

/// Shows the warnings that a run has given since it was last looked at.
fn tell_warnings(running: &mut Running, show: &mut dyn FnMut(&Event<'_>)) {
    let new = || {
        let mut file = File::open(&running.log)?;
        file.seek(SeekFrom::Start(running.seen))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    // A log that can't be read keeps no run from being trained.
    let Ok(bytes) = new() else { return };
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    running.seen += whole as u64;
    for line in String::from_utf8_lossy(&bytes[..whole]).lines() {
        if let Some(text) = line.strip_prefix(WARNING) {
            show(&Event::Warned(text));
        }
    }
}

/// The last lines of a log, from `begin` on.
fn last_lines(path: &Path, begin: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(begin.max(end.saturating_sub(LAST_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    // From the error on, where it is among them.
    let first = lines.len().saturating_sub(LAST_LINES);
    let error = lines.iter().rposition(|line| line.starts_with("error: "));
    let first = error.map_or(first, |error| error.max(first));
    Ok(lines[first..].join("\n"))
}

#[cfg(test)]
mod tests {
    use trajformer::config::RunConfig;

    use super::*;

    #[test]
    fn processes_are_one_per_device_or_core_and_a_gpu_is_not_divided_unasked() {
        let line = |device: &str| Line {
            name: "a".to_owned(),
            config: RunConfig {
                device: device.to_owned(),
                ..RunConfig::parse("[algorithm.bc]").expect("a configuration")
            },
            source: PathBuf::from("a.toml"),
            seeds: vec![0],
        };
        let cores = rayon::current_num_threads();
        let jobs = |wanted: Wanted, lines: &[Line], runs| {
            let workers = Workers::new(wanted, lines, runs);
            assert_eq!(workers.threads, (cores / workers.jobs).max(1));
            workers.jobs
        };
        assert_eq!(jobs(Wanted::default(), &[line("cpu")], 100), cores.min(100));
        assert_eq!(jobs(Wanted::default(), &[line("cpu")], 1), 1);
        assert_eq!(jobs(Wanted::default(), &[line("cuda")], 100), 1);
        let mixed = [line("cuda"), line("cpu")];
        assert_eq!(jobs(Wanted::default(), &mixed, 100), cores.min(100));
        let two = Wanted {
            devices: ["cuda:0", "cuda:1"].map(str::to_owned).to_vec(),
            ..Wanted::default()
        };
        assert_eq!(jobs(two, &[line("cuda")], 100), 2);
        let asked = Wanted {
            jobs: Some(3),
            ..Wanted::default()
        };
        assert_eq!(jobs(asked, &[line("cuda")], 100), 3);
    }
}
