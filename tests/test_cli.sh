#!/bin/sh
# The program's contract: exit codes, what goes to stdout and what to stderr, the keys of every document, the same tokens with any
# drafter and depth, the shapes of the arrays it writes, and an error for every wrong argument.
#
#   FORERUN=build/forerun sh tests/test_cli.sh JSON_CHECK
set -eu
json_check=$1
. "$(dirname "$0")/program.sh"
model=$golden/pico-mtp-s1
unset NO_COLOR || true

says() { grep -q -e "$1" "$work/err" || { fail "stderr does not say: $1"; cat "$work/err"; }; }
silent() { [ ! -s "$work/err" ] || { fail "stderr is not empty after: $*"; cat "$work/err"; }; }
no_output() { [ ! -s "$work/out" ] || fail "there is output on stdout after: $*"; }
# refused EXIT TEXT ARGUMENTS...: ends with that code, an error that contains TEXT, and nothing on stdout.
refused() {
    refused_exit=$1 refused_text=$2
    shift 2
    run "$refused_exit" "$@"
    no_output "$@"
    says "^forerun: "
    says "$refused_text"
}

# ---- Help and version -------------------------------------------------------------------------------------------------

run 0 --help
silent --help
for command in generate score inspect check tokenize; do
    grep -q "^  $command " "$work/out" || fail "--help does not list $command"
    "$FORERUN" "$command" --help >"$work/help" 2>"$work/err" || fail "$command --help: exit $?"
    silent "$command" --help
    grep -q '^Example$' "$work/help" && grep -q -- '--json' "$work/help" && grep -q '(default: the demo model)' "$work/help" ||
        fail "$command --help is incomplete"
done
run 0 --version
silent --version
grep -q '^forerun [0-9]' "$work/out" && grep -q '^oneDNN [0-9]' "$work/out" && grep -q 'instruction sets found' "$work/out" ||
    { fail "--version"; cat "$work/out"; }
run 2
no_output
refused 2 'there are: generate, chat, score' converse
refused 2 'did you mean forerun generate' genrate -p hello
refused 2 'a command comes first' --json

# ---- Wrong usage ------------------------------------------------------------------------------------------------------

refused 2 'did you mean --temperature' generate -m "$model" -p a --tempature 1
refused 2 'did you mean --temperature' generate -m "$model" -p a --temp 1
refused 2 'did you mean --temperature, with two dashes' generate -m "$model" -p a -temperature 1
refused 2 'there are: generate' help converse
for words in help '-h generate' 'help generate' -v version; do
    # shellcheck disable=SC2086
    run 0 $words
    # shellcheck disable=SC2086
    silent $words
done
run 0 help score
grep -q '^usage: forerun score' "$work/out" || fail "help score"
refused 2 'does not take this option' inspect -m "$model" --ignore-eos
refused 2 'value N is missing' generate -m "$model" -p a -n
refused 2 'value N is missing' generate -m "$model" -p a --max-tokens --json
refused 2 'takes no value' generate -m "$model" -p a --json=yes
refused 2 'without an option' generate -m "$model" hello
for number in 5x '' 0 -3 99999999999999999999 1e3 0x10 ' 5' nan; do
    refused 2 '^forerun: --max-tokens: ' generate -m "$model" -p a --max-tokens "$number"
done
for number in 0 8 -1 two; do refused 2 'from 1 to 7' generate -m "$model" -p a --depth "$number"; done
for number in nan inf -1 hot ''; do refused 2 '^forerun: --temperature: ' generate -m "$model" -p a --temperature "$number"; done
for number in -1 1.5 18446744073709551616; do refused 2 '^forerun: --seed: ' generate -m "$model" -p a --seed "$number"; done
refused 2 "did you mean 'auto'" generate -m "$model" -p a --mtp aut
for ids in '' , 1,,2 1, a 1.5 -1 99999999999 '1 2'; do
    refused 2 '^forerun: --prompt-tokens: ' generate -m "$model" --prompt-tokens "$ids"
