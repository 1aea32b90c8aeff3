#include "reference/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *floats(size_t rows, int width) {
    return ref_alloc(rows * (size_t)width, sizeof(float));
}

#define LATENT_EPS 1e-6 /* of the norms of the two latents, whatever rms_norm_eps says */

static void norm_rows(const float *x, const float *w, int rows, int width, double eps, float *y) {
    for (int r = 0; r < rows; r++) ref_rmsnorm(x + (size_t)r * width, w, width, eps, y + (size_t)r * width);
}

/* ---- Attention ---- */

/* q [rows, heads, nope + rope], its last part rotated */
static void project_q(const ref_model *m, const ref_layer *layer, const float *x, int rows, ref_act act, float *q) {
    const ref_config *c = &m->config;
    if (c->q_lora > 0) {
        float *cq = floats((size_t)rows, c->q_lora);
        ref_linear_forward(&layer->q_a, x, rows, act, cq);
        norm_rows(cq, layer->q_a_norm, rows, c->q_lora, LATENT_EPS, cq);
        ref_linear_forward(&layer->q_b, cq, rows, act, q);
        free(cq);
    } else {
        ref_linear_forward(&layer->q_b, x, rows, act, q);
    }
    for (int r = 0; r < rows * c->heads; r++) {
        ref_rope_apply(&m->rotary, q + (size_t)r * (c->nope + c->rope) + c->nope, r / c->heads);
    }
}

/* What is cached: ckv [rows, kv_lora] normed, k_pe [rows, rope] rotated */
static void project_kv(const ref_model *m, const ref_layer *layer, const float *x, int rows, ref_act act, float *ckv,
                       float *k_pe) {
    const ref_config *c = &m->config;
    int width = c->kv_lora + c->rope;
    float *full = floats((size_t)rows, width);
    ref_linear_forward(&layer->kv_a, x, rows, act, full);
    for (int r = 0; r < rows; r++) {
        const float *row = full + (size_t)r * width;
        ref_rmsnorm(row, layer->kv_a_norm, c->kv_lora, LATENT_EPS, ckv + (size_t)r * c->kv_lora);
        memcpy(k_pe + (size_t)r * c->rope, row + c->kv_lora, (size_t)c->rope * sizeof(float));
        ref_rope_apply(&m->rotary, k_pe + (size_t)r * c->rope, r);
    }
    for (int i = 0; c->kv_bf16 && i < rows * c->kv_lora; i++) ckv[i] = ref_bf16_round(ckv[i]);
    for (int i = 0; c->kv_bf16 && i < rows * c->rope; i++) k_pe[i] = ref_bf16_round(k_pe[i]);
    free(full);
}

/* One head by its keys and values: kv_b_proj is applied to every cached latent. out [rows, heads, v_head] */
static void attend_expanded(const ref_model *m, const float *q, const float *kv, const float *k_pe, int rows, int head,
                            float *out) {
    const ref_config *c = &m->config;
    int q_width = c->nope + c->rope, kv_width = c->nope + c->v_head;
    double *p = ref_alloc((size_t)rows, sizeof *p);
    for (int r = 0; r < rows; r++) {
        const float *qr = q + ((size_t)r * c->heads + head) * q_width;
        for (int t = 0; t <= r; t++) {
            const float *k = kv + ((size_t)t * c->heads + head) * kv_width;
            p[t] = (ref_dot(qr, k, c->nope) + ref_dot(qr + c->nope, k_pe + (size_t)t * c->rope, c->rope)) * c->softmax_scale;
        }
        ref_softmax(p, r + 1);
        for (int i = 0; i < c->v_head; i++) {
            double sum = 0;
            for (int t = 0; t <= r; t++) sum += p[t] * kv[((size_t)t * c->heads + head) * kv_width + c->nope + i];
            out[((size_t)r * c->heads + head) * c->v_head + i] = (float)sum;
        }
    }
    free(p);
}

