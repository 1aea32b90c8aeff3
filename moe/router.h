/* Which experts a token goes to (DeepSeek-V3 report, equations 12-16, with node-limited routing):
 *   s = sigmoid(gate x);  c = s + e_score_correction_bias
 * The biased c only choose: a group's score is the sum of its two best c, the topk_group best groups stay (the others are
 * out, whatever their scores), and of what stays the num_experts_per_tok best. The weights are the unbiased s of the
 * chosen, divided by their sum (+ 1e-20) if norm_topk_prob, times routed_scaling_factor. */
#ifndef FR_MOE_ROUTER_H
#define FR_MOE_ROUTER_H

#include "core/linear/linear.h"

typedef struct fr_router {
    int experts, groups, topk_group, topk;
    bool norm_topk_prob;
    float scaling;
    fr_linear gate; /* [experts, hidden] */
    float *bias;    /* [experts]; owned */
} fr_router;

/* One token. scores: gate x on entry, [experts]; destroyed. work: [experts + groups] floats. ids [topk] ascending, weights [topk]
 * beside them. Of equal scores the lower id wins. */
void fr_route(const fr_router *router, float *scores, float *work, int32_t *ids, float *weights);

#endif