done
refused 2 'token 320 is not in the vocabulary of 320' generate -m "$model" --prompt-tokens 1,320
refused 2 'none was given' generate -m "$model"
refused 2 'only one of' generate -m "$model" -p a --prompt-tokens 1
refused 2 'prompt: it is empty' generate -m "$model" -p ''
refused 2 'prompt: it is empty' generate -m "$model" -f /dev/null
refused 2 'prompt: it is empty' score -m "$model" -f -
refused 2 'chat' generate -m "$model" --chat --prompt-tokens 1
refused 1 'cannot read: No such file' generate -m "$model" -f "$work/none.txt"
refused 1 'cannot read: Is a directory' generate -m "$model" -f "$work"
refused 1 "$work/none" generate -m "$work/none" -p a
refused 1 "$work/no?\[31mne" generate -m "$work/$(printf 'no\033[31mne')" -p a # a terminal must not obey a name
refused 1 'no weights: neither ' score -m "$work" -p a -q
for command in 'generate -p a' check inspect "quantize -o $work/q"; do
    # shellcheck disable=SC2086
    refused 1 'one file of weights, not a checkpoint' $command -m "$model/model-00001-of-00002.safetensors"
    says "^hint: name the directory that it is in: -m $model\$"
done
mkdir -p "$work/hub/models--o--n/snapshots/abc"
ln -s "$model"/* "$work/hub/models--o--n/snapshots/abc/"
run 0 generate -m "$work/hub/models--o--n" -p a -n 2 --json
says "^notice: .*/models--o--n: a Hugging Face cache folder: its one snapshot is taken, .*/snapshots/abc\$"
holds model.path="$work/hub/models--o--n/snapshots/abc" notices.0.what:string
mkdir "$work/hub/models--o--n/snapshots/def"
refused 1 'with 2 snapshots: abc, def' generate -m "$work/hub/models--o--n" -p a
refused 1 'a Hugging Face cache with 1 model' generate -m "$work/hub" -p a
refused 1 'hf download o/n' generate -m o/n -p a
refused 1 'do not fit in a context of 4' generate -m "$model" -p 'a longer prompt' --ctx 4
refused 1 'cannot write: No such file' score -m "$model" -p abc --logits "$work/none/l.npy"
refused 2 'one file' score -m "$model" -p abc --logits "$work/l.npy" --hidden "$work/l.npy"
refused 2 'exclude each other' tokenize -m "$model" -p a --decode 1
refused 2 'no text was given' tokenize -m "$model"

# ---- generate -----------------------------------------------------------------------------------------------------------

run 0 generate -m "$model" -p 'Once upon a time' -n 20 --ignore-eos --json
holds tokens#20 prompt_tokens:array text:string finish_reason=length timing.load_s:number timing.ttft_s:number \
    timing.prefill_s:number timing.decode_s:number timing.decode_tokens_per_s:number timing.prefill_tokens_per_s:number \
    speculative_decoding.num_drafts:number speculative_decoding.num_cycles:number \
    speculative_decoding.num_draft_tokens:number speculative_decoding.num_accepted_tokens:number \
    speculative_decoding.acceptance_rate:number speculative_decoding.mean_acceptance_length:number \
    speculative_decoding.per_position_acceptance_rate#3 speculative_decoding.conditional_acceptance_rate#3 \
    speculative_decoding.depth_histogram#4 speculative_decoding.unique_experts_per_pass.mean:number \
    speculative_decoding.draft_s:number speculative_decoding.verify_s'>0' speculative_decoding.sample_s'>0' \
    speculative_decoding.rollback_s'>0' speculative_decoding.catch_up_s:number speculative_decoding.verify_bytes'>1000000' \
    speculative_decoding.draft_bytes'>0' speculative_decoding.policy.mode=auto speculative_decoding.policy.on:bool \
    speculative_decoding.policy.acceptance#3 speculative_decoding.policy.pass_s#4 speculative_decoding.policy.pass_s.0'>0' \
    speculative_decoding.policy.draft_first_s'>0' speculative_decoding.policy.break_even_predicted'>0' \
    speculative_decoding.policy.break_even_measured:number speculative_decoding.policy.switches:number \
    speculative_decoding.policy.probes:number speculative_decoding.policy.cycles_off:number memory.weight_bytes'>1000000' \
    memory.private_bytes:number memory.kv_bytes'>0' memory.mtp_kv_bytes'>0' memory.workspace_bytes'>0' \
    memory.peak_rss_bytes'>1000000' model.path="$model" model.mtp=true model.threads'>0' options.kv=bf16 options.max_tokens=20
says '^20 tokens, .* tokens/s, prefill [0-9]* tokens in .* s; drafted [0-9]*, accepted [0-9]* (.* %), .* tokens a cycle$'
tokens=$(value tokens)
text=$(value text)

