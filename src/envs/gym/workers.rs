//! [`Workers`]: copies of one environment of Gymnasium, spread over Python processes that run side by side.

use crate::envs::gym::options::GymOptions;
use crate::envs::gym::process::{Call, Process};
use crate::envs::gym::spaces::{ActionSpace, Id, ObservationSpace, Spaces};
use trajformer_core::environment::Step;
use trajformer_core::error::{Error, Result};

/// Copies of an environment, one per row, in as many processes as there are threads, or rows if there are fewer. A row's
/// episodes don't depend on how many there are, unless its environment draws from Python's or NumPy's global generator.
///
/// Actions are numbers as the space has them: those of a box in its units, a choice as one number, counted from 0.
pub struct Workers {
    name: String,
    id: Id,
    options: GymOptions,
    processes: Vec<Process>,
    /// Where each row's copy is.
    places: Vec<Place>,
    spaces: Spaces,
}

/// Where a copy is: those of a process are numbered without gaps, in the order of their rows.
#[derive(Debug, Clone, Copy)]
struct Place {
    process: usize,
    slot: u32,
}

/// A picture of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// Red, green and blue of each pixel, row by row.
    pub rgb: Vec<u8>,
}

impl Workers {
    /// `rows` copies of the environment `name`: `gym:ID` or `gym:MODULE:ID`, with `?KEY=VALUE&...` behind for further arguments
    /// of `gymnasium.make`.
    ///
    /// # Errors
    /// If Python, Gymnasium or the environment can't be found, its observations are no numbers, or there are no rows.
    pub fn start(name: &str, rows: usize, options: &GymOptions) -> Result<Self> {
        let failed = |problem: String| Error::Env {
            name: name.to_owned(),
            problem,
        };
        let id = Id::parse(name).map_err(failed)?;
        let first = launch(name, &id, options, &[1])?;
        let (processes, mut spaces): (Vec<_>, Vec<_>) = first.into_iter().unzip();
        let spaces = spaces
            .pop()
            .ok_or_else(|| failed("no process".to_owned()))?;
        let mut workers = Self {
            name: name.to_owned(),
            id,
            options: options.clone(),
            processes,
            places: vec![Place {
                process: 0,
                slot: 0,
            }],
            spaces,
        };
        workers.resize(rows)?;
        Ok(workers)
    }

    /// What the environment looks like.
    pub fn spaces(&self) -> &Spaces {
        &self.spaces
    }

    /// How many copies (E).
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Makes it `rows` copies: the last ones are closed, or further ones are made. The others stay as they are.
    ///
    /// # Errors
    /// If there are to be none, or making or closing fails.
    pub fn resize(&mut self, rows: usize) -> Result<()> {
        if rows == 0 {
            return Err(self.failed("needs at least one copy".to_owned()));
        }
        if rows == self.len() {
            return Ok(());
        }
        let most = rayon::current_num_threads().min(rows);
        let mut places = self.places.clone();
        places.truncate(rows);
        let mut counts = vec![0; most.max(self.processes.len())];
        for place in &places {
            counts[place.process] += 1;
        }
        while places.len() < rows {
            let fewest = (0..counts.len()).min_by_key(|&process| counts[process]);
            let process = fewest.unwrap_or_default();
            let slot = counts[process];
            places.push(Place { process, slot });
            counts[process] += 1;
        }
        let (old, new) = counts.split_at(self.processes.len());
        let bodies: Vec<Vec<u8>> = old
            .iter()
            .map(|count| count.to_le_bytes().to_vec())
            .collect();
        let launched = launch(&self.name, &self.id, &self.options, new)?;
        if launched.iter().any(|(_, spaces)| *spaces != self.spaces) {
            return Err(
                self.failed("the copies differ in observations, actions or length".to_owned())
            );
        }
        exchange(&mut self.processes, Call::Resize, &bodies, |_, _| Ok(()))?;
        self.processes
            .extend(launched.into_iter().map(|(process, _)| process));
        self.places = places;
        Ok(())
    }

