//! What this process takes, from /proc (proc(5)), under the names that Prometheus' own client libraries have.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// The gauges; what cannot be read stays as it was.
#[derive(Clone)]
pub(super) struct Process {
    memory: Gauge,
    files: Gauge,
    cpu: Counter<f64, AtomicU64>,
}

impl Process {
    /// Registers them, without a prefix.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let found = Self {
            memory: Gauge::default(),
            files: Gauge::default(),
            cpu: Counter::default(),
        };
        registry.register(
            "process_resident_memory_bytes",
            "Resident memory",
            found.memory.clone(),
        );
        registry.register(
            "process_open_fds",
            "Open file descriptors",
            found.files.clone(),
        );
        registry.register(
            "process_cpu_seconds",
            "Seconds of processor time, user and system",
            found.cpu.clone(),
        );
        found
    }

    /// Reads them anew.
    pub(super) fn read(&self) {
        let own = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some((ticks, pages)) = figures(&own) {
            let per_second = rustix::param::clock_ticks_per_second();
            let more = ticks as f64 / per_second as f64 - self.cpu.get();
            self.cpu.inc_by(more.max(0.0));
            let bytes = pages.saturating_mul(rustix::param::page_size() as u64);
            self.memory.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            // The one that reads them is among them.
            let open = files.count().saturating_sub(1);
            self.files.set(i64::try_from(open).unwrap_or(i64::MAX));
        }
    }
}

/// Clock ticks of user and system, and resident pages.
fn figures(stat: &str) -> Option<(u64, u64)> {
    // The name is in parentheses, and may hold anything.
    let rest = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(14)?.checked_add(field(15)?)?, field(24)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_name_whatever_that_holds() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 25 17 0 0 20 0 4 0 1234 5000000 321 18446744073709551615";
        assert_eq!(figures(stat), Some((42, 321)));
        assert_eq!(figures("7 (whittle"), None);
        assert_eq!(figures("7 (whittle) S 1"), None);
    }

    #[test]
    fn this_process_takes_memory_and_has_files_open() {
        let process = Process::new(&mut Registry::default());
        process.read();
        assert!(process.memory.get() > 1_000_000);
        assert!(process.files.get() >= 3);
    }
}