# What auto learned is kept for the next run, which says the same; never needed, and neither read nor made where it is not wanted.
learned() { find "$XDG_CACHE_HOME" -type f 2>/dev/null | wc -l | tr -d ' '; }
rm -rf "$XDG_CACHE_HOME"
run 0 generate -m "$model" -p 'Once upon a time' -n 400 --ignore-eos --json -q --no-learned
long=$(value tokens)
[ "$(learned)" -eq 0 ] || fail "--no-learned keeps what was learned"
run 0 generate -m "$model" -p 'Once upon a time' -n 400 --ignore-eos --json -q
holds tokens="$long"
for file in "$XDG_CACHE_HOME"/forerun/*; do [ -e "$file" ] && echo '{"schema": "forerun.learned/1", "tokens": [7' >"$file"; done
run 0 generate -m "$model" -p 'Once upon a time' -n 400 --ignore-eos --json -q
silent generate with a damaged file of what was learned
holds tokens="$long"
kept=$XDG_CACHE_HOME
XDG_CACHE_HOME=/proc/nowhere
run 0 generate -m "$model" -p 'Once upon a time' -n 400 --ignore-eos --json -q
silent generate where nothing can be kept
holds tokens="$long"
XDG_CACHE_HOME=$kept

run 0 generate -m "$model" -p 'Once upon a time' -n 20 --ignore-eos --json
says '^memory: weights .* mapped, KV .* for 2,048 tokens, workspace .*; .* to allocate, .* available$'
for weights in mmap copy populate; do
    run 0 generate -m "$model" -p 'Once upon a time' -n 20 --ignore-eos --json -q --weights "$weights"
    silent generate --weights "$weights"
    holds tokens="$tokens" memory.plan.weights="$weights" memory.plan.ctx=2048 memory.plan.workspace_bytes="$(value memory.workspace_bytes)"
done

run 0 generate -m "$model" -p 'Once upon a time' -n 20 --ignore-eos -q
silent generate -q
[ "$(cat "$work/out")" = "$text" ] || fail "the text that is streamed is not the text of the document"
printf 'Once upon a time' >"$work/prompt.txt"
run 0 generate "--model=$model" "--prompt-file=$work/prompt.txt" -n20 --ignore-eos --json --quiet
silent generate --quiet
holds tokens="$tokens"
code=0
"$FORERUN" generate -m "$model" -f - -n 20 --ignore-eos --json -q <"$work/prompt.txt" >"$work/out" || code=$?
[ "$code" -eq 0 ] || fail "a prompt from stdin: exit $code"
holds tokens="$tokens"
refused 1 'chat template' generate -m "$model" -p 'Once upon a time' --chat -n 2

# The same tokens with any drafter and depth, and they are the reference's.
ids=$("$json_check" -p "$model/golden/L7-f32.json" tokens | tr -d '[]')
reference=$("$json_check" -p "$model/golden/L7-f32.json" greedy)
for mtp in off on auto 'on --depth 2' 'on --depth 5' 'on --depth 7' 'auto --depth 7' 'on --depth 3 --mtp-hidden pre' \
    'on --depth 3 --mtp-recycle pre' 'on --depth 3 --mtp-recycle pinned'; do
    # shellcheck disable=SC2086 # words are meant to split
    run 0 generate -m "$model" --prompt-tokens "$ids" -n 64 -t 1 --ignore-eos --act none --kv f32 --json -q --mtp $mtp
    silent generate --mtp "$mtp"
    holds tokens="$reference" finish_reason=length prompt_tokens="[$ids]" options.act=none options.kv=f32
    case $mtp in
    off) holds speculative_decoding.num_drafts=0 speculative_decoding.acceptance_rate=null \
        speculative_decoding.mean_acceptance_length=null speculative_decoding.per_position_acceptance_rate#0 \
        speculative_decoding.num_cycles=63 ;;
    *-hidden* | *-recycle*) holds speculative_decoding.num_drafts'>0' ;;
    auto*) ;; # how many drafts are worth making depends on the clock
    *) holds speculative_decoding.num_accepted_tokens'>10' speculative_decoding.num_cycles'<60' \
        speculative_decoding.acceptance_rate'>0.2' speculative_decoding.mean_acceptance_length'>1' ;;
    esac
done

# Files are looked at before the model is loaded, of which the line about memory tells.
early() {
    refused 1 "$@"
    ! grep -q '^memory: ' "$work/err" || fail "the model was loaded before: $*"
}
early 'cannot write: No such file' generate -m "$model" -p a --session "$work/none/s"
early 'cannot read: No such file' generate -m "$model" -f "$work/none.txt"
for study in accept ab; do
    early 'cannot write: No such file' $study -m "$model" --prompt-tokens 5,6 -n 8 --html "$work/none/r.html"
    early 'cannot write: No such file' $study -m "$model" --prompt-tokens 5,6 -n 8 --csv "$work/none/r.csv"
    early 'cannot read: No such file' $study -m "$model" --prompts "$work/none.jsonl"
done

# What the checkpoint suggests is said where nothing was asked for.
mkdir "$work/warm"
ln -s "$model"/*.safetensors "$model"/model.safetensors.index.json "$model"/config.json "$model"/tokenizer*.json "$work/warm/"
echo '{"do_sample": true, "temperature": 0.6, "top_p": 0.95, "eos_token_id": 1}' >"$work/warm/generation_config.json"
run 0 generate -m "$work/warm" -p a -n 2 -t 1
says '^hint: generation_config.json suggests --temperature 0.6 --top-p 0.95; without, decoding is greedy$'
run 0 accept -m "$work/warm" --prompt-tokens 5,6 -n 4 -t 1
says '^hint: generation_config.json suggests --temperature 0.6'
for asked in '--temperature 0' '--temperature 0.5' -q; do
    # shellcheck disable=SC2086
    run 0 generate -m "$work/warm" -p a -n 2 -t 1 $asked
    ! grep -q '^hint: ' "$work/err" || fail "a hint with $asked"
done
echo '{"do_sample": false, "temperature": 0.6}' >"$work/warm/generation_config.json"
run 0 generate -m "$work/warm" -p a -n 2 -t 1
! grep -q '^hint: ' "$work/err" || fail "a hint where the checkpoint does not sample"

# Reasons to end.
run 0 generate -m "$model" --prompt-tokens "$ids" -t 1 -n 1000 --ctx 20 --ignore-eos --json -q
holds tokens#13 finish_reason=context options.ctx=20
run 0 generate -m "$model" --prompt-tokens "$ids" -t 1 -n 1 --json -q
holds tokens#1 finish_reason=length timing.decode_tokens_per_s=null
run 0 generate -m "$model" --prompt-tokens "$ids" -t 1 -n 1000 --ctx 7 --json -q
holds tokens#0 finish_reason=context text= timing.ttft_s=null
# A model whose eos token is the reference's third token stops there, but not with --ignore-eos.
third=$("$json_check" -p "$model/golden/L7-f32.json" greedy.2)
mkdir "$work/stops"
for file in "$model"/*; do [ -d "$file" ] || cp "$file" "$work/stops/"; done
for file in config.json generation_config.json; do
    sed "s/\"eos_token_id\": 1/\"eos_token_id\": $third/" "$model/$file" >"$work/stops/$file.new"
    mv -f "$work/stops/$file.new" "$work/stops/$file"
done
for mtp in off on 'on --depth 7'; do
    # shellcheck disable=SC2086
    run 0 generate -m "$work/stops" --prompt-tokens "$ids" -n 64 -t 1 --act none --kv f32 --json -q --mtp $mtp
    holds tokens#3 tokens.2="$third" finish_reason=stop
done
run 0 generate -m "$work/stops" --prompt-tokens "$ids" -n 64 -t 1 --act none --kv f32 --ignore-eos --json -q
holds tokens="$reference" finish_reason=length

# Without an MTP module: auto runs, on does not.
mkdir "$work/plain"
for file in "$model"/*; do [ -d "$file" ] || cp "$file" "$work/plain/"; done
sed 's/"num_nextn_predict_layers": 1/"num_nextn_predict_layers": 0/' "$model/config.json" >"$work/config.new"
mv -f "$work/config.new" "$work/plain/config.json"
run 0 generate -m "$work/plain" --prompt-tokens "$ids" -n 64 -t 1 --ignore-eos --act none --kv f32 --json -q
holds tokens="$reference" model.mtp=false speculative_decoding.num_drafts=0 memory.mtp_kv_bytes=0
refused 1 'MTP' generate -m "$work/plain" -p a --mtp on
refused 1 'no MTP module' score -m "$work/plain" -p a --mtp-logits "$work/x.npy"
[ ! -e "$work/x.npy" ] || fail "a file was left behind"

# Sampling: a seed gives one text, with any drafter and depth; another seed another.
sampled() { run 0 generate -m "$model" --prompt-tokens "$ids" -n 40 -t 1 --ignore-eos --json -q --temperature 0.9 "$@"; }
sampled --seed 7
holds options.temperature=0.9 options.seed=7 options.verify=coupled
tokens=$(value tokens)
for mtp in 'off' 'on --depth 1' 'on --depth 4'; do
    # shellcheck disable=SC2086
    sampled --seed 7 --mtp $mtp
    holds tokens="$tokens"
done
sampled --seed 8
[ "$(value tokens)" != "$tokens" ] || fail "two seeds give one text"
sampled --seed 7 --top-k 1
greedy=$(value tokens)
sampled --seed 8 --top-p 0.000001
holds tokens="$greedy"
sampled --seed 8 --min-p 1
holds tokens="$greedy"
sampled --seed 7 --verify rejection --mtp on --depth 2
holds tokens#40 options.verify=rejection speculative_decoding.num_accepted_tokens'>0'
# Another LM head for drafts or another drafter: the same text.
for drafts in '--draft-head fp8' '--drafter ngram'; do
    # shellcheck disable=SC2086
    sampled --seed 7 --mtp on --depth 3 $drafts
    holds tokens="$tokens" speculative_decoding.num_drafts'>0'
done

# Penalties, biases and stop strings, with any drafter and depth.
for mtp in off 'on --depth 3'; do
    # shellcheck disable=SC2086
    run 0 generate -m "$model" --prompt-tokens "$ids" -n 40 -t 1 --ignore-eos --json -q --mtp $mtp --logit-bias 100=80,101=-inf \
        --logit-bias 7=0.5
    holds tokens.0=100 tokens.39=100 options.logit_bias.100=80 options.logit_bias.101=-inf options.logit_bias.7=0.5
    for penalty in repetition presence frequency; do
        # shellcheck disable=SC2086
        run 0 generate -m "$model" --prompt-tokens "$ids" -n 40 -t 1 --ignore-eos --json -q --mtp $mtp --$penalty-penalty 60
        value tokens >"$work/$penalty.$(echo "$mtp" | tr -d ' -')"
        # A penalty as large as this lets no token come twice.
        [ "$(value tokens | tr -d '[]' | tr ',' '\n' | sort | uniq -d | wc -l)" -eq 0 ] || fail "--$penalty-penalty repeats a token"
    done
done
for penalty in repetition presence frequency; do
    cmp -s "$work/$penalty.off" "$work/$penalty.ondepth3" || fail "--$penalty-penalty: another text with drafts"
done
reference_text() { run 0 generate -m "$model" --prompt-tokens "$ids" -n 64 -t 1 --act none --kv f32 --ignore-eos -q "$@"; }
reference_text
cp "$work/out" "$work/whole"
for mtp in off on 'on --depth 7'; do
    # shellcheck disable=SC2086
    reference_text --mtp $mtp --stop 'not in it' --stop 'F-' --stop 'le'
    { sed '/le/q' "$work/whole" | sed 's/le.*//' | head -c -1; echo; } >"$work/expected"
    cmp -s "$work/out" "$work/expected" || { fail "--stop with --mtp $mtp: what is streamed"; cat "$work/out"; }
    # shellcheck disable=SC2086
    reference_text --json --mtp $mtp --stop 'not in it' --stop 'le'
    holds finish_reason=stop options.stop#2 options.stop.1=le
    case $reference in "$(value tokens | tr -d ']')",*) ;; *) fail "--stop changes tokens" ;; esac
