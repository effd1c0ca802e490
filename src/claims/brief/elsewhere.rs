//! What no experiment here can decide, with the reason: A19-A23, A25-A28, A30, A32-A35, A41, A51.

use super::{Basis, Statement};

pub fn statements() -> Vec<Statement> {
    let statement = |id, text, source, reason| Statement { id, text, source, basis: Basis::Undecidable(reason) };
    vec![
        statement(
            "brief.a19.collapse_in_one_of_five_models",
            "Representation collapse happened in nearly 1 in 5 deep pre-norm models, according to a 2024 study.",
            "brief 000, Real-World Trade-Offs",
            "A share of trained models is a survey's result: the study is not named, and nothing here trains models or counts those of others.",
        ),
        statement(
            "brief.a20.post_ln_struggles_beyond_30_layers",
            "Post-norm struggles beyond 30 layers. Pre-norm handles 100+ with ease.",
            "brief 000, What Pre-Norm and Post-Norm Actually Mean",
            "Whether a network trains is decided by training it, with a task and an optimizer; what is judged here is initialization, at which \
             the gradients of 30 and of 100 Post-LN blocks do not differ in size (brief.a6, brief.a12).",
        ),
        statement(
            "brief.a21.post_ln_better_by_half_a_bleu",
            "Wang et al. (2019) found post-norm models outperformed pre-norm by 0.3-0.5 BLEU points on machine translation, with perfect schedules \
             and 6,000+ step warmups.",
            "brief 000, Post-Norm's Hidden Strengths",
            "A BLEU score needs trained translation models, and what a paper found is read in the paper: Wang et al. 2019, arXiv:1906.01787, argue \
             for pre-norm in deep encoders.",
        ),
        statement(
            "brief.a22.clipping_and_learning_rates",
            "Clip gradients at 1.0-2.0 for pre-norm and at 0.5-1.0 for post-norm; increase the learning rate by 15-25%.",
            "brief 000, How to Switch",
            "A recipe is judged by what training with it gives, on a task that the text does not name; no source is given for the numbers.",
        ),
        statement(
            "brief.a23.init_scale_by_placement",
            "Scale weights by 1/sqrt(d_model) for pre-norm; post-norm usually uses sqrt(2/d_model).",
            "brief 000, How to Switch",
            "What is usual is a count of published models, and which scale is better a result of training; either scale can be set here by `init`, \
             and Xiong et al. 2020 use N(0, 1/d) for both placements.",
        ),
        statement(
            "brief.a25.peri_ln_12_7_percent_more_stable",
            "Peri-LN is 12.7% more stable than pre-norm in 120-layer models and avoids the massive activation problem.",
            "brief 000, The Future",
            "Stability has no unit in the text that a percentage could be taken of, and no source is given; it would be a result of training runs.",
        ),
        statement(
            "brief.a26.palm_3_adaptive_normalization",
            "Google's PaLM 3, released in April 2025, uses adaptive normalization that switches between pre-norm and post-norm.",
            "brief 000, The Future",
            "Whether a product was released and what it contains is no property of equations; the text gives no equation to run.",
        ),
        statement(
            "brief.a27.moe_memory_and_share_of_models",
            "Pre-norm with mixture-of-experts cuts memory use by 21.4% (Meta, July 2025); by 2026 over 95% of new deep LLMs will use adaptive or \
             hybrid normalization.",
            "brief 000, The Future",
            "The first names neither the models compared nor a source, and experts are no part of a placement; the second is a forecast about \
             publications.",
        ),
        statement(
            "brief.a28.anecdotes_of_steps_crashes_auc",
            "78% fewer steps to 90% performance; training crashes dropped by 83%; post-norm gave 0.8% better AUC.",
            "brief 000, Real-World Trade-Offs",
            "These are reports of single training runs whose models, data and settings are not given, so that they cannot be repeated.",
        ),
        statement(
            "brief.a30.palm_is_pre_ln_with_residual_scaling",
            "PaLM uses a modified variant called \"pre-LN with residual scaling\".",
            "brief 000, comments",
            "What a model that is not public contains is known only from its paper, which no experiment can check: Chowdhery et al. 2022, \
             arXiv:2204.02311, describe parallel blocks (built-in `parallel`) and no factor on the residual.",
        ),
        statement(
            "brief.a32.depths_of_palm_and_llama_3",
            "Google's PaLM has 540B parameters and 118 layers; Meta's Llama 3 has 80+ layers.",
            "brief 000, Why Pre-Norm Wins for Deep Models",
            "The number of layers of a published model is read in its configuration; nothing here holds or runs these models.",
        ),
        statement(
            "brief.a33.hugging_face_defaults_to_pre_norm",
            "Hugging Face Transformers default to pre-norm now; a comment: they default to what the model config says, BERT uses post-norm.",
            "brief 000, Which One Should You Use and comments",
            "What a library's model files contain is read there, model by model; it is a fact about software that is no part of this suite.",
        ),
        statement(
            "brief.a34.warm_up_required_for_post_ln_only",
            "Warm-up required: Post-LN yes (critical), Pre-LN no.",
            "brief 001, Summary Table; Xiong et al. 2020, arXiv:2002.04745, section 3",
            "Whether training succeeds without warm-up is decided by training with and without it; what it is said to follow from at \
             initialization is judged (brief.a6, brief.a7, brief.a8).",
        ),
        statement(
            "brief.a35.forty_percent_faster_bert",
            "Xiong et al. demonstrated a ~40% training speedup on BERT pre-training.",
            "brief 001, Why Pre-LN Is Stable",
            "The steps to a loss of BERT are a result of pre-training BERT; the text reports the paper, arXiv:2002.04745, section 4, which says so.",
        ),
        statement(
            "brief.a41.pre_ln_converges_faster_and_uses_depth_worse",
            "Convergence: Pre-LN faster, Post-LN slower; depth utilization: Post-LN good, Pre-LN degraded at scale.",
            "brief 001, Summary Table",
            "How fast training converges and what a trained layer contributes are properties of trained networks; the share of a layer at \
             initialization is judged (brief.a36, brief.a40).",
        ),
        statement(
            "brief.a51.attention_residuals_fix_dilution",
            "Dilution is the core motivation for attention-residuals, which seek to preserve per-layer contribution magnitude.",
            "brief 001, Why This Matters",
            "A motivation is no measurable claim, and the effect sought is one of trained queries: at initialization they are zero, and \
             attention-residuals give every norm the same input as pre-ln, up to scale.",
        ),
    ]
}
