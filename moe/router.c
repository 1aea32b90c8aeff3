#include "moe/router.h"

#include <math.h>

#define LOWEST (-1e37f) /* two of them are still a number */

/* Sum of the two best in c[0..n): what a group is worth. */
static float best_two(const float *c, int n) {
    float first = -INFINITY, second = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (c[i] > first) {
            second = first;
            first = c[i];
        } else if (c[i] > second) {
            second = c[i];
        }
    }
    return n > 1 ? first + second : first;
}

static int best(const float *c, int n) {
    int at = 0;
    for (int i = 1; i < n; i++)
        if (c[i] > c[at]) at = i;
    return at;
}

void fr_route(const fr_router *router, float *scores, float *work, int32_t *ids, float *weights) {
    float *choice = work, *group = work + router->experts;
    int size = router->experts / router->groups;
    for (int i = 0; i < router->experts; i++) {
        scores[i] = 1.0f / (1.0f + expf(-scores[i]));
        choice[i] = scores[i] + router->bias[i];
        if (!(choice[i] >= LOWEST)) choice[i] = LOWEST; /* not a number: still above what is taken, or an id came twice */
    }
    for (int g = 0; g < router->groups; g++) group[g] = best_two(choice + g * size, size);
    for (int kept = 0; kept < router->topk_group; kept++) group[best(group, router->groups)] = -INFINITY;
    for (int g = 0; g < router->groups; g++) /* the kept ones are those marked */
        if (group[g] != -INFINITY)
            for (int i = 0; i < size; i++) choice[g * size + i] = -INFINITY;

    for (int k = 0; k < router->topk; k++) {
        int id = best(choice, router->experts), at = k;
        choice[id] = -INFINITY;
        for (; at > 0 && ids[at - 1] > id; at--) ids[at] = ids[at - 1];
        ids[at] = id;
    }
    float sum = 0.0f;
    for (int k = 0; k < router->topk; k++) sum += scores[ids[k]];
    float scale = router->norm_topk_prob ? router->scaling / (sum + 1e-20f) : router->scaling;
    for (int k = 0; k < router->topk; k++) weights[k] = scores[ids[k]] * scale;
}