done
reference_text --json --stop 'not in it'
holds finish_reason=length tokens="$reference"

# Counts end where the text ends. A text of one letter, whose drafts are all accepted, and a stop string of it for every position of a
# cycle of 8 tokens; the session that is saved goes on as one without drafts.
adds_up() {
    [ "$1" -eq $(($(value speculative_decoding.num_first_tokens) + $(value speculative_decoding.num_cycles) + \
        $(value speculative_decoding.num_accepted_tokens))) ] || fail "$2: tokens are not those of prefills, cycles and drafts"
}
letters() { run 0 generate -m "$model" -t 1 --ignore-eos --json -q "$@"; }
stop=
for end in 1 2 3 4 5 6 7 8 9 10; do
    stop=d$stop
    for mtp in off 'on --depth 7'; do
        rm -f "$work/letters"
        # shellcheck disable=SC2086
        letters --prompt-tokens "$ids" -n 40 --mtp $mtp --logit-bias 70=80 --stop "$stop" --session "$work/letters"
        holds finish_reason=stop tokens#$end text= session.tokens=$((7 + end))
        adds_up $end "--stop after $end with --mtp $mtp"
        [ "$mtp" = off ] || holds speculative_decoding.num_draft_tokens=$((end - 1 - (end + 6) / 8)) \
            speculative_decoding.num_accepted_tokens=$((end - 1 - (end + 6) / 8))
        # shellcheck disable=SC2086
        letters -n 20 --mtp $mtp --session "$work/letters"
        if [ "$mtp" = off ]; then tokens=$(value tokens); else holds tokens="$tokens"; fi
    done
