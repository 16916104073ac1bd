//! Pieces of work on all threads of the pool, and threads that stay awake between them.
//!
//! An update is some dozens of short jobs, a few hundred microseconds each, with other work between them. rayon's threads
//! fall asleep within some tens of microseconds, and waking one takes as long again. So while updates go on, [`spin_workers`]
//! keeps the pool's other threads awake: they spin until the next job of [`each`], or of rayon, and back off to sleeping
//! after about 1 ms without work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use rayon::prelude::*;

/// Looks for a job before a thread that waits lets others have the processor between two looks: some ten microseconds.
const SPINS: usize = 300;
/// Such looks before it lies down between two: about a millisecond.
const YIELDS: usize = 2000;
/// How long it lies.
const NAP: Duration = Duration::from_micros(50);
/// From look to look at [`BOARD`], how often rayon's jobs are looked for too.
const RAYON_TURN: usize = 8;

/// Calls `work` with each of these tasks, on the threads that [`spin_workers`], else on rayon's.
pub fn each<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Send + Sync) {
    let attended = tasks.len() > 1
        && BOARD.attendants.load(Relaxed) > 0
        && rayon::current_thread_index().is_some();
    let submitting = match attended.then(|| BOARD.submitting.try_lock()) {
        Some(Ok(guard)) => Some(guard),
        // An earlier job panicked, and is over.
        Some(Err(TryLockError::Poisoned(guard))) => Some(guard.into_inner()),
        Some(Err(TryLockError::WouldBlock)) | None => None,
    };
    match submitting {
        Some(_submitting) => BOARD.each(tasks, &work),
        None => tasks.into_par_iter().with_max_len(1).for_each(work),
    }
}

/// Does both, at the same time where threads [`spin_workers`], else one after the other. While the second is on its way, the jobs
/// of the first get no help from its thread, so the first should be the longer one.
pub fn join<A: Send, B: Send>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    if BOARD.attendants.load(Relaxed) > 0 && rayon::current_thread_index().is_some() {
        rayon::join(first, second)
    } else {
        (first(), second())
    }
}

/// As long as this lives, other threads of rayon's pool attend to the jobs of the one that made it.
#[derive(Debug)]
pub struct SpinWorkers {
    over: Arc<AtomicBool>,
}

/// Asks the other threads of the pool to attend. Outside of the pool, where it has one thread, or where others attend
/// already, nothing happens.
pub fn spin_workers() -> SpinWorkers {
    let over = Arc::new(AtomicBool::new(false));
    if let Some(here) = rayon::current_thread_index()
        && rayon::current_num_threads() > 1
        && BOARD
            .attended
            .compare_exchange(false, true, SeqCst, SeqCst)
            .is_ok()
    {
        let workers = over.clone();
        // Dropped by the last attendant.
        let place = Arc::new(Place);
        rayon::spawn_broadcast(move |context| {
            let _place = &place;
            if context.index() != here {
                BOARD.wait_on(&workers);
            }
        });
        // This thread's own share of the broadcast, which does nothing.
        rayon::yield_local();
    }
    SpinWorkers { over }
}

impl Drop for SpinWorkers {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

/// Held while there are spinning workers, or will be.
struct Place;

impl Drop for Place {
    fn drop(&mut self) {
        BOARD.attended.store(false, SeqCst);
    }
}

/// Where jobs are put up.
struct Board {
    /// Whether somebody asked for attendants.
    attended: AtomicBool,
    /// Threads that wait for jobs here.
    attendants: AtomicUsize,
    /// Held by the thread whose job is up.
    submitting: Mutex<()>,
    /// Changes with every job.
    number: AtomicUsize,
    /// The job, a [`Job`] on its submitting's stack, or null.
    job: AtomicPtr<()>,
    /// Attendants that may be reading the job.
    inside: AtomicUsize,
}

static BOARD: Board = Board {
    attended: AtomicBool::new(false),
    attendants: AtomicUsize::new(0),
    submitting: Mutex::new(()),
    number: AtomicUsize::new(0),
    job: AtomicPtr::new(std::ptr::null_mut()),
    inside: AtomicUsize::new(0),
};

struct Job<'a> {
    /// Does what is left to do, and comes back when nothing is.
    help: &'a (dyn Fn() + Sync),
    /// Whether an attendant's part panicked.
    panicked: AtomicBool,
}

/// Adds one for as long as it lives.
struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn in_(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Takes the job down and waits until nobody reads it.
struct Up<'a>(&'a Board);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.job.store(std::ptr::null_mut(), SeqCst);
        let mut looks = 0;
        while self.0.inside.load(SeqCst) > 0 {
            pause(&mut looks, false);
        }
    }
}

/// Between two looks.
fn pause(looks: &mut usize, may_nap: bool) {
    *looks += 1;
    if *looks < SPINS {
        std::hint::spin_loop();
    } else if *looks < SPINS + YIELDS || !may_nap {
        thread::yield_now();
    } else {
        thread::sleep(NAP);
    }
}

