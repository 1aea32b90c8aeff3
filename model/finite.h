/* Where values that are not finite come up first. With `on`, passes look at the residual stream behind each part of the network;
 * without, nothing is looked at. */
#ifndef FR_MODEL_FINITE_H
#define FR_MODEL_FINITE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/status.h"

typedef enum fr_finite_part { FR_FINITE_INPUT = 0, FR_FINITE_ATTENTION, FR_FINITE_MLP, FR_FINITE_NORM } fr_finite_part;

typedef struct fr_finite {
    bool on;
    int first_layer;     /* number of the pass's first layer: 0, and that of the MTP module */
    int layers;          /* of the main model: what follows is the MTP module's */
    atomic_ullong least; /* the first place, as it is passed, and its position; FR_FINITE_ALL: none */
} fr_finite;
#define FR_FINITE_ALL (~0ull)

/* TEAM. x [rows, width] behind a part of layer `layer` of the pass, at positions pos, pos + 1, ... Another thread may not change
 * it before the next barrier. */
void fr_finite_look(fr_finite *finite, const float *x, int rows, int width, int layer, fr_finite_part part, int pos);
/* FR_ERROR_FORMAT with the first place since the last call. */
fr_status fr_finite_tell(fr_finite *finite, fr_error *error);

#endif