/* One head over the latents themselves: score = (W_UK^T q_nope) . ckv + q_pe . k_pe, o = W_UV (sum p ckv) */
static void attend_absorbed(const ref_model *m, const ref_layer *layer, const float *q, const float *ckv, const float *k_pe,
                            int rows, int head, float *out) {
    const ref_config *c = &m->config;
    int first = head * (c->nope + c->v_head); /* this head's rows of kv_b_proj: W_UK, then W_UV */
    double *p = ref_alloc((size_t)rows, sizeof *p), *latent = ref_alloc((size_t)c->kv_lora, sizeof *latent);
    float *q_latent = floats(1, c->kv_lora);
    for (int r = 0; r < rows; r++) {
        const float *qr = q + ((size_t)r * c->heads + head) * (c->nope + c->rope);
        for (int j = 0; j < c->kv_lora; j++) {
            double sum = 0;
            for (int i = 0; i < c->nope; i++) sum += (double)ref_linear_at(&layer->kv_b, first + i, j) * qr[i];
            q_latent[j] = (float)sum;
            latent[j] = 0;
        }
        for (int t = 0; t <= r; t++) {
            p[t] = (ref_dot(q_latent, ckv + (size_t)t * c->kv_lora, c->kv_lora) +
                    ref_dot(qr + c->nope, k_pe + (size_t)t * c->rope, c->rope)) *
                   c->softmax_scale;
        }
        ref_softmax(p, r + 1);
        for (int t = 0; t <= r; t++) {
            for (int j = 0; j < c->kv_lora; j++) latent[j] += p[t] * ckv[(size_t)t * c->kv_lora + j];
        }
        for (int i = 0; i < c->v_head; i++) {
            double sum = 0;
            for (int j = 0; j < c->kv_lora; j++) {
                sum += (double)ref_linear_at(&layer->kv_b, first + c->nope + i, j) * latent[j];
            }
            out[((size_t)r * c->heads + head) * c->v_head + i] = (float)sum;
        }
    }
    free(p);
    free(latent);
    free(q_latent);
}

void ref_attention(const ref_model *m, const ref_layer *layer, const float *x, int rows, ref_act act, ref_mla mla, float *y) {
    const ref_config *c = &m->config;
    float *q = floats((size_t)rows, c->heads * (c->nope + c->rope)), *out = floats((size_t)rows, c->heads * c->v_head);
    float *ckv = floats((size_t)rows, c->kv_lora), *k_pe = floats((size_t)rows, c->rope);
    float *kv = floats((size_t)rows, c->heads * (c->nope + c->v_head));
    project_q(m, layer, x, rows, act, q);
    project_kv(m, layer, x, rows, act, ckv, k_pe);
    /* The latent is never quantized, in either form. */
    if (mla == REF_EXPANDED) ref_linear_forward(&layer->kv_b, ckv, rows, REF_ACT_F32, kv);
    for (int h = 0; h < c->heads; h++) {
        if (mla == REF_EXPANDED)
            attend_expanded(m, q, kv, k_pe, rows, h, out);
        else
            attend_absorbed(m, layer, q, ckv, k_pe, rows, h, out);
    }
    ref_linear_forward(&layer->o, out, rows, act, y);
    free(q);
    free(out);
    free(ckv);
    free(k_pe);
    free(kv);
}

/* ---- MLP and experts ---- */

void ref_mlp_forward(const ref_mlp *mlp, const float *x, int rows, ref_act act, float *y) {
    int width = mlp->gate.out;
    float *gate = floats((size_t)rows, width), *up = floats((size_t)rows, width);
    ref_linear_forward(&mlp->gate, x, rows, act, gate);
    ref_linear_forward(&mlp->up, x, rows, act, up);
    for (size_t i = 0; i < (size_t)rows * (size_t)width; i++) {
        gate[i] = (float)(gate[i] * ref_sigmoid(gate[i]) * up[i]);
    }
    ref_linear_forward(&mlp->down, gate, rows, act, y);
    free(gate);
    free(up);
}

void ref_moe(const ref_model *m, const ref_layer *layer, const float *x, int rows, ref_act act, ref_routing *routing, float *y) {
    const ref_config *c = &m->config;
    int k = c->router.top_k, hidden = c->hidden;
    float *logits = floats((size_t)rows, c->router.experts), *one = floats(1, hidden);
    int *idx = ref_alloc((size_t)k, sizeof *idx);
    float *w = floats(1, k);
    double *sum = ref_alloc((size_t)hidden, sizeof *sum);
    ref_linear_forward(&layer->router, x, rows, act, logits);
    for (int r = 0; r < rows; r++) {
        const float *row = x + (size_t)r * hidden;
        double margin = ref_route(&c->router, logits + (size_t)r * c->router.experts, layer->router_bias, idx, w);
        for (int i = 0; i < hidden; i++) sum[i] = 0;
        for (int e = 0; e < k; e++) {
            ref_mlp_forward(&layer->experts[idx[e]], row, 1, act, one);
            for (int i = 0; i < hidden; i++) sum[i] += (double)w[e] * one[i];
        }
        if (c->shared_experts > 0) {
            ref_mlp_forward(&layer->shared, row, 1, act, one);
            for (int i = 0; i < hidden; i++) sum[i] += one[i];
        }
        for (int i = 0; i < hidden; i++) y[(size_t)r * hidden + i] = (float)sum[i];
        if (!routing) continue;
        if (routing->idx) memcpy(routing->idx + (size_t)r * k, idx, (size_t)k * sizeof *idx);
        if (routing->w) memcpy(routing->w + (size_t)r * k, w, (size_t)k * sizeof *w);
        if (routing->margin) routing->margin[r] = margin;
    }
    free(logits);
    free(one);
    free(idx);
    free(w);
    free(sum);
}

