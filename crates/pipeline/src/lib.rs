//! The loop, write-ahead delivery, the state folder, the memory budget.
