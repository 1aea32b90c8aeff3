#include "text/chat_format.h"

#include <stddef.h>

/* DeepSeek's bars are U+FF5C, its blanks U+2581. */
#define DEEPSEEK_USER "<｜User｜>"
#define DEEPSEEK_ASSISTANT "<｜Assistant｜>"
#define DEEPSEEK_END "<｜end▁of▁sentence｜>"
#define DEEPSEEK                                                                                                                 \
    .bos = true, .system_first = true,                                                                                           \
    .turns = {[FR_CHAT_USER] = {DEEPSEEK_USER, ""}, [FR_CHAT_ASSISTANT] = {DEEPSEEK_ASSISTANT, DEEPSEEK_END}},                   \
    .tokens = {DEEPSEEK_USER, DEEPSEEK_ASSISTANT, DEEPSEEK_END}, .ends = {DEEPSEEK_END}
#define DEEPSEEK_HYBRID                                                                                                          \
    DEEPSEEK, .reply = "</think>", .reply_thinking = "<think>", .history = "</think>", .thinking = FR_CHAT_THINKS_OR_NOT,        \
              .drops = FR_CHAT_DROPS_TO_FIRST
#define GLM                                                                                                                      \
    .begin = "[gMASK]<sop>", .turns = {{"<|system|>", ""}, {"<|user|>", ""}, {"<|assistant|>", ""}},                             \
    .reply_thinking = "<think>", .thinking = FR_CHAT_THINKS_OR_NOT, .thinks_by_default = true, .drops = FR_CHAT_DROPS_TO_LAST,   \
    .strips = true, .tokens = {"[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"},                                   \
    .ends = {"<|endoftext|>", "<|user|>", "<|observation|>"}
#define KIMI_SYSTEM "<|im_system|>system<|im_middle|>"
#define KIMI                                                                                                                     \
    .turns = {{KIMI_SYSTEM, "<|im_end|>"},                                                                                       \
              {"<|im_user|>user<|im_middle|>", "<|im_end|>"},                                                                    \
              {"<|im_assistant|>assistant<|im_middle|>", "<|im_end|>"}},                                                         \
    .tokens = {"<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>"}, .ends = {"<|im_end|>"}
#define GIGACHAT_ROLE "<|role_sep|>\n"
#define GIGACHAT_END "<|message_sep|>\n\n"

static const fr_chat_format formats[] = {
    {.name = "deepseek-v3",
     .has = {DEEPSEEK_USER, DEEPSEEK_ASSISTANT},
     .lacks = {"think>"},
     .digests = {0xebe3604156dc466a, 0xe090e2bbca6665b8, 0x12fea4f23a94ae04},
     .model_type = "deepseek_v3",
     DEEPSEEK},
    {.name = "deepseek-r1",
     .has = {DEEPSEEK_USER, DEEPSEEK_ASSISTANT "<think>", "split('</think>')[-1]"},
     .lacks = {"thinking"},
     DEEPSEEK,
     .reply_thinking = "<think>\n",
     .thinking = FR_CHAT_THINKS_ALWAYS,
     .drops = FR_CHAT_DROPS_TO_LAST},
    {.name = "deepseek-r1-0528", /* the model begins its reasoning itself */
     .has = {DEEPSEEK_USER, DEEPSEEK_ASSISTANT, "split('</think>')[-1]"},
     .lacks = {"<think>", "thinking"},
     DEEPSEEK,
     .thinking = FR_CHAT_THINKS_ALWAYS,
     .drops = FR_CHAT_DROPS_TO_LAST},
    {.name = "deepseek-v3.1",
     .has = {DEEPSEEK_USER, DEEPSEEK_ASSISTANT, "split('</think>', 1)[1]", "not thinking"},
     .digests = {0x91d861180843f733},
     DEEPSEEK_HYBRID},
    {.name = "deepseek-v3.2", .model_type = "deepseek_v32", DEEPSEEK_HYBRID}, /* its checkpoints have no template */
    {.name = "glm-4.7",                                                       /* and GLM-5 */
     .has = {"[gMASK]<sop>", "<|assistant|>",
             "'</think>' if (enable_thinking is defined and not enable_thinking) else '<think>'"},
     .lacks = {"<think></think>", "Reasoning Effort", "<|user|>\n"},
     .digests = {0x455b4682700c641e},
     GLM,
     .reply = "</think>",
     .history = "</think>"},
    {.name = "glm-5.2",
     .has = {"[gMASK]<sop>", "<|assistant|>", "<think></think>", "<|system|>Reasoning Effort"},
     .lacks = {"clear_thinking if clear_thinking is defined else false"},
     GLM,
     .begin_thinking = "<|system|>Reasoning Effort: Max",
     .reply = "<think></think>",
     .history = "<think></think>"},
    {.name = "gigachat3",
     .has = {"<|role_sep|>\\n", "<|message_sep|>\\n\\n"},
     .lacks = {"think>"},
     .bos = true,
     .preamble_from = "{%- set DEVSYSTEM -%}",
     .preamble_to = "{%- endset -%}",
     .preamble_role = "developer system" GIGACHAT_ROLE,
     .turns = {{"system" GIGACHAT_ROLE, GIGACHAT_END},
               {"user" GIGACHAT_ROLE, GIGACHAT_END},
               {"assistant" GIGACHAT_ROLE, GIGACHAT_END}},
     .tokens = {GIGACHAT_ROLE, GIGACHAT_END},
     .ends = {GIGACHAT_END}},
    {.name = "kimi", /* Moonlight, and Kimi-K2 at first */
     .has = {"<|im_middle|>", "<|im_assistant|>", "You are a helpful assistant<|im_end|>"},
     .lacks = {"think>"},
     .digests = {0x99d1f704677a2270},
     KIMI,
     .default_system = KIMI_SYSTEM "You are a helpful assistant<|im_end|>"},
    {.name = "kimi-k2",
     .has = {"<|im_middle|>", "<|im_assistant|>", "You are Kimi, an AI assistant created by Moonshot AI.<|im_end|>"},
     .lacks = {"think>"},
     KIMI,
     .default_system = KIMI_SYSTEM "You are Kimi, an AI assistant created by Moonshot AI.<|im_end|>\n"},
};
enum { NUM_FORMATS = sizeof formats / sizeof formats[0] };

const fr_chat_format *fr_chat_format_at(int i) {
    return i >= 0 && i < NUM_FORMATS ? &formats[i] : NULL;
}
