//! Child processes that end with us.

use super::{Result, root};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

/// Names the folder of the instance to what runs in a machine within this one: process ids of there say nothing here.
pub const FOLDER: &str = "TESTBED_FOLDER";

/// A folder for one instance of something, under `target/testbed/<our process id>`, or where a machine within this one has its
/// own. What dead processes left there is removed first.
pub fn folder(name: &str) -> Result<PathBuf> {
    if let Some(machine) = std::env::var_os(FOLDER) {
        let folder = PathBuf::from(machine).join(name);
        std::fs::create_dir_all(&folder)?;
        return Ok(folder);
    }
    static CLEANED: OnceLock<()> = OnceLock::new();
    let all = root().join("target/testbed");
    CLEANED.get_or_init(|| {
        for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
            let owner = entry.file_name().to_string_lossy().parse::<u32>();
            if owner.is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    });
    let folder = all.join(std::process::id().to_string()).join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A child process; killed when dropped, and by the kernel when we die.
pub struct Process {
    child: Mutex<Child>,
    command: Box<dyn Fn() -> Result<Command> + Send + Sync>,
    /// Its standard output and error.
    pub log: PathBuf,
    name: String,
}

type Job = Box<dyn FnOnce() + Send + Sync>;

/// The kernel ends a child when the *thread* that made it ends: children come from one thread that lives as long as we.
fn nursery() -> &'static Mutex<mpsc::Sender<Job>> {
    static NURSERY: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    NURSERY.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::spawn(move || queue.into_iter().for_each(|job| job()));
        Mutex::new(jobs)
    })
}

fn spawn(mut command: Command) -> Result<Child> {
    let (answer, started) = mpsc::sync_channel(1);
    nursery().lock().expect("the nursery lives").send(Box::new(move || {
        let spawned = command.spawn().map_err(|error| format!("starting {command:?}: {error}"));
        let _ = answer.send(spawned);
    }))?;
    Ok(started.recv()??)
}

impl Process {
    /// Starts a program, its output in a log file of the folder.
    pub fn start(
        name: &str,
        folder: &Path,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let (program, arguments, folder, file) = (program.to_owned(), arguments.to_vec(), folder.to_owned(), log.clone());
        let environment: Vec<(String, String)> =
            environment.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let command = move || {
            let file = File::options().create(true).append(true).open(&file)?;
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(&program).args(&arguments);
            command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).current_dir(&folder);
            command.envs(environment.iter().map(|(key, value)| (key, value)));
            Ok(command)
        };
        let child = Mutex::new(spawn(command()?)?);
        Ok(Self { child, command: Box::new(command), log, name: name.to_owned() })
    }

    /// Ends it at once, and waits for that.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.child();
        child.kill()?;
        child.wait().map(drop).map_err(Into::into)
    }

    /// Starts it again as it was started, after its end.
    pub fn restart(&self) -> Result<()> {
        let child = spawn((self.command)()?)?;
        *self.child() = child;
        Ok(())
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().expect("nobody panics while holding it")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).expect("a process id")).expect("not zero");
        kill_process(pid, signal).expect("our own child takes our signals");
    }

    /// Stops it, and waits until none of its threads runs any more: a signal that was sent is none that was taken.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let stopped = |stat: String| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'));
        let tasks = PathBuf::from(format!("/proc/{}/task", self.id()));
        loop {
            let threads = std::fs::read_dir(&tasks).expect("it lives");
            let mut stats = threads.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
            if stats.all(stopped) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("our own child can be waited for")
    }

    /// Waits for its end.
    pub async fn end_within(&self, limit: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Everything it has said.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `ready` says so; an end before that, or none within the limit, is an error with the log's end.
    pub async fn until<F: AsyncFn() -> bool>(&self, what: &str, limit: Duration, ready: F) -> Result<()> {
        let began = Instant::now();
        while !ready().await {
            let ended = self.ended();
            if ended.is_some() || began.elapsed() > limit {
                let output = self.output();
                let tail: Vec<&str> = output.lines().rev().take(15).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(format!("{} {what}: not after {:?} ({ended:?}):\n{tail}", self.name, began.elapsed()).into());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().expect("nobody panics while holding it");
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A loopback port that nobody has, and that no connection is given: it lies below those that the kernel chooses from, and is
/// handed out once. Processes begin at places of their own.
pub fn free_port() -> Result<u16> {
    const FIRST: u32 = 16_000;
    const COUNT: u32 = 14_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let place = std::process::id().wrapping_mul(97).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + place % COUNT)?;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no port is free".into())
}
