/* The tests' own truth: the network of a DeepSeek-V3-family checkpoint, computed as naively as it can be written. It
 * shares no code with the library. Sums are double; what passes from one operation to the next is rounded to float, and
 * the rotary angles are float, as in the implementation that made the goldens. Shapes are row-major, W [out, in] is y =
 * W x. Memory failure ends the test program. */
#ifndef FR_TESTS_REFERENCE_H
#define FR_TESTS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REF_BLOCK = 128 };

/* ---- Kernels (kernels.c) ------------------------------------------------------------------------------------- */

float ref_bf16_decode(uint16_t code);
/* Rounds to the nearest BF16, ties to even. x is finite. */
float ref_bf16_round(float x);
float ref_e4m3_decode(uint8_t code); /* 0x7F and 0xFF: NaN */
/* The nearest of the 253 finite values, ties to the even code, saturating at 448. x is finite. */
uint8_t ref_e4m3_encode(float x);

double ref_dot(const float *a, const float *b, int n);
/* y = x / sqrt(mean(x^2) + eps) * w, all [n] */
void ref_rmsnorm(const float *x, const float *w, int n, double eps, float *y);
double ref_sigmoid(double x);
void ref_softmax(double *x, int n);

/* One row quantized by blocks of 128 (the last may be partial): q [n] holds E4M3 values, scale [ceil(n/128)]. */
void ref_quantize_row(const float *x, int n, bool ue8m0, float *q, float *scale);

/* A linear: E4M3 values with block scales, or plain values without. */
typedef struct ref_linear {
    int out, in;
    float *w;     /* [out, in] stored values, decoded but not scaled; owned */
    float *scale; /* [ceil(out/128), ceil(in/128)]; NULL: not FP8; owned */
} ref_linear;

float ref_linear_at(const ref_linear *linear, int o, int i); /* the dequantized weight: float(value * scale) */

typedef enum ref_act { REF_ACT_F32, REF_ACT_FP8, REF_ACT_FP8_UE8M0 } ref_act;

/* y [rows, out] = W x [rows, in]. Activations are quantized only when `act` says so and the linear is FP8. */
void ref_linear_forward(const ref_linear *linear, const float *x, int rows, ref_act act, float *y);

typedef struct ref_rope {
    int dim;       /* even */
    float *freq;   /* [dim / 2]; owned */
    double mscale; /* cos and sin are scaled by this */
} ref_rope;
/* Rotates the pairs (2i, 2i + 1) of x [dim] in place. */
void ref_rope_apply(const ref_rope *rope, float *x, int position);

typedef struct ref_router_shape {
    int experts, groups, kept_groups, top_k;
    bool normalize;
    double scaling;
} ref_router_shape;
/* Chooses from gate logits [experts] and correction bias [experts]: idx [top_k] ascending, w [top_k] in the same order.
 * Returns the margin: the smaller of how far the last kept group's score is from the best dropped one's, and the last
 * chosen expert's from the best that was left in the kept groups. */
double ref_route(const ref_router_shape *shape, const float *logits, const float *bias, int *idx, float *w);

/* ---- Checkpoint (weights.c) ---------------------------------------------------------------------------------- */

typedef struct ref_config {
    int hidden, vocab, layers, mtp_layers, heads, q_lora, kv_lora, nope, rope, v_head;
    int dense_width, moe_width, shared_experts, first_dense;
    double eps, softmax_scale;
    bool ue8m0;
    bool kv_bf16; /* what is cached is rounded to BF16; false when opened, for a test to set */
    ref_router_shape router;
} ref_config;

typedef struct ref_mlp {
    ref_linear gate, up, down;
} ref_mlp;

typedef struct ref_layer {
    float *input_norm, *post_norm, *q_a_norm, *kv_a_norm;
    ref_linear q_a, q_b; /* q_lora 0: q_b is q_proj */
    ref_linear kv_a, kv_b, o;
    bool moe;
    ref_mlp dense, shared;
    ref_linear router;
    float *router_bias;
    ref_mlp *experts; /* [router.experts] */
} ref_layer;

typedef struct ref_model {
    ref_config config;
    ref_rope rotary;
    ref_linear embed, head; /* [vocab, hidden] */
    float *norm;
    ref_layer *layers; /* [layers + mtp_layers] */
    struct {           /* of the first MTP module; eh.w NULL without one */
        float *enorm, *hnorm, *norm;
        ref_linear eh;
    } mtp;
} ref_model;

