//! Errors as the command shows them: what the library says, and the flags that do something about it. The library names
//! no flags; which of them an error is about is said here alone.

use std::path::Path;

use trajformer::Error;
use trajformer::error::{Ability, Origin, shell_quoted};
use trajformer::nearest::nearest;

use crate::cli::Command;

/// What the error of a command is, with all of its causes.
pub fn explained(error: &anyhow::Error, command: &Command) -> String {
    // Some errors quote their source already; say each thing once.
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    if let Some(error) = error.downcast_ref::<Error>() {
        text = with_flags(error, text);
    }
    if matches!(command, Command::Data(_)) {
        text = with_data_flags(&text).replace("`evaluate.python`", "`--python`");
    }
    let of_library = error.downcast_ref::<Error>();
    if matches!(command, Command::Train(_)) && matches!(of_library, Some(Error::Mujoco { .. })) {
        text.push_str(" (to train without scores: `--set evaluate.episodes=0`)");
    }
    if is_setup(command) && matches!(of_library, Some(Error::Hub { .. })) {
        text.push_str(
            " (`trajformer setup mujoco --help` says how wheels that were fetched elsewhere are taken with `--from`)",
        );
    }
    text
}

#[cfg(feature = "mujoco")]
fn is_setup(command: &Command) -> bool {
    matches!(command, Command::Setup(_))
}

#[cfg(not(feature = "mujoco"))]
fn is_setup(_: &Command) -> bool {
    false
}

/// An error of the library.
pub fn of_library(error: &Error) -> String {
    with_flags(error, error.to_string())
}

fn with_flags(error: &Error, text: String) -> String {
    let text = match error.origin() {
        Some(origin @ Origin::Overrides(texts)) => {
            let typed = format!("`--set {}`", texts.join(" --set "));
            text.replacen(&origin.to_string(), &typed, 1)
        }
        _ => text,
    };
    match hint(error) {
        Some(hint) => format!("{text} ({hint})"),
        None => text,
    }
}