done
for bias in '' 5 5= =1 5=x 5=nan 5=inf 5=+inf 5=1e31 5=1, '5=1 6=1' a=1 -1=1 99999999999=1; do
    refused 2 '^forerun: --logit-bias: ' generate -m "$model" -p a --logit-bias "$bias"
done
refused 2 'all 320 tokens are forbidden' generate -m "$model" -p a \
    --logit-bias "$(seq 0 319 | sed 's/$/=-inf/' | tr '\n' ',' | sed 's/,$//')"
refused 2 'logit bias: id 320' generate -m "$model" -p a --logit-bias 320=1
refused 2 'stop string 1: it is empty' generate -m "$model" -p a --stop ''

# A full disk is a failure.
if [ -w /dev/full ]; then
    code=0
    "$FORERUN" generate -m "$model" -p a -n 4 --json >/dev/full 2>"$work/err" || code=$?
    [ "$code" -eq 1 ] || fail "a full disk: exit $code"
    says '^forerun: standard output: '
fi

# Interrupted: still a complete document. If the run is over before the signal comes, try again.
for try in 1 2 3 4 5; do
    rm -f "$work/out" "$work/err"
    "$FORERUN" generate -m "$golden/nano-mtp-s1" -p a -n 2000 --ctx 2048 --ignore-eos -t 1 --isa scalar >"$work/out" 2>"$work/err" &
    process=$!
    while [ ! -s "$work/out" ] && kill -0 "$process" 2>/dev/null; do :; done
    kill -INT "$process" 2>/dev/null || true
    code=0
    wait "$process" || code=$?
    [ "$code" -eq 0 ] || break