    /// Starts episodes in these rows, each from its own seed, of which Gymnasium is given the lowest 31 bits; their first
    /// observations (O each).
    ///
    /// # Errors
    /// If the environment or its process fails.
    pub fn reset(&mut self, rows: &[usize], seeds: &[u64]) -> Result<Vec<Vec<f32>>> {
        if rows.len() != seeds.len() {
            return Err(self.failed(format!("got {} seeds for {} rows", seeds.len(), rows.len())));
        }
        let asked = self.by_process((0..rows.len()).map(|at| (at, rows[at])))?;
        let body = |asked: &Vec<Asked>| {
            let mut body = slots(asked);
            body.extend(asked.iter().flat_map(|asked| seeds[asked.at].to_le_bytes()));
            body
        };
        let bodies: Vec<Vec<u8>> = asked.iter().map(body).collect();
        let (name, space) = (&self.name, &self.spaces.observation);
        let mut found = vec![Vec::new(); rows.len()];
        exchange(
            &mut self.processes,
            Call::Reset,
            &bodies,
            |process, reply| {
                let asked = &asked[process];
                let observations = observations(name, space, reply, asked.len(), 0)?;
                for (asked, observation) in asked.iter().zip(observations) {
                    found[asked.at] = checked(name, "reset", observation)?;
                }
                Ok(())
            },
        )?;
        Ok(found)
    }

    /// Acts (E, A) in the rows with `active[row]`; what follows, and nothing in the others.
    ///
    /// # Errors
    /// If the sizes don't fit, or the environment or its process fails.
    pub fn step(&mut self, actions: &[f32], active: &[bool]) -> Result<Vec<Option<Step>>> {
        let (rows, width) = (self.len(), self.spaces.action.size());
        if let ActionSpace::Other { text } = &self.spaces.action {
            return Err(self.failed(format!("its actions can't be sent: {text}")));
        }
        if (active.len(), actions.len()) != (rows, rows * width) {
            let problem = format!(
                "got {} numbers of actions and {} activity flags, expected {} and {rows}",
                actions.len(),
                active.len(),
                rows * width
            );
            return Err(self.failed(problem));
        }
        let active = (0..rows).filter(|&row| active[row]);
        let asked = self.by_process(active.map(|row| (row, row)))?;
        let body = |asked: &Vec<Asked>| {
            let mut body = slots(asked);
            for asked in asked {
                let action = &actions[asked.at * width..][..width];
                body.extend(action.iter().flat_map(|number| number.to_le_bytes()));
            }
            body
        };
        let bodies: Vec<Vec<u8>> = asked.iter().map(body).collect();
        let (name, space) = (&self.name, &self.spaces.observation);
        let mut found = vec![None; rows];
        exchange(
            &mut self.processes,
            Call::Step,
            &bodies,
            |process, reply| {
                let asked = &asked[process];
                let observations = observations(name, space, reply, asked.len(), 9)?;
                let rest = &reply[asked.len() * space.bytes()..];
                let (rewards, flags) = rest.split_at(8 * asked.len());
                let rewards = rewards.as_chunks::<8>().0.iter().zip(flags);
                for ((asked, observation), (&reward, flags)) in
                    asked.iter().zip(observations).zip(rewards)
                {
                    let reward = f64::from_le_bytes(reward) as f32;
                    if !reward.is_finite() {
                        return Err(failed(
                            name,
                            format!("`step` gave the reward {reward}, expected a finite number"),
                        ));
                    }
                    found[asked.at] = Some(Step {
                        observation: checked(name, "step", observation)?,
                        reward,
                        terminated: flags & 1 != 0,
                        truncated: flags & 2 != 0,
                    });
                }
                Ok(())
            },
        )?;
        Ok(found)
    }

    /// A picture of one row's copy, where [`GymOptions::render`] was set.
    ///
    /// # Errors
    /// If the environment has none, or its process fails.
    pub fn render(&mut self, row: usize) -> Result<Picture> {
        let asked = self.by_process(std::iter::once((0, row)))?;
        let body = |asked: &Vec<Asked>| match asked[..] {
            [Asked { slot, .. }] => slot.to_le_bytes().to_vec(),
            _ => Vec::new(),
        };
        let bodies: Vec<Vec<u8>> = asked.iter().map(body).collect();
        let mut found = Err(self.failed("gave no picture".to_owned()));
        let name = &self.name;
        exchange(&mut self.processes, Call::Render, &bodies, |_, reply| {
            let picture = picture(reply);
            found = picture.ok_or_else(|| {
                failed(
                    name,
                    "`render` gave no picture of red, green and blue".to_owned(),
                )
            });
            Ok(())
        })?;
        found
    }

    fn failed(&self, problem: String) -> Error {
        failed(&self.name, problem)
    }

