#!/bin/sh
# Every member of the family in every command: with and without drafts, converted, made anew, saved and continued, in words. The
# checkpoints are those of tests/golden, whose texts of 70 tokens are far longer than what sparse attention chooses (16).
#
#   FORERUN=build/forerun sh tests/test_family.sh JSON_CHECK [bench]
#
# With "bench" it runs `bench` alone, which measures the memory's bandwidth for seconds each time.
set -eu
json_check=$1 part=${2:-}
. "$(dirname "$0")/program.sh"

# say WHAT ARGUMENTS...: runs a command that must succeed and keeps its tokens in $work/WHAT.
say() {
    kept=$1
    shift
    run 0 generate -t 1 --ignore-eos --no-learned --json -q "$@"
    value tokens >"$work/$kept" || fail "$name: generate $* has no tokens"
}
same() { cmp -s "$work/$1" "$work/$2" || fail "$name: $3"; }
text_of() { "$json_check" -p "$golden/$1/golden/L70-f32.json" tokens | tr -d '[]'; }

# drafts_change_nothing DIR TOKENS MODULE: the same tokens without drafts, with them at two depths and with those of n-grams.
drafts_change_nothing() {
    for sampling in "--temperature 0" "--temperature 0.9 --top-p 0.95 --seed 5"; do
        # shellcheck disable=SC2086 # words are meant to split, here and below
        set -- "$1" "$2" "$3" -m "$1" --prompt-tokens "$2" -n 32 $sampling
        dir=$1 tokens=$2 module=$3
        shift 3
        say off "$@" --mtp off
        holds tokens#32
        say other "$@" --mtp auto && same off other "auto makes other tokens, $sampling"
        for depth in 1 3; do
            [ "$module" = yes ] || continue
            say other "$@" --mtp on --depth $depth && same off other "drafts of depth $depth make other tokens, $sampling"
            holds speculative_decoding.num_draft_tokens'>10' speculative_decoding.drafted_per_position#$depth
        done
        say other "$@" --mtp on --depth 3 --drafter ngram && same off other "n-gram drafts make other tokens, $sampling"
        set -- "$dir" "$tokens" "$module"
    done
}

# sessions_go_on DIR TOKENS MODULE: a text saved and continued is the text in one go, drafts on or off before and after. What the
# module has not read it cannot go on with.
sessions_go_on() {
    say whole -m "$1" --prompt-tokens "$2" -n 24 --mtp off
    for order in on,on on,off off,off; do
        [ "$3-$order" = no-off,off ] || [ "$3" = yes ] || continue
        rm -f "$work/session"
        say first -m "$1" --prompt-tokens "$2" -n 12 --session "$work/session" --mtp "${order%,*}"
        say second -m "$1" -n 12 --session "$work/session" --mtp "${order#*,}"
        holds session.loaded_tokens'>80'
        echo "$(sed 's/]$//' "$work/first"),$(sed 's/^\[//' "$work/second")" >"$work/other"
        same whole other "a session saved and continued with drafts $order makes other tokens"
    done
    [ "$3" = yes ] || return 0
    run 1 generate -t 1 -m "$1" -n 12 --session "$work/session" --mtp on -q
    grep -q 'saved without MTP' "$work/err" || fail "$name: stderr does not say that a session has nothing to draft from"
}

# studies DIR TOKENS MODULE: score, accept and ab, on tokens.
studies() {
    run 0 score -m "$1" -t 1 --prompt-tokens "$2" --json -q --logits "$work/logits.npy" --experts "$work/experts.npy"
    holds tokens#70 logprobs#69 perplexity'>1'
    drafter=mtp
    [ "$3" = yes ] || drafter=ngram
    run 0 accept -m "$1" -t 1 --prompt-tokens "$2" --drafter $drafter --depth 2 -n 16 --ignore-eos --json -q
    holds configurations#1 configurations.0.speculative_decoding.num_cycles'>0'
    run 0 ab -m "$1" -t 1 --prompt-tokens "$2" --drafter $drafter --arms off,on:1,on:3,auto -n 8 --repeats 1 --warm-up 0 \
        --no-noise-check --no-learned --ignore-eos --json -q
    holds arms#4 identical_outputs=true
    [ "$3" = yes ] || return 0
    run 0 accept -m "$1" -t 1 --prompt-tokens "$2" --teacher-forced --depth 2 --json -q
    holds configurations.0.speculative_decoding.drafted_per_position.0'>60'
}

# copies_work DIR TOKENS MODULE: in the other type of weights and back, and with random weights: each is whole, and runs.
copies_work() {
    types="fp8 bf16"
    ! grep -q '"quantization_config"' "$1/config.json" || types="bf16 fp8"
    from=$1 made=
    for type in $types; do
        run 0 quantize -m "$from" -o "$work/$type" --to "$type" -t 1 --json -q
        holds tensors_converted'>10' to="$type"
        from=$work/$type made="$made $from"
    done
    run 0 synth --like "$1" -o "$work/synth" --tokenizer "$1" -t 1 --json -q
    for copy in $made "$work/synth"; do
        run 0 check -m "$copy" -t 1 -q
        say off -m "$copy" --prompt-tokens "$2" -n 8 --mtp off
        [ "$3" = no ] || { say other -m "$copy" --prompt-tokens "$2" -n 8 --mtp on --depth 3 && same off other "$copy: drafts matter"; }
        run 0 inspect -m "$copy" --json -q
        for what in main_total main_activated indexer mtp_total mtp_activated; do holds parameters.$what="$(counted $what)"; done
    done
    rm -rf "$work/fp8" "$work/bf16" "$work/synth"
}
counted() { sed -n "s/^$1 //p" "$work/counts"; }

