/* The MTP module's pass (DeepSeek-V3 report, section 2.2, equations 21-23). */
#ifndef FR_MTP_DRAFTERS_MTP_MODULE_H
#define FR_MTP_DRAFTERS_MTP_MODULE_H

#include "model/workspace.h"

/* Runs `rows` rows of the MTP module: row r stands for position pos + r, reads hidden [rows, hidden] (the main model's
 * hidden state of that position, or a chained one) and tokens[r], the token AFTER that position. Writes the module's cache
 * from position pos (>= kv->length) and does not commit. Leaves ws->x (before shared_head.norm) and ws->hidden (after it);
 * the latter times the main model's head predicts the token two after each position. `hidden` must not be ws's own. */
void fr_mtp_forward(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, const float *hidden, const int32_t *tokens,
                    int rows, int pos);

/* The same with outputs for the last `outputs` rows only, which stand first in ws->x and ws->hidden. Of the rows before them
 * just what the cache keeps is computed: it is a function of a row's input alone, since the module has one layer, and spares
 * attention and experts. */
void fr_mtp_follow(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, const float *hidden, const int32_t *tokens, int rows,
                   int outputs, int pos);

#endif
