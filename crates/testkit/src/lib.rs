//! Dev only: real servers, workloads, kill loops and the checker that judges them.