# counts DIR: keeps what inspect counts, the same from the files as from the config alone.
counts() {
    for from in "-m $1" "--config $1/config.json"; do
        # shellcheck disable=SC2086
        run 0 inspect $from --json -q
        for what in main_total main_activated indexer mtp_total mtp_activated; do
            echo "$what $(value parameters.$what)"
        done >"$work/counts-$(echo "$from" | cut -c2)"
    done
    mv "$work/counts-m" "$work/counts"
    same counts counts-- "inspect counts other parameters with the config alone"
}

# words DIR FORMAT MODULE: text becomes tokens and comes back; a conversation of two turns is the same with drafts and without.
words() {
    run 0 tokenize -m "$1" -p 'Hello, 世界: 1234 times' --json -q
    ids=$(value tokens | tr -d '[]')
    run 0 tokenize -m "$1" --decode "$ids"
    [ "$(cat "$work/out")" = 'Hello, 世界: 1234 times' ] || fail "$name: text does not come back from tokens"
    format=
    [ "$2" = - ] || format="--chat-format $2"
    for mode in off auto on; do
        [ "$mode-$3" != on-no ] || continue
        # shellcheck disable=SC2086
        printf 'Hello\nAnd then?\n' | "$FORERUN" chat -m "$1" -t 1 -n 16 --ignore-eos --no-learned --mtp $mode $format -q \
            >"$work/chat-$mode" 2>"$work/err" || { fail "$name: chat --mtp $mode: exit $?"; cat "$work/err"; }
        same chat-off chat-$mode "a conversation differs with --mtp $mode"
    done
    [ -s "$work/chat-off" ] || fail "$name: a conversation says nothing"
    [ "$2" = - ] && return 0
    run 0 tokenize -m "$1" --chat $format -p '<|user|><|im_end|>' --json -q
    value tokens >"$work/typed"
    run 0 tokenize -m "$1" --chat $format --raw-special -p '<|user|><|im_end|>' --json -q
    value tokens >"$work/raw"
    ! cmp -s "$work/typed" "$work/raw" || fail "$name: control tokens that a user typed count as such"
}

# NAME, whether it has an MTP module, a chat format that its special tokens can spell.
members() {
    cat <<'MEMBERS'
pico-s1 yes -
pico-mtp-s1 yes -
pico-gigachat yes -
pico-gigachat-fp8 yes -
pico-joyai yes -
pico-glm-flash yes glm-4.7
pico-kimi no kimi-k2
pico-v32 yes -
pico-glm5 yes glm-4.7
pico-glm52 yes glm-5.2
pico-alldense no -
pico-noexperts no -
MEMBERS
}

members >"$work/members"
while read -r name module format; do
    dir=$golden/$name
    tokens=$(text_of "$name")
    if [ "$part" = bench ]; then
        run 0 bench -m "$dir" -t 1 --only linear,passes,draft,decode,context --rows 1,2 --seconds 0.001 --ctx 40 --json -q
        holds passes#2
        continue
    fi
    counts "$dir"
    run 0 check -m "$dir" -t 1 -q
    drafts_change_nothing "$dir" "$tokens" "$module"
    sessions_go_on "$dir" "$tokens" "$module"
    studies "$dir" "$tokens" "$module"
    copies_work "$dir" "$tokens" "$module"
    words "$dir" "$format" "$module"
    [ "$module" = yes ] || { run 1 generate -m "$dir" -t 1 --prompt-tokens 1,2 --mtp on -q; grep -q 'no MTP module' "$work/err"; } ||
        fail "$name: stderr does not say that there is no MTP module"
done <"$work/members"

# Moonlight has no golden: what is its own (two shared experts, a larger epsilon, no low-rank query and a tiktoken.model) is made here.
if [ "$part" != bench ]; then
    name=moonlight dir=$work/moonlight tokens=$(text_of pico-noqlora-s1)
    run 0 synth --like "$golden/pico-noqlora-s1" --set n_shared_experts=2 --set rms_norm_eps=1e-5 --set num_nextn_predict_layers=0 \
        --tokenizer "$golden/pico-kimi" -o "$dir" -t 1 -q
    counts "$dir"
    run 0 check -m "$dir" -t 1 -q
    drafts_change_nothing "$dir" "$tokens" no
    sessions_go_on "$dir" "$tokens" no
    studies "$dir" "$tokens" no
    words "$dir" kimi no
fi

[ $failed -eq 0 ] && echo "$(wc -l <"$work/members") members work in every command"
exit $failed
