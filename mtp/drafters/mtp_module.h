/* The MTP module's pass (DeepSeek-V3 report, section 2.2, equations 21-23). */
#ifndef FR_MTP_DRAFTERS_MTP_MODULE_H
#define FR_MTP_DRAFTERS_MTP_MODULE_H

#include "model/workspace.h"

/* Runs `rows` rows of the MTP module: row r is position pos + r, reads hidden [rows, hidden_size] (the main model's hidden state
 * of that position, or a chained one) and tokens[r], the token AFTER that position. Writes the module's cache from position pos
 * (>= kv->length) and does not commit. Leaves ws->x (before shared_head.norm) and ws->hidden (after it) [outputs, hidden_size] of
 * the last `outputs` rows; the latter times the LM head predicts the token two after each position. The rows before them are
 * KV-only: what the cache keeps is a function of a row's input alone, since the module has one layer, and attention and experts
 * are left out. `hidden` must not be ws's own. */
void fr_mtp_forward(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, const float *hidden, const int32_t *tokens,
                    int rows, int outputs, int pos);
/* One chained row. choice: the positions that it attends to; NULL: all, or with an indexer those that it chooses. */
void fr_mtp_chain_forward(const fr_model *model, fr_workspace *ws, fr_kv_cache *kv, const float *hidden, int32_t token, int pos,
                          const fr_choice *choice);

#endif
