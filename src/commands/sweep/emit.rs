//! A sweep for other programs to run: commands, one a line, or a job definition file of HyperQueue.

use std::path::Path;

use trajformer::checkpoint::check_output;
use trajformer::error::shell_quoted;
use trajformer::sweep::{Plan, write_table};

use crate::commands::sweep::TrainingArgs;
use crate::commands::sweep::children::{Workers, arguments};
use crate::output::say;
use crate::process::this_program;

/// Writes the files that `args` name.
///
/// # Errors
/// If one can't be written, or would take the place of something else.
pub fn emit(
    plan: &Plan,
    runs: &[usize],
    args: &TrainingArgs,
    workers: &Workers,
) -> anyhow::Result<()> {
    let (_, program) = this_program()?;
    let program = program.display().to_string();
    // Threads are what was asked for, else each machine's own.
    let threads = args.run_threads;
    let commands: Vec<Vec<String>> = runs
        .iter()
        .map(|at| {
            let words = arguments(plan, &plan.runs[*at], threads);
            std::iter::once(program.clone()).chain(words).collect()
        })
        .collect();
    let mut written = Vec::new();
    if let Some(path) = &args.emit_commands {
        // The paths of commands, and of data in configurations, begin at this folder.
        let here = shell_quoted(&std::env::current_dir()?);
        let line = |command: &Vec<String>| {
            let words: Vec<String> = command
                .iter()
                .map(|word| shell_quoted(Path::new(word)))
                .collect();
            format!("cd {here} && {}\n", words.join(" "))
        };
        written.push((path, commands.iter().map(line).collect::<String>()));
    }
    if let Some(path) = &args.emit_hyperqueue {
        written.push((path, hyperqueue(plan, runs, &commands, workers)?));
    }
    for (path, text) in written {
        check_output(path)?;
        write_table(path, &text)?;
        say!("wrote {} ({} runs)", path.display(), runs.len())?;
    }
    Ok(())
}

fn hyperqueue(
    plan: &Plan,
    runs: &[usize],
    commands: &[Vec<String>],
    workers: &Workers,
) -> anyhow::Result<String> {
    let here = std::env::current_dir()?.display().to_string();
    let mut tasks = Vec::new();
    for (at, command) in runs.iter().zip(commands) {
        let log = plan.log_path(&plan.runs[*at]).display().to_string();
        let mut request = toml::Table::new();
        let mut resources =
            toml::Table::from_iter([("cpus".to_owned(), (workers.threads as i64).into())]);
        let mut command = command.clone();
        if workers
            .devices
            .iter()
            .any(|device| device.starts_with("cuda"))
        {
            resources.insert("gpus".to_owned(), 1.into());
            // HyperQueue shows a task only the GPUs that it has given it.
            command.extend(["--device".to_owned(), "cuda".to_owned()]);
        }
        request.insert("resources".to_owned(), resources.into());
        let task = toml::Table::from_iter([
            ("id".to_owned(), (*at as i64).into()),
            ("command".to_owned(), command.into()),
            ("cwd".to_owned(), here.clone().into()),
            ("stdout".to_owned(), log.clone().into()),
            ("stderr".to_owned(), log.into()),
            (
                "request".to_owned(),
                vec![toml::Value::from(request)].into(),
            ),
        ]);
        tasks.push(toml::Value::from(task));
    }
    let name = plan.out.file_name().map_or_else(
        || "sweep".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let job = toml::Table::from_iter([
        ("name".to_owned(), name.into()),
        ("task".to_owned(), tasks.into()),
    ]);
    Ok(toml::to_string(&job)?)
}
