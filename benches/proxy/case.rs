//! What is asked of every subject, and what the answer may cost ours.

/// One kind of request.
pub struct Case {
    pub name: &'static str,
    pub path: &'static str,
    /// Bytes of the request's body.
    pub up: usize,
    /// Bytes of the response's body.
    pub down: u64,
    pub connections: usize,
    pub goal: Option<Goal>,
}

/// How our processor time per request may stand to nginx's: a ratio, because absolute figures are the machine's.
#[derive(Clone, Copy)]
pub struct Goal {
    pub against: Against,
    pub times: f64,
    /// Above this the benchmark fails; between the two, whoever runs it says what was tried.
    pub failure: f64,
}

/// Which nginx.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The cheaper of the two in this case.
    BestNginx,
    /// With its own sizes of buffers.
    Nginx,
    TunedNginx,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

const fn down(name: &'static str, path: &'static str, bytes: usize, goal: Goal) -> Case {
    Case { name, path, up: 0, down: bytes as u64, connections: connections(bytes), goal: Some(goal) }
}

const fn up(name: &'static str, path: &'static str, bytes: usize) -> Case {
    Case { name, path, up: bytes, down: 0, connections: connections(bytes), goal: None }
}

/// Fewer where each moves much: what lies in socket buffers is no work of a proxy.
const fn connections(bytes: usize) -> usize {
    if bytes < MIB { 64 } else { 16 }
}

const fn best(times: f64) -> Goal {
    Goal { against: Against::BestNginx, times, failure: times }
}

/// All of them.
pub const CASES: [Case; 9] = [
    down("0 B down", "/bytes/0", 0, best(1.0)),
    ONE_KIB,
    down("64 KiB down", "/bytes/65536", 64 * KIB, Goal { against: Against::TunedNginx, times: 1.0, failure: 1.1 }),
    down("1 MiB down", "/bytes/1048576", MIB, Goal { against: Against::Nginx, times: 0.5, failure: 0.5 }),
    up("1 KiB up", "/take/1024", KIB),
    up("256 KiB up", "/take/262144", 256 * KIB),
    up("4 MiB up", "/take/4194304", 4 * MIB),
    down("1 KiB down, HTTPS upstream", "/tls/bytes/1024", KIB, best(1.1)),
    down("64 KiB down, HTTPS upstream", "/tls/bytes/65536", 64 * KIB, best(1.1)),
];

/// The case whose rate is halved for the measure of latency.
pub const ONE_KIB: Case = down("1 KiB down", "/bytes/1024", KIB, best(1.0));