/// The flags that do something about an error.
fn hint(error: &Error) -> Option<String> {
    let hint = match error {
        Error::NotSet { key, .. } if key == "data.path" => {
            "`--set data.path=FILE`, e.g. `--set data.path=hopper-medium.hdf5`"
        }
        Error::NotFetched { name, .. } => {
            return Some(format!(
                "`trajformer data pull {name}`; `--set data.path=FILE` names another file in a configuration's place"
            ));
        }
        Error::NotSet { key, .. } => return Some(format!("`--set {key}=VALUE`")),
        Error::NoData { .. } => "`--data FILE` of `evaluate`",
        Error::NoCommonData { .. } => "`--data DATA`",
        Error::NoSeconds { .. } => "`--x updates`",
        Error::NothingYet { .. } => {
            "shorter: fewer `--episodes`, `--members` and `--updates`, e.g. `--episodes 20 --members 10 --updates 5000`"
        }
        Error::DataMoved { .. } => "`--set data.path=FILE`",
        Error::DataMissing { path, .. } => {
            return Some(match d4rl_name(path) {
                Some(name) => format!(
                    "`trajformer data pull {name}` fetches D4RL's; `--set data.path=FILE` names another place"
                ),
                None => "`--set data.path=FILE`".to_owned(),
            });
        }
        Error::Mujoco { .. } => "`trajformer setup mujoco` installs library and models",
        Error::NoDevice { .. } => "`--set device=cpu` takes the CPU",
        Error::NoGoal { .. } => "`--set 'evaluate.goal=[...]'`",
        Error::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            return missing_file(path);
        }
        Error::UnknownInstruction { .. } => "`evaluate --instruction TEXT` asks the run's encoder",
        Error::OpenedWithoutData => "`train --resume`",
        Error::NoActivations { .. } => "`--activation relu|tanh`, `--output tanh|identity`",
        Error::Occupied { .. } => "`--out DIR`",
        Error::RunExists { path } | Error::NoCheckpoint { path } => {
            let resume = format!("`train --resume {}`", shell_quoted(path));
            return Some(match error {
                Error::RunExists { .. } => format!("{resume}, `--out DIR`"),
                _ => resume,
            });
        }
        Error::Training {
            resumable: Some(path),
            ..
        } => {
            return Some(format!(
                "`trajformer train --resume {}`",
                shell_quoted(path)
            ));
        }
        Error::Unsupported { ability, .. } => match ability {
            Ability::Instructions => "`--instruction`",
            Ability::Sampling => "leave `--sample` out; `data collect` also takes `--noise 0.1`",
            Ability::Memoryless => "`trajformer choose RUN OTHER --data DATA`",
            Ability::MazePicture => "`--picture`",
            _ => return None,
        },
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What may be meant by a data file that is not there: one beside it, or a public data set; `None` for other files.
fn missing_file(path: &Path) -> Option<String> {
    let ending = |path: &Path| {
        path.extension()
            .map(|ending| ending.to_string_lossy().into_owned())
    };
    let is_data = |path: &Path| {
        let found = ending(path);
        found.is_some_and(|ending| ["hdf5", "h5", "npz", "npy"].contains(&ending.as_str()))
    };
    if !is_data(path) {
        return None;
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let inside = std::fs::read_dir(parent.unwrap_or(Path::new(".")));
    let files = inside.into_iter().flatten().flatten();
    let files = files.map(|entry| entry.path()).filter(|path| is_data(path));
    let names: Vec<String> = files
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    let name = path.file_name()?.to_string_lossy();
    let near = nearest(&name, names.iter().map(String::as_str));
    let near = near.map_or_else(String::new, |near| {
        format!("did you mean `{}`? ", path.with_file_name(near).display())
    });
    let fetched = d4rl_name(path).map_or_else(
        || "`trajformer data list` names public data sets".to_owned(),
        |name| format!("`trajformer data pull {name}` fetches D4RL's, named {name} then"),
    );
    Some(format!("{near}{fetched}"))
}

/// What D4RL calls the data of a file of such a name: `hopper-medium-v2` for `data/hopper_medium.hdf5`; `None` for other names.
fn d4rl_name(path: &Path) -> Option<String> {
    const VERSIONS: [(&str, &str); 11] = [
        ("hopper", "v2"),
        ("halfcheetah", "v2"),
        ("walker2d", "v2"),
        ("ant", "v2"),
        ("antmaze", "v2"),
        ("maze2d", "v1"),
        ("kitchen", "v0"),
        ("pen", "v1"),
        ("hammer", "v1"),
        ("door", "v1"),
        ("relocate", "v1"),
    ];
    let stem = path.file_stem()?.to_str()?.to_ascii_lowercase();
    let plain = stem.replace('_', "-");
    let (family, kind) = plain.split_once('-')?;
    let (_, version) = VERSIONS.iter().find(|(name, _)| *name == family)?;
    let last = kind.rsplit('-').next()?;
    let number = last.strip_prefix('v').filter(|rest| !rest.is_empty());
    if number.is_some_and(|rest| rest.bytes().all(|digit| digit.is_ascii_digit())) {
        Some(plain)
    } else {
        Some(format!("{plain}-{version}"))
    }
}

/// Keys of the table `[data]` that the `data` commands have flags for.
const DATA_FLAGS: [(&str, &str); 3] = [
    ("max_episode_steps", "--max-episode-steps"),
    ("observation_keys", "--observation-keys"),
    ("observation_columns", "--observation-columns"),
];

/// What a `data` command says, with its flag behind each key of the table `[data]` that it has one for.
pub fn with_data_flags(text: &str) -> String {
    let mut text = text.to_owned();
    for (key, flag) in DATA_FLAGS {
        let front = format!("`data.{key}");
        let mut parts = text.split(front.as_str());
        let mut flagged = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            flagged.push_str(&front);
            match part.split_once('`') {
                Some((inside, rest)) => {
                    // Of a list as the configuration writes it, its words with commas between.
                    let list = inside
                        .strip_prefix(" = [")
                        .map_or_else(String::new, |list| {
                            format!(" {}", list.replace(['"', ' ', ']'], ""))
                        });
                    flagged.push_str(&format!("{inside}` (`{flag}{list}`){rest}"));
                }
                None => flagged.push_str(part),
            }
        }
        text = flagged;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_followed_by_the_flags_of_the_data_commands() {
        let text = "a.npz: set `data.max_episode_steps`, or `data.observation_keys = [\"a\", \"b\"]`; `data.path` stays";
        assert_eq!(
            with_data_flags(text),
            "a.npz: set `data.max_episode_steps` (`--max-episode-steps`), or `data.observation_keys = [\"a\", \"b\"]` \
             (`--observation-keys a,b`); `data.path` stays"
        );
        assert_eq!(with_data_flags("nothing"), "nothing");
    }

    #[test]
    fn missing_data_of_d4rls_names_can_be_fetched() {
        let name = |path: &str| d4rl_name(Path::new(path));
        for (path, expected) in [
            ("data/hopper-medium.hdf5", "hopper-medium-v2"),
            ("hopper_medium-v2.hdf5", "hopper-medium-v2"),
            (
                "halfcheetah_medium_replay.hdf5",
                "halfcheetah-medium-replay-v2",
            ),
            ("maze2d-umaze.hdf5", "maze2d-umaze-v1"),
            ("pen-human-v1.hdf5", "pen-human-v1"),
        ] {
            assert_eq!(name(path).as_deref(), Some(expected), "{path}");
        }
        for path in ["mine.npz", "data/robot-arm.npz", "hopper.hdf5", ""] {
            assert_eq!(name(path), None, "{path}");
        }
        let missing = |path: &str| {
            of_library(&Error::DataMissing {
                path: path.into(),
                problem: "not there".to_owned(),
            })
        };
        assert!(missing("hopper-medium.hdf5").contains("`trajformer data pull hopper-medium-v2`"));
        assert!(missing("mine.npz").ends_with("(`--set data.path=FILE`)"));
    }

    #[test]
    fn missing_data_files_may_be_slips_or_public_data() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("rollouts.npz"), "").expect("written");
        let missing = |name: &str| {
            let path = folder.path().join(name);
            of_library(&Error::io(&path)(std::io::ErrorKind::NotFound.into()))
        };
        let said = missing("rollout.npz");
        assert!(
            said.contains("did you mean `") && said.contains("rollouts.npz`?"),
            "{said}"
        );
        assert!(missing("other.npz").contains("(`trajformer data list`"));
        assert!(missing("hopper-medium.hdf5").contains("`trajformer data pull hopper-medium-v2`"));
        assert!(!missing("notes.txt").contains('('));
    }

    #[test]
    fn overrides_are_shown_as_they_are_typed() {
        let error = Error::config("train.updates", 0, "at least 1");
        let error = error.said_by(Some(Origin::of_override("train.updates=0")));
        assert_eq!(
            of_library(&error),
            "configuration: `--set train.updates=0`: `train.updates` is 0, expected at least 1"
        );
        let several = ["a=1", "b=2"].map(str::to_owned).to_vec();
        let error = Error::settings("`b` does nothing").said_by(Some(Origin::Overrides(several)));
        assert_eq!(
            of_library(&error),
            "configuration: `--set a=1 --set b=2`: `b` does nothing"
        );
    }

    #[test]
    fn what_a_flag_can_mend_names_it() {
        let run = || "runs/a".into();
        let of_run = |error| of_library(&error);
        assert!(of_run(Error::RunExists { path: run() }).contains("`train --resume runs/a`"));
        assert!(of_run(Error::RunExists { path: run() }).contains("`--out DIR`"));
        assert!(of_run(Error::NoCheckpoint { path: run() }).ends_with("(`train --resume runs/a`)"));
        assert!(of_run(Error::OpenedWithoutData).ends_with("(`train --resume`)"));
        let goal = Error::NoGoal {
            env: "maze".to_owned(),
            observation_dim: 4,
        };
        assert!(of_run(goal).ends_with("(`--set 'evaluate.goal=[...]'`)"));
        let plain = Error::Unsuitable("no step".to_owned());
        assert_eq!(of_run(plain), "no step");
    }
}
