/* The choice of a token.
 *
 * Coupled (the default): the token at position p is argmax over (score + Gumbel noise of (seed, p, token)) among what the
 * filters leave: a sample of the distribution (Gumbel-max), and a pure function of logits, history, seed and position. A draft
 * is drawn the same way from its own logits with the same noise, and is accepted when the target draws the same token; so
 * the text does not depend on drafting.
 *
 * Rejection (Leviathan et al. 2023, algorithm 1): a draft drawn from q is accepted with probability min(1, p/q), else a token
 * of the normalized positive part of p - q takes its place: the distribution is the target's, the text is not the same. */
#ifndef FR_SAMPLER_SAMPLER_H
#define FR_SAMPLER_SAMPLER_H

#include "sampler/draw.h"

typedef struct fr_sampler {
    fr_filters filters;
    int threads;                            /* that share the work on a row */
    fr_best *best;                          /* [threads] */
    fr_distribution target;                 /* scratch: of the row that is being verified */
    fr_distribution proposal[FR_MAX_DEPTH]; /* rejection: what draft j was drawn from */
    double *residual;                       /* [vocab], zeros between calls; rejection */
} fr_sampler;

/* The text so far: what penalties look at. The token to choose is at position `length`. */
typedef struct fr_history {
    const int32_t *tokens;
    int length, generated; /* the completion begins at token `generated` */
} fr_history;

/* The functions below open a team of `threads`, unless the vocabulary is too small for that to pay. */
void fr_sampler_take(fr_sampler *sampler, fr_arena *arena, const fr_sampling *sampling, int vocab_size, const fr_kernels *kernels,
                     int threads);

/* The target's own token. */
int32_t fr_sampler_choose(fr_sampler *sampler, const float *logits, fr_history history);
/* Draft j of a cycle (keeps its distribution for its verification). *confidence: the probability that the draft's own
 * distribution, temperature and filters applied, gives to its token; for greedy that of the plain softmax. It is a number from 0
 * to 1 whatever the logits are, infinite or NaN among them. */
int32_t fr_sampler_draft(fr_sampler *sampler, const float *logits, fr_history history, int j, double *confidence);
/* What may decide whether draft j, of this confidence, is verified. Rejection: the highest probability in its distribution, known
 * before it was drawn. Coupled and greedy: its confidence. */
double fr_sampler_foreseen(const fr_sampler *sampler, int j, double confidence);
/* A draft that was not drawn but looked up: its distribution is that one token. */
void fr_sampler_propose(fr_sampler *sampler, int j, int32_t token);
/* The token at the position of draft j, given the target's logits there: the draft itself if it is accepted. */
int32_t fr_sampler_verify(fr_sampler *sampler, const float *logits, fr_history history, int j, int32_t draft);

#endif