done
[ "$code" -eq 130 ] || fail "interrupted: exit $code"
says '^interrupted$'
says '^[0-9]* tokens*, '

# ---- score --------------------------------------------------------------------------------------------------------------

# array FILE DESCR SHAPE BYTES: an .npy file of that type, shape and size of data.
array() {
    length=$(wc -c <"$1")
    [ $((length - 128)) -eq "$4" ] || fail "$1: $length bytes"
    head -c 128 "$1" | tr -d '\000' | grep -a -q "'descr': '$2', 'fortran_order': False, 'shape': ($3)" || fail "$1: its header"
}
ids=$("$json_check" -p "$model/golden/L70-f32.json" tokens | tr -d '[]')
run 0 score -m "$model" --prompt-tokens "$ids" -t 1 --act none --kv f32 --json -q --logits "$work/l.npy" --hidden "$work/h.npy" \
    --experts "$work/e.npy" --mtp-logits "$work/m.npy"
silent score
holds tokens="[$ids]" logprobs#69 logprobs.0'<0' perplexity'>1' bits_per_byte=null
perplexity=$(value perplexity)
array "$work/l.npy" '<f4' '70, 320' $((70 * 320 * 4))
array "$work/h.npy" '<f4' '70, 160' $((70 * 160 * 4))
array "$work/m.npy" '<f4' '69, 320' $((69 * 320 * 4))
array "$work/e.npy" '<i4' '2, 70, 3' $((2 * 70 * 3 * 4))
od -An -v -t d4 -j 128 "$work/e.npy" | awk '{ for (i = 1; i <= NF; i++) if ($i < 0 || $i > 7) exit 1 }' || fail "experts.npy: an id"
run 0 score -m "$model" --tokens "$ids" -t 1 --act none --kv f32 --json -q
holds perplexity="$perplexity"
run 0 score -m "$model" -p 'Some text.' --json -q
holds bits_per_byte'>0'
run 0 score -m "$model" --prompt-tokens 5 --json -q
holds tokens=[5] logprobs#0 perplexity=null
run 0 score -m "$model" -p 'Some text.'
grep -q '^perplexity  *[0-9]' "$work/out" && grep -q '^bits per byte  *[0-9]' "$work/out" || fail "score as text"
if [ -w /dev/full ]; then refused 1 '/dev/full: cannot write' score -m "$model" -p abc --logits /dev/full; fi

