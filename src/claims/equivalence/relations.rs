//! The relations between placements.

use crate::claims::equivalence::{CENTRED_OR_NOT, EXACTLY, Relation, ends, weights};
use crate::claims::subjects::{built_in, layer, text, with_input_of, with_let, without_output};

const OWN: &str = "own; both sides from the same equations, B.4 of the zoo";

/// Values that every relation overrides in part.
const RELATION: Relation = Relation {
    id: "",
    statement: "",
    source: OWN,
    about: &[],
    sides: |_| unreachable!("every relation names its sides"),
    normalizers: CENTRED_OR_NOT,
    eps: EXACTLY,
    blocks: 3,
    wanted: weights,
};

const DEEPNORM_OVER_ALPHA: &str = r#"
let   = { alpha = "(2*N)^(1/4)", beta = "(8*N)^(-1/4)" }
init  = { w_v = "beta", w_o = "beta", w_1 = "beta", w_2 = "beta" }
layer = """
x = norm(x + attn(x)/alpha)
x = norm(x + ffn(x)/alpha)
"""
"#;

/// SiameseNorm, Algorithm 1, with the stream x taken out of what sub-layers read.
const SIAMESE_CUT: &str = r#"
streams = { y = "x" }
layer = """
f = attn(0*x + norm(y))
x = norm(x + f)
y = y + f
g = ffn(0*x + norm(y))
x = norm(x + g)
y = y + g
"""
output = "norm(y)"
"#;

/// Hyper-connections of two streams at their static start: A_r = 1, B = 1, sub-layer k reads stream k mod 2, the readout sums.
const HYPER: &str = r#"
streams = { s = "x" }
layer = """
f = attn(norm(x))
x = x + f
s = s + f
g = ffn(norm(s))
x = x + g
s = s + g
"""
output = "norm(x + s)"
"#;

/// mHC: a doubly stochastic A_r, branches enter with weights 1 and 1/2, sub-layers read the mean.
const MANIFOLD: &str = r#"
streams = { s = "x" }
layer = """
f = attn(norm((x + s)/2))
a = 0.7*x + 0.3*s + f
s = 0.3*x + 0.7*s + f/2
x = a
g = ffn(norm((x + s)/2))
a = 0.7*x + 0.3*s + g
s = 0.3*x + 0.7*s + g/2
x = a
"""
output = "norm((x + s)/2)"
"#;