/* NULL on failure, with one line in error. */
ref_model *ref_model_open(const char *dir, char *error, size_t error_size);
void ref_model_destroy(ref_model *model);

void *ref_alloc(size_t count, size_t size); /* zeroed; released with free() */

/* ---- Network (network.c) ------------------------------------------------------------------------------------- */

typedef enum ref_mla { REF_EXPANDED, REF_ABSORBED } ref_mla;

/* Self-attention of rows at positions 0..rows-1: x [rows, hidden] already normed, y [rows, hidden]. */
void ref_attention(const ref_model *model, const ref_layer *layer, const float *x, int rows, ref_act act, ref_mla mla, float *y);

/* What the routers did; each may be NULL. */
typedef struct ref_routing {
    int *idx;       /* [rows, top_k] */
    float *w;       /* [rows, top_k] */
    double *margin; /* [rows] */
} ref_routing;

/* down(silu(gate x) * up x) */
void ref_mlp_forward(const ref_mlp *mlp, const float *x, int rows, ref_act act, float *y);
void ref_moe(const ref_model *model, const ref_layer *layer, const float *x, int rows, ref_act act, ref_routing *routing,
             float *y);

/* One decoder layer over rows at positions 0..rows-1: x, y [rows, hidden]; y may be x. */
void ref_layer_forward(const ref_model *model, int layer, const float *x, int rows, ref_act act, ref_routing *routing, float *y);

/* All that a pass gives; owned arrays. */
typedef struct ref_output {
    int rows;
    float *embed;          /* [rows, hidden] */
    float *layer_out;      /* [layers, rows, hidden] */
    float *hidden;         /* [rows, hidden] after model.norm */
    float *logits;         /* [rows, vocab] */
    int *router_idx;       /* [moe layers, rows, top_k] */
    float *router_w;       /* [moe layers, rows, top_k] */
    double *router_margin; /* [moe layers, rows] */
} ref_output;
void ref_forward(const ref_model *model, const int32_t *tokens, int rows, ref_act act, ref_output *out);
void ref_output_release(ref_output *output);

typedef struct ref_mtp_output {
    float *out;    /* [rows, hidden] of the layer */
    float *hidden; /* [rows, hidden] after shared_head.norm */
    float *logits; /* [rows, vocab] */
} ref_mtp_output;
/* Row i reads hidden [i] and next[i], the token at position i + 1, and predicts the token at i + 2. */
void ref_mtp_forward(const ref_model *model, const float *hidden, const int32_t *next, int rows, ref_act act,
                     ref_routing *routing, ref_mtp_output *out);
void ref_mtp_output_release(ref_mtp_output *output);

/* The first of the largest. margin (or NULL): by how much it is larger than the next. */
int ref_argmax(const float *x, int n, double *margin);

/* Greedy continuation, the whole text recomputed for each token: out [count], margin [count] or NULL. */
void ref_greedy(const ref_model *model, const int32_t *prompt, int length, int count, ref_act act, int32_t *out, double *margin);

/* What drafting at a fixed depth does on a known text: `text` [length] is what the main model produces, of which the
 * first `prompt` were given and the next was chosen from the prompt's logits; `hidden` [length, hidden] is what the MTP
 * module reads. Cycles run until all of the text is reached; the last ones draft no more than can still be used. */
typedef enum ref_recycle {
    REF_RECYCLE_OUT_NORMED, /* the module's output at the row before, after its norm */
    REF_RECYCLE_OUT,        /* or before */
    REF_RECYCLE_PINNED,     /* the row of `hidden` that the cycle's first draft read */
} ref_recycle;
typedef struct ref_drafting {
    int cycles, drafts, drafted, accepted;
    int drafted_at[8], accepted_at[8];
    double margin; /* smallest greedy margin of any draft */
    float *logits; /* [drafts, vocab]: those that chose the last draft of each cycle that drafted; owned, free() */
} ref_drafting;
void ref_draft(const ref_model *model, const int32_t *text, int length, int prompt, const float *hidden, int depth,
               ref_recycle recycle, ref_act act, ref_drafting *out);

#endif
