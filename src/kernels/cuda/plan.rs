//! Which kernel of norm.cu and softmax.cu runs on rows of a shape, and on how many threads.
//!
//! Depends on the shape alone, never on the device, and so do the bits. A thread holds at most [`most`] vectors of a row;
//! part of a warp, a warp or a block holds a row; longer rows are read again for each sweep.

/// Rows of one chunk of the backward pass; as on the CPU.
pub const CHUNK: usize = 64;
/// Strips that one thread of `merge_strips` and `finish_strips` adds.
pub const FAN: usize = 64;

/// A launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub kernel: String,
    pub blocks: usize,
    pub threads: usize,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
}

/// Rows to run on: `groups` times `rows` of them, a gain for each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    pub groups: usize,
    pub rows: usize,
    pub width: usize,
    /// Of an element.
    pub bytes: usize,
    /// Whether every tensor of elements starts at a multiple of 16 bytes.
    pub aligned: bool,
}

/// Who holds a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Team {
    /// Threads of one warp, and vectors a thread.
    Warp(usize, usize),
    /// Threads of a block, and whether three quarters of the vectors are enough.
    Block(usize, bool),
    Distant,
}

/// Vectors of a row that a thread holds at most, in norm.cu `MOST`.
fn most(bytes: usize) -> usize {
    if bytes == 2 { 4 } else { 8 }
}

impl Rows {
    /// Elements read at once: 16 bytes where every row starts at a multiple of them.
    fn vector(&self) -> usize {
        let full = 16 / self.bytes;
        if self.aligned && self.width.is_multiple_of(full) { full } else { 1 }
    }

    fn kind(&self) -> &'static str {
        if self.vector() > 1 { "vector" } else { "scalar" }
    }

    /// `widest` is the largest block that the pass allows.
    fn team(&self, widest: usize) -> Team {
        let vectors = self.width / self.vector();
        let (held, counts): (usize, &[usize]) = match (self.vector(), self.bytes) {
            (1, _) => (16, &[4, 16, 32]),
            (_, 2) => (4, &[1, 2, 3, 4]),
            _ => (8, &[1, 2, 3, 4, 6, 8]),
        };
        if self.vector() > 1 && vectors <= 32 {
            return Team::Warp(vectors.next_power_of_two().max(8), 1);
        }
        if let Some(count) = counts.iter().find(|count| vectors <= 32 * **count) {
            return Team::Warp(32, *count);
        }
        let threads = vectors.div_ceil(held).next_power_of_two().max(64);
        let widest = if self.vector() > 1 { widest } else { 512 };
        match threads <= widest {
            true => Team::Block(threads, self.vector() > 1 && vectors <= threads * most(self.bytes) * 3 / 4),
            false => Team::Distant,
        }
    }

    /// The forward pass of a norm.
    pub fn forward(&self) -> Plan {
        let (kind, rows) = (self.kind(), self.groups * self.rows);
        let block = |name: &str, threads| {
            let kernel = format!("forward_{kind}_{name}");
            Plan { kernel, blocks: rows, threads, shared: 0 }
        };
        match self.team(1024) {
            Team::Warp(lanes, count) => {
                // Rows that norm.cu reads before it uses the first.
                let ahead = if self.vector() == 1 { 1 } else { (4 / count).max(1) };
                let of_block = 256 / lanes * ahead;
                let kernel = format!("forward_{kind}_{lanes}_{count}");
                Plan { kernel, blocks: rows.div_ceil(of_block), threads: 256, shared: 0 }
            }
            Team::Block(1024, _) => block("block_wide", 1024),
            Team::Block(threads, true) => block("block_three_quarters", threads),
            Team::Block(threads, false) => block("block", threads),
            Team::Distant => block("distant", 512),
        }
    }

    /// `softmax` or `softmax_backward`: a team a row, no longer rows in registers than a warp holds.
    pub fn softmax(&self, pass: &str) -> Plan {
        let (kind, rows) = (self.kind(), self.groups * self.rows);
        match self.team(0) {
            Team::Warp(lanes, count) => {
                let kernel = format!("{pass}_{kind}_{lanes}_{count}");
                Plan { kernel, blocks: (rows * lanes).div_ceil(256), threads: 256, shared: 0 }
            }
            _ => Plan { kernel: format!("{pass}_{kind}_distant"), blocks: rows, threads: 512, shared: 0 },
        }
    }

    /// The backward pass of a norm: a block a chunk.
    pub fn backward(&self) -> Plan {
        let (kind, blocks) = (self.kind(), self.groups * self.chunks());
        let real = if self.bytes == 8 { 8 } else { 4 };
        let (name, threads, shared) = match self.team(512) {
            Team::Warp(lanes, count) => (format!("{lanes}_{count}"), 128, 0),
            Team::Block(threads, true) => ("block_three_quarters".into(), threads, 2 * self.width * real),
            Team::Block(threads, false) => ("block".into(), threads, 2 * self.width * real),
            Team::Distant => ("distant".into(), 512, 0),
        };
        Plan { kernel: format!("backward_{kind}_{name}"), blocks, threads, shared }
    }

    /// Chunks of a group.
    pub fn chunks(&self) -> usize {
        self.rows.div_ceil(CHUNK)
    }

    /// The largest number of additions that a summand of a row meets, and one for the multiplication by 1/width.
    pub fn additions(&self) -> usize {
        let (vector, vectors) = (self.vector(), self.width / self.vector());
        let (lanes, levels) = match self.team(512) {
            Team::Warp(lanes, _) => (lanes, lanes.ilog2()),
            Team::Block(threads, _) => (threads, 5 + (threads / 32).ilog2()),
            Team::Distant => (512, 9),
        };
        (vectors.div_ceil(lanes) * vector).saturating_sub(1) + levels as usize + 1
    }
}

/// The launches that merge `strips` a group until one thread can finish them, with the number each leaves; then the last.
pub fn merges(groups: usize, strips: usize, columns: usize) -> Vec<(Plan, usize)> {
    let mut launches = Vec::new();
    let mut left = strips;
    while left > FAN {
        left = left.div_ceil(FAN);
        launches.push((elementwise("merge_strips", groups * left * columns), left));
    }
    launches
}

/// One thread an element, or a vector.
pub fn elementwise(kernel: &str, threads: usize) -> Plan {
    Plan { kernel: kernel.into(), blocks: threads.div_ceil(256), threads: 256, shared: 0 }
}
