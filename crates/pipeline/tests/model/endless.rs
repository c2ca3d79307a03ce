//! Whether a model can go on for ever without any fault.

use std::collections::HashMap;
use std::hash::Hash;

use stateright::Model;

/// A state that comes again by steps of `progress` alone. Faults lead to the states, but are no way
/// round: they are bounded anyway.
pub(crate) fn comes_again<M>(
    model: &M,
    progress: impl Fn(&M::State, &mut Vec<M::Action>),
) -> Option<M::State>
where
    M: Model,
    M::State: Clone + Eq + Hash,
{
    let mut states = model.init_states();
    let mut numbers: HashMap<M::State, usize> = states.iter().cloned().zip(0..).collect();
    let mut ways: Vec<Vec<usize>> = Vec::new();
    while let Some(state) = states.get(ways.len()).cloned() {
        let mut number = |action| {
            let next = model.next_state(&state, action)?;
            Some(*numbers.entry(next).or_insert_with_key(|next| {
                states.push(next.clone());
                states.len() - 1
            }))
        };
        let (mut steps, mut all) = (Vec::new(), Vec::new());
        progress(&state, &mut steps);
        model.actions(&state, &mut all);
        ways.push(steps.into_iter().filter_map(&mut number).collect());
        all.into_iter().for_each(|action| {
            number(action);
        });
    }
    // Depth first: a way back to where the walk still is goes round.
    let mut seen = vec![Seen::Never; states.len()];
    for begin in 0..states.len() {
        let mut walk = vec![begin];
        while let Some(at) = walk.last().copied() {
            if seen[at] == Seen::Never {
                seen[at] = Seen::Here;
            } else {
                seen[at] = Seen::Left;
                walk.pop();
                continue;
            }
            for to in &ways[at] {
                match seen[*to] {
                    Seen::Never => walk.push(*to),
                    Seen::Here => return Some(states.swap_remove(*to)),
                    Seen::Left => {}
                }
            }
        }
    }
    None
}

/// How the walk knows a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Never,
    /// The walk is behind it.
    Here,
    /// Everything behind it was walked.
    Left,
}
