//! The mean field of the setting of Xiong et al.: second moments and cosines of wide networks, as printed recursions.
//!
//! Notation: n tokens, q second moment of the stream, c second moment between two tokens, c/q their cosine.

/// A stream's second moment, and that between two tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    pub q: f64,
    pub c: f64,
}

impl Field {
    /// Independent tokens of second moment 1.
    pub const START: Field = Field { q: 1.0, c: 0.0 };

    pub fn cosine(self) -> f64 {
        self.c / self.q
    }

    /// Uniform attention over n tokens adds a = (1 + (n - 1) c/q)/n to both.
    fn attention(self, tokens: f64) -> Field {
        let a = (1.0 + (tokens - 1.0) * self.cosine()) / tokens;
        Field { q: self.q + a, c: self.c + a }
    }

    /// A ReLU FFN of normalized input adds 1/2 to q and kappa(c/q)/2 to c.
    fn feed_forward(self) -> Field {
        Field { q: self.q + 0.5, c: self.c + arc_cosine(self.cosine()) / 2.0 }
    }

    fn normalized(self) -> Field {
        Field { q: 1.0, c: self.cosine() }
    }
}

/// The first arc-cosine kernel, (sqrt(1 - r^2) + r (pi - arccos r))/pi.
pub fn arc_cosine(r: f64) -> f64 {
    let r = r.clamp(-1.0, 1.0);
    ((1.0 - r * r).sqrt() + r * (std::f64::consts::PI - r.acos())) / std::f64::consts::PI
}

/// The Pre-LN stream behind blocks 0..=N.
pub fn pre_ln(blocks: usize, tokens: usize) -> Vec<Field> {
    let next = |field: &Field| Some(field.attention(tokens as f64).feed_forward());
    std::iter::successors(Some(Field::START), next).take(blocks + 1).collect()
}

/// Post-LN: the input of each block's first norm, and the stream behind the block.
pub fn post_ln(blocks: usize, tokens: usize) -> Vec<(Field, Field)> {
    let mut stream = Field::START;
    let block = |_| {
        let first = stream.attention(tokens as f64);
        stream = first.normalized().feed_forward().normalized();
        (first, stream)
    };
    (0..blocks).map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of theory.md section 5, to the digits printed there.
    #[test]
    fn the_recursions_give_the_reference_numbers() {
        for (tokens, block, q, cosine) in
            [(2, 48, 69.525, 0.948), (16, 1, 1.562, 0.151), (16, 24, 29.487, 0.866), (512, 12, 12.452, 0.733)]
        {
            let field = pre_ln(block, tokens)[block];
            assert!(
                (field.q - q).abs() < 6e-4 && (field.cosine() - cosine).abs() < 6e-4,
                "{tokens} {block}: {field:?}"
            );
        }
        for (tokens, block, q, cosine) in [(16, 1, 1.062, 0.155), (16, 6, 1.872, 0.929), (64, 12, 1.997, 0.9985)] {
            let (first, stream) = post_ln(block, tokens)[block - 1];
            assert!((first.q - q).abs() < 6e-4 && (stream.cosine() - cosine).abs() < 6e-4, "{tokens} {block}");
        }
    }
}
