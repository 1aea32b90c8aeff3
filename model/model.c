/* The model object of forerun.h: a checkpoint opened, bound and ready. */
#include <dnnl.h>
#include <stdio.h>

#include "core/cpu.h"
#include "core/threads.h"
#include "model/weights.h"

static fr_status open_into(fr_model *model, const char *dir, const fr_model_options *o, fr_error *error) {
    FR_TRY(fr_kernels_select(o->isa, error));
    FR_TRY(fr_config_load(dir, &model->config, error));
    FR_TRY(fr_checkpoint_open(dir, &model->checkpoint, error));
    model->threads = o->threads > 0 ? o->threads : fr_physical_cores();
    model->act_fp8 = o->act == FR_ACT_FP8 || (o->act == FR_ACT_AUTO && model->config.fp8 && model->config.act_dynamic);
    FR_TRY(fr_weights_bind(model, (fr_shard){0, 1}, error));
    model->draft_head = model->lm_head;
    if (o->draft_head == FR_DRAFT_HEAD_FP8 && model->mtp.present && model->lm_head.dtype != FR_F8_E4M3)
        FR_TRY(fr_linear_to_e4m3(&model->lm_head, &model->draft_head, error));
    return fr_tokenizer_present(dir) ? fr_tokenizer_load(dir, &model->tokenizer, error) : FR_OK;
}

fr_status fr_model_open(const char *dir, const fr_model_options *options, fr_model **out, fr_error *error) {
    fr_model_options o = options ? *options : (fr_model_options){0};
    fr_model *model = fr_alloc_zeroed(1, sizeof *model);
    if (!model) return fr_fail(error, FR_ERROR_MEMORY, "model: out of memory");
    fr_status status = open_into(model, dir, &o, error);
    if (status != FR_OK) {
        fr_model_destroy(model);
        return status;
    }
    *out = model;
    return FR_OK;
}

void fr_model_destroy(fr_model *model) {
    if (!model) return;
    fr_weights_release(model);
    fr_tokenizer_destroy(model->tokenizer);
    fr_checkpoint_destroy(model->checkpoint);
    fr_free(model);
}

void fr_model_get_info(const fr_model *model, fr_model_info *out) {
    const fr_config *c = &model->config;
    *out = (fr_model_info){
        .vocab_size = c->vocab_size,
        .hidden_size = c->hidden_size,
        .num_hidden_layers = c->num_hidden_layers,
        .num_moe_layers = model->num_moe_layers,
        .num_experts_per_tok = c->num_experts_per_tok,
        .max_position_embeddings = c->max_position_embeddings,
        .has_mtp = model->mtp.present,
        .has_tokenizer = model->tokenizer != NULL,
        .act_fp8 = model->act_fp8,
        .bos_token_id = c->bos_token_id,
        .add_bos_token = model->tokenizer && fr_tokenizer_add_bos(model->tokenizer),
        .num_eos_token_ids = c->num_eos_token_ids,
        .threads = model->threads,
        .isa = fr_kernels_get()->name,
        .weight_bytes = fr_checkpoint_bytes(model->checkpoint),
        .private_bytes = model->draft_head.owned_w ? fr_linear_bytes(&model->draft_head) : 0,
    };
    memcpy(out->eos_token_ids, c->eos_token_ids, sizeof out->eos_token_ids);
}

const char *fr_version(void) {
    return FR_VERSION;
}

const char *fr_build_info(void) {
    static char text[512];
    const dnnl_version_t *onednn = dnnl_version();
    const fr_cpu *cpu = fr_cpu_get();
    snprintf(text, sizeof text,
             "oneDNN %d.%d.%d\nCPU: %s\ninstruction sets found:%s%s%s%s\nfew rows (decode, verify): %s\nmany rows (prefill): %s\n"
             "threads: %d (physical cores)",
             onednn->major, onednn->minor, onednn->patch, cpu->name, cpu->avx2 ? " avx2" : "", cpu->avx512 ? " avx512" : "",
             cpu->avx512_bf16 ? " avx512_bf16" : "", cpu->amx ? " amx" : "", fr_kernels_get()->name, fr_linear_many_path(), fr_physical_cores());
    return text;
}