/* ---- Layers and models ---- */

void ref_layer_forward(const ref_model *m, int id, const float *x, int rows, ref_act act, ref_routing *routing, float *y) {
    const ref_layer *layer = &m->layers[id];
    int hidden = m->config.hidden;
    size_t count = (size_t)rows * (size_t)hidden;
    float *normed = floats((size_t)rows, hidden), *part = floats((size_t)rows, hidden);
    norm_rows(x, layer->input_norm, rows, hidden, m->config.eps, normed);
    ref_attention(m, layer, normed, rows, act, REF_EXPANDED, part);
    for (size_t i = 0; i < count; i++) y[i] = x[i] + part[i];
    norm_rows(y, layer->post_norm, rows, hidden, m->config.eps, normed);
    if (layer->moe)
        ref_moe(m, layer, normed, rows, act, routing, part);
    else
        ref_mlp_forward(&layer->dense, normed, rows, act, part);
    for (size_t i = 0; i < count; i++) y[i] += part[i];
    free(normed);
    free(part);
}

void ref_forward(const ref_model *m, const int32_t *tokens, int rows, ref_act act, ref_output *out) {
    const ref_config *c = &m->config;
    size_t count = (size_t)rows * (size_t)c->hidden;
    int moe_layers = c->layers - c->first_dense, k = c->router.top_k;
    *out = (ref_output){.rows = rows,
                        .embed = floats((size_t)rows, c->hidden),
                        .layer_out = floats((size_t)c->layers * (size_t)rows, c->hidden),
                        .hidden = floats((size_t)rows, c->hidden),
                        .logits = floats((size_t)rows, c->vocab),
                        .router_idx = ref_alloc((size_t)(moe_layers * rows * k), sizeof(int)),
                        .router_w = floats((size_t)(moe_layers * rows), k),
                        .router_margin = ref_alloc((size_t)(moe_layers * rows), sizeof(double))};
    for (int r = 0; r < rows; r++) {
        memcpy(out->embed + (size_t)r * c->hidden, m->embed.w + (size_t)tokens[r] * c->hidden, (size_t)c->hidden * sizeof(float));
    }
    const float *x = out->embed;
    for (int i = 0; i < c->layers; i++) {
        float *y = out->layer_out + (size_t)i * count;
        ref_routing routing = {0};
        if (i >= c->first_dense) {
            size_t first = (size_t)(i - c->first_dense) * (size_t)rows;
            routing =
                (ref_routing){out->router_idx + first * (size_t)k, out->router_w + first * (size_t)k, out->router_margin + first};
        }
        ref_layer_forward(m, i, x, rows, act, &routing, y);
        x = y;
    }
    norm_rows(x, m->norm, rows, c->hidden, c->eps, out->hidden);
    ref_linear_forward(&m->head, out->hidden, rows, act, out->logits);
}

void ref_output_release(ref_output *o) {
    free(o->embed);
    free(o->layer_out);
    free(o->hidden);
    free(o->logits);
    free(o->router_idx);
    free(o->router_w);
    free(o->router_margin);
    *o = (ref_output){0};
}