    /// What is asked of each process, from numbers of requests with their rows.
    fn by_process(&self, rows: impl Iterator<Item = (usize, usize)>) -> Result<Vec<Vec<Asked>>> {
        let mut asked = vec![Vec::new(); self.processes.len()];
        for (at, row) in rows {
            let place = self.places.get(row).ok_or_else(|| {
                self.failed(format!("there is no row {row}, only {}", self.places.len()))
            })?;
            let slot = place.slot;
            asked[place.process].push(Asked { at, slot });
        }
        Ok(asked)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // All close at the same time.
        self.processes.iter_mut().for_each(Process::hang_up);
    }
}

/// One request: its number, and the slot in its process.
#[derive(Debug, Clone, Copy)]
struct Asked {
    at: usize,
    slot: u32,
}

/// How many slots are asked, and which; nothing if none is.
fn slots(asked: &[Asked]) -> Vec<u8> {
    if asked.is_empty() {
        return Vec::new();
    }
    let count = asked.len() as u32;
    let numbers = std::iter::once(count).chain(asked.iter().map(|asked| asked.slot));
    numbers.flat_map(u32::to_le_bytes).collect()
}

fn failed(name: &str, problem: String) -> Error {
    Error::Env {
        name: name.to_owned(),
        problem,
    }
}

/// Starts a process for each of these numbers of copies, all at once; what each says of the environment.
fn launch(
    name: &str,
    id: &Id,
    options: &GymOptions,
    counts: &[u32],
) -> Result<Vec<(Process, Spaces)>> {
    let started = counts.iter().map(|_| Process::start(name, options));
    let mut processes = started.collect::<Result<Vec<_>>>()?;
    for (process, &copies) in processes.iter_mut().zip(counts) {
        let request = serde_json::json!({
            "id": id.id,
            "arguments": id.arguments,
            "keys": options.observation_keys,
            "render": options.render,
            "copies": copies,
        });
        process.send(Call::Make, request.to_string().as_bytes())?;
    }
    let mut found = Vec::with_capacity(counts.len());
    for mut process in processes {
        process.receive_greeting(Call::Make)?;
        let spaces = serde_json::from_slice(process.receive()?).map_err(|error| {
            failed(
                name,
                format!("what Python says of it can't be read: {error}"),
            )
        })?;
        found.push((process, spaces));
    }
    Ok(found)
}

/// Sends each process its request, if it has one, then takes the replies, so that all work at the same time. The first
/// failure, once all have answered.
fn exchange(
    processes: &mut [Process],
    call: Call,
    bodies: &[Vec<u8>],
    mut take: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut outcome = Ok(());
    let mut sent = Vec::with_capacity(processes.len());
    for (number, (process, body)) in processes.iter_mut().zip(bodies).enumerate() {
        if body.is_empty() {
            continue;
        }
        match process.send(call, body) {
            Ok(()) => sent.push(number),
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    for number in sent {
        let taken = processes[number]
            .receive()
            .and_then(|reply| take(number, reply));
        outcome = outcome.and(taken);
    }
    outcome
}

/// The observations at the start of a reply about `count` copies, which has `more` bytes for each behind them.
fn observations<'a>(
    name: &str,
    space: &'a ObservationSpace,
    reply: &'a [u8],
    count: usize,
    more: usize,
) -> Result<impl Iterator<Item = Vec<f32>> + 'a> {
    let expected = count * (space.bytes() + more);
    if reply.len() != expected {
        let problem = format!("a reply has {} bytes, expected {expected}", reply.len());
        return Err(failed(name, problem));
    }
    let bytes = reply.chunks_exact(space.bytes()).take(count);
    Ok(bytes.map(|bytes| space.numbers(bytes)))
}

/// An observation, which must be finite.
fn checked(name: &str, call: &str, observation: Vec<f32>) -> Result<Vec<f32>> {
    match observation.iter().position(|number| !number.is_finite()) {
        None => Ok(observation),
        Some(at) => {
            let number = observation[at];
            let problem = format!(
                "`{call}` gave {number} as number {at} of the observation, expected a finite number"
            );
            Err(failed(name, problem))
        }
    }
}

fn picture(reply: &[u8]) -> Option<Picture> {
    let (height, rest) = reply.split_first_chunk::<4>()?;
    let (width, rgb) = rest.split_first_chunk::<4>()?;
    let (height, width) = (
        u32::from_le_bytes(*height) as usize,
        u32::from_le_bytes(*width) as usize,
    );
    let bytes = height.checked_mul(width).and_then(|n| n.checked_mul(3));
    (bytes == Some(rgb.len())).then(|| Picture {
        height,
        width,
        rgb: rgb.to_vec(),
    })
}
