//! Which kernel of norm.cu and softmax.cu runs on rows of a shape, and on how many threads.
//!
//! Depends on the shape alone, never on the device, and so do the bits. A thread holds a few vectors of a row; part of a
//! warp, a warp or a block holds a row; longer rows are read again for each sweep.

/// Strips that one thread of `merge_strips` and `finish_strips` adds.
pub const FAN: usize = 64;
/// Multiprocessors that the blocks of the backward pass are shared out to: of an H100 and an H200.
const MULTIPROCESSORS: usize = 132;
/// Threads of `backward_*_block_wide`, which knows their number when it is compiled.
const WIDE: usize = 512;
/// Threads and bytes of shared memory that a multiprocessor gives to blocks of 128 registers a thread.
const RESIDENT: (usize, usize) = (512, 220 << 10);

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
    /// Threads of a block, whole warps, and the most vectors that one of them holds.
    Block(usize, usize),
    Distant,
}

impl Team {
    /// With all threads of the wide block, where so many vectors a thread make it one.
    fn wide(self, vectors: usize) -> Self {
        match self {
            Team::Block(_, held) if held == vectors => Team::Block(WIDE, held),
            other => other,
        }
    }
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

    /// A warp where one of `counts` vectors a thread is enough; else a block of at most so many vectors a thread, on at
    /// most so many threads, the first that is wide enough.
    fn team(&self, counts: &[usize], blocks: &[(usize, usize)]) -> Team {
        let vectors = self.width / self.vector();
        if self.vector() > 1 && vectors <= 64 {
            return Team::Warp(vectors.div_ceil(2).next_power_of_two().max(4), 2);
        }
        if let Some(count) = counts.iter().find(|count| vectors <= 32 * **count) {
            return Team::Warp(32, *count);
        }
        self.team_of_block(blocks)
    }

    fn team_of_block(&self, blocks: &[(usize, usize)]) -> Team {
        let threads = |held: usize| (self.width / self.vector()).div_ceil(held).next_multiple_of(32);
        let block = blocks.iter().find(|(held, most)| threads(*held) <= *most);
        block.map_or(Team::Distant, |(held, _)| Team::Block(threads(*held), *held))
    }

    /// Of the forward pass, and of softmax where `widest` is 512 threads.
    fn forward_team(&self, widest: usize) -> Team {
        match self.vector() {
            1 => self.team(&[4, 16, 32], &[(16, 512)]),
            _ => self.team(&[3, 4, 6, 8], &[(8, widest)]),
        }
    }

    /// In 16 bits, where a vector is 8 elements and the sums of a row take more registers than the row, a block holds all but
    /// narrow rows, a block of one warp at first, and two vectors a thread, as there are no registers for the sums of more.
    fn backward_team(&self) -> Team {
        match (self.vector(), self.bytes) {
            (1, _) => self.team(&[4, 16, 32], &[(16, 512)]),
            (vector, 2) if self.width > 32 * vector => self.team_of_block(&[(2, 512), (4, WIDE)]).wide(4),
            (_, 2) => self.team(&[], &[]),
            _ => self.team(&[3, 4, 6, 8], &[(4, 512), (8, WIDE)]).wide(8),
        }
    }

    /// The forward pass of a norm.
    pub fn forward(&self) -> Plan {
        let (kind, rows) = (self.kind(), self.groups * self.rows);
        let block = |name: &str, threads| {
            let kernel = format!("forward_{kind}_{name}");
            Plan { kernel, blocks: rows, threads, shared: 0 }
        };
        match self.forward_team(1024) {
            Team::Warp(lanes, count) => {
                // Rows that norm.cu reads before it uses the first.
                let ahead = if self.vector() > 1 && count == 2 { 2 } else { 1 };
                let of_block = 256 / lanes * ahead;
                let kernel = format!("forward_{kind}_{lanes}_{count}");
                Plan { kernel, blocks: rows.div_ceil(of_block), threads: 256, shared: 0 }
            }
            Team::Block(threads, _) if threads > 512 => block("block_wide", threads),
            Team::Block(threads, _) => block("block", threads),
            Team::Distant => block("distant", 512),
        }
    }