pub const RELATIONS: &[Relation] = &[
    Relation {
        id: "equivalence.deepnorm.branch_over_alpha",
        statement: "DeepNorm is Post-LN with the branch divided by alpha, as LN(cx) = LN(x).",
        source: "zoo B.4.1; Wang et al. 2022, arXiv:2203.00555, section 3",
        about: &["deepnorm"],
        sides: |lab| Ok([built_in(lab, "deepnorm")?, text(lab, DEEPNORM_OVER_ALPHA)?]),
        ..RELATION
    },
    Relation {
        id: "equivalence.deepnorm.eps_over_alpha_squared",
        statement: "With eps, LN_eps(alpha x + G) = LN_(eps/alpha^2)(x + G/alpha).",
        source: "zoo B.4.1",
        about: &["deepnorm"],
        sides: |lab| Ok([built_in(lab, "deepnorm")?, text(lab, DEEPNORM_OVER_ALPHA)?]),
        eps: [|_| 0.25, |blocks| 0.25 / (2.0 * blocks as f64).sqrt()],
        ..RELATION
    },
    Relation {
        id: "equivalence.mix_ln.share_0_is_pre_ln",
        statement: "Mix-LN without Post-LN blocks is Pre-LN.",
        source: "zoo B.4.2; Li, Yin & Liu 2024, arXiv:2412.13795",
        about: &["mix-ln", "pre-ln"],
        sides: |lab| Ok([with_let(built_in(lab, "mix-ln")?, "share", 0.0), built_in(lab, "pre-ln")?]),
        wanted: |_| true,
        ..RELATION
    },
    Relation {
        id: "equivalence.mix_ln.share_1_is_post_ln",
        statement: "Mix-LN of Post-LN blocks alone is Post-LN: its final norm changes nothing that is normalized.",
        source: "zoo B.4.2; Li, Yin & Liu 2024, arXiv:2412.13795",
        about: &["mix-ln", "post-ln"],
        sides: |lab| Ok([with_let(built_in(lab, "mix-ln")?, "share", 1.0), built_in(lab, "post-ln")?]),
        ..RELATION
    },
    Relation {
        id: "equivalence.sandwich_ln.peri_ln_without_input_norm",
        statement: "Peri-LN is Sandwich-LN behind a norm of the embedding.",
        source: "zoo B.4.3; Ding et al. 2021, arXiv:2105.13290; Kim et al. 2025, arXiv:2502.02732",
        about: &["peri-ln", "sandwich-ln"],
        sides: |lab| {
            let peri = built_in(lab, "peri-ln")?;
            let sandwich = with_input_of(built_in(lab, "sandwich-ln")?, &peri);
            Ok([peri, sandwich])
        },
        wanted: |_| true,
        ..RELATION
    },
    Relation {
        id: "equivalence.output_norm.peri_ln_without_inner_norm",
        statement: "Peri-LN with the identity for the inner norm is the output norm inside the residual.",
        source: "zoo B.4.3; OLMo 2 and Swin V2, arXiv:2111.09883",
        about: &["output-norm"],
        sides: |lab| {
            let outer = "x = x + norm(attn(identity(x)))\nx = x + norm(ffn(identity(x)))";
            Ok([built_in(lab, "output-norm")?, layer(lab, outer, "norm(x)")?])
        },
        ..RELATION
    },
    Relation {
        id: "equivalence.pre_ln.peri_ln_without_outer_norm",
        statement: "Peri-LN with the identity for the outer norm is Pre-LN.",
        source: "zoo B.4.3",
        about: &["pre-ln"],
        sides: |lab| {
            let inner = "x = x + identity(attn(norm(x)))\nx = x + identity(ffn(norm(x)))";
            Ok([built_in(lab, "pre-ln")?, layer(lab, inner, "norm(x)")?])
        },
        ..RELATION
    },
    Relation {
        id: "equivalence.residual.post_ln_without_dual_stream",
        statement: "ResiDual read at its first stream alone is Post-LN.",
        source: "zoo B.4.6; Xie et al. 2023, arXiv:2304.14802",
        about: &["residual", "post-ln"],
        sides: |lab| Ok([without_output(built_in(lab, "residual")?), built_in(lab, "post-ln")?]),
        ..RELATION
    },
    Relation {
        id: "equivalence.siamese_norm.pre_ln_without_first_stream",
        statement: "SiameseNorm whose sub-layers do not read the first stream is Pre-LN.",
        source: "zoo B.4.6; Li et al. 2026, arXiv:2602.08064, Algorithm 1",
        about: &["pre-ln"],
        sides: |lab| Ok([built_in(lab, "pre-ln")?, text(lab, SIAMESE_CUT)?]),
        ..RELATION
    },
    Relation {
        id: "equivalence.hyper_connections.static_start_is_pre_ln",
        statement: "Hyper-connections start as Pre-LN: every stream is the Pre-LN stream.",
        source: "zoo B.4.7; Zhu et al. 2024, arXiv:2409.19606",
        about: &["pre-ln"],
        sides: |lab| Ok([built_in(lab, "pre-ln")?, text(lab, HYPER)?]),
        ..RELATION
    },
    Relation {
        id: "equivalence.mhc.mean_of_streams",
        statement: "Doubly stochastic mixing leaves the mean of the streams: mean' = mean + mean(B) F.",
        source: "zoo B.4.7; Xie et al. 2025, arXiv:2512.24880",
        about: &["depth-mup"],
        sides: |lab| Ok([with_let(built_in(lab, "depth-mup")?, "branch", 0.75), text(lab, MANIFOLD)?]),
        ..RELATION
    },
    Relation {
        id: "equivalence.attention_residuals.zero_query_is_pre_ln",
        statement: "Attention Residuals with queries of zero average all values, which behind a norm is Pre-LN.",
        source: "zoo B.4.8; Kimi Team 2026, arXiv:2603.15031",
        about: &["attention-residuals", "pre-ln"],
        sides: |lab| Ok([built_in(lab, "attention-residuals")?, built_in(lab, "pre-ln")?]),
        ..RELATION
    },
    Relation {
        id: "equivalence.denseformer.identity_weights_are_pre_ln",
        statement: "DenseFormer with weight 1 on the last block and 0 on all others is its host.",
        source: "zoo B.4.9; Pagliardini et al. 2024, arXiv:2402.02622",
        about: &["denseformer", "pre-ln"],
        sides: |lab| Ok([built_in(lab, "denseformer")?, built_in(lab, "pre-ln")?]),
        ..RELATION
    },
    Relation {
        id: "equivalence.lns.first_block_is_pre_ln",
        statement: "LayerNorm Scaling with the factor 1 is Pre-LN, as in its first block.",
        source: "zoo B.4.9; Sun et al. 2025, arXiv:2502.05795",
        about: &["lns", "pre-ln"],
        sides: |lab| Ok([built_in(lab, "lns")?, built_in(lab, "pre-ln")?]),
        blocks: 1,
        ..RELATION
    },
    Relation {
        id: "equivalence.depth_mup.factor_1_is_pre_ln",
        statement: "A depth multiplier of 1 leaves Pre-LN.",
        source: "Yang et al. 2023, arXiv:2310.02244; own",
        about: &["depth-mup", "pre-ln"],
        sides: |lab| Ok([with_let(built_in(lab, "depth-mup")?, "branch", 1.0), built_in(lab, "pre-ln")?]),
        wanted: |_| true,
        ..RELATION
    },
    Relation {
        id: "equivalence.completep.square_of_depth_mup",
        statement: "CompleteP's multiplier is the square of Depth-muP's: at one depth, the same network with that number.",
        source: "Dey et al. 2025, arXiv:2505.01618; own",
        about: &["completep", "depth-mup"],
        sides: |lab| Ok([built_in(lab, "completep")?, with_let(built_in(lab, "depth-mup")?, "branch", 1.0 / 3.0)]),
        wanted: |_| true,
        ..RELATION
    },
    Relation {
        id: "equivalence.ngpt.alpha_0_is_identity",
        statement: "nGPT with alpha = 0 leaves every token where it is on the sphere.",
        source: "zoo B.4.12; Loshchilov et al. 2024, arXiv:2410.01131",
        about: &["ngpt"],
        sides: |lab| {
            let ngpt = with_let(built_in(lab, "ngpt")?, "alpha", 0.0);
            let still = with_input_of(layer(lab, "x = x", "x")?, &ngpt);
            Ok([ngpt, still])
        },
        wanted: ends,
        ..RELATION
    },
    Relation {
        id: "equivalence.ngpt.alpha_1_has_no_memory",
        statement: "nGPT with alpha = 1 forgets its input: h' = Norm(F(h)).",
        source: "zoo B.4.12; Loshchilov et al. 2024, arXiv:2410.01131",
        about: &["ngpt"],
        sides: |lab| {
            let ngpt = with_let(built_in(lab, "ngpt")?, "alpha", 1.0);
            let branch = "x = l2_norm(attn(x, qk = rms_norm))\nx = l2_norm(ffn(sqrt(d)*x))";
            let forgetful = with_input_of(layer(lab, branch, "x")?, &ngpt);
            Ok([ngpt, forgetful])
        },
        ..RELATION
    },
    Relation {
        id: "equivalence.keel.deepnorm_form",
        statement: "On normalized values KEEL is LN(alpha x + F(x)): its inner norm changes nothing.",
        source: "zoo B.4.13; Chen & Wei 2026, arXiv:2601.19895",
        about: &["keel"],
        sides: |lab| {
            let form = "input = \"norm(x)\"\nlet = { alpha = \"2*N\" }\nlayer = \"\"\"\nx = norm(alpha*x + attn(x))\nx = norm(alpha*x + ffn(x))\n\"\"\"";
            let form = text(lab, form)?;
            Ok([with_input_of(built_in(lab, "keel")?, &form), form])
        },
        ..RELATION
    },
    Relation {
        id: "equivalence.gemma.sandwich_of_rms_norms",
        statement: "The Gemma 2 block starts as a sandwich of RMSNorms: the gain 1 + w with w = 0 is 1.",
        source: "zoo B3g, C15; Gemma Team 2024, arXiv:2408.00118",
        about: &["gemma", "sandwich-ln"],
        sides: |lab| Ok([built_in(lab, "gemma")?, built_in(lab, "sandwich-ln")?]),
        normalizers: &["rms_norm"],
        wanted: |_| true,
        ..RELATION
    },
    Relation {
        id: "equivalence.parallel.one_norm_is_two",
        statement: "Parallel blocks with one norm and with two are the same until their gains are trained.",
        source: "zoo B20; Black et al. 2022, arXiv:2204.06745",
        about: &["parallel", "parallel-two-norms"],
        sides: |lab| Ok([built_in(lab, "parallel")?, built_in(lab, "parallel-two-norms")?]),
        ..RELATION
    },
    Relation {
        id: "equivalence.olmo2.output_norm_with_wide_qk_norm",
        statement: "The OLMo 2 block is the output norm inside the residual, plus norms of the full queries and keys.",
        source: "zoo E14; OLMo 2, Olmo2DecoderLayer in Hugging Face Transformers",
        about: &["olmo2"],
        sides: |lab| {
            let form = "x = x + norm(attn(identity(x), qk_wide = norm))\nx = x + norm(ffn(identity(x)))";
            Ok([built_in(lab, "olmo2")?, layer(lab, form, "norm(x)")?])
        },
        ..RELATION
    },
];