impl Board {
    /// The submitting's side. Its lock is held.
    fn each<T: Send>(&self, tasks: Vec<T>, work: &(impl Fn(T) + Sync)) {
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|task| Mutex::new(Some(task)))
            .collect();
        let next = AtomicUsize::new(0);
        let help = || {
            while let Some(task) = tasks.get(next.fetch_add(1, Relaxed)) {
                let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
                task.into_iter().for_each(work);
            }
        };
        let job = Job {
            help: &help,
            panicked: AtomicBool::new(false),
        };
        {
            // From here on `job` must stay where it is until `_up` is gone.
            let _up = Up(self);
            self.job.store((&raw const job).cast_mut().cast(), SeqCst);
            self.number.fetch_add(1, SeqCst);
            help();
        }
        assert!(
            !job.panicked.load(SeqCst),
            "a part of a job panicked on another thread"
        );
    }

    /// An attendant's side.
    fn wait_on(&self, over: &AtomicBool) {
        let _attendant = Count::in_(&self.attendants);
        let (mut seen, mut looks) = (self.number.load(SeqCst), 0);
        while !over.load(Relaxed) {
            let number = self.number.load(SeqCst);
            if number != seen {
                seen = number;
                self.help();
                looks = 0;
            } else if (looks > SPINS || looks % RAYON_TURN == 0)
                && rayon::yield_now() == Some(rayon::Yield::Executed)
            {
                looks = 0;
            } else {
                pause(&mut looks, true);
            }
        }
    }

    fn help(&self) {
        let _inside = Count::in_(&self.inside);
        let job = self.job.load(SeqCst).cast::<Job<'_>>();
        // SAFETY: the job lives on another thread's stack. Its submitting takes it down and then waits until
        // `inside` is 0 (`Up`). All of this is sequentially consistent: whoever reads an address here has counted
        // itself before it was taken down, so the submitting waits for it.
        #[allow(unsafe_code)]
        let Some(job) = (unsafe { job.as_ref() }) else {
            return;
        };
        // The closure is used no more after a panic.
        if catch_unwind(AssertUnwindSafe(job.help)).is_err() {
            job.panicked.store(true, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pool(threads: usize, work: impl FnOnce() + Send) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a thread pool").install(work);
    }

    fn squares(count: usize) -> Vec<usize> {
        let mut squares = vec![0; count];
        let tasks: Vec<_> = squares.iter_mut().enumerate().collect();
        each(tasks, |(i, to)| *to += (i + 1) * (i + 1));
        squares
    }

    /// There is one board.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn every_task_is_done_once_with_and_without_attendants() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = |count: usize| (1..=count).map(|i| i * i).collect::<Vec<_>>();
        assert_eq!(squares(100), expected(100));
        in_pool(3, || {
            let workers = spin_workers();
            for count in (0..2000).map(|i| i % 7) {
                assert_eq!(squares(count), expected(count));
            }
            // They nap by now, and rayon's own jobs find them.
            thread::sleep(Duration::from_millis(20));
            let sums: Vec<usize> = (0..100)
                .into_par_iter()
                .map(|i| squares(i + 2)[i])
                .collect();
            assert_eq!(sums, expected(100));
            drop(workers);
            assert_eq!(squares(100), expected(100));
        });
    }

    #[test]
    fn attendants_share_the_work_and_leave() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        in_pool(2, || {
            let workers = spin_workers();
            while BOARD.attendants.load(SeqCst) == 0 {
                thread::yield_now();
            }
            let here = rayon::current_thread_index();
            let elsewhere = AtomicUsize::new(0);
            for _ in 0..100 {
                each(vec![(); 4], |()| {
                    thread::sleep(Duration::from_micros(200));
                    if rayon::current_thread_index() != here {
                        elsewhere.fetch_add(1, SeqCst);
                    }
                });
            }
            assert!(elsewhere.load(SeqCst) > 0);
            drop(workers);
        });
    }

    #[test]
    fn two_pieces_run_at_once_and_their_jobs_get_done() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = |count: usize| (1..=count).map(|i| i * i).collect::<Vec<_>>();
        let both = || {
            let piece = |count: usize| {
                thread::sleep(Duration::from_micros(100));
                (rayon::current_thread_index(), squares(count))
            };
            join(|| piece(50), || piece(40))
        };
        let (first, second) = both();
        assert_eq!((first.1, second.1), (expected(50), expected(40)));
        in_pool(2, || {
            let _workers = spin_workers();
            while BOARD.attendants.load(SeqCst) == 0 {
                thread::yield_now();
            }
            let mut apart = 0;
            for _ in 0..200 {
                let (first, second) = both();
                apart += usize::from(first.0 != second.0);
                assert_eq!((first.1, second.1), (expected(50), expected(40)));
            }
            assert!(apart > 0);
        });
    }

    #[test]
    fn a_panic_reaches_the_submitting_and_the_board_stays_usable() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        in_pool(2, || {
            let _workers = spin_workers();
            for bad in 0..8 {
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    each((0..8).collect(), |i| {
                        thread::sleep(Duration::from_micros(100));
                        assert!(i != bad, "task {i}");
                    });
                }));
                assert!(panicked.is_err());
                assert_eq!(squares(9)[8], 81);
            }
        });
    }
}