    /// `softmax` or `softmax_backward`: a team a row.
    pub fn softmax(&self, pass: &str) -> Plan {
        let (kind, rows) = (self.kind(), self.groups * self.rows);
        match self.forward_team(512) {
            Team::Warp(lanes, count) => {
                let kernel = format!("{pass}_{kind}_{lanes}_{count}");
                Plan { kernel, blocks: (rows * lanes).div_ceil(256), threads: 256, shared: 0 }
            }
            Team::Block(threads, _) => {
                Plan { kernel: format!("{pass}_{kind}_block"), blocks: rows, threads, shared: 0 }
            }
            Team::Distant => Plan { kernel: format!("{pass}_{kind}_distant"), blocks: rows, threads: 512, shared: 0 },
        }
    }

    /// The backward pass of a norm: a block a chunk.
    pub fn backward(&self) -> Plan {
        let row = self.width * if self.bytes == 8 { 8 } else { 4 };
        let (name, threads, shared) = match self.backward_team() {
            Team::Warp(lanes, count) => (format!("{lanes}_{count}"), 128, 0),
            // The factors; and the sums, where registers do not hold them.
            Team::Block(threads, 2) => ("block".into(), threads, row),
            Team::Block(threads, 4) if self.bytes > 2 => ("block".into(), threads, 3 * row),
            Team::Block(threads, 16) => ("block".into(), threads, 3 * row),
            Team::Block(threads, _) => ("block_wide".into(), threads, 3 * row),
            Team::Distant => ("distant".into(), 512, 0),
        };
        let (kind, blocks) = (self.kind(), self.groups * self.chunks());
        Plan { kernel: format!("backward_{kind}_{name}"), blocks, threads, shared }
    }

    /// Rows of one chunk of the backward pass: the rows of a group shared evenly among as few times the blocks that run at
    /// once as the longest chunk allows; no chunk so short that its strip costs much beside its rows. No sum of rows is longer
    /// than the CPU's: a chunk has at most 64 rows, or 32 for each of several teams.
    pub fn chunk_rows(&self) -> usize {
        let (at_once, shortest, longest) = match self.backward_team() {
            Team::Warp(lanes, count) => {
                let at_once = match (count, self.bytes) {
                    (2, 4) => 6,
                    (0..=4, _) => 4,
                    _ => 3,
                };
                let teams = 128 / lanes;
                (at_once, 4 * teams, 32 * teams)
            }
            Team::Block(threads, _) => {
                let shared = 3 * self.width * if self.bytes == 8 { 8 } else { 4 };
                ((RESIDENT.0 / threads).min(RESIDENT.1 / shared), 16, 64)
            }
            Team::Distant => (1, 16, 64),
        };
        let blocks = MULTIPROCESSORS * at_once.max(1);
        let times = self.rows.div_ceil(blocks * longest).max(1);
        self.rows.div_ceil(blocks * times).max(shortest)
    }

    /// Chunks of a group.
    pub fn chunks(&self) -> usize {
        self.rows.div_ceil(self.chunk_rows())
    }

    /// The largest number of additions that a summand of a row meets, and one for the multiplication by 1/width.
    pub fn additions(&self) -> usize {
        let (vector, vectors) = (self.vector(), self.width / self.vector());
        let of = |team| {
            let (threads, levels) = match team {
                Team::Warp(lanes, _) => (lanes, lanes.ilog2()),
                Team::Block(threads, _) => (threads, 5 + (threads / 32).next_power_of_two().ilog2()),
                Team::Distant => (512, 9),
            };
            (vectors.div_ceil(threads) * vector).saturating_sub(1) + levels as usize + 1
        };
        of(self.forward_team(1024)).max(of(self.backward_team()))
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
