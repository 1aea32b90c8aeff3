/* Bytes of weights that a pass reads: the cost of decoding, to a first approximation. */
#ifndef FR_MODEL_TRAFFIC_H
#define FR_MODEL_TRAFFIC_H

#include "model/weights.h"

typedef struct fr_traffic {
    uint64_t fixed;         /* of the main model, whatever the number of rows: attention, dense and shared MLPs, gates, LM head */
    uint64_t expert;        /* one routed expert in each MoE layer of the main model, all layers together */
    uint64_t draft;         /* one draft: the MTP module with one row's experts, and the draft head */
    uint64_t kv_only;       /* the MTP module's pass over rows of which only its KV cache keeps something */
    uint64_t token_weights; /* of the main model's layers, that one token is multiplied with */
    int experts, chosen;    /* n_routed_experts, num_experts_per_tok */
    /* Streamed experts: of those that a draft reads; the share that has to come from the disk, if each is chosen as often; what a
     * byte of it costs, in bytes from memory. */
    uint64_t draft_experts;
    double missing, disk;
} fr_traffic;

void fr_traffic_of(const fr_model *model, fr_traffic *out);
/* Bytes of a pass that reads `unique` experts a MoE layer, on average. */
double fr_traffic_pass(const fr_traffic *traffic, double unique);
/* What such a pass, and a draft, cost in bytes from memory: a byte from the disk counts for many. */
double fr_traffic_pass_cost(const fr_traffic *traffic, double unique);
double fr_traffic_draft_cost(const fr_traffic *traffic);
/* Expected distinct experts of a layer that `rows` rows choose, if they choose independently. */
double fr_traffic_independent(const fr_traffic *traffic, int rows);

#endif
