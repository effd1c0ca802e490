//! Networks side by side: several seeds of one shape in one pass.

use candle_core::Device;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::execute::device::room;
use crate::execute::memory::need_of_all;
use crate::execute::{Measurement, Seeds};
use crate::fold::Graph;
use crate::memory;

/// One result a network, in order of the seeds: `of` runs the networks of one pass, all of whose values may be kept.
///
/// # Errors
/// Those of `of`; [`Error::Memory`] where not even one network fits.
pub fn by_network<T: Send>(
    graph: &Graph,
    how: &Measurement,
    of: impl Fn(Seeds) -> Result<Vec<T>> + Sync,
) -> Result<Vec<T>> {
    Ok(in_stacks(&[graph], need_of_all(graph, how.dtype), how, of)?.into_iter().flatten().collect())
}

/// One result a pass, over all seeds of a measurement, where one network of `bytes` is the largest.
///
/// Passes run beside each other on the host's cores; a device has one queue, and room for one stack.
///
/// # Errors
/// Those of `pass`; [`Error::Memory`] where not even one network fits.
pub fn in_stacks<T: Send>(
    graphs: &[&Graph],
    bytes: u64,
    how: &Measurement,
    pass: impl Fn(Seeds) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let stack = stack(graphs, bytes, how)?;
    let seeds =
        |from: usize| Seeds { first: how.first_seed.wrapping_add(from as u64), count: stack.min(how.seeds - from) };
    let starts: Vec<usize> = (0..how.seeds).step_by(stack).collect();
    match how.device {
        Device::Cpu => starts.into_par_iter().map(|from| pass(seeds(from))).collect(),
        _ => starts.into_iter().map(|from| pass(seeds(from))).collect(),
    }
}

/// How many networks one pass stacks: one on the host, where products of small matrices lose nothing and seeds run on threads;
/// on a device as many as it holds, so that small networks do not wait for launches.
fn stack(graphs: &[&Graph], bytes: u64, how: &Measurement) -> Result<usize> {
    let largest = bytes.max(1);
    let stackable =
        |graph: &&Graph| graph.calls.iter().all(|call| call.op.as_ref().is_none_or(|op| op.stacks(&call.site)));
    match room(&how.device) {
        None => {
            let threads = rayon::current_num_threads().min(how.seeds.max(1)) as u64;
            memory::fits(largest.saturating_mul(threads))?;
            Ok(1)
        }
        Some(free) if largest > free => Err(Error::Memory { needed: largest, available: free }),
        Some(free) if graphs.iter().all(stackable) => Ok(((free / largest) as usize).clamp(1, how.seeds.max(1))),
        Some(_) => Ok(1),
    }
}