# ---- inspect ------------------------------------------------------------------------------------------------------------

run 0 inspect -m "$model" --json -q
holds parameters.main_total'>0' parameters.main_activated'>0' parameters.embedding=51200 parameters.head=51200 \
    parameters.mtp_unique'>0' parameters.mtp_activated'>0' parameters.dense_mlp=96000 parameters.moe_mlp'>0' bytes:object \
    bytes.weight_bytes'>0' tensors#0 num_tensors'>100' config.hidden_size=160
count=$(value num_tensors)
run 0 inspect -m "$model" --tensors --json -q
holds tensors#"$count" tensors.0.name:string tensors.0.shape:array tensors.0.dtype:string tensors.0.file:string
run 0 inspect -m "$model" --filter 'model.embed*' --json -q
holds tensors#1 tensors.0.name=model.embed_tokens.weight tensors.0.shape='[320,160]' tensors.0.dtype=BF16
run 0 inspect -m "$model" --filter 'model.embed*'
grep -q '^model.embed_tokens.weight  \[320, 160\]  BF16 ' "$work/out" && grep -q "^1 of $count tensors" "$work/out" ||
    fail "inspect --filter as text"
run 0 inspect --config "$golden/deepseek-v3-config.json" --json -q
holds parameters.main_total=671026419200 parameters.embedding=926679040 tensors#0 bytes.kv_per_token_bf16_bytes=70272
run 0 inspect --config "$golden/deepseek-v3-config.json"
silent inspect --config
grep -q '671,026,419,200  671.03 B' "$work/out" || fail "inspect --config as text"
# What memory it takes, on this machine and by what is asked for.
run 0 inspect --config "$golden/deepseek-v3-config.json" --ranks 4 --json -q
holds ranks=4 memory.weight_bytes=173473959744
run 0 inspect --config "$golden/deepseek-v3-config.json" --ranks 4
grep -q 'on the largest of 4 ranks' "$work/out" || fail "inspect --ranks as text"
run 0 inspect --config "$golden/deepseek-v3-config.json" --weights mmap --ctx 1000 --json -q
holds memory.ctx=1000 memory.kv_bytes=70272000 memory.mtp_kv_bytes=1152000 memory.weights=mmap memory.workspace_bytes'>0' \
    memory.private_bytes'>71424000' memory.available_bytes'>0'
run 0 inspect -m "$model" --weights copy --kv f32 --ctx 10 --json -q
holds memory.weights=copy memory.fits=true memory.kv_bytes=5760 memory.private_bytes'>1000000'
run 0 inspect -m "$model" --ctx 10
grep -q '^memory for a context of 10$' "$work/out" && grep -q '^  to allocate ' "$work/out" || fail "inspect: no memory plan"
refused 2 'has positions for' inspect -m "$model" --ctx 1000000
refused 2 'cannot be given with' inspect --config "$golden/deepseek-v3-config.json" -m "$model"
refused 1 'none.json' inspect --config "$work/none.json"

# ---- check --------------------------------------------------------------------------------------------------------------

