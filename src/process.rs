//! What belongs to the process: its threads, and how it ends.

#[cfg(target_os = "linux")]
use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::num::NonZeroUsize;
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt;
#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt;
#[cfg(target_os = "linux")]
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use trajformer::interrupt::Interrupt;

use crate::output;

/// Exit status after Ctrl-C, as shells use it.
pub const INTERRUPTED: u8 = 130;

/// Environment variable with the exit status of `train` after SIGTERM and a checkpoint, in place of 0.
pub const TERMINATED_STATUS: &str = "TRAJFORMER_TERMINATED_STATUS";

/// How long the end takes at most, once standard input has closed: nobody waits any more.
const LAST_SECONDS: Duration = Duration::from_secs(60);

/// Stack of each thread in the pool.
const STACK_BYTES: usize = 8 << 20;

/// One pool of threads for everything: rayon's, of this many threads or as RAYON_NUM_THREADS says.
///
/// candle has a pool of its own beside it, whose threads spin while they wait and take the processor
/// from ours: it gets one thread (CANDLE_NUM_THREADS wins where it is set).
pub fn settle_threads(threads: Option<NonZeroUsize>) {
    let mut settings = Vec::new();
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        settings.push(("CANDLE_NUM_THREADS", "1".to_owned()));
    }
    settings.extend(threads.map(|threads| ("RAYON_NUM_THREADS", threads.to_string())));
    for (name, value) in settings {
        // SAFETY: the environment may change only while there is one thread. This runs
        // first in `main`; pools read it when they start.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, value);
        }
    }
    // As deep as the main thread's: gradients of deep graphs recurse.
    let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK_BYTES);
    if let Err(error) = pool.build_global() {
        output::complain(format_args!(
            "warning: the pool of threads keeps its defaults: {error}"
        ));
    }
}

/// What starts this program once more, and where it lies. On Linux that is the program that runs, also where its file is gone or another one has
/// its place: a build that was installed meanwhile, say.
///
/// # Errors
/// If the system does not say where the program lies.
pub fn this_program() -> std::io::Result<(PathBuf, PathBuf)> {
    let place = std::env::current_exe()?;
    #[cfg(target_os = "linux")]
    {
        const RUNNING: &str = "/proc/self/exe";
        let file = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.dev(), found.ino()))
        };
        let running = file(Path::new(RUNNING));
        // By its own name where it has one: that is what lists of processes show.
        if running.is_some() && file(&place) != running {
            // So Linux says it where the file is gone.
            let bytes = place.as_os_str().as_bytes();
            let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
            return Ok((RUNNING.into(), OsStr::from_bytes(bytes).into()));
        }
    }
    Ok((place.clone(), place))
}

/// The token that the first Ctrl-C sets, or SIGTERM, which asks for an end with a checkpoint; the second Ctrl-C ends at once.
pub fn catch_interrupts() -> Interrupt {
    catch_interrupts_saying("saving a checkpoint; once more ends at once without")
}

/// What asked this process to end.
#[cfg(unix)]
mod termination {
    use std::sync::atomic::{AtomicU32, Ordering};

    const SIGINT: i32 = 2;
    const SIGTERM: i32 = 15;
    /// How often SIGTERM has come.
    static ASKED: AtomicU32 = AtomicU32::new(0);
    /// How often the handler of both signals has been told so.
    static TAKEN: AtomicU32 = AtomicU32::new(0);

    // SAFETY: the standard library knows no signals, and ctrlc does not say which one has come.
    #[allow(unsafe_code)]
    unsafe extern "C" {
        fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
        fn raise(number: i32) -> i32;
    }

    extern "C" fn terminated(_: i32) {
        ASKED.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above; `raise` may be called in a handler.
        #[allow(unsafe_code)]
        unsafe {
            raise(SIGINT);
        }
    }

    /// Makes SIGTERM a SIGINT that is remembered: ctrlc's handler must be there.
    pub fn tell_apart() {
        // SAFETY: as above; the handler counts and raises a signal.
        #[allow(unsafe_code)]
        unsafe {
            signal(SIGTERM, terminated);
        }
    }

    /// Whether this SIGINT is a SIGTERM: each is one once.
    pub fn take() -> bool {
        let taken = TAKEN.load(Ordering::SeqCst);
        let is_new = taken < ASKED.load(Ordering::SeqCst);
        TAKEN.store(taken + u32::from(is_new), Ordering::SeqCst);
        is_new
    }

    /// Whether SIGTERM has come.
    pub fn is_asked() -> bool {
        ASKED.load(Ordering::SeqCst) > 0
    }
}

#[cfg(not(unix))]
mod termination {
    pub fn tell_apart() {}
    pub fn take() -> bool {
        false
    }
    pub fn is_asked() -> bool {
        false
    }
}

/// With which status a training ends that was asked to end and has written its checkpoint: after SIGTERM, which schedulers send, it is an end
/// like others (0, or what [`TERMINATED_STATUS`] says); after Ctrl-C it is [`INTERRUPTED`].
pub fn status_of_interrupted() -> u8 {
    if !termination::is_asked() {
        return INTERRUPTED;
    }
    let Ok(text) = std::env::var(TERMINATED_STATUS) else {
        return 0;
    };
    text.trim().parse().unwrap_or_else(|_| {
        output::complain(format_args!(
            "warning: {TERMINATED_STATUS} is `{text}`, expected a number from 0 to 255: the exit status is 0"
        ));
        0
    })
}

/// The same for work without checkpoints; `then` is what the first Ctrl-C leads to.
pub fn catch_interrupts_saying(then: &'static str) -> Interrupt {
    let interrupt = Interrupt::new();
    let token = interrupt.clone();
    // Who else may have set the token, standard input's end, doesn't count.
    let mut was_asked = false;
    let caught = ctrlc::set_handler(move || {
        // Schedulers send SIGTERM several times, to the process and to all of its group: it never ends at once.
        if termination::take() {
            if !token.set() {
                let then = then.split(';').next().unwrap_or(then);
                tracing::info!("terminated: {then}");
            }
            return;
        }
        if was_asked {
            std::process::exit(INTERRUPTED.into());
        }
        was_asked = true;
        token.set();
        tracing::info!("interrupted: {then}");
    });
    // Without a handler Ctrl-C would lose the updates since the last checkpoint, no more.
    if let Err(error) = caught {
        tracing::warn!("Ctrl-C can't be caught: {error}");
    } else {
        termination::tell_apart();
    }
    interrupt
}

/// Sets the token when standard input closes, which asks for an end with a checkpoint; what hasn't ended a minute later is ended,
/// and keeps its last checkpoint.
pub fn interrupt_when_stdin_closes(interrupt: &Interrupt) {
    let token = interrupt.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        let mut input = std::io::stdin().lock();
        loop {
            match input.read(&mut bytes) {
                Ok(0) => break,
                Err(error) if error.kind() != ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        if !token.set() {
            tracing::info!("standard input closed: saving a checkpoint");
        }
        std::thread::sleep(LAST_SECONDS);
        std::process::exit(INTERRUPTED.into());
    });
}
