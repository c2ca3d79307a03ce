//! What a process holds in memory, as the kernel counts it.

use anyhow::Context as _;

/// The resident set of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// Now.
    pub now: u64,
    /// At most, since it was started.
    pub most: u64,
}

impl Resident {
    /// Asks the kernel.
    pub(crate) fn of(id: u32) -> anyhow::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))
            .with_context(|| format!("cannot read the status of process {id}"))?;
        let field = |name| field(&status, name).with_context(|| format!("no {name} in its status"));
        Ok(Self { now: field("VmRSS")?, most: field("VmHWM")? })
    }
}

/// The bytes of a line such as `VmRSS: 11468 kB`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_something_and_never_more_than_at_most() {
        let resident = Resident::of(std::process::id()).unwrap();
        assert!(resident.now > 1 << 20 && resident.most >= resident.now, "{resident:?}");
    }
}