void ref_mtp_forward(const ref_model *m, const float *hidden, const int32_t *next, int rows, ref_act act, ref_routing *routing,
                     ref_mtp_output *out) {
    const ref_config *c = &m->config;
    int width = c->hidden;
    float *both = floats((size_t)rows, 2 * width), *x = floats((size_t)rows, width);
    out->out = floats((size_t)rows, width);
    out->hidden = floats((size_t)rows, width);
    out->logits = floats((size_t)rows, c->vocab);
    for (int r = 0; r < rows; r++) {
        float *row = both + (size_t)r * 2 * (size_t)width;
        ref_rmsnorm(m->embed.w + (size_t)next[r] * width, m->mtp.enorm, width, c->eps, row);
        ref_rmsnorm(hidden + (size_t)r * width, m->mtp.hnorm, width, c->eps, row + width);
    }
    ref_linear_forward(&m->mtp.eh, both, rows, act, x);
    ref_layer_forward(m, c->layers, x, rows, act, routing, out->out);
    norm_rows(out->out, m->mtp.norm, rows, width, c->eps, out->hidden);
    ref_linear_forward(&m->head, out->hidden, rows, act, out->logits);
    free(both);
    free(x);
}

void ref_mtp_output_release(ref_mtp_output *o) {
    free(o->out);
    free(o->hidden);
    free(o->logits);
    *o = (ref_mtp_output){0};
}

int ref_argmax(const float *x, int n, double *margin) {
    int best = 0;
    double next = -INFINITY;
    for (int i = 1; i < n; i++) {
        if (x[i] > x[best]) {
            next = x[best];
            best = i;
        } else if (x[i] > next) {
            next = x[i];
        }
    }
    if (margin) *margin = x[best] - next;
    return best;
}

void ref_greedy(const ref_model *m, const int32_t *prompt, int length, int count, ref_act act, int32_t *out, double *margin) {
    int32_t *text = ref_alloc((size_t)(length + count), sizeof *text);
    memcpy(text, prompt, (size_t)length * sizeof *text);
    for (int i = 0; i < count; i++) {
        ref_output o;
        ref_forward(m, text, length + i, act, &o);
        const float *last = o.logits + (size_t)(length + i - 1) * (size_t)m->config.vocab;
        out[i] = text[length + i] = ref_argmax(last, m->config.vocab, margin ? &margin[i] : NULL);
        ref_output_release(&o);
    }
    free(text);
}

void ref_draft(const ref_model *m, const int32_t *text, int length, int prompt, const float *hidden, int depth,
               ref_recycle recycle, ref_act act, ref_drafting *out) {
    int vocab = m->config.vocab;
    size_t width = (size_t)m->config.hidden;
    float *h = ref_alloc((size_t)(length + depth) * width, sizeof *h);
    int32_t *next = ref_alloc((size_t)(length + depth), sizeof *next);
    *out = (ref_drafting){.margin = INFINITY, .logits = floats((size_t)length, vocab)};
    /* Rows of true hidden states do not depend on what comes after them: one pass gives every cycle's first draft. */
    ref_mtp_output first;
    ref_mtp_forward(m, hidden, text + 1, length - 1, act, NULL, &first);
    /* Tokens 0..n are known: the MTP module's true rows are 0..n-1, row i reading hidden i and token i + 1. */
    for (int n = prompt; n < length - 1;) {
        int want = depth < length - 2 - n ? depth : length - 2 - n, accepted = 0;
        bool agreed = true;
        memcpy(h, hidden, (size_t)n * width * sizeof *h);
        memcpy(next, text + 1, (size_t)n * sizeof *next);
        for (int j = 0; j < want; j++) {
            int rows = n + j;
            double margin;
            ref_mtp_output chained = first;
            if (j > 0) ref_mtp_forward(m, h, next, rows, act, NULL, &chained);
            const float *logits = chained.logits + (size_t)(rows - 1) * (size_t)vocab;
            next[rows] = ref_argmax(logits, vocab, &margin);
            memcpy(out->logits + (size_t)out->drafts * (size_t)vocab, logits, (size_t)vocab * sizeof *logits);
            const float *own = recycle == REF_RECYCLE_OUT ? chained.out : chained.hidden;
            const float *from =
                recycle == REF_RECYCLE_PINNED ? hidden + (size_t)(n - 1) * width : own + (size_t)(rows - 1) * width;
            memcpy(h + (size_t)rows * width, from, width * sizeof *h);
            if (j > 0) ref_mtp_output_release(&chained);
            out->margin = fmin(out->margin, margin);
            agreed = agreed && next[rows] == text[n + 1 + j];
            out->drafted_at[j]++;
            out->accepted_at[j] += agreed;
            accepted += agreed;
        }
        out->cycles++;
        out->drafts += want > 0;
        out->drafted += want;
        out->accepted += accepted;
        n += 1 + accepted;
    }
    ref_mtp_output_release(&first);
    free(h);
    free(next);
}
