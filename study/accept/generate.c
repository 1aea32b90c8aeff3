/* Acceptance while text is generated: what the session's own cycles do, nothing added. */
#include "study/accept/accept.h"
#include "study/speculation.h"

static void count_step(fr_accept_run *run, const fr_step *step) {
    const fr_session *s = run->session;
    const fr_cycle *cycle = fr_session_last_cycle(s);
    run->text->tokens += (uint64_t)step->count;
    if (!cycle) return;
    fr_accept_count_cycle(run, cycle);
    /* Rows of accepted drafts are the text's; what rejected ones chose says nothing about it. */
    fr_accept_count_experts(run, s->ws.experts, cycle->verified + 1, cycle->accepted + 1);
}

fr_status fr_accept_generate(fr_accept_run *run, const fr_prompt *prompt, fr_error *error) {
    fr_session *s = run->session;
    size_t most = (size_t)prompt->max_tokens;
    fr_step step = {0};
    fr_status status = FR_OK;
    fr_session_reset_stats(s);
    FR_TRY(fr_session_prefill(s, prompt->tokens, prompt->count, error));
    while (!step.ended && run->text->tokens < most && s->length < s->ctx) {
        FR_CHECK(fr_session_step(s, (int)(most - run->text->tokens), &step, error));
        count_step(run, &step);
        status = fr_accept_report(run, prompt->count + run->text->tokens, error);
        FR_CHECK(fr_ranks_agree(run->model->ranks, status, error)); /* signals do not reach all of them at once */
    }
done:
    fr_stats_merge(&run->config->stats, &s->stats);
    return status;
}
