//! The sizes of one network.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Ten times the blocks of the deepest published Transformer (DeepNorm's, 1000 layers of two sub-layers each): every
/// command still ends in about a minute there at small widths, and what is stored per block stays small.
const MAX_BLOCKS: usize = 10_000;

/// The sizes of one network. One sequence of `tokens` tokens per draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// d, the width of the residual stream.
    pub width: usize,
    /// N, the number of blocks.
    pub blocks: usize,
    /// T, the tokens of one sequence.
    pub tokens: usize,
    /// Attention heads; divides the width.
    pub heads: usize,
    /// n_h, the hidden width of the FFN.
    pub ffn_width: usize,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
}

impl Shape {
    /// The default number of heads: the largest divisor of `width` that is at most max(1, width/32).
    pub fn default_heads(width: usize) -> usize {
        (1..=(width / 32).max(1)).rev().find(|&h| width.is_multiple_of(h)).unwrap_or(1)
    }

    /// Refuses sizes of zero, heads that do not divide the width, and more than ten thousand blocks.
    pub fn check(&self) -> Result<()> {
        let Shape { width, blocks, tokens, heads, ffn_width, .. } = *self;
        let sizes =
            [("width", width), ("blocks", blocks), ("tokens", tokens), ("heads", heads), ("ffn width", ffn_width)];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(wrong(format!("{name} is 0"), format!("give a {name} of at least 1")));
        }
        if blocks > MAX_BLOCKS {
            return Err(wrong(format!("{blocks} blocks"), format!("at most {MAX_BLOCKS} blocks are possible")));
        }
        if !width.is_multiple_of(heads) {
            let help = format!("numbers of heads that divide it: {}", near_divisors(width, heads));
            return Err(wrong(format!("{heads} heads do not divide the width {width}"), help));
        }
        Ok(())
    }
}

fn wrong(message: String, help: String) -> Error {
    Error::Shape { message, help }
}

/// The divisors of `width` next to `heads`, in words.
fn near_divisors(width: usize, heads: usize) -> String {
    // Widths beyond 2^40 are not of this world; their largest divisors may be left out.
    let small = (1..=width.isqrt().min(1 << 20)).filter(|&n| width.is_multiple_of(n));
    let divisors: Vec<usize> = small.flat_map(|n| [n, width / n]).collect();
    let below = divisors.iter().copied().filter(|&n| n < heads).max();
    let above = divisors.iter().copied().filter(|&n| n > heads).min();
    below.into_iter().chain(above).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { width: 96, blocks: 4, tokens: 8, heads: 3, ffn_width: 384, causal: false };

    #[test]
    fn default_heads_divide_the_width() {
        for width in 1..1000 {
            let heads = Shape::default_heads(width);
            assert!(width % heads == 0 && heads <= (width / 32).max(1), "{width}: {heads}");
        }
        assert_eq!([64, 96, 100, 128, 512].map(Shape::default_heads), [2, 3, 2, 4, 16]);
    }

    #[test]
    fn zero_sizes_are_refused() {
        assert!(SHAPE.check().is_ok());
        for bad in [
            Shape { width: 0, ..SHAPE },
            Shape { blocks: 0, ..SHAPE },
            Shape { tokens: 0, ..SHAPE },
            Shape { heads: 0, ..SHAPE },
            Shape { ffn_width: 0, ..SHAPE },
            Shape { blocks: MAX_BLOCKS + 1, ..SHAPE },
            Shape { blocks: usize::MAX, ..SHAPE },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn heads_that_do_not_divide_are_told_which_would() {
        assert_eq!(near_divisors(96, 5), "4, 6");
        assert_eq!(near_divisors(97, 5), "1, 97");
        assert_eq!(near_divisors(96, 100), "96");
        assert_eq!(near_divisors(usize::MAX, 2), "1, 3");
        let error = Shape { heads: 5, ..SHAPE }.check().expect_err("5 does not divide 96");
        assert_eq!(error.to_string(), "5 heads do not divide the width 96");
    }
}