run 0 check -m "$model" --json -q
silent check
holds ok=true problems#0
run 0 check -m "$model"
silent check
grep -q ': ok$' "$work/out" || fail "check as text"
mkdir "$work/cut"
for file in "$model"/*; do [ -d "$file" ] || cp "$file" "$work/cut/"; done
chmod u+w "$work/cut"/*
head -c 500000 "$model/model-00002-of-00002.safetensors" >"$work/cut/model-00002-of-00002.safetensors"
run 3 check -m "$work/cut" --json -q
holds ok=false problems.0.tensor:string problems.0.file:string problems.0.problem:string
run 3 check -m "$work/cut"
grep -q 'problems*$' "$work/out" || fail "check as text, with problems"
refused 1 "$work/none" check -m "$work/none"

# ---- tokenize -----------------------------------------------------------------------------------------------------------

run 0 tokenize -m "$model" -p 'Hello, world' --json -q
holds tokens.0=0 tokens:array pieces:array
tokens=$(value tokens)
run 0 tokenize -m "$model" -p 'Hello, world' -q
list=$(cat "$work/out")
[ "[$list]" = "$tokens" ] || fail "tokenize as text: $list"
run 0 tokenize -m "$model" --decode "$list" --json -q
holds text='Hello, world' tokens="$tokens"
run 0 tokenize -m "$model" --decode "$list" --with-special
grep -q '^<.*begin.*of.*sentence.*>Hello, world$' "$work/out" || fail "tokenize --with-special"
run 0 tokenize -m "$model" -p 'Hello, world' --no-special --json -q
[ "[0,$(value tokens | tr -d '[]')]" = "$tokens" ] || fail "tokenize --no-special"
run 0 tokenize -m "$model" -p '' --json -q
holds tokens=[0]
# A NUL in a prompt is a character like another, written as an escape; Windows' line ends and byte order mark are nothing.
printf 'a\000b\\u0000\n' >"$work/nul.txt"
run 0 tokenize -m "$model" -f "$work/nul.txt" --json -q
nul=$(value tokens)
printf '\357\273\277{"prompt": "a\\u0000b\\\\u0000\\n"}\r\n\r\n{"prompt": "Hello, world"}\r\n' >"$work/nul.jsonl"
run 0 tokenize -m "$model" --prompts "$work/nul.jsonl" --json -q
holds results#2 results.0.tokens="$nul" results.1.tokens="$tokens"
printf '{"prompt": "a\300\200"}\n' >"$work/bad.jsonl"
refused 1 'not UTF-8' tokenize -m "$model" --prompts "$work/bad.jsonl"
run 0 accept -m "$model" --prompts "$work/nul.jsonl" -n 4 -t 1 --json -q
holds prompts.count=2
run 0 generate -m "$model" -f "$work/nul.txt" -n 4 -t 1 --json -q
holds prompt_tokens="$nul"

# It takes the tokenizer alone: no weights, no config.
mkdir "$work/words"
cp "$model/tokenizer.json" "$work/words/"
run 0 tokenize -m "$work/words" -p 'Hello, world' --json -q
[ "[0,$(value tokens | tr -d '[]')]" = "$tokens" ] || fail "tokenize without tokenizer_config.json: $(value tokens)"
cp "$model/tokenizer_config.json" "$work/words/"
run 0 tokenize -m "$work/words" -p 'Hello, world' --json
silent tokenize
holds tokens="$tokens"
run 0 tokenize -m "$work/words" --decode "$list" --json -q
holds text='Hello, world'
echo '{"model_type": "llama"}' >"$work/words/config.json"
run 0 tokenize -m "$work/words" -p 'Hello, world' --json
silent tokenize
holds tokens="$tokens"
refused 1 'no weights: neither' generate -m "$work/words" -p a
refused 1 'tokenizer.json: No such file' tokenize -m "$work/hub" -p a
printf '{"id": "a", "domain": "d", "prompt": "Hello, world"}\n\n{"id": 7, "tokens": [5, 6]}\n{"prompt": "\\u00e9\\n"}\n{"id": null, "text": "Hello, world"}' >"$work/p.jsonl"
run 0 tokenize -m "$model" --prompts "$work/p.jsonl" --json -q
holds results#4 results.0.tokens="$tokens" results.0.id=a results.1.id=7 results.1.tokens=[5,6] '!results.2.id' '!results.3.id' \
    results.3.tokens="$tokens"
for line in '{' '[]' '{}' '{"prompt": 5}' '{"tokens": [1.5]}' '{"tokens": ["a"]}' '{"tokens": [-1]}' '{"prompt": "a", "tokens": [1]}' \
    '{"prompt": "a\u0000", "id": "\u0000"}' '{"prompt": "a"} x'; do
    printf '{"prompt": "fine"}\n%s\n' "$line" >"$work/bad.jsonl"
    refused 1 'bad.jsonl:2: ' tokenize -m "$model" --prompts "$work/bad.jsonl"
done
refused 1 'no prompt in it' tokenize -m "$model" --prompts /dev/null
refused 2 'not in the vocabulary' tokenize -m "$model" --decode 5000
printf '{"tokens": [320]}\n' >"$work/bad.jsonl"
refused 2 'not in the vocabulary' tokenize -m "$model" --prompts "$work/bad.jsonl"

# ---- The demo model -------------------------------------------------------------------------------------------------------

if [ -e models/demo/config.json ]; then
    run 0 generate -p 'Once upon a time' -n 16 --json -q
    holds tokens:array text:string model.mtp=true
    plain=$(value prompt_tokens)
    run 0 generate -p 'Once upon a time' --chat -n 4 --json -q
    [ "$(value prompt_tokens)" != "$plain" ] || fail "--chat changes nothing"
fi

[ "$failed" -eq 0 ] || { echo "the program does not keep its contract"; exit 1; }
echo "the program keeps its contract"
