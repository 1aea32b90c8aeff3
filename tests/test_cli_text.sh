#!/bin/sh
# Text on the command line: tokenizers of every kind, and what runs without one.
#
#   FORERUN=build/forerun sh tests/test_cli_text.sh JSON_CHECK
set -eu
json_check=$1
[ -x "$FORERUN" ] && [ -x "$json_check" ] || { echo "there is no program at $FORERUN, or no $json_check"; exit 1; }
golden=$(cd "$(dirname "$0")" && pwd)/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; failed=1; }
failed=0

# run EXIT COMMAND...: stdout is $work/out, stderr $work/err.
run() {
    expected=$1 code=0
    shift
    "$FORERUN" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    [ "$code" -eq "$expected" ] || { fail "$*: exit $code, expected $expected"; cat "$work/err"; }
}
says() { grep -q -F -e "$1" "$work/err" || { fail "stderr does not say: $1"; cat "$work/err"; }; }
prints() { [ "$(cat "$work/out")" = "$1" ] || { fail "stdout is '$(cat "$work/out")', expected '$1'"; }; }

# A model of 320 ids with the tokenizer of bytes alone that follows.
model=$work/model
mkdir "$model"
cp "$golden"/pico-s1/*.safetensors* "$golden"/pico-s1/*config.json "$model"

# ---- A tokenizer that cannot be used: only those who need text mind ----------------------------------------------------

sed 's/\[!\\\\\\"#/[\&\&a]&/' "$golden/pico-s1/tokenizer.json" >"$model/tokenizer.json"
cmp -s "$golden/pico-s1/tokenizer.json" "$model/tokenizer.json" && fail 'the pattern is not broken'
run 0 generate -m "$model" -t 1 --prompt-tokens 5,6,7 -n 2
run 0 score -m "$model" -t 1 --prompt-tokens 5,6,7
run 0 bench -m "$model" -t 1 --only passes --rows 1 --seconds 0.001
run 1 generate -m "$model" -t 1 -p hello -n 2
says 'notice: tokenizer: it cannot be used'
says 'intersection'
says 'tokenizer.json'
run 1 chat -m "$model" -t 1 -n 2 # which takes no ids: the hint names those that do
says 'hint: generate, score, accept and ab take token ids'
run 1 tokenize -m "$model" -p hello
says 'intersection'

# ---- tiktoken.model --------------------------------------------------------------------------------------------------------

rm "$model"/tokenizer*.json
awk 'BEGIN {
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for (b = 0; b < 256; b++) printf "%s%s== %d\n", substr(digits, int(b / 4) + 1, 1), substr(digits, b % 4 * 16 + 1, 1), b
    print "aGU= 256" # he
}' >"$model/tiktoken.model"
printf '{"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": {"257": {"content": "[BOS]"}}}' >"$model/tokenizer_config.json"
run 0 tokenize -m "$model" -p 'he[BOS]<|reserved_token_258|>'
prints 256,257,258
run 0 tokenize -m "$model" --decode 256,257,33 --with-special
prints 'he[BOS]!'
run 0 generate -m "$model" -t 1 -p hehe -n 2
run 0 synth --like "$model" -o "$work/copy" --tokenizer "$model"
run 0 tokenize -m "$work/copy" -p he
prints 256

# ---- Chat formats -----------------------------------------------------------------------------------------------------------

# template TEXT [TOKEN...]: a checkpoint with this chat template, whose special tokens have the ids from 257 on. Quotes in TEXT
# are to be written for JSON.
template() {
    text=$1 id=257 decoder=
    shift
    for token; do decoder="$decoder${decoder:+, }\"$id\": {\"content\": \"$token\"}" id=$((id + 1)); done
    printf '{"tokenizer_class": "TikTokenTokenizer", "chat_template": "%s", "added_tokens_decoder": {%s}}' "$text" "$decoder" \
        >"$model/tokenizer_config.json"
}
glm='[gMASK]<sop><|user|>{{ c }}<|assistant|>{{ \u0027</think>\u0027 if (enable_thinking is defined and not enable_thinking) else \u0027<think>\u0027 }}'
# 257 [gMASK], 258 <sop>, 259 <|system|>, 260 <|user|>, 261 <|assistant|>, 262 <think>, 263 </think>
template "$glm" '[gMASK]' '<sop>' '<|system|>' '<|user|>' '<|assistant|>' '<think>' '</think>' '<|endoftext|>'
run 0 tokenize -m "$model" --chat -p hi
prints 257,258,260,104,105,261,262
says 'notice: chat template: taken for glm-4.7'
run 0 tokenize -m "$model" --chat -p hi --think off
prints 257,258,260,104,105,261,263
run 0 tokenize -m "$model" --chat -p '<sop>' -q
prints 257,258,260,60,115,111,112,62,261,262
run 0 tokenize -m "$model" --chat -p '<sop>' -q --raw-special
prints 257,258,260,258,261,262
run 0 tokenize -m "$model" -p '<sop>' -q # a prompt without a template may be one that is rendered already
prints 258
run 0 tokenize -m "$model" -p '<sop>' -q --no-special
prints 60,115,111,112,62
printf '{"prompt": "hi"}\n{"prompt": "<sop>"}\n' >"$work/prompts.jsonl"
run 0 tokenize -m "$model" --chat --prompts "$work/prompts.jsonl" --think off -q
prints "$(printf '257,258,260,104,105,261,263\n257,258,260,60,115,111,112,62,261,263')"
run 0 accept -m "$model" -t 1 --chat --think off --prompts "$work/prompts.jsonl" -n 4 --drafter ngram --json -q
"$json_check" "$work/out" environment.options.chat=true \
    environment.options.chat_format=glm-4.7 environment.options.think=off || fail 'accept does not say how it chatted'
run 0 inspect -m "$model" --json -q
"$json_check" "$work/out" 'notices.0.what=chat template' || fail 'inspect does not tell of the template'
run 0 check -m "$model" --json -q
"$json_check" "$work/out" 'notices.0.what=chat template' || fail 'check does not tell of the template'

# A reply that began to think is part of the conversation without its thoughts: 7 tokens are read for the first turn, and 4 for
# the second, whose reply is as long; what is left of the first has no other tokens.
talk() {
    printf "$1" >"$work/input"
    shift
    "$FORERUN" chat -m "$model" -t 1 -n 5 --ignore-eos "$@" <"$work/input" >"$work/out" 2>"$work/err" || fail "chat $*: exit $?"
}
context() { grep -a '^context ' "$work/out" | tr -s ' ' | cut -d' ' -f2 | tr '\n' ' '; }
expect_context() { [ "$(context)" = "$1 " ] || { fail "$2: the context has $(context)tokens, expected $1"; cat "$work/out"; }; }
talk 'hi\n/stats\nc\n/stats\n'
head -1 "$work/out" | grep -q -a '^<think>' || fail 'a reply that thinks is not shown as that'
expect_context '12 16' 'with thinking'
talk 'hi\n/stats\nc\n/stats\n' --think off
head -1 "$work/out" | grep -q -a '<think>' && fail 'a reply that does not think is shown as if it did'
expect_context '12 21' 'without thinking'
talk "hi\n/save $work/talk\n"
talk "/load $work/talk\nc\n/stats\n"
expect_context 16 'with thinking, from a file'
talk "/load $work/talk\nc\n/stats\n" --think off
expect_context 16 'with thinking, from a file, then without'
talk 'hi\n' --system 'S'
[ -s "$work/out" ] || fail 'no reply with --system'

# R1 always thinks, V3 never does; a template that is not known is said to be that, and a format can be given by name.
deepseek="'<｜begin▁of▁sentence｜>' '<｜end▁of▁sentence｜>' '<｜User｜>' '<｜Assistant｜>'"
eval "template '{{ 1 }}' $deepseek"
run 1 tokenize -m "$model" --chat -p hi
says 'notice: chat template: it is none of those that are known'
says 'a chat template that is not known'
grep -q 'base model' "$work/err" && fail 'a model with a template is called a base model'
run 0 tokenize -m "$model" --chat -p hi --chat-format deepseek-v3 -q
prints 259,104,105,260
run 0 tokenize -m "$model" --chat -p hi --chat-format deepseek-r1 -q
prints "259,104,105,260,60,116,104,105,110,107,62,10"
run 1 tokenize -m "$model" --chat -p hi --chat-format deepseek-r1 --think off
says 'its thinking cannot be turned off'
run 1 generate -m "$model" -t 1 -n 1 --chat -p hi --chat-format deepseek-v3 --think on
says 'it has no thinking to turn on'
run 2 tokenize -m "$model" --chat -p hi --chat-format '?'
says 'deepseek-v3.2, glm-4.7, glm-5.2, gigachat3, kimi'
run 1 tokenize -m "$model" --chat -p hi --chat-format kimi
says 'the tokenizer has no token <|im_system|>'
printf 'hi\n' | "$FORERUN" chat -m "$model" -t 1 -n 1 >"$work/out" 2>"$work/err" || fail 'chat without a template'
says 'no chat template that is known'

# An answer ends with the tokens that end it in the format, whether or not the config names them. (What a greedy reply holds
# anyway is given the name of such a token.)
end=
for prompt in 5 6 7 8 9 10 11 12; do
    run 0 generate -m "$model" -t 1 -n 16 --prompt-tokens $prompt --json -q
    end=$("$json_check" -p "$work/out" tokens | tr -d '[]' | tr ',' '\n' | awk 'NR > 1 && $1 > 261 { print NR, $1; exit }')
    [ -z "$end" ] || break
done
[ -n "$end" ] || fail 'no reply holds a special token'
printf '{"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": {"%s": {"content": "<|im_end|>"}}}' "${end#* }" \
    >"$model/tokenizer_config.json"
printf '<|im_middle|><|im_assistant|>You are a helpful assistant<|im_end|>' >"$model/chat_template.jinja"
run 0 generate -m "$model" -t 1 -n 16 --prompt-tokens $prompt --json -q
"$json_check" "$work/out" "tokens#${end% *}" finish_reason=stop || fail 'a reply goes on behind the token that ends it'

[ "$failed" -eq 0 ] || { echo "text is not as it should be"; exit 1; }
echo "text is as it should be"
